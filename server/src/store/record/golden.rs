//! Every stored form, with its bytes, in `golden.txt`: what is on people's disks.
//!
//! A difference there means that stores written before cannot be read, or are read as something
//! else, unless somebody has made sure that they can. After that `UPDATE_EXPECT=1` writes it anew.

use super::{
    ChangeRecord, CommitRecord, FORMAT, Format, Head, Oldest, StoredAudit, StoredProgress,
    StoredRequest, decode, digest, encode,
    key::{Key, hex},
    packs::OpenPacks,
    parts,
    proposal::{Copies, ProposalRecord},
};
use crate::store::{
    RequestKey, RequestRecord, StoreId, Subject,
    audit::{Act, AuditEntry, AuditHash, AuditHead, AuditedCall, Outcome, Suppressed},
    outbox::{Notification, NotificationKind, OutboxRow, OutboxState, Reminder},
    tree::Batch,
};
use expect_test::expect_file;
use phasegate_engine::{
    event::{Actor, Bypass, Happened, ReleaseEvent, TimerRecord},
    flag::{Flag, KillSwitch, Rule, Rules, Spec},
    id::{
        EnvironmentId, FlagId, Group, GuardId, PhaseId, PipelineId, Principal, ReleaseId,
        RequestId, Revision, RuleId, SinkId,
    },
    pipeline::{
        ApprovalRequirement, Guard, OnFail, PassRequirement, Phase, Pipeline, Quota, SelfApproval,
        Template,
    },
    release::{
        EndReason, GuardProgress, GuardVerdict, Held, HeldWait, PauseCause, PauseRecord,
        PhaseIndex, PhaseProgress, PhaseState, Progress, Proposal, ReleaseState, Review,
        ReviewVerdict, Stage, Wait,
    },
    targeting::{BasisPoints, Condition, Number, TargetingRule, Test},
    time::{Span, Timestamp},
    value::Value,
    window::{Blackout, ReleaseWindows, TimeOfDay, Weekly},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{borrow::Cow, collections::BTreeMap, fmt::Debug, fmt::Write, sync::Arc};
use uuid::Uuid;

/// The text of the golden file as it grows.
#[derive(Default)]
struct Golden(String);

impl Golden {
    /// Adds a value, after a look at whether its bytes say what it is.
    fn add<T: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self, key: &Key, value: &T) {
        let bytes = encode(value);
        assert_eq!(decode::<T>(key, &bytes).unwrap(), *value, "{key}");
        writeln!(self.0, "{key}\n{}", serde_json::to_string(value).unwrap()).unwrap();
        self.bytes("key", &key.bytes());
        self.bytes("value", &bytes);
    }

    fn bytes(&mut self, what: &str, bytes: &[u8]) {
        writeln!(self.0, "  {what}").unwrap();
        for line in bytes.chunks(32) {
            writeln!(self.0, "    {:64}  {}", hex(line), printable(line)).unwrap();
        }
        self.0.push('\n');
    }
}

fn printable(bytes: &[u8]) -> String {
    let shown = |byte: &u8| {
        if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' }
    };
    bytes.iter().map(shown).collect::<String>().trim_end().to_owned()
}

#[test]
fn stored_bytes_are_those_of_the_golden_file() {
    let mut golden = Golden::default();
    golden.add(&Key::Format, &Format { format: FORMAT, store_id: StoreId(Uuid::from_u128(7)) });
    golden.add(&Key::Head, &head());
    golden.add(&Key::Head, &Head { audit: 5, ..head() });
    golden.add(&Key::Oldest, &Oldest { revision: Revision::new(2) });
    for flag in flags() {
        golden.add(&Key::Flag(flag.id.clone()), &flag);
    }
    golden.add(&Key::Pipeline(pipeline().id), &pipeline());
    golden.add(&Key::PipelineAt(pipeline().id, pipeline().revision), &pipeline());
    golden.add(&Key::Proposal(release()), &proposal());
    golden.add(&Key::Proposal(release()), &ProposalRecord::from(&proposal()));
    let inside: ProposalRecord =
        decode(&Key::Proposal(release()), &encode(&proposal())).expect("version 3 is read");
    assert_eq!(inside.with(&mut Copies::default()).unwrap(), proposal());
    for progress in progresses() {
        golden.add(&Key::Progress(release()), &progress);
    }
    let progress = progresses().swap_remove(0);
    let log = vec![Revision::new(2), Revision::new(3)];
    let stored = StoredProgress { progress: Cow::Owned(progress), log: log.clone() };
    golden.add(&Key::Progress(release()), &stored);
    let commit = CommitRecord { time: time(3), changes: 1 };
    golden.add(&Key::Commit(Revision::new(3)), &commit);
    golden.add(&Key::Change(Revision::new(3), release()), &change());
    let traced = ChangeRecord { trace: Some(TRACE.into()), ..change() };
    golden.add(&Key::Change(Revision::new(3), release()), &traced);
    golden.bytes("log-of/r-1/3", &Key::ChangeOf(release(), Revision::new(3)).bytes());
    golden.add(&Key::ChangeOf(release(), Revision::new(3)), &log);
    for request in requests() {
        golden.add(&Key::Request(digest(&request.key)), &request);
    }
    let request = digest(&requests()[0].key);
    golden.bytes("request-at/", &Key::RequestAt(time(3), request).bytes());
    let request = &requests()[0];
    golden.add(&Key::RequestAt(request.record.time, digest(&request.key)), request);
    golden.add(&Key::Audit(5), &StoredAudit::from(&audit_entry()));
    for row in rows() {
        golden.add(&Key::Outbox(SinkId::parse("on-call").unwrap(), 3), &row);
    }
    golden.add(&Key::Reminder(release()), &Reminder { expires: time(9) });
    let (mut packs, mut batch) = (OpenPacks::default(), Batch::default());
    for number in [3, 4] {
        packs.add(&mut batch, &Key::Commit(Revision::new(number)), encode(&commit));
    }
    packs.write(&mut batch);
    for (key, value) in batch.iter() {
        golden.bytes("key of a pack", key);
        golden.bytes("the pack", value.unwrap());
    }
    let mut cut = Batch::default();
    parts::insert(&mut cut, &Key::Progress(release()), vec![b'x'; parts::LONGEST + 1]);
    for (key, value) in cut.iter() {
        golden.bytes("key of a part", key);
        golden.bytes("the beginning of the part", &value.unwrap()[..16.min(value.unwrap().len())]);
    }
    expect_file!["golden.txt"].assert_eq(&golden.0);
}

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Every kind of entry, one after the other; the last one is stored.
fn audit_entry() -> AuditEntry {
    let call = AuditedCall {
        method: "SkipPhase".into(),
        resource: "releases/r-1".into(),
        principal: Principal::new("ada@example.com"),
        authenticated: Some(Principal::new("https://issuer.example#robot")),
        vouched: Some("jwt".into()),
        peer: Some("192.0.2.1:50000".into()),
        groups: vec![Group::new("release-managers")],
        request_id: Some(RequestId::new("q-1")),
        trace: Some(TRACE.into()),
        reason: "it \"waits\"\n".into(),
        asked: BTreeMap::from([("phase".into(), "canary".into())]),
        outcome: Outcome::Accepted { revision: Some(Revision::new(3)) },
    };
    let refused = AuditedCall {
        outcome: Outcome::Refused { reason: "PHASE_MISMATCH".into() },
        ..call.clone()
    };
    let bare = AuditedCall {
        method: "PauseRelease".into(),
        resource: "".into(),
        principal: Principal::new("anonymous"),
        authenticated: None,
        vouched: None,
        peer: None,
        groups: Vec::new(),
        request_id: None,
        trace: None,
        reason: "".into(),
        asked: BTreeMap::new(),
        outcome: Outcome::Accepted { revision: None },
    };
    let suppressed = Suppressed {
        principal: Some(Principal::new("ada@example.com")),
        peer: None,
        reason: Some("ETAG_STALE".into()),
        count: 12,
    };
    let store = StoreId(Uuid::from_u128(7));
    let acts = [
        Act::Call(Box::new(bare)),
        Act::Call(Box::new(refused)),
        Act::Suppressed(suppressed),
        Act::Imported { from: StoreId(Uuid::from_u128(6)), revision: Revision::new(3) },
        Act::Call(Box::new(call)),
    ];
    let mut head = AuditHead { sequence: 0, hash: AuditHash::NONE };
    let mut text = String::new();
    for act in acts {
        let entry = AuditEntry::after(head, time(3), store, act.clone());
        assert_eq!(entry.content().unwrap().act, act);
        assert_eq!(AuditEntry::read(Arc::clone(&entry.json)).unwrap(), entry);
        head = entry.head();
        writeln!(text, "{} {}", entry.hash, entry.json).unwrap();
        if entry.sequence == 5 {
            expect_file!["audit.txt"].assert_eq(&text);
            return entry;
        }
    }
    panic!("there are five")
}

fn rows() -> [OutboxRow; 2] {
    let notification = Notification {
        id: "00000000-0000-0000-0000-000000000007-3-0-on-call".into(),
        kind: NotificationKind::ReleaseGuardFailed,
        time: time(3),
        revision: Revision::new(3),
        flag: Some(FlagId::parse("new_checkout").unwrap()),
        release: Some(release()),
        pipeline: Some(PipelineId::parse("web").unwrap()),
        phase: Some(PhaseId::parse("canary").unwrap()),
        guard: Some(GuardId::parse("errors").unwrap()),
        principal: Some(Principal::new("ada@example.com")),
        creator: Some(Principal::new("bob@example.com")),
        reason: "too many".into(),
        end: Some(EndReason::GuardFailed),
        until: Some(time(4)),
        labels: BTreeMap::from([("team".into(), "web".into())]),
        trace: Some(TRACE.into()),
    };
    let dead = OutboxRow {
        attempts: 8,
        next_at: time(5),
        last_error: "503".into(),
        state: OutboxState::Dead(time(6)),
        notification: notification.clone(),
    };
    [OutboxRow::new(notification), dead]
}

fn time(second: i64) -> Timestamp {
    Timestamp::from_millis(1_907_776_800_000 + second * 1000)
}

fn release() -> ReleaseId {
    ReleaseId::parse("r-1").unwrap()
}

fn head() -> Head {
    let keys = b"\x00\x06flag/a".to_vec();
    Head { revision: Revision::new(3), time: time(3), crc: 0x0bad_cafe, audit: 0, keys }
}

fn targeting(tests: Vec<Test>) -> TargetingRule {
    let condition = |test| Condition { attribute: "country".into(), test };
    TargetingRule {
        id: RuleId::parse("beta").unwrap(),
        environments: vec![EnvironmentId::parse("prod").unwrap()],
        conditions: tests.into_iter().map(condition).collect(),
        share: BasisPoints::new(2500).unwrap(),
        bucket_by: "targetingKey".into(),
    }
}

fn every_test() -> Vec<Test> {
    let texts = || vec!["NZ".into(), "ä".into()];
    let version = || "1.2.3-rc.1+5".parse().unwrap();
    vec![
        Test::In(texts()),
        Test::NotIn(texts()),
        Test::StartsWith(texts()),
        Test::EndsWith(texts()),
        Test::Contains(texts()),
        Test::Exists,
        Test::NotExists,
        Test::Less(Number::parse("1e3").unwrap()),
        Test::GreaterOrEqual(Number::parse("-0.5").unwrap()),
        Test::SemverLess(version()),
        Test::SemverGreaterOrEqual(version()),
    ]
}

fn flags() -> [Flag; 2] {
    let every_value = BTreeMap::from([
        ("null".into(), Value::Null),
        ("bool".into(), Value::Bool(true)),
        ("number".into(), Value::Number(0.1 + 0.2)),
        ("string".into(), Value::String("text".into())),
        ("list".into(), Value::List(vec![Value::Number(1.0)])),
        ("object".into(), Value::Object(BTreeMap::new())),
    ]);
    let gate = Flag {
        id: FlagId::parse("new_checkout").unwrap(),
        description: "what it does".into(),
        spec: Arc::new(Spec::Gate(Rules {
            rules: vec![Rule { targeting: targeting(every_test()), value: true }],
            default: false,
        })),
        pipeline: Some(PipelineId::parse("web").unwrap()),
        // As stores have it that were made before flags had labels.
        labels: BTreeMap::new(),
        kill_switch: KillSwitch::Engaged { reason: "it burns".into() },
        labels_revision: Revision::ZERO,
        spec_revision: Revision::new(1),
        revision: Revision::new(70_000),
        update_time: time(1),
    };
    let config = Flag {
        id: FlagId::parse("limits").unwrap(),
        spec: Arc::new(Spec::Config(Rules { rules: Vec::new(), default: every_value })),
        pipeline: None,
        labels: BTreeMap::from([("team".into(), "payments".into())]),
        kill_switch: KillSwitch::Lifted { reason: "".into() },
        labels_revision: Revision::new(4),
        ..gate.clone()
    };
    [gate, config]
}

fn pipeline() -> Pipeline {
    let windows = ReleaseWindows {
        zone: "Europe/Paris".parse().unwrap(),
        weekly: vec![Weekly {
            days: vec![chrono::Weekday::Mon, chrono::Weekday::Sun],
            start: TimeOfDay::parse("09:00").unwrap(),
            end: TimeOfDay::parse("24:00").unwrap(),
        }],
        blackouts: vec![Blackout { start: time(0), end: time(9), note: "fair".into() }],
    };
    let approval = ApprovalRequirement {
        min_approvals: 2,
        quotas: vec![Quota { group: Group::new("ops"), min_approvals: 1 }],
        reviewer_groups: vec![Group::new("ops"), Group::new("product")],
        self_approval: SelfApproval::Forbidden,
        expiry: Some(Span::DAY),
    };
    let guard = |id: &str, pass, on_fail| Guard { id: GuardId::parse(id).unwrap(), pass, on_fail };
    let canary = Phase {
        id: PhaseId::parse("canary").unwrap(),
        rules: vec![targeting(Vec::new())],
        bake: Span::from_secs(3600),
        approval: Some(approval.clone()),
        windows: Some(windows),
        guards: vec![
            guard("errors", PassRequirement::Optional, OnFail::Pause),
            guard(
                "latency",
                PassRequirement::Required { timeout: Some(Span::from_secs(60)) },
                OnFail::Fail,
            ),
        ],
    };
    let rest = Phase {
        id: PhaseId::parse("rest").unwrap(),
        rules: Vec::new(),
        bake: Span::ZERO,
        approval: Some(ApprovalRequirement {
            self_approval: SelfApproval::Allowed,
            expiry: None,
            ..approval
        }),
        windows: None,
        guards: vec![guard("sales", PassRequirement::Required { timeout: None }, OnFail::Pause)],
    };
    let open = Phase { id: PhaseId::parse("open").unwrap(), approval: None, ..rest.clone() };
    Pipeline {
        id: PipelineId::parse("web").unwrap(),
        template: Template {
            description: "to the web".into(),
            phases: vec![canary, rest, open],
            exempt_environments: vec![EnvironmentId::parse("dev").unwrap()],
            trigger_notice: "mind the gap".into(),
        },
        revision: Revision::new(1),
        update_time: time(1),
    }
}

fn proposal() -> Proposal {
    Proposal {
        id: release(),
        flag: FlagId::parse("new_checkout").unwrap(),
        pipeline: Arc::new(pipeline()),
        change: Arc::new(Spec::Gate(Rules { rules: Vec::new(), default: true })),
        base: Some(Revision::new(1)),
        labels: BTreeMap::from([("ticket".into(), "T-1".into())]),
        description: "faster".into(),
        schedule_time: Some(time(60)),
        creator: Principal::new("ada@example.com"),
        created: Revision::new(2),
        create_time: time(2),
    }
}

fn actors() -> [Actor; 2] {
    [Actor::Engine, Actor::Principal(Principal::new("ada@example.com"))]
}

const REASONS: [EndReason; 8] = [
    EndReason::AllPhasesDone,
    EndReason::FullRollout,
    EndReason::AbortRequested,
    EndReason::ApprovalRejected,
    EndReason::Superseded,
    EndReason::ApprovalExpired,
    EndReason::GuardFailed,
    EndReason::BaseChanged,
];

fn waits() -> [Wait; 4] {
    [
        Wait::Approval { expires: Some(time(9)) },
        Wait::Window { opens: None },
        Wait::Bake { ends: time(9) },
        Wait::Guards { ended: time(5), since: time(6) },
    ]
}

fn helds() -> [Held; 5] {
    let running = |wait| Held::Running { phase: PhaseIndex::FIRST, wait };
    [
        Held::Pending,
        running(HeldWait::Approval { remaining: Some(Span::from_secs(7)) }),
        running(HeldWait::Window),
        running(HeldWait::Bake { remaining: Span::from_secs(8) }),
        running(HeldWait::Guards { ended: time(5) }),
    ]
}

fn causes() -> [PauseCause; 3] {
    [
        PauseCause::Requested,
        PauseCause::Guard(GuardId::parse("errors").unwrap()),
        PauseCause::Overdue(Span::from_secs(7200)),
    ]
}

fn stages() -> Vec<Stage> {
    let running = waits().map(|wait| Stage::Running { phase: PhaseIndex::FIRST.next(), wait });
    let mut causes = causes().into_iter().cycle();
    let mut actors = actors().into_iter().cycle();
    let paused = helds().map(|held| Stage::Paused {
        held,
        by: Box::new(PauseRecord {
            revision: Revision::new(3),
            ordinal: 1,
            time: time(3),
            actor: actors.next().unwrap(),
            reason: "wait".into(),
            request_id: Some(RequestId::new("q-1")),
            cause: causes.next().unwrap(),
            phase: Some(PhaseIndex::FIRST),
        }),
    });
    let over = REASONS.map(|reason| Stage::Over { reason, time: time(3) });
    [Stage::Pending].into_iter().chain(running).chain(paused).chain(over).collect()
}

fn phases() -> Vec<PhaseProgress> {
    let states = [
        PhaseState::Pending,
        PhaseState::AwaitingApproval,
        PhaseState::AwaitingWindow,
        PhaseState::Baking,
        PhaseState::Succeeded,
        PhaseState::Skipped,
        PhaseState::Aborted,
        PhaseState::Failed,
        PhaseState::Cancelled,
    ];
    let untouched = |state| PhaseProgress {
        state,
        applied: false,
        bypassed: false,
        enter_time: None,
        apply_time: None,
        end_time: None,
        reviews: [].into(),
        guards: [].into(),
    };
    let review = |verdict, state_after| Review {
        verdict,
        principal: Principal::new("bob@example.com"),
        groups: vec![Group::new("ops")],
        revision: Revision::new(3),
        ordinal: 0,
        time: time(3),
        reason: "looks good".into(),
        request_id: Some(RequestId::new("q-2")),
        state_after,
    };
    let reported = |verdict| GuardProgress {
        verdict: Some(verdict),
        message: "p99 is fine".into(),
        report_time: Some(time(3)),
    };
    let full = PhaseProgress {
        applied: true,
        bypassed: true,
        enter_time: Some(time(1)),
        apply_time: Some(time(2)),
        end_time: Some(time(3)),
        reviews: [
            review(ReviewVerdict::Approved, ReleaseState::AwaitingApproval),
            review(ReviewVerdict::Rejected, ReleaseState::Aborted),
        ]
        .into(),
        guards: [
            GuardProgress::default(),
            reported(GuardVerdict::Pass),
            reported(GuardVerdict::Fail),
        ]
        .into(),
        ..untouched(PhaseState::Succeeded)
    };
    states.map(untouched).into_iter().chain([full]).collect()
}

/// One for each stage; the first has phases too.
fn progresses() -> Vec<Progress> {
    let with = |(index, stage)| Progress {
        stage,
        phases: if index == 0 { phases().into() } else { [].into() },
        start_time: (index > 0).then(|| time(2)),
        revision: Revision::new(3),
        update_time: time(3),
        timer_generation: 4,
    };
    stages().into_iter().enumerate().map(with).collect()
}

fn happenings() -> Vec<Happened> {
    let phase = PhaseIndex::FIRST;
    let timer = Some(TimerRecord { scheduled_for: time(2), late: Span::from_millis(12) });
    let groups = vec![Group::new("ops")];
    let guard = GuardId::parse("errors").unwrap();
    let mut all = vec![
        Happened::Triggered,
        Happened::Started { timer },
        Happened::PhaseEntered { phase, wait: Some(Wait::Approval { expires: None }) },
        Happened::ApprovalRecorded {
            phase,
            groups: groups.clone(),
            then: Some(Wait::Window { opens: Some(time(4)) }),
        },
        Happened::ApprovalRejected { phase, groups },
        Happened::WindowOpened { phase, timer: None },
        Happened::WindowRescheduled { phase, opens: Some(time(4)) },
        Happened::WindowOverridden { phase },
        Happened::PhaseApplied { phase, bake_ends: time(9) },
        Happened::BakeElapsed { phase, ended: time(9), timer },
        Happened::BakeAdjusted { phase, remaining: Span::from_secs(1), ends: Some(time(4)) },
        Happened::GuardReported { phase, guard, verdict: GuardVerdict::Fail, timer: None },
        Happened::PhaseSucceeded { phase, timer },
        Happened::PhaseSkipped { phase, bypass: Bypass::None },
        Happened::PhaseSkipped { phase, bypass: Bypass::OnRecord },
    ];
    let paused = helds().into_iter().zip(causes().into_iter().cycle());
    all.extend(paused.map(|(held, cause)| Happened::Paused { held, cause }));
    all.push(Happened::Unpaused { to: None });
    all.extend(waits().map(|wait| Happened::Unpaused { to: Some(wait) }));
    all.extend(REASONS.map(|reason| match reason.state() {
        ReleaseState::Succeeded => Happened::Succeeded { reason },
        ReleaseState::Aborted => Happened::Aborted { reason },
        ReleaseState::Failed => Happened::Failed { reason, timer: None },
        ReleaseState::Pending
        | ReleaseState::AwaitingApproval
        | ReleaseState::AwaitingWindow
        | ReleaseState::Baking
        | ReleaseState::Paused => panic!("{reason:?} is no end"),
    }));
    all
}

fn change() -> ChangeRecord<'static> {
    let mut actors = actors().into_iter().cycle();
    let event = |(ordinal, happened)| ReleaseEvent {
        release: release(),
        ordinal,
        actor: actors.next().unwrap(),
        reason: "because".into(),
        request_id: None,
        happened,
    };
    let events = (0..).zip(happenings()).map(event).collect();
    ChangeRecord {
        revision: Revision::new(3),
        time: time(3),
        before: Some(ReleaseState::Pending),
        events: Cow::Owned(events),
        progress: Cow::Owned(progresses().swap_remove(1)),
        trace: None,
    }
}

fn requests() -> Vec<StoredRequest<'static>> {
    let subjects = [
        Subject::Flag(FlagId::parse("new_checkout").unwrap()),
        Subject::Pipeline(PipelineId::parse("web").unwrap()),
        Subject::Release(release()),
    ];
    let request = |subject| StoredRequest {
        key: Cow::Owned(RequestKey::new(
            &Principal::new("ada@example.com"),
            "TriggerRelease",
            &RequestId::new("q-1"),
        )),
        record: Cow::Owned(RequestRecord { payload: [0xab; 32], time: time(3), subject }),
    };
    subjects.map(request).to_vec()
}
