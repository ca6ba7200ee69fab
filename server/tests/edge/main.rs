//! The edge over a real socket: what a client sees of starting, calling, failing, watching and
//! stopping. What the calls do to flags and releases is tested elsewhere.

mod access;
mod audit;
mod authority;
mod browser;
mod calls;
mod data;
mod delivery;
mod errors;
mod export;
mod grpc_web;
mod identity;
mod issuer;
mod listings;
mod login;
mod notifications;
mod ofrep;
mod pages;
mod server;
mod start;
mod stop;
mod telemetry;
mod tls;
mod transport;
mod watches;
