//! What is measured runs in a process of its own, so that its processor time and its memory are told
//! from those of the load. Dropping one ends it.

use crate::reference::bare;
use std::{
    ffi::OsStr,
    fmt, fs,
    io::{BufRead as _, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};
use tonic::transport::{Channel, Endpoint};

/// Processor time is counted in these, on every Linux that this runs on.
const TICK: Duration = Duration::from_millis(10);

/// A server that runs.
pub(crate) struct Server {
    child: Child,
    address: String,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    /// `phasegate serve` on a free port of the loopback, as it is installed: every guard, count and log
    /// is in. Returns when it says where it listens, which is when its store is loaded.
    pub(crate) fn phasegate<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Self {
        Self::phasegate_at("127.0.0.1:0", arguments)
    }

    /// The same, where another one was.
    pub(crate) fn phasegate_at<A: AsRef<OsStr>>(
        address: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let mut command = Command::new(program());
        command.args(["serve", "--listen", address, "--log", "error"]).args(arguments);
        Self::started(command)
    }

    /// This program again: gRPC with nothing behind it.
    pub(crate) fn bare(samples: &Path) -> Self {
        let this = std::env::current_exe().expect("a program knows where it is");
        let mut command = Command::new(this);
        command.arg("bare").env(bare::SAMPLES, samples);
        Self::started(command)
    }

    fn started(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let line = lines.next().expect("it says where it listens").expect("in UTF-8");
        let address = line.strip_prefix("listening on http://").expect("it says that").to_owned();
        Self { child, address }
    }

    /// etcd with one member and its defaults, in a directory; none if it is not installed.
    pub(crate) fn etcd(directory: &Path) -> Option<Self> {
        let etcd = std::env::var_os("ETCD").map_or_else(|| PathBuf::from("etcd"), PathBuf::from);
        let [clients, peers] = [free_port(), free_port()];
        let url = |port| format!("http://127.0.0.1:{port}");
        let child = Command::new(etcd)
            .arg("--data-dir")
            .arg(directory)
            .args(["--listen-client-urls", &url(clients), "--advertise-client-urls", &url(clients)])
            .args(["--listen-peer-urls", &url(peers), "--initial-advertise-peer-urls", &url(peers)])
            .args(["--initial-cluster", &format!("default={}", url(peers))])
            .args(["--log-level", "error", "--max-concurrent-streams", "20000"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        Some(Self { child, address: format!("127.0.0.1:{clients}") })
    }

    /// A connection, once the server takes one.
    pub(crate) async fn connect(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address))
            .expect("an address makes a URI")
            .tcp_nodelay(true);
        let begun = Instant::now();
        loop {
            match endpoint.connect().await {
                Ok(channel) => return channel,
                Err(error) if begun.elapsed() > Duration::from_secs(30) => {
                    panic!("{}: {error}", self.address)
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// So many connections.
    pub(crate) async fn connections(&self, count: usize) -> Vec<Channel> {
        let mut channels = Vec::new();
        for _ in 0..count {
            channels.push(self.connect().await);
        }
        channels
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Processor time so far, of all its threads.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("it runs");
        let (_, fields) = stat.rsplit_once(") ").expect("proc(5) says so");
        // utime and stime.
        let ticks = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u32>());
        ticks.map(|ticks| TICK * ticks.expect("proc(5) says so")).sum()
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("proc(5) says so") << 10
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(mut self) -> ExitStatus {
        let _ = self.child.kill();
        self.child.wait().expect("it is a child of ours")
    }

    /// SIGTERM, and waits until it has drained.
    pub(crate) fn stop(mut self) -> ExitStatus {
        let process = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        self.child.wait().expect("it is a child of ours")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program: beside this one, unless `PHASEGATE_PROGRAM` names another.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("PHASEGATE_PROGRAM").map_or_else(
        || {
            let this = std::env::current_exe().expect("a program knows where it is");
            this.with_file_name("phasegate")
        },
        PathBuf::from,
    )
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    listener.local_addr().expect("it has one").port()
}

/// What the machine did meanwhile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    stolen: u64,
    all: u64,
}

impl Machine {
    /// As of now.
    pub(crate) fn now() -> Self {
        let stat = fs::read_to_string("/proc/stat").expect("this is Linux");
        let line = stat.lines().next().expect("proc(5) says so");
        let fields: Vec<u64> =
            line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
        Self { stolen: fields.get(7).copied().unwrap_or_default(), all: fields.iter().sum() }
    }

    /// Which part of the processors' time the host has taken for others since then.
    pub(crate) fn stolen_since(self) -> f64 {
        let now = Self::now();
        (now.stolen - self.stolen) as f64 / (now.all - self.all).max(1) as f64
    }
}
