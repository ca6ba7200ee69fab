//! Which environment a caller means.

use phasegate_engine::id::{EnvironmentId, ID_PATTERN};

/// Why a selector is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the selector {text:?} {problem}; write flagSetId=ENVIRONMENT")]
pub(super) struct Malformed {
    text: String,
    problem: String,
}

/// The key that flagd's selectors have for a set of flags.
const KEY: &str = "flagSetId";
/// A longer selector is quoted only so far.
const QUOTED_MAX: usize = 80;

/// Reads `flagSetId=ENVIRONMENT`, or the id of an environment alone; `None` if it is empty.
pub(super) fn parse(text: &str) -> Result<Option<EnvironmentId>, Malformed> {
    let malformed = |problem: String| Malformed { text: quoted(text), problem };
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Ok(None);
    }
    let id = match trimmed.split_once('=') {
        None => trimmed,
        Some((KEY, id)) => id,
        Some(_) => return Err(malformed(format!("has another key than {KEY}"))),
    };
    let parsed = EnvironmentId::parse(id);
    parsed.map(Some).map_err(|_| malformed(format!("names no environment ({ID_PATTERN})")))
}

fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<String, String> {
        let parsed = parse(text).map_err(|malformed| malformed.to_string())?;
        Ok(parsed.map_or_else(String::new, |id| id.to_string()))
    }

    #[test]
    fn a_selector_is_a_key_and_an_environment_or_an_environment_alone() {
        assert_eq!(check("flagSetId=prod").as_deref(), Ok("prod"));
        assert_eq!(check("prod-eu").as_deref(), Ok("prod-eu"));
        assert_eq!(check(" prod ").as_deref(), Ok("prod"));
        assert_eq!(check("").as_deref(), Ok(""));
        assert_eq!(check("  ").as_deref(), Ok(""));
    }

    #[test]
    fn anything_else_is_refused_and_says_how_it_is_written() {
        for bad in [
            "source=prod",
            "flagsetid=prod",
            "flagSetId=",
            "flagSetId=Prod",
            "flagSetId=prod,source=x",
            "=prod",
            "a b",
            "flagSetId=prod=eu",
            "\"; drop",
        ] {
            let problem = check(bad).unwrap_err();
            assert!(problem.ends_with("; write flagSetId=ENVIRONMENT"), "{bad}: {problem}");
        }
        assert!(check(&"é".repeat(100_000)).unwrap_err().len() < 500);
    }
}
