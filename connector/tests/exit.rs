//! Settings that cannot work end the process with 64 and one line, before anything outside is asked.

// Clippy lets tests panic, but not the functions that tests share.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::{fs, path::PathBuf, process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("connector-{:032x}", rand::random::<u128>()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }
}

/// A hub that nobody reaches: whoever asks it first waits for ever.
const HUB: &str = "HostName=hub.invalid;SharedAccessKeyName=service;SharedAccessKey=c2VjcmV0";
const EVENTS: &str = "Endpoint=sb://events.invalid/;SharedAccessKeyName=service;\
                      SharedAccessKey=c2VjcmV0;EntityPath=hub";

async fn refused(folder: &Folder, extra: &str) -> String {
    let at = folder.0.display();
    let settings = format!(
        "hubThingName: Hub\n\
         thingworx:\n  endpoints: [wss://127.0.0.1:1/Thingworx/WS]\n  appKey: {{file: {at}/appKey}}\n{extra}\
         iotHub:\n  connectionString: {{file: {at}/hub}}\n  \
         eventHubs: {{connectionString: {{file: {at}/events}}, consumerGroup: thingworx}}\n\
         checkpoints: {{file: {{path: {at}/checkpoints.json}}}}\n"
    );
    folder.file("connector.yaml", &settings);
    let run = Command::new(env!("CARGO_BIN_EXE_azure-iot-hub-connector"))
        .arg("--config")
        .arg(folder.0.join("connector.yaml"))
        .args(["--listen", "127.0.0.1:0", "--log", "off"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let done = timeout(Duration::from_secs(30), run)
        .await
        .expect("ends at once, whether or not the hub can be reached")
        .unwrap();
    let told = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(64), "{told}");
    assert_eq!(told.trim().lines().count(), 1, "{told}");
    assert!(!told.contains("c2VjcmV0"), "no secret in any text: {told}");
    told
}

/// It was looked for only once the hub was proven: with the hub away the process never ended.
#[tokio::test]
async fn a_missing_application_key_or_certificate() {
    let folder = Folder::new();
    folder.file("hub", HUB);
    folder.file("events", EVENTS);
    let told = refused(&folder, "").await;
    assert!(told.contains("thingworx.appKey"), "{told}");

    folder.file("appKey", "key");
    let ca = format!("  tls: {{ca: {{file: {}/nowhere}}}}\n", folder.0.display());
    let told = refused(&folder, &ca).await;
    assert!(told.contains("thingworx.tls.ca"), "{told}");
}

#[tokio::test]
async fn a_connection_string_that_is_none() {
    let folder = Folder::new();
    folder.file("hub", "HostName=hub.invalid;SharedAccessKey=c2VjcmV0");
    folder.file("events", EVENTS);
    folder.file("appKey", "key");
    let told = refused(&folder, "").await;
    assert!(told.contains("iotHub.connectionString"), "{told}");
}
