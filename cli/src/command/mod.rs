//! The commands, one file for each noun.

pub(crate) mod apply;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod clock;
pub(crate) mod config;
pub(crate) mod context;
pub(crate) mod demo;
pub(crate) mod eval;
mod live;
pub(crate) mod notify;
pub(crate) mod release;
pub(crate) mod resource;
pub(crate) mod serve;
pub(crate) mod shell;
pub(crate) mod store;
pub(crate) mod token;
pub(crate) mod top;
mod trigger;
pub(crate) mod watch;
pub(crate) mod whoami;

use crate::time;
use chrono::{DateTime, Utc};
use phasegate_client::Client;

/// What "now" is for the times that a server gives: in a rehearsal its clock, else this machine's.
pub(crate) async fn now(client: &Client) -> DateTime<Utc> {
    match client.clock_now().await {
        Ok(now) => time::instant(&now),
        // Any other server does not have a clock to ask; how long ago something was is not worth
        // failing for.
        Err(_) => time::local_now(),
    }
}
