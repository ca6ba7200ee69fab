//! Colours, and what they mean. Nothing is said by a colour alone, so all of this can be switched off.
//!
//! Only the sixteen colours that every terminal lets its user choose, and of these the ones that can
//! be read on a light ground and on a dark one: neither yellow nor blue.

use anstyle::{AnsiColor, Style};
use phasegate_api::v1::{PhaseState, ReleaseState};

/// What a piece of text means to its reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    #[default]
    Plain,
    /// What to look at first.
    Strong,
    /// What can be read later.
    Faint,
    /// It went well.
    Good,
    /// It moves by itself.
    Busy,
    /// It waits for a person.
    Waits,
    /// It went wrong.
    Bad,
}

impl Tone {
    pub(crate) fn of_release(state: ReleaseState) -> Self {
        match state {
            ReleaseState::AwaitingApproval | ReleaseState::Paused => Self::Waits,
            ReleaseState::AwaitingWindow | ReleaseState::Baking => Self::Busy,
            ReleaseState::Succeeded => Self::Good,
            ReleaseState::Aborted | ReleaseState::Failed => Self::Bad,
            ReleaseState::Pending | ReleaseState::Unspecified => Self::Plain,
        }
    }

    pub(crate) fn of_phase(state: PhaseState) -> Self {
        match state {
            PhaseState::AwaitingApproval => Self::Waits,
            PhaseState::AwaitingWindow | PhaseState::Baking => Self::Busy,
            PhaseState::Succeeded => Self::Good,
            PhaseState::Aborted | PhaseState::Failed => Self::Bad,
            PhaseState::Pending | PhaseState::Skipped | PhaseState::Cancelled => Self::Faint,
            PhaseState::Unspecified => Self::Plain,
        }
    }

    pub(crate) fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Strong => Style::new().bold(),
            Self::Faint => Style::new().dimmed(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Busy => AnsiColor::Cyan.on_default(),
            Self::Waits => AnsiColor::Magenta.on_default().bold(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
        }
    }

    /// The text with the escapes of its tone. Whoever prints it takes them out again where colours
    /// are not wanted.
    pub(crate) fn paint(self, text: &str) -> String {
        if self == Self::Plain || text.is_empty() {
            return text.to_owned();
        }
        let style = self.style();
        format!("{style}{text}{style:#}")
    }
}
