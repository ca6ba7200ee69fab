//! The program as a process that serves: started, and gone at the latest with this value.

use std::{
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

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
        let line = lines.next().expect("it says where it listens before it ends");
        let line = line.expect("it says so in UTF-8");
        let address = line.strip_prefix("listening on ").expect("it says that first").to_owned();
        Self { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
