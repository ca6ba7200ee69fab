//! The store that every input finds: flags and pipelines of `world.yaml`, and releases in every state.

use crate::server::{Condition, STORE, Server, call};
use phasegate_api::v1::{
    self, flag_service_server::FlagService as _, pipeline_service_server::PipelineService as _,
    release_service_server::ReleaseService as _,
};
use phasegate_document::{self as document, Resource};
use phasegate_engine::{
    id::Revision,
    release::ReleaseState,
    time::{Span, Timestamp},
};
use phasegate_server::store::{
    memory::{self, Disk},
    tools,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

/// 2030-06-14T18:00:00Z, a Friday.
const START: Timestamp = Timestamp::from_millis(1_907_776_800_000);

/// What is on the disk of a store.
pub(crate) type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// The store.
pub(crate) struct World {
    pub(crate) entries: Entries,
    pub(crate) now: Timestamp,
    /// The keys that the last commit wrote, `meta/head` apart.
    pub(crate) last_batch: BTreeSet<Vec<u8>>,
    /// Where its log begins: something was removed from it.
    pub(crate) oldest: Revision,
    /// All of it as text.
    pub(crate) export: Vec<u8>,
}

/// The same for every input.
pub(crate) static WORLD: LazyLock<World> = LazyLock::new(World::make);

impl World {
    /// A disk with the store.
    pub(crate) fn disk(&self) -> Disk {
        disk(self.entries.clone())
    }

    /// A server that has just been started on it.
    pub(crate) fn server(&self) -> Server {
        Server::start(&self.disk(), self.now, Condition::Sound).expect("the store is sound")
    }

    fn make() -> Self {
        let disk = Disk::new();
        let mut server = Server::start(&disk, START, Condition::Sound).expect("a new store opens");
        create(&mut server);
        tell(&mut server);
        let before = entries(&disk);
        let description = "The last commit.".to_owned();
        let flag = v1::Flag { name: "flags/b".into(), description, ..Default::default() };
        let update = v1::UpdateFlagRequest { flag: Some(flag), ..Default::default() };
        call!(server, update_flag, update, 0).expect("a description may change");
        let entries = entries(&disk);
        let written = entries.iter().filter(|(key, value)| before.get(*key) != Some(value));
        let last_batch = written.map(|(key, _)| key.clone()).filter(|key| key != b"meta/head");
        let mut export = Vec::new();
        let mut store = memory::open(&disk, STORE).expect("the store opens");
        tools::export_from(&mut store, &mut export, &mut |_| {}).expect("the store is sound");
        Self {
            last_batch: last_batch.collect(),
            now: server.handle.now(),
            oldest: server.handle.oldest(),
            entries,
            export,
        }
    }
}

/// A disk with these entries. It has no note of what was acknowledged, as after a power cut.
pub(crate) fn disk(entries: Entries) -> Disk {
    let disk = Disk::new();
    disk.tamper(|map| *map = entries);
    disk
}

/// What is on a disk.
pub(crate) fn entries(disk: &Disk) -> Entries {
    let mut entries = Entries::new();
    disk.tamper(|map| entries.clone_from(map));
    entries
}

/// The pipelines and flags of `world.yaml`, and a flag so large that it is stored in parts.
fn create(server: &mut Server) {
    let documents = document::parse("world.yaml", include_str!("../world.yaml"));
    for document in documents.expect("world.yaml is sound") {
        match document.resource {
            Resource::Pipeline(pipeline) => {
                let pipeline_id = id(&pipeline.name);
                let create = v1::CreatePipelineRequest {
                    request_id: format!("create-{pipeline_id}"),
                    pipeline_id,
                    pipeline: Some(pipeline),
                    ..Default::default()
                };
                call!(server, create_pipeline, create, 0).expect("it is sound");
            }
            Resource::Flag(flag) => {
                let create = v1::CreateFlagRequest {
                    flag_id: id(&flag.name),
                    flag: Some(flag),
                    ..Default::default()
                };
                call!(server, create_flag, create, 0).expect("it is sound");
            }
            Resource::Release(_) => unreachable!("world.yaml has none"),
        }
    }
    let condition = v1::Condition {
        attribute: "country".into(),
        operator: v1::ConditionOperator::In.into(),
        values: (0..40).map(|n| format!("country-{n:0240}")).collect(),
    };
    let targeting =
        v1::TargetingRule { id: "many".into(), conditions: vec![condition], ..Default::default() };
    let rules = vec![v1::gate_spec::Rule { targeting: Some(targeting), value: true }];
    let spec = v1::flag::Spec::FeatureGate(v1::GateSpec { rules, default_value: false });
    let flag = v1::Flag { spec: Some(spec), ..Default::default() };
    let create =
        v1::CreateFlagRequest { flag_id: "long".into(), flag: Some(flag), ..Default::default() };
    call!(server, create_flag, create, 0).expect("it is not too long");
}

fn id(name: &str) -> String {
    name.split_once('/').expect("names have a collection").1.to_owned()
}

/// A trigger of a release that turns a gate on.
pub(crate) fn trigger(release: &str, flag: &str, pipeline: &str) -> v1::TriggerReleaseRequest {
    let gate = v1::GateSpec { default_value: true, ..Default::default() };
    let labels = [("team".to_owned(), "växjö".to_owned())];
    v1::TriggerReleaseRequest {
        release_id: release.into(),
        release: Some(v1::Release {
            flag: format!("flags/{flag}"),
            pipeline: if pipeline.is_empty() {
                String::new()
            } else {
                format!("pipelines/{pipeline}")
            },
            change: Some(v1::release::Change::FeatureGate(gate)),
            labels: labels.into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn tell(server: &mut Server) {
    let mut ranking = trigger("done", "search.ranking", "");
    if let Some(release) = &mut ranking.release {
        release.change = Some(v1::release::Change::DynamicConfig(v1::ConfigSpec {
            default_value: Some(prost_types::Struct::default()),
            ..Default::default()
        }));
    }
    call!(server, trigger_release, ranking, 0).expect("the flag is free");
    // The release goes to its end, and all of that is removed from the log.
    server.advance(Span::from_millis(8 * Span::DAY.as_millis()));
    server.turn();

    for (release, flag, pipeline) in [
        ("guards", "c", ""),
        ("window", "a", ""),
        ("approval", "9.dark_mode", "free"),
        ("aborted", "d", "quick"),
    ] {
        call!(server, trigger_release, trigger(release, flag, pipeline), 0).expect("it is free");
    }
    let name = || "releases/window".to_owned();
    let skip = |phase: &str| v1::SkipPhaseRequest {
        name: name(),
        phase_id: phase.into(),
        request_id: format!("skip-{phase}"),
        ..Default::default()
    };
    call!(server, skip_phase, skip("canary"), 0).expect("it bakes");
    for caller in [1, 2] {
        let phase_id = "staff".into();
        let approve = v1::ApprovePhaseRequest { name: name(), phase_id, ..Default::default() };
        call!(server, approve_phase, approve, caller).expect("it needs two");
    }
    call!(server, skip_phase, skip("staff"), 0).expect("it bakes");
    let abort = v1::AbortReleaseRequest {
        name: "releases/aborted".into(),
        reason: "no".into(),
        ..Default::default()
    };
    call!(server, abort_release, abort, 1).expect("it runs");
    server.advance(Span::from_secs(3600));

    for (release, flag, pipeline) in
        [("baking", "checkout", ""), ("paused", "d", "standard"), ("scheduled", "b", "quick")]
    {
        let mut trigger = trigger(release, flag, pipeline);
        if let Some(release) = &mut trigger.release
            && pipeline == "quick"
        {
            let seconds = (START + Span::from_millis(30 * Span::DAY.as_millis())).as_millis();
            let seconds = seconds / 1000;
            release.schedule_time = Some(prost_types::Timestamp { seconds, nanos: 1 });
        }
        call!(server, trigger_release, trigger, 0).expect("it is free");
    }
    let queued = v1::TriggerReleaseRequest {
        conflict_policy: v1::ConflictPolicy::Queue.into(),
        request_id: "queue".into(),
        ..trigger("queued", "checkout", "")
    };
    call!(server, trigger_release, queued, 0).expect("it queues");
    let pause = v1::PauseReleaseRequest { name: "releases/paused".into(), ..Default::default() };
    call!(server, pause_release, pause, 2).expect("it runs");
    server.advance(Span::from_secs(600));

    let state = server.state();
    let states: BTreeSet<ReleaseState> = state.releases().map(|release| release.state()).collect();
    assert_eq!(states.len(), 7, "all but FAILED: {states:?}");
}
