//! Access: who calls, and what they may.
//!
//! [`identity`] finds out who calls; a [`Policy`] says what they may; [`table`] says what each method and
//! route takes; [`Access`] puts the three together and stands before everything that is served. What
//! comes of it, [`Grants`], goes with the request: the services ask it about the labels of the flag in
//! question, and the writer asks it again about the state that it decides on ([`Permit`]).
//!
//! Rules:
//!
//! 1. Default deny: what has no row in the table is not done, and a test compares the table with what is
//!    served.
//! 2. Who may not see a flag is answered as if there were none.
//! 3. A stream looks again whenever the policy or who is who has changed, and at least every
//!    [`LOOK_AGAIN`]; it ends with its credential.
//! 4. Who speaks for others speaks with their permissions and not with their own, and is no second pair
//!    of eyes.
//!
//! What is deliberately absent: the store, the messages of the API and its status codes, which are the
//! edge's, and rules about releases, which are the engine's.
//!
//! [`Permit`]: crate::driver::Permit

mod gate;
mod grants;
pub mod identity;
mod lease;
mod permission;
mod policy;
mod rate;
pub mod table;

pub use gate::{Access, Asked, Refusal, Refusals, Refused};
pub use grants::{Allowed, Grants, Reach};
pub use lease::{LOOK_AGAIN, Lease};
pub use permission::{Permission, Role};
pub use policy::{Policies, Policy, PolicyError};
pub use rate::Rates;
