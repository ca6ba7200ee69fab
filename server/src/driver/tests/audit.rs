//! Who asked for what, as it is on record.

use super::*;
use crate::driver::{Act, AuditLimits, AuditedCall, Origin, Outcome, Suppressed};
use phasegate_engine::{
    command::{FlagChange, SwitchTo},
    flag::{Labels, Rules},
    id::Group,
    targeting::{BasisPoints, TargetingRule},
    value::Value,
};

impl<C: Clock> World<C> {
    fn chain(&mut self) -> Vec<AuditEntry> {
        let (reply, mut answer) = oneshot::channel();
        let query = AuditQuery {
            after: 0,
            up_to: u64::MAX,
            order: crate::store::Order::OldestFirst,
            limit: usize::MAX,
        };
        self.turn([Message::ReadAudit { query, reply }]).unwrap();
        answer.try_recv().unwrap().unwrap()
    }

    fn acts(&mut self) -> Vec<Act> {
        self.chain().iter().map(|entry| entry.content().unwrap().act).collect()
    }

    /// Of each call, what came of it.
    fn outcomes(&mut self) -> Vec<Outcome> {
        let outcome = |act| match act {
            Act::Call(call) => Some(call.outcome),
            Act::Suppressed(_) | Act::Imported { .. } => None,
        };
        self.acts().into_iter().filter_map(outcome).collect()
    }

    fn suppressed(&mut self) -> Vec<Suppressed> {
        let count = |act| match act {
            Act::Suppressed(suppressed) => Some(suppressed),
            Act::Call(_) | Act::Imported { .. } => None,
        };
        self.acts().into_iter().filter_map(count).collect()
    }
}

fn refused(reason: &str) -> Outcome {
    Outcome::Refused { reason: reason.into() }
}

fn done(revision: u64) -> Outcome {
    Outcome::Accepted { revision: Some(Revision::new(revision)) }
}

#[test]
fn every_act_has_an_entry_in_the_batch_of_its_commit() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    let store = Arc::new(Mutex::new(Vec::new()));
    let probe = {
        let (handle, seen) = (world.handle.clone(), Arc::clone(&store));
        move || seen.lock().unwrap().push(handle.audit_head().borrow().sequence)
    };
    *world.controls.during_commit.lock().unwrap() = Some(Probe(Box::new(probe)));
    let calls = [trigger("f", "r"), pause("r"), unpause("r")].map(|a| message(submission(a)));
    let (messages, _answers): (Vec<_>, Vec<_>) = calls.into_iter().unzip();
    world.turn(messages).unwrap();
    // Three commits, three entries, one durable write, and nobody saw them before.
    assert_eq!(*store.lock().unwrap(), [2]);
    *world.controls.during_commit.lock().unwrap() = None;
    assert_eq!(world.handle.audit_head().borrow().sequence, 5);
    assert_eq!(world.outcomes(), [1, 2, 3, 4, 5].map(done));
    world.advance(HOUR);
    assert_eq!(world.state_of("r"), ReleaseState::Succeeded);
    assert_eq!(world.outcomes().len(), 5, "timers ask for nothing");
    let head = *world.handle.audit_head().borrow();
    world.restart();
    assert_eq!(*world.handle.audit_head().borrow(), head);
    world.call(pause("nobody")).unwrap_err();
    let chain = world.chain();
    assert_eq!(chain[5].previous, head.hash);
    let mut store = memory::open(&world.disk, StoreId(Uuid::from_u128(7))).unwrap();
    assert_eq!(store.verify().unwrap().findings, []);
}

#[test]
fn an_entry_says_who_asked_for_what_and_how_they_are_known() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    let mut asked = with_id(trigger("f", "r"), "q-1", 1);
    asked.call.caller.groups = vec![Group::new("web")];
    asked.call.reason = "ticket 7".into();
    asked.origin = Origin {
        authenticated: Some(Principal::new("robot")),
        vouched: Some("mtls".into()),
        peer: Some("192.0.2.7:4711".parse().unwrap()),
        trace: None,
    };
    world.submit(asked).unwrap();
    let Some(Act::Call(call)) = world.acts().pop() else { panic!("a call is the last entry") };
    let asked = [("conflict_policy", "fail"), ("flag", "f")];
    let expected = AuditedCall {
        method: "Test".into(),
        resource: "releases/r".into(),
        principal: Principal::new("ann"),
        authenticated: Some(Principal::new("robot")),
        vouched: Some("mtls".into()),
        peer: Some("192.0.2.7:4711".into()),
        groups: vec![Group::new("web")],
        request_id: Some(RequestId::new("q-1")),
        trace: None,
        reason: "ticket 7".into(),
        asked: asked.map(|(key, value)| (key.into(), value.into())).into(),
        outcome: done(3),
    };
    assert_eq!(*call, expected);
}

#[test]
fn a_refusal_is_on_record_before_it_is_answered() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    world.call(trigger("f", "r")).unwrap();
    let (message, answer) = message(submission(unpause("r")));
    let answer = Arc::new(Mutex::new(answer));
    let told = Arc::new(Mutex::new(Vec::new()));
    let probe = {
        let (answer, told) = (Arc::clone(&answer), Arc::clone(&told));
        move || told.lock().unwrap().push(answer.lock().unwrap().try_recv().is_ok())
    };
    *world.controls.during_commit.lock().unwrap() = Some(Probe(Box::new(probe)));
    world.turn([message]).unwrap();
    assert_eq!(*told.lock().unwrap(), [false]);
    assert!(answer.lock().unwrap().try_recv().unwrap().is_err());
    assert_eq!(world.outcomes().pop(), Some(refused("NOT_PAUSED")));
}

#[test]
fn too_many_refusals_are_counted_and_the_count_is_an_entry() {
    let mut world = World::real().with_pipeline(&[HOUR]);
    world.call(trigger("f", "r")).unwrap();
    for _ in 0..25 {
        world.call(unpause("r")).unwrap_err();
    }
    // Another reason, and another principal, have their own.
    world.call(pause("nobody")).unwrap_err();
    let mut other = submission(unpause("r"));
    other.call.caller.principal = Principal::new("bob");
    world.submit(other).unwrap_err();
    assert_eq!(world.outcomes().len(), 3 + 10 + 1 + 1);
    assert_eq!(world.suppressed(), []);
    world.run_seconds(61);
    let expected = Suppressed {
        principal: Some(Principal::new("ann")),
        peer: None,
        reason: Some("NOT_PAUSED".into()),
        count: 15,
    };
    assert_eq!(world.suppressed(), std::slice::from_ref(&expected));
    // A new minute, ten more; and what is counted when the server stops is not lost.
    for _ in 0..12 {
        world.call(unpause("r")).unwrap_err();
    }
    world.turn([Message::Stop]).unwrap();
    world.restart();
    assert_eq!(world.suppressed(), [expected.clone(), Suppressed { count: 2, ..expected }]);
}

/// What the gate notes of somebody without a name.
fn anonymous(peer: &str, reason: &str) -> AuditedCall {
    AuditedCall {
        method: "AbortRelease".into(),
        resource: "".into(),
        principal: Principal::new("anonymous"),
        authenticated: None,
        vouched: None,
        peer: Some(peer.into()),
        groups: Vec::new(),
        request_id: None,
        trace: None,
        reason: "".into(),
        asked: BTreeMap::new(),
        outcome: refused(reason),
    }
}

#[test]
fn anonymous_callers_are_counted_by_address_and_all_beyond_a_bound_together() {
    let limits = AuditLimits { refusals_per_minute: 1, told_apart: 3 };
    let config = Config { audit: limits, ..Config::default() };
    let mut world = World::new(MachineClock::new(), config);
    let note = |peer: &str, reason| Message::Note { call: Box::new(anonymous(peer, reason)) };
    for host in 1..=6 {
        for port in 0..3 {
            let peer = format!("192.0.2.{host}:{}", 1000 + port);
            world.turn([note(&peer, if port == 0 { "A" } else { "B" })]).unwrap();
        }
    }
    // Three that are told apart, and one for all others.
    assert_eq!(world.outcomes().len(), 4);
    world.run_seconds(61);
    let counts: Vec<_> =
        world.suppressed().into_iter().map(|s| (s.peer.map(|p| p.to_string()), s.count)).collect();
    let apart = (1..=3).map(|host| (Some(format!("192.0.2.{host}")), 2));
    let expected: Vec<_> = std::iter::once((None, 8)).chain(apart).collect();
    assert_eq!(counts, expected);
}

#[test]
fn what_is_refused_at_the_edge_is_noted_or_counted_and_never_waits() {
    let mut world = World::new(MachineClock::new(), Config::default());
    // More than there is room for while the writer does nothing.
    for _ in 0..1500 {
        world.handle.note(anonymous("192.0.2.1:1", "UNAUTHENTICATED"));
    }
    let mut waiting = VecDeque::new();
    world.inbox.receive(Wait::No, &mut waiting, usize::MAX);
    assert_eq!(waiting.len(), 1024);
    world.turn(waiting).unwrap();
    assert_eq!(world.outcomes().len(), 10);
    world.run_seconds(61);
    let counted: u64 = world.suppressed().iter().map(|suppressed| suppressed.count).sum();
    assert_eq!(counted, 1490);
}

#[test]
fn a_repetition_and_a_dry_run_are_no_acts() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    let before = world.chain().len();
    let validate = Submission { mode: Mode::ValidateOnly, ..submission(trigger("f", "r")) };
    world.submit(validate.clone()).unwrap();
    world.submit(with_id(trigger("f", "r"), "q", 1)).unwrap();
    world.submit(with_id(trigger("f", "r"), "q", 1)).unwrap();
    world.submit(validate).unwrap_err();
    assert_eq!(world.chain().len(), before + 1);
    world.submit(with_id(trigger("f", "s"), "q", 2)).unwrap_err();
    assert_eq!(world.outcomes().pop(), Some(refused("REQUEST_ID_REUSED")));
}

#[test]
fn a_call_that_changes_nothing_is_an_act_without_a_commit() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    let lift = Action::SetKillSwitch { flag: flag("f"), switch: SwitchTo::Lifted };
    world.call(lift).unwrap();
    assert_eq!(world.outcomes().pop(), Some(Outcome::Accepted { revision: None }));
}

#[test]
fn with_a_full_disk_refusals_are_counted_until_there_is_space() {
    let mut world = World::real().with_pipeline(&[HOUR]);
    world.controls.free.store(0, Ordering::SeqCst);
    world.run_seconds(2);
    let before = world.controls.commits.lock().unwrap().len();
    assert!(matches!(world.call(trigger("f", "r")), Err(Error::DiskFull)));
    world.run_seconds(70);
    assert_eq!(world.controls.commits.lock().unwrap().len(), before);
    assert_eq!(world.outcomes().len(), 2);
    world.controls.free.store(-1, Ordering::SeqCst);
    world.run_seconds(70);
    let counts: Vec<_> = world.suppressed().into_iter().map(|s| (s.reason, s.count)).collect();
    assert_eq!(counts, [(Some("STORE_READ_ONLY".into()), 1)]);
}

#[test]
fn an_entry_holds_nothing_of_a_spec() {
    const CANARY: &str = "canary-7f3a";
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    let value = BTreeMap::from([(CANARY.into(), Value::String(CANARY.into()))]);
    let config = Arc::new(Spec::Config(Rules { rules: Vec::new(), default: value }));
    let pipeline = Some(PipelineId::parse("p-f").unwrap());
    world
        .call(Action::CreateFlag {
            flag: flag("c"),
            description: CANARY.into(),
            spec: Arc::clone(&config),
            pipeline,
            labels: Labels::default(),
        })
        .unwrap();
    let change = FlagChange {
        description: Some(CANARY.into()),
        spec: Some(Arc::clone(&config)),
        pipeline: None,
        labels: None,
    };
    let expected = Expected::Anything;
    let _ = world.call(Action::UpdateFlag { flag: flag("c"), expected, change });
    let mut template = template(&[HOUR]);
    template.description = CANARY.into();
    template.trigger_notice = CANARY.into();
    template.phases[0].rules = vec![TargetingRule {
        id: phasegate_engine::id::RuleId::parse("some").unwrap(),
        environments: Vec::new(),
        conditions: Vec::new(),
        share: BasisPoints::new(500).unwrap(),
        bucket_by: CANARY.into(),
    }];
    let pipeline = PipelineId::parse("p-c").unwrap();
    world.call(Action::CreatePipeline { pipeline, template: Arc::new(template) }).unwrap();
    let trigger = Trigger {
        change: Arc::new(Spec::Config(Rules {
            rules: Vec::new(),
            default: BTreeMap::from([("other".into(), Value::String(CANARY.into()))]),
        })),
        labels: BTreeMap::from([("label".into(), CANARY.into())]),
        description: CANARY.into(),
        ..trigger_at("c", "r", None)
    };
    world.call(Action::TriggerRelease(trigger)).unwrap();
    let chain = world.chain();
    assert_eq!(chain.len(), 6);
    for entry in chain {
        assert!(!entry.json.contains(CANARY), "{}", entry.json);
    }
}
