//! The Phasegate server.
//!
//! Rooms, downwards only: `app` -> `web` -> `delivery` -> `grpc` -> `notify` -> {`driver`, `watch`} ->
//! {`store`, `clock`}, with the engine below all. `grpc`, `notify`, `delivery` and `web` never see `store`;
//! `store` never sees the wire types; `driver` never sees tonic, and `notify` neither.

#![warn(clippy::unwrap_used)]

pub mod app;
pub mod clock;
pub mod config;
pub mod delivery;
pub mod driver;
pub mod grpc;
pub mod notify;
pub mod store;
pub mod watch;
pub mod web;
