//! Names, revisions and the texts that identify somebody: no bare strings or integers beyond here.

use crate::stored;
use serde::{Deserialize, Deserializer, Serialize};
use std::{fmt, sync::Arc};

/// Why a text is no id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must match {pattern}")]
pub struct InvalidId {
    /// The pattern that it does not match.
    pub pattern: &'static str,
}

/// The pattern of every id but a flag's.
pub const ID_PATTERN: &str = "[a-z]([a-z0-9-]{0,61}[a-z0-9])?";
/// The pattern of a flag's id, which is a key in people's code.
pub const FLAG_ID_PATTERN: &str = "[A-Za-z0-9]([A-Za-z0-9_.-]{0,126}[A-Za-z0-9])?";

fn is_id(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    bytes.len() <= 63
        && bytes.first().is_some_and(u8::is_ascii_lowercase)
        && bytes.last().is_some_and(|b| *b != b'-')
        && bytes.iter().all(inner)
}

fn is_flag_id(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(*b, b'_' | b'.' | b'-');
    bytes.len() <= 128
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(inner)
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident $(, $derive:ident)?) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize $(, $derive)?)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    };
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $check:ident, $pattern:ident) => {
        text_type!($(#[$doc])* $name);

        impl $name {
            /// Checks the text against its pattern.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                if $check(text) { Ok(Self(text.into())) } else { Err(InvalidId { pattern: $pattern }) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let problem = InvalidId { pattern: $pattern };
                stored::checked(deserializer, |text: &Arc<str>| $check(text), problem).map(Self)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }
    };
}

macro_rules! free_text_type {
    ($(#[$doc:meta])* $name:ident) => {
        text_type!($(#[$doc])* $name, Deserialize);

        impl $name {
            /// Takes the text as it is; its limits are checked where it enters.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }
        }
    };
}

id_type!(
    /// The last segment of `flags/{flag}`.
    FlagId, is_flag_id, FLAG_ID_PATTERN
);
id_type!(
    /// The last segment of `pipelines/{pipeline}`.
    PipelineId, is_id, ID_PATTERN
);
id_type!(
    /// The last segment of `releases/{release}`.
    ReleaseId, is_id, ID_PATTERN
);
id_type!(
    /// A phase, unique in its pipeline.
    PhaseId, is_id, ID_PATTERN
);
id_type!(
    /// A targeting rule, unique in its list.
    RuleId, is_id, ID_PATTERN
);
id_type!(
    /// A guard, unique in its phase.
    GuardId, is_id, ID_PATTERN
);
id_type!(
    /// An environment. It is declared nowhere.
    EnvironmentId, is_id, ID_PATTERN
);

id_type!(
    /// A place that notifications are sent to, as the settings of the server name it.
    SinkId, is_id, ID_PATTERN
);

free_text_type!(
    /// Who calls: a stable subject, `anonymous` if unknown.
    Principal
);
free_text_type!(
    /// A group of principals, as the call carried it.
    Group
);
free_text_type!(
    /// The id that makes a call safe to repeat.
    RequestId
);

/// Numbers the commits of the whole store: strictly growing, below 2^53. Zero is "none yet".
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Revision(#[serde(deserialize_with = "stored::counter")] u64);

impl Revision {
    /// Before the first commit.
    pub const ZERO: Self = Self(0);
    /// No store gets so far.
    pub const LAST: Self = Self((1 << 53) - 1);

    /// From its number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The revision of the next commit.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_begin_with_a_letter_and_end_without_a_dash() {
        for good in ["a", "a1", "prod-eu", &"a".repeat(63)] {
            assert!(PhaseId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "1a", "-a", "a-", "A", "a_b", "a b", "ä", &"a".repeat(64)] {
            assert!(PhaseId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn flag_ids_may_look_like_keys_in_code() {
        for good in ["a", "9", "newCheckout", "team.new_checkout-2", &"A".repeat(128)] {
            assert!(FlagId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".a", "a.", "_a", "a/b", "a b", "é", &"A".repeat(129)] {
            assert!(FlagId::parse(bad).is_err(), "{bad}");
        }
    }
}
