//! The real program, under the recorder or alone.

use std::{
    env,
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    thread::JoinHandle,
};
use tonic::transport::Channel;

const PROGRAM: &str = env!("CARGO_BIN_EXE_phasegate");
/// 2030-06-17, a Monday. The clock is moved by hand, so that a week of timers and retention fits.
const START: &str = "2030-06-17T06:00:00Z";

/// A directory to watch, the data directory in it, and the record of what happens there.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    /// The parent of the data directory, which the server syncs too.
    pub(crate) root: PathBuf,
    pub(crate) record: PathBuf,
}

impl Scene {
    /// Makes an empty one.
    pub(crate) fn set(in_directory: &Path) -> Self {
        // The recorder compares paths as they are written.
        let directory = in_directory.canonicalize().unwrap();
        let scene = Self { root: directory.join("root"), record: directory.join("record") };
        std::fs::create_dir(&scene.root).unwrap();
        File::create_new(&scene.record).unwrap();
        scene
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("data")
    }
}

/// When the process kills itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kill {
    Never,
    /// Just before the event of this number, counted from 1.
    Before(u64),
}

/// A server that was started.
pub(crate) struct Server {
    child: Child,
    errors: Option<JoinHandle<String>>,
    /// Where it serves; none if it ended before.
    pub(crate) address: Option<String>,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) status: ExitStatus,
    /// What it wrote to stderr.
    pub(crate) errors: String,
}

impl End {
    pub(crate) fn was_killed(&self) -> bool {
        use std::os::unix::process::ExitStatusExt as _;
        self.status.signal() == Some(9)
    }

    pub(crate) fn panicked(&self) -> bool {
        self.errors.contains("panicked at")
    }
}

impl Server {
    /// Starts it under the recorder, and waits until it serves or has ended.
    pub(crate) fn start(scene: &Scene, kill: Kill) -> Self {
        let mut command = serve(&scene.data());
        command
            .env("LD_PRELOAD", recorder())
            .env("PHASEGATE_RECORDER_ROOT", &scene.root)
            .env("PHASEGATE_RECORDER_OUTPUT", &scene.record);
        if let Kill::Before(event) = kill {
            command.env("PHASEGATE_RECORDER_KILL_BEFORE", event.to_string());
        }
        Self::wait_for(command)
    }

    /// Starts it without the recorder.
    pub(crate) fn start_alone(data: &Path) -> Self {
        Self::wait_for(serve(data))
    }

    fn wait_for(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let errors = child.stderr.take().unwrap();
        let errors = Some(std::thread::spawn(move || read_all(errors)));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut told = lines.map_while(Result::ok);
        let address =
            told.find_map(|line| line.strip_prefix("listening on ").map(|a| a.trim().to_owned()));
        Self { child, errors, address }
    }

    /// A connection of its own.
    pub(crate) fn channel(&self) -> Option<Channel> {
        let address = self.address.clone()?;
        Some(Channel::from_shared(address).unwrap().connect_lazy())
    }

    /// Asks it to stop, and waits until it has ended, however it does.
    pub(crate) fn stop(mut self) -> End {
        let process = rustix::process::Pid::from_child(&self.child);
        // It may be gone already.
        let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        self.end()
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(mut self) -> End {
        self.child.kill().unwrap();
        self.end()
    }

    fn end(&mut self) -> End {
        let status = self.child.wait().unwrap();
        let errors = self.errors.take().map(|reader| reader.join().unwrap());
        End { status, errors: errors.unwrap_or_default() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone after `stop` and `kill`; else a test failed, and must not leave it behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_all(mut errors: ChildStderr) -> String {
    let mut bytes = Vec::new();
    errors.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn serve(data: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--clock=manual", "--clock-start", START])
        .args(["--keep-events", "1h", "--log", "error", "--data"])
        .arg(data)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The library that records. Cargo builds it beside this program, because it is a dependency.
fn recorder() -> PathBuf {
    let here = env::current_exe().unwrap();
    let library = here.with_file_name("libphasegate_recorder.so");
    assert!(library.exists(), "{} is not there", library.display());
    library
}

/// `phasegate store export`: what is in a directory, as lines, and how that went.
pub(crate) fn export(data: &Path) -> (Vec<u8>, End) {
    let output = Command::new(PROGRAM)
        .args(["store", "export", "--data"])
        .arg(data)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.stdout, End { status: output.status, errors })
}
