//! The store as text while the writer goes on.

use super::*;
use crate::{
    driver::{EXPORT_TIME_MAX, ExportError},
    store::{Store as _, snapshot::Snapshot, tools},
};
use futures_util::{FutureExt as _, StreamExt as _};
use std::{collections::BTreeSet, pin::pin};

impl<C: Clock> World<C> {
    /// Does what was sent to the writer.
    fn work(&mut self) {
        let mut waiting = VecDeque::new();
        self.inbox.receive(Wait::No, &mut waiting, 1);
        self.turn(waiting).unwrap();
    }

    /// Makes an export; `meanwhile` is called between any two steps of it.
    fn export_while(
        &mut self,
        mut meanwhile: impl FnMut(&mut Self),
    ) -> Result<String, ExportError> {
        let handle = self.handle.clone();
        let mut begin = pin!(handle.export());
        let export = loop {
            match (&mut begin).now_or_never() {
                Some(export) => break export.unwrap(),
                None => self.work(),
            }
        };
        let mut pieces = pin!(export.pieces());
        let mut text = Vec::new();
        loop {
            meanwhile(self);
            match pieces.next().now_or_never() {
                Some(Some(piece)) => text.extend(piece?),
                Some(None) => return Ok(String::from_utf8(text).unwrap()),
                None => self.work(),
            }
        }
    }

    fn snapshot(&mut self) -> Snapshot {
        let (reply, mut answer) = oneshot::channel();
        self.turn([Message::Snapshot { reply }]).unwrap();
        answer.try_recv().unwrap().0
    }
}

/// A world with more than one piece of everything.
fn full() -> World<ManualClock> {
    let mut world = World::rehearsal().with_pipeline(&[HOUR, HOUR]);
    for n in 0..40 {
        world.submit(with_id(trigger("f", &format!("r-{n}")), &format!("q-{n}"), 1)).unwrap();
        for _ in 0..4 {
            world.call(pause(&format!("r-{n}"))).unwrap();
            world.call(unpause(&format!("r-{n}"))).unwrap();
        }
        world.call(abort(&format!("r-{n}"))).unwrap();
    }
    world.submit(with_id(trigger("f", "last"), "q-last", 1)).unwrap();
    world
}

fn import(text: &str) -> memory::Disk {
    let disk = memory::Disk::new();
    let mut store = memory::open(&disk, StoreId(Uuid::from_u128(8))).unwrap();
    let verified =
        tools::import_into(&mut store, &mut text.as_bytes(), START, &mut |_| {}).unwrap();
    assert_eq!(verified.findings, []);
    disk
}

#[test]
fn an_export_is_the_store_at_one_revision_whatever_is_committed_meanwhile() {
    let mut world = full();
    let before = world.snapshot();
    let mut n = 0;
    let text = world
        .export_while(|world| {
            n += 1;
            world.add_flag(&format!("more-{n}"), &[HOUR]);
            let again = with_id(trigger(&format!("more-{n}"), &format!("m-{n}")), "q", n);
            match world.submit(again) {
                Ok(_) => {}
                Err(error) => {
                    assert!(matches!(error, Error::RequestIdReused), "{error}");
                    world.call(kill("f")).unwrap();
                }
            }
            world.advance(Span::from_millis(10));
        })
        .unwrap();
    assert!(n > 5, "it was made in {n} steps");
    assert!(world.handle.state().revision() > before.state.revision());

    let disk = import(&text);
    let mut store = memory::open(&disk, StoreId::fresh()).unwrap();
    let image = store.load().unwrap();
    assert_eq!(image.state, before.state);
    assert_eq!(image.requests, before.requests);
    // Behind it stands the entry of the import.
    assert_eq!(image.audit.sequence, before.audit.sequence + 1);
}

#[test]
fn a_server_goes_on_from_an_export_with_its_timers_and_its_requests() {
    let mut world = full();
    let text = world.export_while(|_| ()).unwrap();
    world.disk = import(&text);
    world.restart();
    assert_ne!(world.handle.store_id(), StoreId(Uuid::from_u128(7)));
    let repeated = world.submit(with_id(trigger("f", "other"), "q-last", 1)).unwrap();
    assert_eq!(repeated.subject, crate::store::Subject::Release(release("last")));
    assert_eq!(world.state_of("last"), ReleaseState::Baking);
    world.advance(HOUR);
    assert_eq!(world.state_of("last"), ReleaseState::Baking);
    world.advance(HOUR);
    assert_eq!(world.state_of("last"), ReleaseState::Succeeded);
}

#[test]
fn it_has_the_lines_that_an_export_of_a_store_at_rest_has() {
    let mut world = full();
    let lines = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        // The checksum is of the order, too.
        assert!(lines.pop().unwrap().starts_with(r#"{"end":"#));
        lines.into_iter().collect::<BTreeSet<_>>()
    };
    let running = world.export_while(|_| ()).unwrap();
    let mut at_rest = Vec::new();
    let mut store = memory::open(&world.disk, StoreId::fresh()).unwrap();
    tools::export_from(&mut store, &mut at_rest, &mut |_| {}).unwrap();
    assert_eq!(lines(&running), lines(std::str::from_utf8(&at_rest).unwrap()));
}

#[test]
fn an_empty_store_can_be_exported() {
    let text = World::rehearsal().export_while(|_| ()).unwrap();
    let mut store = memory::open(&import(&text), StoreId::fresh()).unwrap();
    assert_eq!(store.load().unwrap().state.revision(), Revision::ZERO);
}

#[test]
fn nothing_is_removed_from_the_log_until_the_export_is_over() {
    let mut world = full();
    world.config.retention.events = secs(1);
    world.restart();
    let text = world.export_while(|world| {
        world.advance(secs(2));
        assert_eq!(world.handle.oldest(), Revision::ZERO);
    });
    import(&text.unwrap());
    world.advance(secs(2));
    assert!(world.handle.oldest() > Revision::ZERO);
}

#[test]
fn an_export_that_takes_too_long_ends_and_holds_nothing_back() {
    let mut world = full();
    world.config.retention.events = secs(1);
    world.restart();
    let longer = Span::from_secs(u32::try_from(EXPORT_TIME_MAX.as_secs()).unwrap());
    let ended = world.export_while(|world| {
        world.advance(longer);
    });
    assert!(matches!(ended, Err(ExportError::Expired)), "{ended:?}");
    assert!(world.handle.oldest() > Revision::ZERO);
}

#[test]
fn an_export_that_takes_too_long_for_its_requests_ends_too() {
    let mut world = full();
    world.config.retention.requests = secs(1);
    world.restart();
    let longer = Span::from_secs(u32::try_from(EXPORT_TIME_MAX.as_secs()).unwrap());
    let mut steps = 0;
    let ended = world.export_while(|world| {
        steps += 1;
        world.advance(longer);
    });
    assert!(matches!(ended, Err(ExportError::Expired)), "{steps}: {ended:?}");
    assert_eq!(world.handle.oldest(), Revision::ZERO);
}

#[test]
fn damage_in_the_log_ends_the_export_and_not_the_server() {
    // Commits are looked at when the store is loaded.
    for prefix in ["log/", "audit/"] {
        let mut world = full();
        world.disk.tamper(|map| {
            let doomed = map.keys().find(|key| key.starts_with(prefix.as_bytes())).cloned();
            map.remove(&doomed.unwrap());
        });
        world.restart();
        let ended = world.export_while(|_| ()).map(|text| text.len());
        assert!(matches!(ended, Err(ExportError::Damaged(_))), "{prefix}: {ended:?}");
        world.call(pause("last")).unwrap();
    }
}
