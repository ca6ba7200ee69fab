//! Tests of the translation, by what they show.

mod accepted;
mod answers;
mod events;
mod flags;
mod hostile;
mod pages;
mod pipelines;
mod releases;
mod round_trip;
mod sample;
mod story;
mod targeting;
mod values;

use super::Rejected;

/// An edit that may spoil something, and what is wrong after it.
type Case<'a, R> = (fn(&mut R), &'a [&'a str]);

/// Asserts that a sound request is accepted, and that each edit of it gives exactly these
/// violations.
fn check<R: Clone, T>(parse: impl Fn(R) -> Result<T, Rejected>, sound: R, cases: &[Case<'_, R>]) {
    assert_eq!(violations(parse(sound.clone())), [""; 0], "the request to be spoilt");
    for (edit, expected) in cases {
        let mut request = sound.clone();
        edit(&mut request);
        assert_eq!(violations(parse(request)), *expected);
    }
}

/// What is wrong, one line for each violation: its path and its description.
fn violations<T>(result: Result<T, Rejected>) -> Vec<String> {
    match result {
        Ok(_) => Vec::new(),
        Err(Rejected::Invalid(violations)) => violations.iter().map(ToString::to_string).collect(),
        Err(other @ (Rejected::ReasonRequired | Rejected::InvalidPageToken)) => {
            panic!("not about fields: {other:?}")
        }
    }
}
