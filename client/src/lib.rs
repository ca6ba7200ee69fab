//! The client of Phasegate for Rust programs.
//!
//! What it promises:
//!
//! - every call of the API as a method of [`Client`], with the generated messages of [`v1`];
//! - a call that changes something carries a `request_id`, so that it is made again after a lost
//!   connection and still done once;
//! - [`Client::watch_release`] and [`Client::watch_releases`] survive lost connections, restarts and
//!   upgrades of the server; they say so if they had to begin anew;
//! - one [`Error`], with the [`Reason`] as an enum.
//!
//! The clients of other languages, in `sdk/`, promise the same, and one suite tries all of them
//! (`sdk/conformance`).
//!
//! What is deliberately absent: caching, and the evaluation of flags inside the program.
//!
//! ```no_run
//! use phasegate_client::{Client, Reason, v1};
//!
//! # async fn example() -> Result<(), phasegate_client::Error> {
//! let client = Client::connect("http://127.0.0.1:7433").principal("ann@example.com").await?;
//!
//! let release = client
//!     .trigger_release(v1::TriggerReleaseRequest {
//!         release: Some(v1::Release {
//!             flag: "flags/checkout-v2".into(),
//!             change: Some(v1::release::Change::FeatureGate(v1::GateSpec {
//!                 default_value: true,
//!                 ..Default::default()
//!             })),
//!             ..Default::default()
//!         }),
//!         ..Default::default()
//!     })
//!     .await?;
//!
//! let hold = v1::PauseReleaseRequest { name: release.name, ..Default::default() };
//! match client.pause_release(hold).await {
//!     Ok(release) => println!("{:?}", release.state()),
//!     Err(error) if error.reason == Reason::AlreadyPaused => println!("somebody was quicker"),
//!     Err(error) => return Err(error),
//! }
//! # Ok(())
//! # }
//! ```
#![warn(missing_docs, clippy::unwrap_used)]

mod connect;
mod credential;
mod error;
mod retry;

mod access;
mod audit;
mod clock;
mod flags;
mod mutation;
mod notifications;
mod pipelines;
mod releases;
mod store;

mod watch;

pub use connect::{Client, Connect};
pub use error::{Error, Reason, Violation};
pub use phasegate_api::{rehearsal, v1};
pub use retry::Retry;
pub use store::StoreExport;
pub use tonic::Code;
pub use watch::{AuditUpdate, Position, ReleaseUpdate, ReleasesUpdate, Watch};
