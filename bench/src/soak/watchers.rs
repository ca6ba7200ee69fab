//! Watches that live as long as the soak, or as long as a release, over all restarts. What they saw is kept
//! to be compared with the log.

use super::{
    callers::Board,
    checks::{Change, Event, digest, number},
};
use phasegate_client::{Client, Error, ReleaseUpdate, ReleasesUpdate, v1};
use rand_chacha::ChaCha8Rng;
use std::{sync::Arc, time::Duration};
use tokio::sync::watch::Receiver;

/// What a watch was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    All,
    Flags(Vec<String>),
    Release(u32),
}

/// What it saw.
#[derive(Debug)]
pub(crate) struct Saw {
    pub(crate) subject: Subject,
    /// It began with a snapshot of this revision.
    pub(crate) after: i64,
    pub(crate) changes: Vec<Change>,
    /// How often it was resumed.
    pub(crate) resumed: usize,
}

impl Saw {
    fn new(subject: Subject) -> Self {
        Self { subject, after: 0, changes: Vec::new(), resumed: 0 }
    }

    fn push(&mut self, events: &[Event]) {
        let [first, ..] = events else { return };
        let &Event { revision, release, .. } = first;
        let digest = digest(events.iter().map(|event| event.digest));
        self.changes.push(Change { revision, release, digest });
    }
}

/// The last revision that there will be, once it is known.
pub(crate) type Head = Receiver<Option<i64>>;

fn is_reached(head: &Head, revision: i64) -> bool {
    head.borrow().is_some_and(|head| revision >= head)
}

/// Whether a watch of all hears of timers for the figures; one is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ear {
    Timers,
    Nothing,
}

/// Follows all releases, or those of some flags, until the last revision.
pub(crate) async fn follow(
    board: Arc<Board>,
    client: Client,
    subject: Subject,
    ear: Ear,
    mut head: Head,
) -> Saw {
    let flags = match &subject {
        Subject::All | Subject::Release(_) => Vec::new(),
        Subject::Flags(flags) => flags.clone(),
    };
    let mut watch = client.watch_releases(v1::ReleaseFilter { flags, ..Default::default() });
    let mut saw = Saw::new(subject);
    let mut reached = 0;
    while !is_reached(&head, reached) {
        let update = tokio::select! {
            update = watch.next() => update,
            _ = head.changed() => continue,
        };
        match update {
            Some(Ok(ReleasesUpdate::Snapshot { position, .. })) => {
                (saw.after, reached) = (position.revision, position.revision);
            }
            Some(Ok(ReleasesUpdate::Changes { changes, position, .. })) => {
                for change in changes {
                    let events: Vec<Event> = change.events.iter().map(Event::read).collect();
                    if ear == Ear::Timers {
                        board.minute().happened(&events);
                    }
                    saw.push(&events);
                }
                reached = position.revision;
            }
            Some(Ok(ReleasesUpdate::Bookmark { position, .. })) => reached = position.revision,
            Some(Ok(ReleasesUpdate::Resumed)) => saw.resumed += 1,
            Some(Ok(ReleasesUpdate::Interrupted(_))) => {}
            Some(Ok(other)) => board.wrong(format!("a watch began anew: {other:?}")),
            ended @ (Some(Err(_)) | None) => {
                board.wrong(format!("{:?} ended at r{reached}: {ended:?}", saw.subject));
                break;
            }
        }
    }
    saw
}

/// Follows one release after the other, each to its end.
pub(crate) async fn follow_some(
    board: Arc<Board>,
    client: Client,
    mut random: ChaCha8Rng,
    head: Head,
) -> Vec<Saw> {
    let mut all = Vec::new();
    while !board.is_stopped() {
        match board.unfinished(&mut random) {
            Some(release) => match follow_one(&board, &client, release, head.clone()).await {
                Ok(saw) => all.push(saw),
                Err(error) => board.wrong(format!("a watch of a release ended: {error:?}")),
            },
            None => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    all
}

async fn follow_one(
    board: &Board,
    client: &Client,
    release: String,
    mut head: Head,
) -> Result<Saw, Error> {
    let mut watch = client.watch_release(&release);
    let mut saw = Saw::new(Subject::Release(number(&release).expect("it is ours")));
    let mut reached = 0;
    while !is_reached(&head, reached) {
        let update = tokio::select! {
            update = watch.next() => update,
            _ = head.changed() => continue,
        };
        match update {
            Some(update) => match update? {
                ReleaseUpdate::Snapshot { position, .. } => {
                    (saw.after, reached) = (position.revision, position.revision);
                }
                ReleaseUpdate::Change { events, position, .. } => {
                    saw.push(&events.iter().map(Event::read).collect::<Vec<_>>());
                    reached = position.revision;
                }
                ReleaseUpdate::Bookmark { position, .. } => reached = position.revision,
                ReleaseUpdate::Resumed => saw.resumed += 1,
                ReleaseUpdate::Interrupted(_) => {}
                ReleaseUpdate::Restarted(why) => {
                    board.wrong(format!("a watch of {release} began anew: {why:?}"));
                }
                // The client may learn to say more.
                _ => {}
            },
            // It is over.
            None => break,
        }
    }
    Ok(saw)
}
