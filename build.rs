//! Compiles `proto/` once, for every crate of the workspace.
//!
//! protox is a protobuf compiler written in Rust, so a clean machine needs no `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

/// Everything that is served or spoken, in the order in which it should be read.
const FILES: &[&str] = &[
    "phasegate/v1/flag.proto",
    "phasegate/v1/pipeline.proto",
    "phasegate/v1/release.proto",
    "phasegate/v1/release_service.proto",
    "phasegate/v1/audit_service.proto",
    "phasegate/v1/store_service.proto",
    "phasegate/v1/notification_service.proto",
    "phasegate/v1/errors.proto",
    "phasegate/v1/access_service.proto",
    "phasegate/rehearsal/v1/clock.proto",
    "flagd/sync/v1/sync.proto",
    "flagd/evaluation/v1/evaluation.proto",
    "flagd/evaluation/v2/evaluation.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    let descriptors = protox::compile(FILES, ["proto"])?;
    fs::write(out_dir.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // Ordered maps: equal messages have equal bytes, which repeated requests are told apart by.
    tonic_prost_build::configure().btree_map(".").compile_fds(descriptors)?;
    Ok(())
}
