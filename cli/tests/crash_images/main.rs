//! The real program on a real sled store, through simulated power cuts.
//!
//! A recorder (`tests/recorder`) notes every change that the server makes to its data directory, each
//! sync, and each answer, in one order. From the first events of such a record an image is built of
//! what the disk may hold if the power goes there; the program then opens it and must find all that
//! had been acknowledged, nothing that never was, and nothing half. What may be on the disk is said
//! in `disk`, what must be found in `truth`.
//!
//! `SEED=` replays the choices: the lives of the server, the points of the crashes, what is kept of
//! what was not synced. It does not replay the schedule of the machine, on which the record depends.
//! `POINTS=` says at how many points each model is crashed (100; by hand 300), `KEEP=` names a
//! directory in which images that fail are kept.

#![cfg_attr(target_os = "linux", allow(clippy::unwrap_used, reason = "these are tests"))]

#[cfg(target_os = "linux")]
mod answers;
#[cfg(target_os = "linux")]
mod disk;
#[cfg(target_os = "linux")]
mod experiment;
#[cfg(target_os = "linux")]
mod opening;
#[cfg(target_os = "linux")]
#[path = "../../../tests/recorder/record.rs"]
#[allow(unreachable_pub, reason = "it is public in the recorder")]
mod record;
#[cfg(target_os = "linux")]
mod recorded;
#[cfg(target_os = "linux")]
mod recovery;
#[cfg(target_os = "linux")]
mod server;
#[cfg(target_os = "linux")]
mod truth;
#[cfg(target_os = "linux")]
mod workload;

#[cfg(not(target_os = "linux"))]
#[test]
fn crash_images_are_made_on_linux_only() {
    println!("the recorder takes the place of functions of Linux's libc: nothing is tested here");
}
