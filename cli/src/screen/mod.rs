//! What moves on a terminal: one release, or all of them, drawn in place.
//!
//! [`Text`] is a line; [`follow`] and [`view`] are what is known of one release and how it looks,
//! [`board`] the same of all. None of them knows a terminal. [`Screen`] does: the alternate screen,
//! because drawing into the scrollback breaks when a window changes its size; what was last seen is
//! printed below the command when it ends. The terminal is given back however it ends.

pub(crate) mod board;
pub(crate) mod clock;
pub(crate) mod follow;
mod phases;
mod text;
pub(crate) mod view;
mod words;

pub(crate) use text::{Colours, Text};

use crate::{failure::Failure, output};
use crossterm::event::{Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use futures_util::StreamExt as _;
use ratatui::DefaultTerminal;
use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};

/// Changes that come quicker than this are drawn together.
const DRAW_AT_MOST_EVERY: Duration = Duration::from_millis(40);
/// What counts down is seen to.
const DRAW_AT_LEAST_EVERY: Duration = Duration::from_secs(1);

/// A size in columns and lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) width: usize,
    pub(crate) height: usize,
}

/// A key that means something in one of the views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Letter(char),
    Enter,
    Escape,
    Backspace,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
}

/// What a person, or the system for them, wants of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// A key was pressed.
    Key(Key),
    /// Ctrl-C, by key or as a signal, or the end of the terminal.
    Stop,
    /// Nothing but to be drawn: time has passed, or the window has another size.
    Draw,
}

/// The terminal, taken for as long as this value lives.
pub(crate) struct Screen {
    terminal: DefaultTerminal,
    keys: Option<EventStream>,
    signals: Vec<Signal>,
    colours: Colours,
    drawn: Option<Instant>,
    is_stale: bool,
}

/// Whether something is drawn in place: for people, on a terminal that can.
pub(crate) fn is_possible() -> bool {
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stdout().is_terminal() && !is_dumb
}

impl Screen {
    pub(crate) fn open() -> Result<Self, Failure> {
        let machine = |source| Failure::Machine { doing: "take the terminal", source };
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let signals = kinds.map(signal).into_iter().collect::<Result<_, _>>().map_err(machine)?;
        // Also when it panics: the hook is set in here.
        let terminal = ratatui::try_init().map_err(machine)?;
        Ok(Self {
            terminal,
            keys: Some(EventStream::new()),
            signals,
            colours: output::colours(),
            drawn: None,
            is_stale: true,
        })
    }

    /// How many columns there are.
    pub(crate) fn width(&self) -> usize {
        // Whoever has no size has the usual one.
        self.terminal.size().map_or(80, |size| size.width.into())
    }

    /// What is shown is no longer so.
    pub(crate) fn stale(&mut self) {
        self.is_stale = true;
    }

    /// Draws, unless that was done just now or nothing has changed.
    pub(crate) fn draw(&mut self, lines: impl FnOnce(Size) -> Vec<Text>) -> Result<(), Failure> {
        if self.due().is_some_and(|due| Instant::now() < due) {
            return Ok(());
        }
        let colours = self.colours;
        self.terminal.draw(|frame| {
            let area = frame.area();
            let size = Size { width: area.width.into(), height: area.height.into() };
            for (y, text) in area.rows().zip(lines(size)) {
                frame.render_widget(text.fit(size.width).to_line(colours), y);
            }
        })?;
        self.drawn = Some(Instant::now());
        self.is_stale = false;
        Ok(())
    }

    /// When to draw again; none if it is time.
    fn due(&self) -> Option<Instant> {
        let wait = if self.is_stale { DRAW_AT_MOST_EVERY } else { DRAW_AT_LEAST_EVERY };
        self.drawn.map(|drawn| drawn + wait)
    }

    /// The next wish. May be cancelled without losing one.
    pub(crate) async fn wish(&mut self) -> Wish {
        let due = self.due().unwrap_or_else(Instant::now);
        loop {
            tokio::select! {
                key = next_key(&mut self.keys) => match key {
                    Some(Ok(Event::Key(key))) => {
                        if let Some(wish) = of_key(key) {
                            return wish;
                        }
                    }
                    Some(Ok(Event::Resize(..))) => {
                        self.is_stale = true;
                        return Wish::Draw;
                    }
                    Some(Ok(_)) => {}
                    // There is no keyboard; there still are signals.
                    Some(Err(_)) | None => self.keys = None,
                },
                () = any(&mut self.signals) => return Wish::Stop,
                () = tokio::time::sleep_until(due) => {
                    self.is_stale = true;
                    self.drawn = None;
                    return Wish::Draw;
                }
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
        // If the terminal is gone it cannot be told to show its cursor.
        let _ = self.terminal.show_cursor();
    }
}

async fn next_key(keys: &mut Option<EventStream>) -> Option<io::Result<Event>> {
    match keys {
        Some(keys) => keys.next().await,
        None => std::future::pending().await,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all other keys mean nothing here")]
fn of_key(key: KeyEvent) -> Option<Wish> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) {
        let is_stop = key.code == KeyCode::Char('c');
        return is_stop.then_some(Wish::Stop);
    }
    Some(Wish::Key(match key.code {
        KeyCode::Char(letter) => Key::Letter(letter),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        _ => return None,
    }))
}

/// The next of several signals.
async fn any(signals: &mut [Signal]) {
    let next = std::future::poll_fn(|context| {
        let mut came = signals.iter_mut().map(|signal| signal.poll_recv(context));
        match came.any(|poll| poll.is_ready()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    });
    next.await;
}
