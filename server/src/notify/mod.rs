//! Notifications: the right people hear that they are needed.
//!
//! ```text
//!  outbox ──rows──► scheduler ──start──► attempt (webhook, mail) ──► receiver
//!    ▲                  ▲                    │
//!    └──── settle ──────┴───── outcome ◄─────┘
//! ```
//!
//! Rows of the outbox are written by the driver, in the commit that causes them; [`Router`] tells it for
//! which sinks. This room sends them, and has it written down how far they are.
//!
//! Promises:
//!
//! 1. A notification is delivered at least once, with the same id each time, or it is a dead letter that
//!    somebody can look at and send again. Without a crash it is delivered once.
//! 2. A sink that fails, is slow or hangs delays no other sink, and never the engine.
//! 3. What is connected to has been checked: see `target` and `connect`.
//! 4. No secret, no body and no query of a URL is logged or shown.
//!
//! Deliberately absent: the order of a sink's notifications (`revision` sorts them), wire types, the
//! store, and any judgement about what people have to hear of, which is the driver's and the file's.

mod address;
mod attempt;
mod breaker;
mod connect;
mod event;
mod mail;
mod metrics;
mod notifier;
mod outbox;
mod schedule;
mod scheduler;
mod secret;
mod service;
mod settings;
mod sign;
mod subscription;
mod target;
mod template;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod webhook;

pub use attempt::{Step, World};
pub use connect::{Resolve, SystemResolver};
pub use metrics::{Counts, Metrics};
pub use notifier::{Notifier, SinkReport, TestReport, Which, test};
pub use schedule::{ATTEMPTS_MAX, DELAYS};
pub use scheduler::{ATTEMPTS_AT_A_TIME, Fault, FaultKind, Outcome, Standing};
pub use service::Router;
pub use settings::{Error as SettingsError, Place, Settings, Sink, read};
