//! An operator as a process of its own, which can be frozen, measured and killed.

use std::{
    net::TcpListener,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{kubeconfig::kubeconfig, plant::Plant, probe::Probe, proxy::Proxy, wait::within};

/// The program that is tested in place of the one that was built with the tests.
const OPERATOR: &str = "OPERATOR";

/// How an operator reaches the API server.
pub enum Way<'a> {
    /// Through a proxy, which counts and makes faults.
    Through(&'a Proxy),
    /// By itself: what is measured is the operator's alone.
    Direct,
}

/// A running operator; it ends with this, and with the test program however that ends.
pub struct Process {
    pub probe: Probe,
    child: Child,
}

impl Process {
    /// Starts an operator over the plant's namespace that stands for election there.
    pub fn start(plant: &Plant, way: &Way<'_>) -> Self {
        let address = TcpListener::bind("127.0.0.1:0")
            .and_then(|free| free.local_addr())
            .unwrap();
        let (url, user) = match way {
            Way::Through(proxy) => (&*proxy.url, None),
            Way::Direct => {
                let user = plant.plane.authority.user(&plant.user(), None);
                (&*plant.plane.url, Some(user))
            }
        };
        let config = kubeconfig(&plant.plane.authority, url, user.as_ref());
        let file = format!("operator-{}.kubeconfig", address.port());
        let path = plant.plane.folder.join(file);
        std::fs::write(&path, config.to_string()).unwrap();
        let program = std::env::var_os(OPERATOR)
            .unwrap_or_else(|| env!("CARGO_BIN_EXE_azure-iot-hub-operator").into());
        // It ends when the thread ends that started it, which is the test's.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(program)
            .arg(format!("--listen={address}"))
            .arg(format!("--watch-namespace={}", plant.namespace))
            .arg(format!("--lease-namespace={}", plant.namespace))
            .env("KUBECONFIG", path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            probe: Probe(address),
            child,
        }
    }

    /// Starts one that leads and knows the cluster.
    pub async fn leading(plant: &Plant, way: &Way<'_>) -> Self {
        let started = Self::start(plant, way);
        started.probe.ready().await;
        started.probe.leads("a lone operator leads").await;
        started
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.unwrap(), signal).unwrap();
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self, patience: Duration, promise: &str) -> ExitStatus {
        within(patience, promise, async || {
            let ended = self.child.try_wait().map_err(|error| error.to_string())?;
            ended.ok_or_else(|| "it runs".to_owned())
        })
        .await
    }

    /// Resident memory in MiB.
    pub fn memory(&self) -> f64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        kibibytes.unwrap() / 1024.0
    }

    /// Processor time so far, of user and system.
    pub fn processor(&self) -> Duration {
        // Hundredths of a second on every Linux that we know of.
        const TICK: Duration = Duration::from_millis(10);
        let stat = self.proc("stat");
        let after_name = stat.rsplit_once(')').unwrap().1;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let ticks: u32 = fields[11].parse::<u32>().unwrap() + fields[12].parse::<u32>().unwrap();
        TICK * ticks
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Also one that is frozen; one that has ended is no matter.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
