//! The program as a process that serves: started, and gone at the latest with this value.

use std::{
    ffi::OsStr,
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// Far longer than a start takes on the busiest machine.
const START_MAX: Duration = Duration::from_secs(120);

/// `phasegate serve` on a free port of the loopback. Dropping it is SIGKILL, and waits until it is
/// gone: a kill is what some tests are about, and a test that failed must leave nothing behind.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) address: String,
}

impl Server {
    /// Starts it with further arguments, and waits until it says where it listens: then its store
    /// is loaded. Errors go to the stderr of the test.
    pub(crate) fn start<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Self {
        Self::start_at("127.0.0.1:0", arguments)
    }

    /// The same at an address, for those that come back.
    pub(crate) fn start_at<A: AsRef<OsStr>>(
        listen: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_phasegate"))
            .args(["serve", "--listen", listen, "--log", "error"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let (say, said) = mpsc::channel();
        // On a thread of its own, as a pipe cannot be read with a limit.
        thread::spawn(move || say.send(lines.next()));
        let mut server = Self { child, address: String::new() };
        let Ok(line) = said.recv_timeout(START_MAX) else {
            panic!("the server does not say where it listens. {}", server.threads());
        };
        let line = line.expect("it says where it listens before it ends");
        let line = line.expect("it says so in UTF-8");
        line.strip_prefix("listening on ")
            .expect("it says that first")
            .clone_into(&mut server.address);
        server
    }

    /// What its threads wait for, for the report of a test that waited in vain.
    pub(crate) fn threads(&self) -> String {
        let mut text = format!("Threads of process {}:", self.child.id());
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten() {
            let path = task.expect("a thread").path();
            let read = |name| fs::read_to_string(path.join(name)).unwrap_or_default();
            let (name, place, call) = (read("comm"), read("wchan"), read("syscall"));
            let _ = write!(text, "\n  {} in {place}, call {}", name.trim(), call.trim());
        }
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
