//! What the server tells about itself: numbers, and the traces that calls belong to.
//!
//! [`table`] names every metric, once: what `/metrics` shows ([`text`]), what is pushed over OTLP
//! ([`otlp`]) and the table in `docs/observability.md` are made of it. A cell of it is a few atomics
//! ([`cells`]), so that counting costs the writer one addition.
//!
//! A label takes its values from a list that is written here, or from the table of methods: nothing that
//! a caller or a document names becomes one.
//!
//! Absent: where the numbers come from, which is every other room's business, and listening, which is
//! [`app`](crate::app)'s.

pub mod cells;
pub mod otlp;
mod process;
pub mod table;
pub mod text;
pub mod trace;

pub use cells::{Calls, Counter, Gauge, Histogram};
pub use process::observe as observe_process;
pub use table::Metrics;
pub use trace::TraceContext;

#[cfg(test)]
mod tests;
