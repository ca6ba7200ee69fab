//! The Phasegate server.
//!
//! Rooms, downwards only: `app` -> `web` -> `delivery` -> `grpc` -> {`access`, `notify`} ->
//! {`driver`, `watch`} -> {`store`, `clock`, `telemetry`}, with the engine below all. `access`, `notify`,
//! `grpc`, `delivery` and `web` never see `store`; `store`, `access` and `notify` never see the wire types;
//! `driver` and `notify` never see tonic.

#![warn(clippy::unwrap_used)]

pub mod access;
pub mod app;
pub mod clock;
pub mod config;
pub mod delivery;
pub mod driver;
pub mod grpc;
pub mod notify;
mod private;
pub mod store;
pub mod telemetry;
pub mod watch;
pub mod web;
