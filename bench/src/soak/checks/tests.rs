use super::*;

fn event(revision: i64, release: u32, kind: Kind, time: i64, state: State) -> Event {
    Event {
        revision,
        release,
        ordinal: 0,
        kind,
        time,
        phase: "few".into(),
        state,
        request: "".into(),
        scheduled_for: None,
        bake_remaining: None,
        digest: revision as u64,
    }
}

/// A release that bakes for 3 s, is held for 10 s after the first of them, and goes on.
fn log() -> Vec<Event> {
    let at = |revision, kind, time, state| event(revision, 7, kind, time, state);
    let in_commit = |ordinal, event: Event| Event { ordinal, ..event };
    let asked = |request: &str, event: Event| Event { request: request.into(), ..event };
    vec![
        asked("c-1", at(3, Kind::Triggered, 1000, State::Baking)),
        asked("c-1", in_commit(1, at(3, Kind::Started, 1000, State::Baking))),
        asked("c-1", in_commit(2, at(3, Kind::PhaseEntered, 1000, State::Baking))),
        asked("c-1", in_commit(3, at(3, Kind::PhaseApplied, 1000, State::Baking))),
        asked("c-2", at(5, Kind::Paused, 2000, State::Paused)),
        asked("c-3", at(6, Kind::Unpaused, 12_000, State::Baking)),
        Event {
            scheduled_for: Some(14_000),
            ..at(9, Kind::PhaseSucceeded, 14_003, State::Succeeded)
        },
        in_commit(1, at(9, Kind::Succeeded, 14_003, State::Succeeded)),
    ]
}

fn done(request: &str, revision: i64) -> Done {
    Done {
        request: request.into(),
        resource: "releases/s-7".into(),
        attempts: 1,
        answer: Answer::Accepted(Some(revision)),
    }
}

fn all_done() -> Vec<Done> {
    vec![done("c-1", 3), done("c-2", 5), done("c-3", 6)]
}

fn audit() -> Vec<Audited> {
    let entry = |act: Done| Audited {
        request: act.request,
        resource: act.resource,
        accepted: match act.answer {
            Answer::Accepted(revision) => revision,
            Answer::Refused => None,
        },
    };
    all_done().into_iter().map(entry).collect()
}

fn acknowledged_findings(done: &[Done], log: &[Event], audit: &[Audited]) -> usize {
    let mut findings = Findings::default();
    acknowledged(done, log, audit, &mut findings);
    findings.total
}

fn life_findings(log: &[Event]) -> Vec<String> {
    let mut findings = Findings::default();
    order(log, &mut findings);
    lives(log, &Waits::of_all(), &mut findings);
    findings.told
}

fn watch_findings(seen: &[Change], log: &[Event]) -> usize {
    let mut findings = Findings::default();
    watched("a watch", seen, changes(log).into_iter(), &mut findings);
    findings.total
}

#[test]
fn a_history_as_it_has_to_be_has_no_findings() {
    assert_eq!(acknowledged_findings(&all_done(), &log(), &audit()), 0);
    assert_eq!(life_findings(&log()), Vec::<String>::new());
    assert_eq!(watch_findings(&changes(&log()), &log()), 0);
}

#[test]
fn what_was_acknowledged_and_is_not_in_the_log_is_found() {
    let lost: Vec<Event> = log().into_iter().filter(|event| event.revision != 5).collect();
    assert_eq!(acknowledged_findings(&all_done(), &lost, &audit()), 1);
    assert_eq!(acknowledged_findings(&all_done(), &log(), &audit()[1..]), 1);
}

#[test]
fn what_was_done_twice_under_one_request_id_is_found() {
    let mut twice = log();
    let again = Event { request: "c-2".into(), ..event(7, 7, Kind::Paused, 12_500, State::Paused) };
    twice.insert(6, again);
    assert_eq!(acknowledged_findings(&all_done(), &twice, &audit()), 1);
    let mut entries = audit();
    entries.push(entries[0].clone());
    assert_eq!(acknowledged_findings(&all_done(), &log(), &entries), 1);
}

#[test]
fn an_answer_with_another_revision_than_the_log_has_is_found() {
    let mut other = all_done();
    other[1] = done("c-2", 6);
    assert_eq!(acknowledged_findings(&other, &log(), &audit()), 1);
    // A repetition is answered with what came later too, but with nothing earlier.
    other[1].attempts = 2;
    assert_eq!(acknowledged_findings(&other, &log(), &audit()), 0);
    other[1].answer = Answer::Accepted(Some(4));
    assert_eq!(acknowledged_findings(&other, &log(), &audit()), 1);
}

#[test]
fn what_was_refused_or_never_asked_for_and_is_done_is_found() {
    let mut refused = all_done();
    refused[1].answer = Answer::Refused;
    assert_eq!(acknowledged_findings(&refused, &log(), &audit()), 1);
    // In the log, and on record.
    assert_eq!(acknowledged_findings(&all_done()[..2], &log(), &audit()), 2);
}

#[test]
fn a_watch_that_missed_repeated_swapped_or_changed_something_is_found() {
    let right = changes(&log());
    let missed: Vec<Change> = [&right[..1], &right[2..]].concat();
    let without_the_end = &right[..right.len() - 1];
    let repeated: Vec<Change> = [&right[..2], &right[1..]].concat();
    let repeated_the_end: Vec<Change> = [&right[..], &right[3..]].concat();
    let mut swapped = right.clone();
    swapped.swap(1, 2);
    let mut changed = right.clone();
    changed[1].digest += 1;
    for wrong in
        [&missed[..], without_the_end, &repeated, &repeated_the_end, &swapped, &changed, &[]]
    {
        assert_eq!(watch_findings(wrong, &log()), 1, "{wrong:?}");
    }
}

#[test]
fn what_moves_while_it_is_held_is_found() {
    let mut moved = log();
    moved.insert(5, event(6, 7, Kind::PhaseApplied, 2500, State::Paused));
    moved[6].revision = 7;
    assert!(life_findings(&moved)[0].starts_with("it moved while it was held"));
}

#[test]
fn what_happens_after_the_end_is_found() {
    let mut after = log();
    after.push(event(10, 7, Kind::Aborted, 15_000, State::Aborted));
    assert!(life_findings(&after)[0].starts_with("something happened after the end"));
}

#[test]
fn a_timer_that_fires_early_or_forgets_a_hold_is_found() {
    let mut early = log();
    early[6].time = 13_999;
    early[7].time = 13_999;
    assert!(life_findings(&early)[0].starts_with("a timer fired before its time"));
    let mut forgot = log();
    forgot[6].scheduled_for = Some(4000);
    assert!(life_findings(&forgot)[0].starts_with("a timer fired that was not due then"));
}

#[test]
fn a_hold_without_an_end_and_an_end_without_a_hold_are_found() {
    let without = |index: usize| {
        let mut log = log();
        log.remove(index);
        life_findings(&log)
    };
    assert!(without(4)[0].starts_with("released without a hold"));
    assert!(!without(5).is_empty());
}

#[test]
fn a_log_out_of_order_is_found() {
    let mut swapped = log();
    swapped.swap(4, 5);
    let mut gap = log();
    gap.remove(1);
    let mut back = log();
    back[5].time = 1500;
    let mut torn = log();
    torn[2].state = State::Paused;
    for wrong in [swapped, gap, back, torn] {
        let mut findings = Findings::default();
        order(&wrong, &mut findings);
        assert!(!findings.is_empty(), "{wrong:?}");
    }
}

#[test]
fn a_release_whose_timer_should_have_fired_is_found() {
    let begun = &log()[..4];
    let standings = lives(begun, &Waits::of_all(), &mut Findings::default());
    assert_eq!(standings[&7].due, Some(4000));
    assert_eq!(standings[&7].events, 4);
    let found = |at: i64| {
        let mut findings = Findings::default();
        overdue(&standings, at, &mut findings);
        findings.total
    };
    assert_eq!((found(4000), found(4001)), (0, 1));
    let held = lives(&log()[..5], &Waits::of_all(), &mut Findings::default());
    assert_eq!(held[&7].due, None);
}

#[test]
fn two_active_releases_of_a_flag_are_found_and_a_successor_is_not() {
    let flags: HashMap<u32, Box<str>> =
        [(1, "flags/f".into()), (2, "flags/f".into())].into_iter().collect();
    let check = |log: &[Event]| {
        let mut findings = Findings::default();
        one_active(log, &flags, &mut findings);
        findings.total
    };
    let first = event(1, 2, Kind::Started, 0, State::Baking);
    let second = |revision| event(revision, 1, Kind::Started, 9, State::Baking);
    let end = event(4, 2, Kind::Aborted, 9, State::Aborted);
    assert_eq!(check(&[first.clone(), second(3)]), 1);
    // It takes the place in the same commit, and is listed first.
    assert_eq!(check(&[first, second(4), end]), 0);
}

#[test]
fn a_release_is_known_by_its_number() {
    assert_eq!(number("releases/s-17"), Some(17));
    assert_eq!(number("releases/r-17"), None);
    assert_eq!(number("flags/s-17"), None);
}
