//! Where events go, and which calls are any of our business.

use crate::record::Event;
use std::{
    collections::HashSet,
    ffi::{CStr, OsStr, c_char, c_int},
    os::unix::ffi::OsStrExt as _,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

/// The directory to watch: absolute, without symbolic links. Without it nothing is recorded.
const ROOT: &str = "PHASEGATE_RECORDER_ROOT";
/// The file to append to; it lies elsewhere and exists.
const OUTPUT: &str = "PHASEGATE_RECORDER_OUTPUT";
/// Before which event of this process it kills itself, counted from 1. Optional.
const KILL_BEFORE: &str = "PHASEGATE_RECORDER_KILL_BEFORE";

/// What is recorded, and to where.
#[derive(Debug)]
pub(crate) struct Recorder {
    root: Vec<u8>,
    output: c_int,
    kill_before: Option<u64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Device and inode of what lies below the root and was opened through us.
    known: HashSet<(u64, u64)>,
    events: u64,
    syncs: u64,
    entry: Vec<u8>,
}

/// The only one that changes anything now. Calls are made while this is held, and then noted, so the
/// order of the record is the order of the calls.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    recorder: &'static Recorder,
    state: MutexGuard<'a, State>,
}

/// What an open file is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Status {
    pub(crate) inode: u64,
    pub(crate) length: u64,
    device: u64,
    mode: libc::mode_t,
}

impl Status {
    fn of(stat: &libc::stat) -> Self {
        Self {
            inode: stat.st_ino,
            // The kernel never says less than 0.
            length: u64::try_from(stat.st_size).unwrap_or_default(),
            device: stat.st_dev,
            mode: stat.st_mode & libc::S_IFMT,
        }
    }

    pub(crate) fn of_file(file: c_int) -> Option<Self> {
        // SAFETY: zeroes are a valid `stat`, which is plain numbers.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: `stat` outlives the call.
        (unsafe { libc::fstat(file, &raw mut stat) } == 0).then(|| Self::of(&stat))
    }

    /// # Safety
    ///
    /// `path` is a C string.
    pub(crate) unsafe fn of_path(directory: c_int, path: *const c_char) -> Option<Self> {
        // SAFETY: as above.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        let flags = libc::AT_SYMLINK_NOFOLLOW;
        // SAFETY: `stat` outlives the call, and the caller vouches for the path.
        let result = unsafe { libc::fstatat(directory, path, &raw mut stat, flags) };
        (result == 0).then(|| Self::of(&stat))
    }

    pub(crate) fn is_socket(self) -> bool {
        self.mode == libc::S_IFSOCK
    }

    fn is_file_or_directory(self) -> bool {
        [libc::S_IFREG, libc::S_IFDIR].contains(&self.mode)
    }
}

impl Recorder {
    /// The recorder of this process, if it has one.
    pub(crate) fn get() -> Option<&'static Self> {
        static RECORDER: OnceLock<Option<Recorder>> = OnceLock::new();
        RECORDER.get_or_init(Self::from_environment).as_ref()
    }

    fn from_environment() -> Option<Self> {
        let root = std::env::var_os(ROOT)?;
        let Some(output) = std::env::var_os(OUTPUT) else {
            die("PHASEGATE_RECORDER_OUTPUT is not set");
        };
        let kill_before = std::env::var(KILL_BEFORE).ok().and_then(|text| text.parse().ok());
        let mut path = output.as_bytes().to_vec();
        path.push(0);
        let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CLOEXEC;
        // Not by `open`, which is ours.
        // SAFETY: the path ends with a zero byte.
        let fd = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags) };
        match c_int::try_from(fd) {
            Ok(output) if output >= 0 => Some(Self {
                root: root.as_bytes().to_vec(),
                output,
                kill_before,
                state: Mutex::default(),
            }),
            Ok(_) | Err(_) => die("PHASEGATE_RECORDER_OUTPUT cannot be opened"),
        }
    }

    /// The recorder, if a path is below its root, and the path as seen from there.
    ///
    /// # Safety
    ///
    /// `path` is a C string.
    pub(crate) unsafe fn of_path(
        directory: c_int,
        path: *const c_char,
    ) -> Option<(&'static Self, Vec<u8>)> {
        let recorder = Self::get()?;
        // SAFETY: the caller vouches for it.
        let path = unsafe { CStr::from_ptr(path) }.to_bytes();
        let absolute = if path.starts_with(b"/") {
            path.to_vec()
        } else {
            let link = match directory {
                libc::AT_FDCWD => "/proc/self/cwd".to_owned(),
                directory => format!("/proc/self/fd/{directory}"),
            };
            let base = std::fs::read_link(link).ok()?;
            [base.as_os_str().as_bytes(), b"/", path].concat()
        };
        let below = absolute.strip_prefix(recorder.root.as_slice())?;
        match below {
            [] => Some((recorder, Vec::new())),
            [b'/', below @ ..] => Some((recorder, below.to_vec())),
            _ => None,
        }
    }

    pub(crate) fn turn(&'static self) -> Turn<'static> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Turn { recorder: self, state }
    }
}

impl Turn<'_> {
    /// To be called before a call of which an event will be noted: kills the process if it is time.
    /// Nothing else is half done then, because everything waits for its turn.
    pub(crate) fn event_ahead(&mut self) {
        self.state.events += 1;
        if self.recorder.kill_before == Some(self.state.events) {
            // SAFETY: nothing comes after it.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
    }

    pub(crate) fn note(&mut self, event: &Event<'_>) {
        let mut entry = std::mem::take(&mut self.state.entry);
        entry.clear();
        event.write(&mut entry);
        // Not by `write`, which is ours.
        // SAFETY: the buffer outlives the call.
        let wrote = unsafe {
            libc::syscall(libc::SYS_write, self.recorder.output, entry.as_ptr(), entry.len())
        };
        if usize::try_from(wrote) != Ok(entry.len()) {
            die("the record cannot be written");
        }
        self.state.entry = entry;
    }

    /// From here on, what is written to this file is noted.
    pub(crate) fn learn(&mut self, status: Status) {
        self.state.known.insert((status.device, status.inode));
    }

    /// A file that lost its name: whoever gets the number of its inode may be none of ours.
    pub(crate) fn forget(&mut self, status: Status) {
        self.state.known.remove(&(status.device, status.inode));
    }

    pub(crate) fn knows(&self, status: Status) -> bool {
        status.is_file_or_directory() && self.state.known.contains(&(status.device, status.inode))
    }

    /// Lets others go on.
    pub(crate) fn pass(self) -> &'static Recorder {
        self.recorder
    }

    /// A number for a sync that is about to begin.
    pub(crate) fn next_sync(&mut self) -> u64 {
        self.state.syncs += 1;
        self.state.syncs
    }
}

/// Ends the process. A call that is not recorded would make every conclusion wrong, so there is no
/// going on.
pub(crate) fn die(why: &str) -> ! {
    let text = [b"recorder: ", OsStr::new(why).as_bytes(), b"\n"].concat();
    // SAFETY: the text outlives the call.
    unsafe { libc::syscall(libc::SYS_write, libc::STDERR_FILENO, text.as_ptr(), text.len()) };
    std::process::abort()
}
