//! What is fuzzed: each target is one function of bytes, with what must hold written into it.
//!
//! Two programs use them. `replay.rs` is a test: it runs every file of `corpus/` and some random
//! mutations on the stable toolchain, so an input that once found something is a test for ever.
//! `libfuzzer/` is a package of its own that looks for new inputs, guided by coverage.
//!
//! An input is never refused: it is read as changes to something sound, or as requests to a server
//! that has something of everything, because pure noise would go no further than the first parser.

mod audit;
mod input;
mod server;
mod world;

pub mod answers;
pub mod chain;
pub mod credentials;
pub mod documents;
pub mod exports;
pub mod pages;
pub mod records;
pub mod requests;
pub mod tokens;

/// Something that is fuzzed.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, and that of the folder of its corpus.
    pub name: &'static str,
    /// Panics if what must hold does not.
    pub run: fn(&[u8]),
    /// Inputs to begin with, by name.
    pub seeds: fn() -> Vec<(String, Vec<u8>)>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "requests", run: requests::run, seeds: requests::seeds },
    Target { name: "tokens", run: tokens::run, seeds: tokens::seeds },
    Target { name: "records", run: records::run, seeds: records::seeds },
    Target { name: "exports", run: exports::run, seeds: exports::seeds },
    Target { name: "documents", run: documents::run, seeds: documents::seeds },
    Target { name: "answers", run: answers::run, seeds: answers::seeds },
    Target { name: "pages", run: pages::run, seeds: pages::seeds },
    Target { name: "chain", run: chain::run, seeds: chain::seeds },
    Target { name: "credentials", run: credentials::run, seeds: credentials::seeds },
];
