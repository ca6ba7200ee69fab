//! Crashes while a server recovers from a crash.

use crate::{
    answers::Answers,
    disk::{Disk, Image, Model, read_image, write_image},
    opening::{Case, workshop},
    record::Event,
    recorded::{events, points},
    server::{Kill, Scene, Server},
    workload::show,
};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use std::fs;

/// How often a recovery is crashed, and the recovery from that again.
pub(crate) const DEPTH: usize = 4;
/// How often a recovery is killed before it may come to its end.
const KILLS: usize = 12;
/// A recovery has about so many events.
const EARLY: std::ops::Range<u64> = 1..80;

/// Crashes a server that recovers from an image, then one that recovers from what that left, and so
/// on. On the way some are killed first, so that what one has not synced another finds.
pub(crate) async fn crash_recovery(
    mut case: Case,
    random: &mut ChaCha8Rng,
    mut take: impl FnMut(Case),
) {
    for _ in 0..DEPTH {
        let temporary = workshop();
        let scene = Scene::set(temporary.path());
        write_image(&case.image, &scene.root);
        let mut lives = Vec::new();
        for _ in 0..random.random_range(0..3) {
            let server = Server::start(&scene, Kill::Before(random.random_range(EARLY)));
            server.kill();
            let record = fs::read(&scene.record).unwrap();
            let events = events(&record);
            if !tells_all(&events, &case.image, &scene) {
                // It outlived its number, and was killed between a change and the entry of it.
                return;
            }
            lives.push(events.len());
        }
        let server = Server::start(&scene, Kill::Never);
        let shown = show(&server).await;
        let end = server.kill();
        if !end.was_killed() {
            let refused = Some(format!("killed {} times, then: {end:?}", lives.len()));
            take(Case { refused, ..case });
            return;
        }
        let record = fs::read(&scene.record).unwrap();
        let events = events(&record);
        lives.push(events.len());

        let mut answers = Answers::default();
        events.iter().enumerate().for_each(|(at, event)| answers.follow(at, *event));
        let crash_at = points(&events, &lives, 1 + random.random_range(0..4), random);
        let crash_at = crash_at.last().copied().unwrap();
        let mut disk = Disk::holding(case.model, &case.image);
        for (at, event) in events[..crash_at].iter().enumerate() {
            if lives.contains(&at) {
                disk.process_ended();
            }
            disk.follow(*event);
        }
        let image = disk.crashed(random);
        let mut seen = case.shown;
        if let Some((answer, revision)) = shown
            && answers.sent.get(&answer).is_some_and(|sent| *sent < crash_at)
        {
            // What was recovered was shown, so it must not be lost any more.
            seen = seen.max(revision);
        }
        let next = Case { shown: seen, image, ..case };
        take(next.clone());
        case = next;
    }
}

/// Whether what is in a directory follows from a record.
fn tells_all(events: &[Event<'_>], before: &Image, scene: &Scene) -> bool {
    let mut disk = Disk::holding(Model::Kill, before);
    events.iter().for_each(|event| disk.follow(*event));
    disk.cached() == read_image(&scene.root)
}

/// Kills a server that recovers, at one event after the other, on the same directory.
pub(crate) fn kill_recovery(case: Case, random: &mut ChaCha8Rng, mut take: impl FnMut(Case)) {
    let temporary = workshop();
    let scene = Scene::set(temporary.path());
    write_image(&case.image, &scene.root);
    for _ in 0..KILLS {
        let server = Server::start(&scene, Kill::Before(random.random_range(EARLY)));
        let end = server.kill();
        let refused = (!end.was_killed() || end.panicked()).then(|| format!("{end:?}"));
        let image = read_image(&scene.root);
        take(Case { image, refused, ..case });
    }
}
