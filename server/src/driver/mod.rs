//! The one writer: decide, commit, apply, publish, arm.

mod handle;

pub use handle::{Done, Error, Handle, LogError, Mode, Submission};
