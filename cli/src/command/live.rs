//! `phasegate release watch` on a terminal, and `phasegate top`: views that are drawn in place.

use super::watch::{Distance, Goal, interrupted, timed_out};
use crate::{
    failure::Failure,
    output::print,
    screen::{
        Key, Screen, Text, Wish,
        board::{Board, Move},
        clock::{Rehearsal, ServerClock},
        follow::{Followed, earlier},
        view::{self, Leave},
    },
};
use phasegate_api::v1;
use phasegate_client::{Client, Error, ReleaseUpdate, ReleasesUpdate, Watch};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// What happened before is worth so long a wait, and no failure.
const HISTORY_WITHIN: Duration = Duration::from_secs(2);

/// One release that is followed.
struct One {
    watch: Watch<ReleaseUpdate>,
    followed: Followed,
}

impl One {
    /// Waits for the release as it is. What stands in the way is said line by line: nothing is drawn
    /// yet.
    async fn open(client: &Client, name: &str, rehearsal: &Rehearsal) -> Result<Self, Failure> {
        let mut watch = client.watch_release(name);
        loop {
            match watch.next().await {
                Some(Ok(ReleaseUpdate::Snapshot { release, server_time, .. })) => {
                    let mut clock = rehearsal.clock();
                    clock.hear(server_time.as_ref());
                    let mut followed = Followed::new(*release, clock);
                    recall(client, &mut followed).await;
                    return Ok(Self { watch, followed });
                }
                Some(Ok(ReleaseUpdate::Interrupted(error))) => {
                    interrupted(&error);
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Err(Failure::EndedOtherwise(format!("{name} is over"))),
            }
        }
    }

    /// Shows what the board knows until the watch says more: a server that is away must not keep a
    /// person from going back.
    fn begin(client: &Client, release: v1::Release, clock: ServerClock) -> Self {
        let watch = client.watch_release(&release.name);
        Self { watch, followed: Followed::new(release, clock) }
    }

    /// Takes in what the watch told. False if it has ended.
    async fn take(
        &mut self,
        client: &Client,
        update: Option<Result<ReleaseUpdate, Error>>,
    ) -> Result<bool, Failure> {
        let Some(update) = update.transpose()? else { return Ok(false) };
        let began_anew = matches!(update, ReleaseUpdate::Snapshot { .. });
        self.followed.take(update);
        if began_anew {
            recall(client, &mut self.followed).await;
        }
        Ok(true)
    }
}

async fn recall(client: &Client, followed: &mut Followed) {
    let name = followed.release.name.clone();
    // A view without its past is better than none.
    if let Ok(Ok(events)) = timeout(HISTORY_WITHIN, earlier(client, &name)).await {
        followed.remember(events);
    }
}

/// Follows one release on the terminal until a goal is reached, and leaves it in the scrollback.
pub(super) async fn follow(
    client: &Client,
    name: &str,
    until: Goal,
    limit: Option<Duration>,
) -> Result<(), Failure> {
    let end = limit.map(|limit| (Instant::now() + limit, limit));
    let mut rehearsal = Rehearsal::ask(client).await;
    let mut one = One::open(client, name, &rehearsal).await?;
    let mut screen = Screen::open()?;
    let ended = loop {
        match until.distance(&one.followed.release) {
            Distance::Reached => break Ok(()),
            Distance::Ahead => {}
            Distance::OutOfReach => break Err(until.missed(&one.followed.release)),
        }
        screen.draw(|size| view::lines(&one.followed, Leave::Quit, size))?;
        tokio::select! {
            update = one.watch.next() => match one.take(client, update).await {
                Ok(true) => screen.stale(),
                Ok(false) => break Ok(()),
                Err(failure) => break Err(failure),
            },
            now = rehearsal.moved() => {
                one.followed.clock.hear(Some(&now));
                screen.stale();
            }
            wish = screen.wish() => match wish {
                Wish::Stop | Wish::Key(Key::Letter('q') | Key::Escape) => {
                    break Err(Failure::Interrupted);
                }
                Wish::Key(_) | Wish::Draw => {}
            },
            limit = passed(end) => break Err(timed_out(limit)),
        }
    };
    let width = screen.width();
    drop(screen);
    print(&printed(&view::last(&one.followed, width)))?;
    ended
}

/// After how long the time was up; never if there is no limit.
async fn passed(end: Option<(Instant, Duration)>) -> Duration {
    match end {
        Some((at, limit)) => {
            tokio::time::sleep_until(at).await;
            limit
        }
        None => std::future::pending().await,
    }
}

pub(super) fn printed(lines: &[Text]) -> String {
    lines.iter().map(|line| line.to_ansi() + "\n").collect()
}

/// What a person does with the board.
enum Step {
    Stay,
    Open(Box<v1::Release>),
    Quit,
}

/// Shows all releases under way on the terminal until a person has seen enough.
pub(super) async fn board(
    client: &Client,
    server: String,
    filter: v1::ReleaseFilter,
) -> Result<(), Failure> {
    let mut rehearsal = Rehearsal::ask(client).await;
    let mut watch = client.watch_releases(filter);
    let mut board = Board::new(server, rehearsal.clock());
    // Nothing is drawn until there is something: a refusal is said where it can be read.
    board.take(first(&mut watch).await?);
    let mut screen = Screen::open()?;
    let mut one: Option<Box<One>> = None;
    loop {
        match &one {
            Some(one) => screen.draw(|size| view::lines(&one.followed, Leave::Back, size))?,
            None => screen.draw(|size| board.lines(size))?,
        }
        tokio::select! {
            update = watch.next() => {
                let Some(update) = update.transpose()? else { return Ok(()) };
                board.take(update);
                if one.is_none() {
                    screen.stale();
                }
            }
            update = next_of(&mut one) => {
                let taken = match &mut one {
                    // When it is over it stays to be looked at; there is nothing more to come.
                    Some(one) => one.take(client, update).await,
                    None => Ok(false),
                };
                // A release that cannot be watched is gone, which the board shows.
                if taken.is_err() {
                    one = None;
                }
                screen.stale();
            }
            now = rehearsal.moved() => {
                board.clock.hear(Some(&now));
                if let Some(one) = &mut one {
                    one.followed.clock.hear(Some(&now));
                }
                screen.stale();
            }
            wish = screen.wish() => match wish {
                Wish::Draw => {}
                Wish::Stop => return Ok(()),
                Wish::Key(key) => {
                    screen.stale();
                    if one.is_some() {
                        match key {
                            Key::Letter('q') => return Ok(()),
                            Key::Escape | Key::Backspace => one = None,
                            Key::Letter(_)
                            | Key::Enter
                            | Key::Up
                            | Key::Down
                            | Key::PageUp
                            | Key::PageDown
                            | Key::Home
                            | Key::End => {}
                        }
                        continue;
                    }
                    match pressed(&mut board, key) {
                        Step::Stay => {}
                        Step::Open(release) => {
                            let begun = One::begin(client, *release, board.clock.clone());
                            one = Some(Box::new(begun));
                        }
                        Step::Quit => return Ok(()),
                    }
                }
            },
        }
    }
}

/// The next of a watch that is open and not at its end.
async fn next_of(one: &mut Option<Box<One>>) -> Option<Result<ReleaseUpdate, Error>> {
    match one {
        Some(one) if one.followed.release.end_time.is_none() => one.watch.next().await,
        Some(_) | None => std::future::pending().await,
    }
}

fn pressed(board: &mut Board, key: Key) -> Step {
    match key {
        Key::Letter(letter) if board.is_searching() => board.type_letter(letter),
        Key::Backspace if board.is_searching() => board.rub_out(),
        Key::Enter if board.is_searching() => board.end_search(),
        Key::Escape => {
            if !board.leave_search() {
                return Step::Quit;
            }
        }
        Key::Letter('q') => return Step::Quit,
        Key::Enter => {
            if let Some(release) = board.selected() {
                return Step::Open(Box::new(release.clone()));
            }
        }
        Key::Letter('/') => board.search(),
        Key::Up | Key::Letter('k') => board.select(Move::Up),
        Key::Down | Key::Letter('j') => board.select(Move::Down),
        Key::PageUp => board.select(Move::PageUp),
        Key::PageDown | Key::Letter(' ') => board.select(Move::PageDown),
        Key::Home => board.select(Move::Home),
        Key::End => board.select(Move::End),
        Key::Letter(_) | Key::Backspace => {}
    }
    Step::Stay
}

/// The first set of releases.
pub(super) async fn first(watch: &mut Watch<ReleasesUpdate>) -> Result<ReleasesUpdate, Failure> {
    loop {
        match watch.next().await.transpose()? {
            Some(ReleasesUpdate::Interrupted(error)) => {
                interrupted(&error);
            }
            Some(update @ ReleasesUpdate::Snapshot { .. }) => return Ok(update),
            // A watch of many never ends by itself, and begins with a set.
            Some(_) | None => {}
        }
    }
}
