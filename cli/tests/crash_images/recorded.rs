//! A record of a server's lives, with all that is known of it, and the points to crash it at.

use crate::{
    answers::Answers,
    disk::{Disk, Image, Model, read_image, write_image},
    opening::{is_ready, workshop},
    record::{self, Event},
    server::{Scene, export},
    truth::{Export, Truth},
    workload::{self, Ends, LIVES, Life, Outcome},
};
use rand::{RngExt as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;
use std::fs;

/// A record with all that is known of it.
pub(crate) struct Recorded {
    pub(crate) bytes: Vec<u8>,
    /// After how many events each life ended.
    pub(crate) lives: Vec<usize>,
    pub(crate) truth: Truth,
}

/// All events of a record.
pub(crate) fn events(mut record: &[u8]) -> Vec<Event<'_>> {
    let next = || record::read(&mut record).map(Result::unwrap);
    std::iter::from_fn(next).collect()
}

impl Recorded {
    /// Lets a server live all its lives, and checks after each of them that the record tells the
    /// whole story, and that nothing was lost so far.
    pub(crate) async fn record(random: &mut ChaCha8Rng) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let scene = Scene::set(temporary.path());
        let (mut truth, mut answers) = (Truth::default(), Answers::default());
        let mut lives: Vec<usize> = Vec::new();
        let mut done = 0;
        for number in 0..LIVES.len() {
            let lived = workload::live(&scene, number, random).await;
            // It was killed or asked to end, and nothing else ended it.
            let (life, end) = (lived.life, &lived.end);
            assert!(!end.panicked(), "{life:?}: {}", end.errors);
            match life {
                Life::Busy { ends: Ends::Stopped, .. } => assert!(end.status.success(), "{end:?}"),
                Life::Busy { ends: Ends::Killed, .. } => assert!(end.was_killed(), "{end:?}"),
                Life::Short => assert!(end.status.success() || end.was_killed(), "{end:?}"),
            }

            let bytes = fs::read(&scene.record).unwrap();
            let events = events(&bytes);
            for (at, event) in events.iter().enumerate().skip(lives.last().copied().unwrap_or(0)) {
                answers.follow(at, *event);
            }
            answers.process_ended();
            lives.push(events.len());

            let left = left(&scene, &events, number);
            let forgot_after = lived
                .forgot_after
                .map(|length| self::events(&bytes[..usize::try_from(length).unwrap()]).len());
            truth.add(&lived, left.as_ref(), &answers, events.len(), forgot_after);
            let acknowledged =
                lived.asked.iter().filter(|asked| matches!(asked.outcome, Outcome::Done { .. }));
            let acknowledged = acknowledged.count();
            done += acknowledged;
            println!(
                "{life:?}: {acknowledged} acknowledged, now {} events and revision {}",
                events.len(),
                left.map_or(0, |left| left.revision)
            );
        }
        assert!(done > 500, "the callers did something");
        Self { bytes: fs::read(&scene.record).unwrap(), lives, truth }
    }

    /// Builds an image at each point, in the order of the record.
    pub(crate) fn crash(
        &self,
        model: Model,
        points: Vec<usize>,
        random: &mut ChaCha8Rng,
        mut take: impl FnMut(usize, Image),
    ) {
        let mut disk = Disk::empty(model);
        let mut lives = self.lives.iter().peekable();
        let mut points = points.into_iter().peekable();
        for (at, event) in events(&self.bytes).into_iter().enumerate() {
            if lives.next_if(|end| **end == at).is_some() {
                disk.process_ended();
            }
            disk.follow(event);
            while points.next_if(|point| *point == at + 1).is_some() {
                take(at + 1, disk.crashed(random));
            }
        }
    }

    /// Where to crash, in order.
    pub(crate) fn points(&self, count: usize, random: &mut ChaCha8Rng) -> Vec<usize> {
        let mut points = points(&events(&self.bytes), &self.lives, count, random);
        points.sort_unstable();
        points
    }
}

/// What a life left on the disk; none if there is no store yet.
fn left(scene: &Scene, events: &[Event<'_>], life: usize) -> Option<Export> {
    let mut disk = Disk::empty(Model::Kill);
    for event in events {
        disk.follow(*event);
    }
    let real = read_image(&scene.root);
    assert_same(&disk.cached(), &real, life);
    // Opened as a copy: this is no part of the story.
    let copy = workshop();
    write_image(&real, copy.path());
    let (text, end) = export(&copy.path().join("data"));
    assert!(end.status.success() || !is_ready(&real), "after life {life}: {end:?}");
    end.status.success().then(|| Export::read(&text))
}

fn assert_same(followed: &Image, real: &Image, life: usize) {
    for (path, bytes) in real {
        let name = String::from_utf8_lossy(path);
        assert!(followed.contains_key(path), "after life {life} the record lacks {name}");
        assert!(followed[path] == *bytes, "after life {life} {name} differs from the record");
    }
    assert_eq!(followed.len(), real.len(), "after life {life} the record has too many files");
}

/// Where to crash: half anywhere, a quarter around changes of names, lengths and lives, a quarter
/// around syncs.
pub(crate) fn points(
    events: &[Event<'_>],
    lives: &[usize],
    count: usize,
    random: &mut ChaCha8Rng,
) -> Vec<usize> {
    let (mut names, mut syncs) = (lives.to_vec(), vec![events.len()]);
    for (at, event) in events.iter().enumerate() {
        match event {
            Event::Created { .. }
            | Event::MadeDirectory { .. }
            | Event::Renamed { .. }
            | Event::Removed { .. }
            | Event::Resized { .. } => names.push(at),
            Event::SyncBegan { .. } | Event::RangeSyncBegan { .. } | Event::SyncEnded { .. } => {
                syncs.push(at);
            }
            Event::Opened { .. } | Event::Wrote { .. } | Event::Sent { .. } => {}
        }
    }
    let point = |number: usize| {
        let near = match number % 4 {
            0 => names.choose(random),
            1 => syncs.choose(random),
            _ => None,
        };
        match near.copied() {
            Some(at) => (at + random.random_range(0..4)).saturating_sub(1).clamp(1, events.len()),
            None => random.random_range(1..=events.len()),
        }
    };
    (0..count).map(point).collect()
}
