//! The edge over a real socket: what a client sees of starting, calling, failing, watching and
//! stopping. What the calls do to flags and releases is tested elsewhere.

mod access;
mod browser;
mod calls;
mod data;
mod delivery;
mod errors;
mod listings;
mod ofrep;
mod pages;
mod server;
mod start;
mod stop;
mod transport;
mod watches;
