//! What the tests of the store write: commits that the engine decided on.

use super::{
    Record, RequestKey, RequestPlace, RequestRecord, Store, Subject, Write,
    memory::{Disk, MemoryTree},
    record::{
        Format, StoredProgress, decode, encode,
        key::{Key, Kind},
        parts,
        proposal::{Copies, ProposalRecord},
    },
    tree::{Batch, Direction},
};
use phasegate_engine::{
    Event, State, apply,
    command::{Action, Call, Caller, Command, ConflictPolicy, Expected, FlagChange, Gate, Trigger},
    decide,
    event::{Change, changes},
    flag::{Flag, Rules, Spec},
    id::{FlagId, Group, PhaseId, PipelineId, Principal, ReleaseId, RequestId, RuleId},
    pipeline::{ApprovalRequirement, Phase, SelfApproval, Template},
    targeting::{BasisPoints, TargetingRule},
    time::{Span, Timestamp},
    value::Value,
};
use std::{collections::BTreeMap, sync::Arc};

/// 2030-06-14T18:00:00Z.
pub(super) const START: Timestamp = Timestamp::from_millis(1_907_776_800_000);

/// A state and the records that led to it.
#[derive(Clone, Debug)]
pub(super) struct History {
    pub(super) state: State,
    pub(super) records: Vec<Record>,
    pub(super) now: Timestamp,
}

impl History {
    pub(super) fn new() -> Self {
        Self { state: State::default(), records: Vec::new(), now: START }
    }

    /// A pipeline of two phases, the second of which needs an approval, and two flags along it.
    pub(super) fn begin() -> Self {
        let mut history = Self::new();
        history.call(create_pipeline("web"));
        history.call(create_flag("checkout"));
        history.call(create_flag("search"));
        history
    }

    /// Every kind of record, and commits that touch no release, one, or several.
    pub(super) fn full() -> Self {
        let mut history = Self::begin();
        history.call(trigger("checkout", "r-1", ConflictPolicy::Fail));
        history.wait(Span::from_secs(10));
        history.call(trigger("search", "s-1", ConflictPolicy::Fail));
        history.call(Action::PauseRelease { release: release("r-1") });
        history.wait(Span::from_secs(10));
        history
            .call(Action::UnpauseRelease { release: release("r-1"), expected: Expected::Anything });
        history.call(Action::SkipPhase {
            release: release("r-1"),
            expected: Expected::Anything,
            phase: PhaseId::parse("canary").unwrap(),
            approvals: Gate::Respect,
        });
        history.call(Action::ApprovePhase {
            release: release("r-1"),
            expected: Expected::Anything,
            phase: PhaseId::parse("rest").unwrap(),
        });
        history.call(describe_flag("search", "found again"));
        history.call(trigger("checkout", "r-2", ConflictPolicy::Queue));
        history.wait(Span::from_secs(10));
        history.call(trigger("checkout", "a-3", ConflictPolicy::Supersede));
        history.call(create_pipeline("mobile"));
        history.call(Action::DeletePipeline {
            pipeline: PipelineId::parse("mobile").unwrap(),
            expected: Expected::Anything,
        });
        history.call(Action::FullRollout {
            release: release("a-3"),
            expected: Expected::Anything,
            approvals: Gate::Bypass,
            windows: Gate::Bypass,
        });
        history
    }

    /// The same, and then a release that much is done to: more than its index takes at once.
    pub(super) fn long() -> Self {
        let mut history = Self::full();
        for _ in 0..40 {
            history.wait(Span::from_secs(1));
            history.call(Action::PauseRelease { release: release("s-1") });
            history.call(Action::UnpauseRelease {
                release: release("s-1"),
                expected: Expected::Anything,
            });
        }
        history
    }

    /// Time goes by.
    pub(super) fn wait(&mut self, span: Span) {
        self.now = self.now + span;
    }

    /// Somebody asks for something, with a request id, and it is granted.
    pub(super) fn call(&mut self, action: Action) -> Record {
        let id = RequestId::new(format!("request-{}", self.state.revision()));
        let subject = match (action.release(), action.flag()) {
            (Some(release), _) => Subject::Release(release.clone()),
            (None, Some(flag)) => Subject::Flag(flag.clone()),
            (None, None) => Subject::Pipeline(PipelineId::parse("web").unwrap()),
        };
        let caller = Caller {
            principal: Principal::new("ada@example.com"),
            groups: vec![Group::new("release-managers")],
        };
        let key = RequestKey::new(&caller.principal, "Any", &id);
        let call = Call { caller, request_id: Some(id), reason: "because".into(), action };
        let commit = decide(&self.state, &Command::Call(call), self.now).unwrap().unwrap();
        let before = self.state.clone();
        apply(&mut self.state, &commit);
        let changes: Vec<Arc<Change>> =
            changes(&before, &self.state, &commit).into_iter().map(Arc::new).collect();
        let mut record = Record {
            revision: commit.revision,
            time: commit.time,
            flags: Vec::new(),
            pipelines: Vec::new(),
            proposals: Vec::new(),
            releases: changes.iter().map(|change| Arc::clone(&change.release)).collect(),
            changes,
            request: Some((key, RequestRecord { payload: [7; 32], time: commit.time, subject })),
        };
        for event in commit.events {
            match event {
                Event::FlagStored(flag) => {
                    record.flags.push(Write::Put(flag.id.clone(), flag));
                }
                Event::FlagDeleted(id) => record.flags.push(Write::Delete(id)),
                Event::PipelineStored(pipeline) => {
                    record.pipelines.push(Write::Put(pipeline.id.clone(), pipeline));
                }
                Event::PipelineDeleted(id) => record.pipelines.push(Write::Delete(id)),
                Event::ReleaseCreated(proposal) => record.proposals.push(proposal),
                Event::Release(_) => {}
            }
        }
        self.records.push(record.clone());
        record
    }

    /// All changes so far.
    pub(super) fn changes(&self) -> Vec<Arc<Change>> {
        self.records.iter().flat_map(|record| record.changes.iter().cloned()).collect()
    }

    /// All requests so far.
    pub(super) fn requests(&self) -> Vec<(RequestKey, RequestRecord)> {
        self.records.iter().filter_map(|record| record.request.clone()).collect()
    }

    pub(super) fn flag(&self, id: &str) -> &Arc<Flag> {
        self.state.flag(&FlagId::parse(id).unwrap()).unwrap()
    }
}

/// All requests, read in stretches.
fn requests(store: &mut dyn Store) -> Vec<(RequestKey, RequestRecord)> {
    let (mut requests, mut after) = (Vec::new(), None);
    loop {
        let stretch = store.requests(after.as_ref()).unwrap();
        assert!(!stretch.requests.is_empty() || stretch.end.is_none());
        requests.extend(stretch.requests);
        after = stretch.end;
        if after.is_none() {
            return requests;
        }
    }
}

/// Whether a store has these requests and no others: in its index, each by itself, and all in a row.
pub(super) fn check_requests(store: &mut dyn Store, expected: &[(RequestKey, RequestRecord)]) {
    let index = store.load().unwrap().requests;
    assert_eq!(index.len(), expected.len());
    for (key, record) in expected {
        let place = index.find(key).unwrap();
        assert_eq!(place, RequestPlace::of(key, record.time));
        assert_eq!(store.request(place).unwrap().as_ref(), Some(record));
    }
    // Those of one moment have no order.
    let mut expected = expected.to_vec();
    expected.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut requests = requests(store);
    requests.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert_eq!(requests, expected);
}

/// Turns what a disk holds into what version 3 would have written: each record under its own key, each
/// entry of the log with a key in the index, and its pipeline in each proposal. The last batch is torn by it, so another must follow.
pub(super) fn as_in_version_3(disk: &Disk) {
    let tree = MemoryTree::of(disk);
    let mut plain = Batch::default();
    for kind in [Kind::Commit, Kind::Change, Kind::RequestAt, Kind::Audit] {
        for entry in parts::scan(&tree, kind.all(), Direction::Up) {
            let (key, value) = entry.unwrap().unwrap();
            parts::insert(&mut plain, &key, value.as_ref().to_vec());
            if let Key::Change(revision, release) = key {
                plain.put(Key::ChangeOf(release, revision).bytes(), Vec::new());
            }
        }
    }
    for entry in parts::scan(&tree, Kind::Progress.all(), Direction::Up) {
        let (key, value) = entry.unwrap().unwrap();
        let stored: StoredProgress<'_> = decode(&key, value.as_ref()).unwrap();
        parts::insert(&mut plain, &key, encode(&stored.progress));
    }
    let mut copies = Copies::default();
    for entry in parts::scan(&tree, Kind::PipelineAt.all(), Direction::Up) {
        let (key, value) = entry.unwrap().unwrap();
        copies.add(decode(&key, value.as_ref()).unwrap());
    }
    for entry in parts::scan(&tree, Kind::Proposal.all(), Direction::Up) {
        let (key, value) = entry.unwrap().unwrap();
        let record: ProposalRecord = decode(&key, value.as_ref()).unwrap();
        parts::insert(&mut plain, &key, encode(&record.with(&mut copies).unwrap()));
    }
    disk.tamper(|map| {
        let rewritten: [&[u8]; 8] = [
            b"commit/",
            b"log/",
            b"log-of/",
            b"request-at/",
            b"audit/",
            b"progress/",
            b"proposal/",
            b"pipeline-at/",
        ];
        map.retain(|key, _| !rewritten.iter().any(|prefix| key.starts_with(prefix)));
        map.extend(plain.into_iter().map(|(key, value)| (key, value.unwrap())));
        let format: Format = decode(&Key::Format, &map[&Key::Format.bytes()]).unwrap();
        map.insert(Key::Format.bytes(), encode(&Format { format: 3, ..format }));
    });
}

pub(super) fn release(id: &str) -> ReleaseId {
    ReleaseId::parse(id).unwrap()
}

fn rule(id: &str, share: u32) -> TargetingRule {
    TargetingRule {
        id: RuleId::parse(id).unwrap(),
        environments: Vec::new(),
        conditions: Vec::new(),
        share: BasisPoints::new(share).unwrap(),
        bucket_by: "targetingKey".into(),
    }
}

pub(super) fn create_pipeline(id: &str) -> Action {
    let phase = |id: &str, share, approval| Phase {
        id: PhaseId::parse(id).unwrap(),
        rules: vec![rule("some", share)],
        bake: Span::from_secs(3600),
        approval,
        windows: None,
        guards: Vec::new(),
    };
    let approval = ApprovalRequirement {
        min_approvals: 2,
        quotas: Vec::new(),
        reviewer_groups: Vec::new(),
        self_approval: SelfApproval::Allowed,
        expiry: Some(Span::DAY),
    };
    Action::CreatePipeline {
        pipeline: PipelineId::parse(id).unwrap(),
        template: Arc::new(Template {
            description: "to the web".into(),
            phases: vec![phase("canary", 500, None), phase("rest", 10_000, Some(approval))],
            exempt_environments: Vec::new(),
            trigger_notice: "".into(),
        }),
    }
}

pub(super) fn create_flag(id: &str) -> Action {
    Action::CreateFlag {
        flag: FlagId::parse(id).unwrap(),
        description: "".into(),
        spec: spec(0.5),
        pipeline: Some(PipelineId::parse("web").unwrap()),
        labels: BTreeMap::new(),
    }
}

/// A dynamic config that answers a number.
fn spec(answer: f64) -> Arc<Spec> {
    let default = BTreeMap::from([("answer".into(), Value::Number(answer))]);
    Arc::new(Spec::Config(Rules { rules: Vec::new(), default }))
}

pub(super) fn describe_flag(id: &str, description: &str) -> Action {
    Action::UpdateFlag {
        flag: FlagId::parse(id).unwrap(),
        expected: Expected::Anything,
        change: FlagChange { description: Some(description.into()), ..FlagChange::default() },
    }
}

pub(super) fn trigger(flag: &str, id: &str, conflict_policy: ConflictPolicy) -> Action {
    Action::TriggerRelease(Trigger {
        id: release(id),
        flag: FlagId::parse(flag).unwrap(),
        pipeline: None,
        // A sum that has no short decimal form: stored numbers must come back to the bit.
        change: spec(0.1 + 0.2),
        base: None,
        labels: BTreeMap::from([("ticket".into(), "T-1".into())]),
        description: "faster".into(),
        schedule_time: None,
        conflict_policy,
    })
}
