//! The Phasegate server.
//!
//! Rooms, downwards only: `app` -> `web` -> `delivery` -> `grpc` -> {`driver`, `watch`} -> {`store`,
//! `clock`}, with the engine below all. `grpc`, `delivery` and `web` never see `store`; `store` never sees
//! the wire types; `driver` never sees tonic.

#![warn(clippy::unwrap_used)]

pub mod access;
pub mod app;
pub mod clock;
pub mod config;
pub mod delivery;
pub mod driver;
pub mod grpc;
pub mod store;
pub mod watch;
pub mod web;
