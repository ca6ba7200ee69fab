//! Access: who calls.
//!
//! What is deliberately absent: the store, and the messages of the API. Headers and certificates are
//! all that is looked at.

pub mod identity;
