//! A terminal for one program: its keyboard, and its screen as it would be seen.

use std::{
    io::{Read as _, Write as _},
    num::NonZero,
    process::{Child, Command as Plain, ExitStatus},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

/// What a person sees comes within this time, or does not come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A size in lines and columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size(pub(crate) u16, pub(crate) u16);

/// What the program has written, and what it looks like.
struct Seen {
    screen: vt100::Parser,
    bytes: Vec<u8>,
    is_over: bool,
}

/// A program on a terminal. It is gone at the latest with this value.
pub(crate) struct Terminal {
    pty: Arc<pty_process::blocking::Pty>,
    child: Child,
    seen: Arc<(Mutex<Seen>, Condvar)>,
}

impl Terminal {
    /// Starts the program.
    pub(crate) fn start(size: Size, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let (pty, pts) = pty_process::blocking::open().expect("there are terminals");
        pty.resize(pty_process::Size::new(size.0, size.1)).expect("it has a size");
        let mut command = pty_process::blocking::Command::new(env!("CARGO_BIN_EXE_phasegate"))
            .args(arguments)
            .env_clear()
            .env("TERM", "xterm-256color")
            .env("LANG", "C.UTF-8")
            .env("TZ", "UTC");
        for (name, value) in environment {
            command = command.env(name, value);
        }
        let child = command.spawn(pts).expect("the program can be started");
        let screen = vt100::Parser::new(positive(size.0), positive(size.1), 0);
        let seen = Seen { screen, bytes: Vec::new(), is_over: false };
        let (pty, seen) = (Arc::new(pty), Arc::new((Mutex::new(seen), Condvar::new())));
        let (from, to) = (Arc::clone(&pty), Arc::clone(&seen));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                // A terminal that its program has left ends with an error.
                let read = (&*from).read(&mut buffer).unwrap_or_default();
                let mut seen = to.0.lock().unwrap();
                seen.screen.process(&buffer[..read]);
                seen.bytes.extend_from_slice(&buffer[..read]);
                seen.is_over = read == 0;
                to.1.notify_all();
                if read == 0 {
                    break;
                }
            }
        });
        Self { pty, child, seen }
    }

    /// Waits until the screen is as wanted, and returns it.
    pub(crate) fn until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = self.seen.0.lock().unwrap();
        loop {
            let screen = shown(seen.screen.screen());
            if is_so(&screen) {
                return screen;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && !seen.is_over, "never seen: {what}\n{screen}");
            seen = self.seen.1.wait_timeout(seen, left).unwrap().0;
        }
    }

    /// Waits until a text is on the screen.
    pub(crate) fn shows(&self, text: &str) -> String {
        self.until(text, |screen| screen.contains(text))
    }

    /// Whether any cell of the screen has a colour.
    pub(crate) fn has_colours(&self) -> bool {
        let seen = self.seen.0.lock().unwrap();
        let (lines, columns) = seen.screen.screen().size();
        let cells =
            (0..lines.get()).flat_map(|line| (0..columns.get()).map(move |column| (line, column)));
        let mut cells = cells.filter_map(|(line, column)| seen.screen.screen().cell(line, column));
        cells.any(|cell| cell.fgcolor() != vt100::Color::Default)
    }

    /// Waits until the program has the terminal to itself.
    pub(crate) fn is_taken(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = self.seen.0.lock().unwrap();
        while !(seen.screen.screen().alternate_screen() && seen.screen.screen().hide_cursor()) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && !seen.is_over, "the terminal was never taken");
            seen = self.seen.1.wait_timeout(seen, left).unwrap().0;
        }
    }

    pub(crate) fn is_alternate(&self) -> bool {
        self.seen.0.lock().unwrap().screen.screen().alternate_screen()
    }

    pub(crate) fn hides_cursor(&self) -> bool {
        self.seen.0.lock().unwrap().screen.screen().hide_cursor()
    }

    /// All that was written so far.
    pub(crate) fn written(&self) -> String {
        String::from_utf8_lossy(&self.seen.0.lock().unwrap().bytes).into_owned()
    }

    /// Types.
    pub(crate) fn press(&self, keys: &str) {
        (&*self.pty).write_all(keys.as_bytes()).expect("somebody reads the keyboard");
    }

    pub(crate) fn resize(&self, size: Size) {
        // What comes from now on is for the new size; what was drawn for the old one is drawn over.
        self.seen
            .0
            .lock()
            .unwrap()
            .screen
            .screen_mut()
            .set_size(positive(size.0), positive(size.1));
        self.pty.resize(pty_process::Size::new(size.0, size.1)).expect("it has a size");
    }

    /// The program is told to stop by a signal.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Plain::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Waits until the program has ended by itself, and returns what it left on the screen.
    pub(crate) fn end(&mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = self.seen.0.lock().unwrap();
        while !seen.is_over {
            let left = deadline.saturating_duration_since(Instant::now());
            let screen = shown(seen.screen.screen());
            assert!(!left.is_zero(), "the program does not end\n{screen}");
            seen = self.seen.1.wait_timeout(seen, left).unwrap().0;
        }
        let screen = shown(seen.screen.screen());
        drop(seen);
        (self.child.wait().unwrap(), screen)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may be gone already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn positive(length: u16) -> NonZero<u16> {
    NonZero::new(length).expect("there is no terminal without a size")
}

/// A screen as text, without what nobody sees.
fn shown(screen: &vt100::Screen) -> String {
    let contents = screen.contents();
    let lines: Vec<&str> = contents.lines().map(str::trim_end).collect();
    let text = lines.join("\n");
    text.trim_end().to_owned() + "\n"
}
