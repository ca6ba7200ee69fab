//! What is to be sent elsewhere, and when somebody is reminded.

use super::*;
use crate::driver::{
    NotificationKind, OUTBOX_FULL, OutboxKey, OutboxLimits, OutboxRow, OutboxState, OutboxUpdate,
    Route, SinkId,
};
use crate::store::outbox::Notification;
use phasegate_engine::{
    command::SwitchTo,
    flag::Labels,
    pipeline::{ApprovalRequirement, SelfApproval},
};

/// Everything goes to these.
#[derive(Debug)]
struct Everything(Vec<SinkId>);

impl Route for Everything {
    fn sinks(&self, _: &Notification) -> Vec<SinkId> {
        self.0.clone()
    }
}

fn sink(id: &str) -> SinkId {
    SinkId::parse(id).unwrap()
}

fn config(sinks: &[&str]) -> Config {
    let sinks = sinks.iter().map(|id| sink(id)).collect();
    Config { routes: Arc::new(Everything(sinks)), ..Config::default() }
}

fn world(sinks: &[&str]) -> World<ManualClock> {
    World::new(ManualClock::new(START), config(sinks))
}

impl<C: Clock> World<C> {
    /// A flag `a` along one phase that needs two approvals within a time.
    fn with_approval(mut self, expiry: Option<Span>) -> Self {
        let mut template = template(&[HOUR]);
        template.phases[0].approval = Some(ApprovalRequirement {
            min_approvals: 2,
            quotas: Vec::new(),
            reviewer_groups: Vec::new(),
            self_approval: SelfApproval::Allowed,
            expiry,
        });
        let pipeline = PipelineId::parse("p-a").unwrap();
        let template = Arc::new(template);
        self.call(Action::CreatePipeline { pipeline: pipeline.clone(), template }).unwrap();
        let pipeline = Some(pipeline);
        let create = Action::CreateFlag {
            flag: flag("a"),
            description: "".into(),
            spec: spec(false),
            pipeline,
            labels: Labels::default(),
        };
        self.call(create).unwrap();
        self
    }

    fn rows(&self) -> Vec<(OutboxKey, Arc<OutboxRow>)> {
        let outbox = self.handle.outbox().borrow().clone();
        outbox.iter().map(|(key, row)| (key.clone(), Arc::clone(row))).collect()
    }

    fn kinds(&self) -> Vec<NotificationKind> {
        self.rows().iter().map(|(_, row)| row.notification.kind).collect()
    }

    fn settle(&mut self, updates: Vec<OutboxUpdate>) -> Result<(), Error> {
        let (reply, mut answer) = oneshot::channel();
        self.turn([Message::Settle { updates, reply }]).unwrap();
        answer.try_recv().unwrap()
    }
}

#[test]
fn a_commit_brings_what_is_to_be_sent_to_each_sink_and_a_restart_finds_it() {
    let mut world = world(&["chat", "web"]).with_pipeline(&[HOUR]);
    assert_eq!(world.rows(), []);
    world.call(trigger("f", "r")).unwrap();
    let kinds = [
        NotificationKind::ReleaseTriggered,
        NotificationKind::ReleaseStarted,
        NotificationKind::ReleasePhaseApplied,
    ];
    assert_eq!(world.kinds(), [kinds, kinds].concat());
    let rows = world.rows();
    let (key, row) = &rows[0];
    let (notification, store) = (&row.notification, world.handle.store_id());
    assert_eq!(key.sink, sink("chat"));
    assert_eq!(*notification.id, format!("{store}-3-0-chat"));
    assert_eq!(notification.revision, Revision::new(3));
    assert_eq!(notification.release, Some(release("r")));
    assert_eq!(notification.flag, Some(flag("f")));
    assert_eq!(notification.principal, Some(Principal::new("ann")));
    assert_eq!((row.attempts, row.next_at), (0, START));
    let ids: std::collections::BTreeSet<_> =
        rows.iter().map(|(_, row)| Arc::clone(&row.notification.id)).collect();
    assert_eq!(ids.len(), rows.len());
    world.restart();
    assert_eq!(world.rows(), rows);
}

#[test]
fn nothing_is_to_be_sent_of_a_refused_call_a_dry_run_or_without_a_route() {
    let mut world = world(&["chat"]).with_pipeline(&[HOUR]);
    world.call(pause("r")).unwrap_err();
    world.submit(Submission { mode: Mode::ValidateOnly, ..submission(trigger("f", "r")) }).unwrap();
    assert_eq!(world.rows(), []);
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    world.call(trigger("f", "r")).unwrap();
    assert_eq!(world.rows(), []);
}

#[test]
fn what_can_happen_to_a_release_is_told() {
    let mut world = world(&["chat"]).with_approval(Some(HOUR));
    world.call(trigger("a", "r")).unwrap();
    world.call(pause("r")).unwrap();
    world.call(unpause("r")).unwrap();
    world.call(abort("r")).unwrap();
    let kill = |switch| Action::SetKillSwitch { flag: flag("a"), switch };
    world.call(kill(SwitchTo::Engaged)).unwrap();
    world.call(kill(SwitchTo::Lifted)).unwrap();
    world.call(trigger("a", "s")).unwrap();
    world.advance(HOUR);
    let told = [
        NotificationKind::ReleaseTriggered,
        NotificationKind::ReleaseStarted,
        NotificationKind::ReleaseApprovalDue,
        NotificationKind::ReleaseHeld,
        NotificationKind::ReleaseApprovalDue,
        NotificationKind::ReleaseAborted,
        NotificationKind::FlagKilled,
        NotificationKind::FlagRevived,
        NotificationKind::ReleaseTriggered,
        NotificationKind::ReleaseStarted,
        NotificationKind::ReleaseApprovalDue,
        NotificationKind::ReleaseApprovalExpiring,
        NotificationKind::ReleaseFailed,
    ];
    assert_eq!(world.kinds(), told);
    for kind in NotificationKind::ALL {
        assert_eq!(NotificationKind::parse(kind.name()), Some(kind));
    }
}

#[test]
fn what_became_of_a_notification_is_durable() {
    let mut world = world(&["chat"]).with_pipeline(&[HOUR]);
    world.call(trigger("f", "r")).unwrap();
    let keys: Vec<OutboxKey> = world.rows().into_iter().map(|(key, _)| key).collect();
    let later = START + HOUR;
    let unknown = OutboxKey { sink: sink("chat"), sequence: 999 };
    let updates = vec![
        OutboxUpdate::Delivered(keys[0].clone()),
        OutboxUpdate::Failed { key: keys[1].clone(), error: "503".into(), next_at: later },
        OutboxUpdate::Dead { key: keys[2].clone(), error: "410".into() },
        OutboxUpdate::Delivered(unknown.clone()),
        OutboxUpdate::Replay(unknown),
    ];
    world.settle(updates).unwrap();
    let check = |world: &World<ManualClock>| {
        let rows = world.rows();
        assert_eq!(rows.len(), 2);
        let (failed, dead) = (&rows[0].1, &rows[1].1);
        assert_eq!((failed.attempts, failed.next_at, &*failed.last_error), (1, later, "503"));
        assert_eq!((dead.attempts, &*dead.last_error), (1, "410"));
        assert_eq!(dead.state, OutboxState::Dead(START));
    };
    check(&world);
    world.restart();
    check(&world);
    world.settle(vec![OutboxUpdate::Replay(keys[2].clone())]).unwrap();
    let replayed = Arc::clone(&world.rows()[1].1);
    assert_eq!((replayed.attempts, replayed.state), (0, OutboxState::Pending));
    world.controls.free.store(0, Ordering::SeqCst);
    let refused = world.settle(vec![OutboxUpdate::Discard(keys[2].clone())]);
    assert!(matches!(refused, Err(Error::DiskFull)));
    assert_eq!(world.rows().len(), 2);
}

#[test]
fn what_is_too_much_for_a_sink_is_given_up_oldest_first() {
    let limits = OutboxLimits { pending_per_sink: 2, dead_per_sink: 3, ..OutboxLimits::default() };
    let config = Config { outbox: limits, ..config(&["chat"]) };
    let mut world = World::new(ManualClock::new(START), config).with_pipeline(&[HOUR]);
    world.call(trigger("f", "r")).unwrap();
    let states = |world: &World<ManualClock>| {
        let dead = |row: &OutboxRow| match row.state {
            OutboxState::Pending => None,
            OutboxState::Dead(_) => Some(row.last_error.to_string()),
        };
        world.rows().iter().map(|(key, row)| (key.sequence, dead(row))).collect::<Vec<_>>()
    };
    let full = || Some(OUTBOX_FULL.to_owned());
    assert_eq!(states(&world), [(1, full()), (2, None), (3, None)]);
    world.call(pause("r")).unwrap();
    world.call(unpause("r")).unwrap();
    world.call(abort("r")).unwrap();
    assert_eq!(states(&world), [(2, full()), (3, full()), (4, full()), (5, None), (6, None)]);
    world.restart();
    assert_eq!(states(&world), [(2, full()), (3, full()), (4, full()), (5, None), (6, None)]);
    world.advance(Span::from_secs(31 * 86_400));
    world.turn([]).unwrap();
    assert_eq!(states(&world), [(5, None), (6, None)]);
    world.restart();
    assert_eq!(states(&world), [(5, None), (6, None)]);
}

/// The reminders among the rows: when they were due.
fn reminders(world: &World<ManualClock>) -> Vec<Timestamp> {
    let rows = world.rows().into_iter().map(|(_, row)| row);
    let reminders =
        rows.filter(|row| row.notification.kind == NotificationKind::ReleaseApprovalExpiring);
    reminders.map(|row| row.notification.time).collect()
}

#[test]
fn approvals_that_run_out_are_recalled_once_also_over_a_restart_and_a_delivery() {
    let mut world = world(&["chat"]).with_approval(Some(Span::DAY));
    world.call(trigger("a", "r")).unwrap();
    let (hour_before, expires) = (START + secs(23 * 3600), START + Span::DAY);
    world.advance(secs(23 * 3600 - 1));
    assert_eq!(reminders(&world), []);
    world.restart();
    world.advance(secs(2));
    assert_eq!(reminders(&world), [hour_before]);
    let (key, row) = world.rows().pop().unwrap();
    assert_eq!(row.notification.until, Some(expires));
    assert_eq!(row.notification.phase, Some(phase_id(0)));
    world.settle(vec![OutboxUpdate::Delivered(key)]).unwrap();
    world.restart();
    world.advance(secs(60));
    assert_eq!(reminders(&world), []);
    // Moved on, it is another approval with another end.
    world.call(pause("r")).unwrap();
    world.call(unpause("r")).unwrap();
    world.advance(secs(3));
    assert_eq!(reminders(&world).len(), 1);
    world.call(abort("r")).unwrap();
    let mut store = memory::open(&world.disk, StoreId(Uuid::from_u128(7))).unwrap();
    assert_eq!(store.load().unwrap().reminders, []);
    assert_eq!(store.verify().unwrap().findings, []);
}

#[test]
fn a_reminder_comes_after_three_quarters_of_a_short_time() {
    let mut world = world(&["chat"]).with_approval(Some(secs(400)));
    world.call(trigger("a", "r")).unwrap();
    world.advance(secs(1000));
    assert_eq!(reminders(&world), [START + secs(300)]);
}

#[test]
fn what_ran_out_while_the_server_was_away_is_not_recalled() {
    let mut world = world(&["chat"]).with_approval(Some(HOUR));
    world.call(trigger("a", "r")).unwrap();
    world.clock = Arc::new(ManualClock::new(START + Span::DAY));
    world.restart();
    world.turn([]).unwrap();
    assert_eq!(world.state_of("r"), ReleaseState::Failed);
    assert_eq!(reminders(&world), []);
}

#[test]
fn nobody_sees_a_notification_before_its_commit_is_durable() {
    let mut world = world(&["chat"]).with_pipeline(&[HOUR]);
    let outbox = world.handle.outbox();
    let probe = move || assert_eq!(outbox.borrow().len(), 0);
    *world.controls.during_commit.lock().unwrap() = Some(Probe(Box::new(probe)));
    world.call(trigger("f", "r")).unwrap();
    assert_eq!(world.rows().len(), 3);
    world.controls.fails.store(true, Ordering::SeqCst);
    *world.controls.during_commit.lock().unwrap() = None;
    let (message, _answer) = message(submission(pause("r")));
    world.turn([message]).unwrap_err();
    assert_eq!(world.rows().len(), 3);
}
