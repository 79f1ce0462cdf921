//! What the reader does with what a mapping makes of messages. The process is a script that answers always
//! alike; with the real one: `tests/mapping.rs`.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use super::*;
use crate::ingress::mapping::Mapping;

/// A script that goes with the test.
struct Script(PathBuf);

impl Drop for Script {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A process that is ready and has answered already.
fn answering(answers: &str) -> Script {
    let path = std::env::temp_dir().join(format!("mapping-{:032x}", rand::random::<u128>()));
    let ready = r"\000\000\000\000\000";
    let text = format!("#!/bin/sh\nprintf '{ready}{answers}'\nexec sleep 600\n");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    Script(path)
}

async fn mapped(script: &Script) -> World {
    let mut world = world(StartPosition::Earliest).await;
    let ingress = Arc::get_mut(&mut world.ingress).unwrap();
    let (metrics, reporter) = (ingress.metrics.clone(), ingress.reporter.clone());
    ingress.mapping = Some(Mapping::new(script.0.clone(), ".", metrics, reporter));
    world
}

fn passed(world: &World) -> u64 {
    let passed = &world.ingress.metrics.passed;
    ["protocol", "thing_not_found", "kind"]
        .map(|reason| passed.with_label_values(&[reason]).get())
        .iter()
        .sum()
}

#[tokio::test]
async fn what_a_mapping_makes_is_written_passed_or_left_in_silence() {
    let script = answering(concat!(
        r"\001\000\000\000\000",
        r"\002\003\000\000\000why",
        r#"\001\011\000\000\000[{"n":2}]"#,
        r"\001\001\000\000\0007",
    ));
    let world = mapped(&script).await;
    for sequence in [0, 1, 2] {
        world.send_one(sequence, "{\"nested\":{}}");
    }
    world.send_one(3, "no JSON");
    world.send_one(4, "{}");
    let (stop, task) = world.start(None);
    world
        .eventually("all is settled", |world| {
            world.written() == [2] && passed(world) == 3
        })
        .await;
    stop.cancel();
    task.await.unwrap();
    assert_eq!(*world.store.released.lock().unwrap(), Some(Some(4)));
    assert_eq!((world.written(), passed(&world)), (vec![2], 3));
}

#[tokio::test]
async fn what_is_being_mapped_is_not_received_yet_and_holds_up_no_stop() {
    let script = answering(r#"\001\007\000\000\000{"n":0}"#);
    let world = mapped(&script).await;
    world.send(0..1);
    let (stop, task) = world.start(None);
    world
        .eventually("the first is written", |world| world.written() == [0])
        .await;
    // Never answered.
    world.send(1..5);
    sleep(Duration::from_millis(300)).await;
    stop.cancel();
    timeout(SETTLE, task).await.unwrap().unwrap();
    assert_eq!(*world.store.released.lock().unwrap(), Some(Some(0)));
    assert_eq!((world.written(), passed(&world)), (vec![0], 0));
}
