//! etcd, the API server and the controllers: one for all tests of this program, which end with it.
//!
//! There is neither a scheduler nor a kubelet, so pods stay pending until a test says that they run.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, Config,
    api::{DynamicObject, Patch, PatchParams},
    config::AuthInfo,
    core::{ApiResource, GroupVersionKind},
};
use tokio::sync::OnceCell;

use crate::{
    authority::{Authority, Identity},
    kubeconfig::{credentials, kubeconfig},
};

/// Longest wait for the API server: it takes about 4 s, and much more while others compile.
const START: Duration = Duration::from_secs(90);
/// `required` (`make test` says so) fails on a machine without the programs, which is passed over otherwise;
/// `no` leaves these tests out.
const WANTED: &str = "API_SERVER";

static SHARED: OnceCell<Result<Option<ControlPlane>, String>> = OnceCell::const_new();

/// The running programs, and how to talk to them. Nothing in here belongs to one test's runtime.
pub struct ControlPlane {
    pub authority: Authority,
    pub url: String,
    /// Where the store answers.
    pub store: String,
    /// For files; it goes with the programs.
    pub folder: PathBuf,
    admin: Identity,
    programs: PathBuf,
    /// Their standard inputs are what keeps them running.
    _kept: Mutex<Vec<Child>>,
}

/// The control plane, started by the first test that asks; `None` if its programs are not built and
/// nobody demands them.
pub async fn shared() -> Option<&'static ControlPlane> {
    if wanted("no") {
        return None;
    }
    let started = SHARED.get_or_init(|| async {
        match programs() {
            Ok(programs) => ControlPlane::start(programs).await.map(Some),
            Err(why) if wanted("required") => Err(why),
            Err(why) => {
                loudly(&why);
                Ok(None)
            }
        }
    });
    match started.await {
        Ok(found) => found.as_ref(),
        Err(why) => panic!("no API server: {why}"),
    }
}

fn wanted(how: &str) -> bool {
    std::env::var_os(WANTED).is_some_and(|value| value == how)
}

/// Past the test harness, which keeps the words of a test that passes to itself.
fn loudly(why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "\nSKIPPED, nothing was tested: {why}");
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/cluster")
        .join(name)
}

fn programs() -> Result<PathBuf, String> {
    let said = Command::new(script("programs"))
        .output()
        .map_err(|error| error.to_string())?;
    if said.status.success() {
        Ok(PathBuf::from(String::from_utf8_lossy(&said.stdout).trim()))
    } else {
        Err(String::from_utf8_lossy(&said.stderr).trim().to_owned())
    }
}

impl ControlPlane {
    async fn start(programs: PathBuf) -> Result<Self, String> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = std::env::temp_dir().join(format!("operator-tests-{}", std::process::id()));
        let authority = Authority::new();
        let admin = authority.user("admin", Some("system:masters"));
        let port = free_port().map_err(|error| error.to_string())?;
        let store = free_port().map_err(|error| error.to_string())?;
        let plane = Self {
            url: format!("https://127.0.0.1:{port}"),
            store: format!("http://127.0.0.1:{store}"),
            admin,
            programs,
            folder,
            _kept: Mutex::default(),
            authority,
        };
        let folder = plane.folder.clone();
        plane
            .begin(&folder, port)
            .await
            .map_err(|why| format!("{why}\n{}", logs(&folder)))?;
        Ok(plane)
    }

    async fn begin(&self, folder: &Path, port: u16) -> Result<(), String> {
        let begun = Instant::now();
        self.write_files(folder)
            .map_err(|error| error.to_string())?;
        let at = |name: &str| folder.join(name).display().to_string();
        let store = &self.store;
        // It has no peers; the address must only look like one.
        let peers = "http://127.0.0.1:1";
        self.keep(
            folder,
            "etcd",
            &[
                format!("--data-dir={}", at("etcd")),
                "--unsafe-no-fsync".into(),
                "--log-level=warn".into(),
                format!("--listen-client-urls={store}"),
                format!("--advertise-client-urls={store}"),
                "--listen-peer-urls=http://127.0.0.1:0".into(),
                format!("--initial-advertise-peer-urls={peers}"),
                format!("--initial-cluster=default={peers}"),
            ],
        )?;
        self.keep(
            folder,
            "kube-apiserver",
            &[
                format!("--etcd-servers={store}"),
                "--bind-address=127.0.0.1".into(),
                // Not loopback, which the server does not take; nobody connects there.
                "--advertise-address=192.0.2.1".into(),
                format!("--secure-port={port}"),
                "--service-cluster-ip-range=10.96.0.0/16".into(),
                "--authorization-mode=RBAC".into(),
                format!("--tls-cert-file={}", at("server.crt")),
                format!("--tls-private-key-file={}", at("server.key")),
                format!("--client-ca-file={}", at("ca.crt")),
                "--service-account-issuer=https://kubernetes.default.svc".into(),
                format!("--service-account-key-file={}", at("accounts.pub")),
                format!("--service-account-signing-key-file={}", at("accounts.key")),
                // Many tests share the server, and none of them is a test of its fairness.
                "--enable-priority-and-fairness=false".into(),
                "--max-requests-inflight=0".into(),
                "--max-mutating-requests-inflight=0".into(),
                // Of one kind no window of events is kept, so that the store's own shows.
                "--watch-cache-sizes=poddisruptionbudgets.policy#0".into(),
            ],
        )?;
        self.ready(begun).await?;
        self.install(begun).await?;
        // After the definition: garbage collection learns of new kinds only twice a minute.
        self.keep(
            folder,
            "kube-controller-manager",
            &[
                format!("--kubeconfig={}", at("controllers.kubeconfig")),
                "--leader-elect=false".into(),
                "--secure-port=0".into(),
                "--controllers=deployment-controller,replicaset-controller,garbage-collector-controller,\
                 namespace-controller,serviceaccount-controller,disruption-controller,\
                 horizontal-pod-autoscaler-controller"
                    .into(),
                // Tests wait for an autoscaler's first look, which comes every 15 s by default.
                "--horizontal-pod-autoscaler-sync-period=1s".into(),
                "--kube-api-qps=500".into(),
                "--kube-api-burst=500".into(),
            ],
        )
    }

    fn write_files(&self, folder: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let server = self.authority.server();
        let controllers = self.authority.user("controllers", Some("system:masters"));
        let accounts = self.authority.user("accounts", None);
        let kubeconfig = kubeconfig(&self.authority, &self.url, Some(&controllers));
        for (name, text) in [
            ("ca.crt", &self.authority.pem),
            ("server.crt", &server.certificate),
            ("server.key", &server.key),
            ("accounts.key", &accounts.key),
            ("accounts.pub", &accounts.public),
            ("controllers.kubeconfig", &kubeconfig.to_string()),
        ] {
            std::fs::write(folder.join(name), text)?;
        }
        Ok(())
    }

    fn keep(&self, folder: &Path, program: &str, arguments: &[String]) -> Result<(), String> {
        let child = Command::new(script("keep"))
            .arg(folder)
            .arg(self.programs.join(program))
            .args(arguments)
            // A run is short and memory is there; collecting it is a fifth of what the server does.
            .env("GOGC", "400")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        self._kept.lock().unwrap().push(child);
        Ok(())
    }

    async fn ready(&self, begun: Instant) -> Result<(), String> {
        let client = self.admin();
        loop {
            let request = http::Request::get("/readyz").body(Vec::new());
            let request = request.map_err(|error| error.to_string())?;
            let Err(error) = client.request_text(request).await else {
                return Ok(());
            };
            if begun.elapsed() > START {
                return Err(format!("not ready after {} s: {error}", START.as_secs()));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The chart's definition and cluster-wide rights, as Helm renders them.
    async fn install(&self, begun: Instant) -> Result<(), String> {
        let client = self.admin();
        for object in self.chart(&[])? {
            if matches!(&*kind(&object), "CustomResourceDefinition" | "ClusterRole") {
                apply(&client, &object)
                    .await
                    .map_err(|error| format!("the chart's {}: {error}", kind(&object)))?;
            }
        }
        let definitions: Api<CustomResourceDefinition> = Api::all(client);
        let name = "azureiothubconnectors.iot-connectors.dev";
        loop {
            let found = definitions.get(name).await.map_err(|e| e.to_string())?;
            let conditions = found.status.and_then(|status| status.conditions);
            let established = |c: &&_| -> bool {
                let c: &k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionCondition = c;
                c.type_ == "Established" && c.status == "True"
            };
            if conditions.iter().flatten().find(established).is_some() {
                return Ok(());
            }
            if begun.elapsed() > START {
                return Err("the definition is not established".into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What the chart makes with these values.
    pub fn chart(&self, values: &[&str]) -> Result<Vec<serde_json::Value>, String> {
        let mut helm = Command::new(self.programs.join("helm"));
        helm.args(["template", "operator"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/azure-iot-hub-connector"))
            .args(["--namespace", "operators"]);
        for value in values {
            helm.args(["--set", value]);
        }
        let said = helm.output().map_err(|error| error.to_string())?;
        if !said.status.success() {
            return Err(String::from_utf8_lossy(&said.stderr).into_owned());
        }
        objects(&String::from_utf8_lossy(&said.stdout)).map_err(|error| error.to_string())
    }

    /// A client of the cluster's administrator.
    pub fn admin(&self) -> Client {
        self.client(&self.admin)
    }

    /// A client of a user that has these rights only.
    pub fn client_of(&self, user: &str) -> Client {
        self.client(&self.authority.user(user, None))
    }

    fn client(&self, identity: &Identity) -> Client {
        let mut config = self.config(&self.url);
        let user = serde_yaml::to_value(credentials(identity));
        config.auth_info = user.and_then(serde_yaml::from_value::<AuthInfo>).unwrap();
        // What a test sees is what the server said.
        config.default_retry = false;
        Client::try_from(config).unwrap()
    }

    /// How to reach a server that shows one of our certificates.
    pub fn config(&self, url: &str) -> Config {
        let mut config = Config::new(url.parse().unwrap());
        config.root_cert = Some(vec![self.authority.der.clone()]);
        config
    }
}

/// Applies an object of whatever kind, by its own words.
pub async fn apply(client: &Client, object: &serde_json::Value) -> kube::Result<()> {
    let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
    let (group, version) = match text("apiVersion").split_once('/') {
        Some((group, version)) => (group.to_owned(), version.to_owned()),
        None => (String::new(), text("apiVersion")),
    };
    let kind = GroupVersionKind::gvk(&group, &version, &text("kind"));
    let resource = ApiResource::from_gvk(&kind);
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let params = PatchParams::apply("tests").force();
    api.patch(name, &params, &Patch::Apply(object)).await?;
    Ok(())
}

/// The kind of an object.
pub fn kind(object: &serde_json::Value) -> String {
    object["kind"].as_str().unwrap_or_default().to_owned()
}

/// The objects of a file of several documents.
pub fn objects(text: &str) -> Result<Vec<serde_json::Value>, serde_yaml::Error> {
    use serde::Deserialize;
    let mut objects = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let object = serde_json::Value::deserialize(document)?;
        if !object.is_null() {
            objects.push(object);
        }
    }
    Ok(objects)
}

/// A port that was free a moment ago.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The last words of each program.
fn logs(folder: &Path) -> String {
    ["etcd", "kube-apiserver", "kube-controller-manager"]
        .map(|program| {
            let text = std::fs::read_to_string(folder.join(format!("{program}.log")));
            let text = text.unwrap_or_default();
            let lines: Vec<_> = text.lines().rev().take(8).collect();
            let last: Vec<_> = lines.into_iter().rev().collect();
            format!("--- {program}\n{}", last.join("\n"))
        })
        .join("\n")
}
