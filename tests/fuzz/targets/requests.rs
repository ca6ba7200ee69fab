//! Requests as bytes, several in a row: decoded, validated, decided, stored, answered.
//!
//! Nothing panics or overflows. A refusal changes nothing; what is accepted can be sent, is taken back
//! as the same, can be asked for an answer, and is on disk. A repeated request does nothing.

use crate::{
    audit,
    input::{Input, Seed},
    server::{Server, call},
    world::{self, WORLD},
};
use phasegate_api::v1::{
    self, flag_service_server::FlagService as _, pipeline_service_server::PipelineService as _,
    release_service_server::ReleaseService as _,
};
use phasegate_engine::time::Span;
use prost::Message as _;
use tonic::{Code, Status};

/// Steps of one input. A dozen reach everything that a few releases can go through.
const STEPS_MAX: usize = 24;
/// The longest advance of the clock, in minutes: the approvals of the world expire within it.
const MINUTES_MAX: usize = 45 * 24 * 60;

/// Kinds of steps above those that are requests.
const EVALUATE: u8 = 18;
const REPEAT: u8 = 19;
const RESTART: u8 = 20;
const MINUTES: u8 = 21;
const MILLIS: u8 = 22;
const KINDS: u8 = 23;

/// One request.
#[derive(Clone, Copy)]
struct Step<'a> {
    kind: u8,
    caller: u8,
    body: &'a [u8],
}

/// What became of a request that could be decoded.
struct Outcome {
    request_id: String,
    answer: Result<(), Status>,
}

/// The target.
pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let mut server = WORLD.server();
    let mut last: Option<(Step<'_>, Outcome)> = None;
    for _ in 0..STEPS_MAX {
        let Some(head) = input.byte() else { break };
        let (kind, caller) = (head % KINDS, head / KINDS);
        match kind {
            RESTART => server = server.restart(),
            MINUTES => {
                let minutes = input.number().unwrap_or_default() % MINUTES_MAX;
                server.advance(Span::from_secs(60 * u32::try_from(minutes).unwrap_or_default()));
                // After a day it may be forgotten.
                last = None;
            }
            MILLIS => {
                let millis = input.number().unwrap_or_default();
                server.advance(Span::from_millis(i64::try_from(millis).unwrap_or_default()));
            }
            REPEAT => repeat(&mut server, last.as_ref()),
            _ => {
                let step = Step { kind, caller, body: input.bytes().unwrap_or_default() };
                last = take(&mut server, step).map(|outcome| (step, outcome));
            }
        }
    }
    audit::state(&server.state());
    audit::reload(&server.disk, &server.state());
}

/// Makes the last request again.
fn repeat(server: &mut Server, last: Option<&(Step<'_>, Outcome)>) {
    let Some((step, first)) = last else { return };
    let before = server.revision();
    let again = take(server, *step).expect("it could be decoded before").answer;
    if first.answer.is_ok() && !first.request_id.is_empty() {
        assert_eq!(server.revision(), before, "done twice: {again:?}");
        // It is answered as of now, and what it made may be removed by now.
        let code = again.as_ref().map_or_else(Status::code, |()| Code::Ok);
        assert!(matches!(code, Code::Ok | Code::NotFound), "judged twice: {again:?}");
    }
}

/// Makes a request, unless it cannot be decoded.
fn take(server: &mut Server, step: Step<'_>) -> Option<Outcome> {
    let before = server.revision();
    let outcome = request(server, step)?;
    if outcome.answer.is_err() {
        assert_eq!(server.revision(), before, "refused, and yet: {:?}", outcome.answer);
    }
    Some(outcome)
}

macro_rules! requests {
    ($($number:literal => $method:ident($request:ident),)*) => {
        fn request(server: &mut Server, Step { kind, caller, body }: Step<'_>) -> Option<Outcome> {
            match kind {
                $($number => {
                    let message = v1::$request::decode(body).ok()?;
                    let request_id = message.request_id.clone();
                    let answer = call!(server, $method, message, caller).map(drop);
                    Some(Outcome { request_id, answer })
                })*
                EVALUATE => {
                    let message = v1::EvaluateFlagRequest::decode(body).ok()?;
                    let answer = call!(server, evaluate_flag, message, caller).map(drop);
                    Some(Outcome { request_id: String::new(), answer })
                }
                _ => None,
            }
        }
    };
}

requests! {
    0 => create_flag(CreateFlagRequest),
    1 => update_flag(UpdateFlagRequest),
    2 => delete_flag(DeleteFlagRequest),
    3 => set_kill_switch(SetKillSwitchRequest),
    4 => create_pipeline(CreatePipelineRequest),
    5 => update_pipeline(UpdatePipelineRequest),
    6 => delete_pipeline(DeletePipelineRequest),
    7 => trigger_release(TriggerReleaseRequest),
    8 => approve_phase(ApprovePhaseRequest),
    9 => reject_phase(RejectPhaseRequest),
    10 => pause_release(PauseReleaseRequest),
    11 => unpause_release(UnpauseReleaseRequest),
    12 => skip_phase(SkipPhaseRequest),
    13 => override_window(OverrideWindowRequest),
    14 => adjust_bake(AdjustBakeRequest),
    15 => abort_release(AbortReleaseRequest),
    16 => full_rollout(FullRolloutRequest),
    17 => report_guard_signal(ReportGuardSignalRequest),
}

/// Requests that are accepted, alone and in a row.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let step = |seed: Seed, kind: u8, caller: u8, message: Vec<u8>| {
        seed.byte(kind + KINDS * caller).bytes(&message)
    };
    let one = |kind, caller, message| step(Seed::default(), kind, caller, message);
    let name = |id: &str| format!("releases/{id}");
    let why = || "because".to_owned();
    let mut seeds: Vec<(&str, Seed)> = Vec::new();

    let state = WORLD.server().state();
    for flag in state.flags().filter(|flag| flag.id.as_str() != "long") {
        let mut wire = phasegate_api::convert::flag_to_wire(flag, None);
        wire.name.clear();
        let create = v1::CreateFlagRequest {
            flag_id: "new".into(),
            flag: Some(wire.clone()),
            request_id: "1".into(),
            validate_only: flag.id.as_str() == "a",
        };
        let created = one(0, 0, create.encode_to_vec());
        let paths = ["description", "feature_gate"].map(str::to_owned).to_vec();
        wire.name = "flags/new".into();
        wire.etag = String::new();
        let update = v1::UpdateFlagRequest {
            flag: Some(wire),
            update_mask: Some(prost_types::FieldMask { paths }),
            ..Default::default()
        };
        let updated = step(created.byte(REPEAT), 1, 1, update.encode_to_vec());
        let evaluate = v1::EvaluateFlagRequest {
            flag: "flags/new".into(),
            environment: "prod".into(),
            context: Some(prost_types::Struct::default()),
        };
        let delete = v1::DeleteFlagRequest { name: "flags/new".into(), ..Default::default() };
        let asked = step(updated, EVALUATE, 3, evaluate.encode_to_vec());
        seeds.push(("flag", step(asked, 2, 0, delete.encode_to_vec())));
    }
    for pipeline in state.pipelines() {
        let mut wire = phasegate_api::convert::pipeline_to_wire(pipeline);
        wire.name.clear();
        let create = v1::CreatePipelineRequest {
            pipeline_id: "new".into(),
            pipeline: Some(wire.clone()),
            ..Default::default()
        };
        wire.name = "pipelines/new".into();
        wire.etag = String::new();
        let paths = vec!["*".to_owned()];
        let update = v1::UpdatePipelineRequest {
            pipeline: Some(wire),
            update_mask: Some(prost_types::FieldMask { paths }),
            ..Default::default()
        };
        let delete =
            v1::DeletePipelineRequest { name: "pipelines/new".into(), ..Default::default() };
        let seed = one(4, 0, create.encode_to_vec());
        let seed = step(seed, 5, 0, update.encode_to_vec());
        seeds.push(("pipeline", step(seed, 6, 0, delete.encode_to_vec())));
    }
    for engaged in [true, false] {
        let (name, engaged) = ("flags/checkout".into(), Some(engaged));
        let switch = v1::SetKillSwitchRequest { name, engaged, ..Default::default() };
        seeds.push(("switch", one(3, 0, switch.encode_to_vec())));
    }
    for policy in
        [v1::ConflictPolicy::Fail, v1::ConflictPolicy::Queue, v1::ConflictPolicy::Supersede]
    {
        let mut trigger = world::trigger("new", "checkout", "");
        trigger.conflict_policy = policy.into();
        trigger.request_id = "1".into();
        let seed = one(7, 0, trigger.encode_to_vec());
        seeds.push(("trigger", seed.byte(REPEAT).byte(MINUTES).number(61).byte(RESTART)));
    }
    let approve = v1::ApprovePhaseRequest {
        name: name("approval"),
        phase_id: "only".into(),
        reason: why(),
        ..Default::default()
    };
    let reject = v1::RejectPhaseRequest {
        name: name("approval"),
        phase_id: "only".into(),
        reason: why(),
        ..Default::default()
    };
    seeds.push(("approve", one(8, 1, approve.encode_to_vec())));
    seeds.push(("reject", one(9, 2, reject.encode_to_vec())));
    let pause = v1::PauseReleaseRequest { name: name("baking"), ..Default::default() };
    let unpause = v1::UnpauseReleaseRequest { name: name("baking"), ..Default::default() };
    let seed = one(10, 0, pause.encode_to_vec()).byte(MILLIS).number(1500).byte(RESTART);
    seeds.push(("pause", step(seed, 11, 0, unpause.encode_to_vec()).byte(MINUTES).number(60)));
    let skip = v1::SkipPhaseRequest {
        name: name("baking"),
        phase_id: "canary".into(),
        bypass_approval: true,
        reason: why(),
        ..Default::default()
    };
    seeds.push(("skip", one(12, 0, skip.encode_to_vec()).byte(MINUTES).number(24 * 60)));
    let over = v1::OverrideWindowRequest {
        name: name("window"),
        phase_id: "rest".into(),
        reason: why(),
        ..Default::default()
    };
    seeds.push(("window", one(13, 0, over.encode_to_vec()).byte(MINUTES).number(1)));
    let adjust = v1::AdjustBakeRequest {
        name: name("baking"),
        phase_id: "canary".into(),
        remaining: Some(prost_types::Duration { seconds: 60, nanos: 1 }),
        reason: why(),
        ..Default::default()
    };
    seeds.push(("bake", one(14, 0, adjust.encode_to_vec()).byte(MINUTES).number(2)));
    let abort =
        v1::AbortReleaseRequest { name: name("baking"), reason: why(), ..Default::default() };
    seeds.push(("abort", one(15, 0, abort.encode_to_vec())));
    let full = v1::FullRolloutRequest {
        name: name("guards"),
        bypass_approval: true,
        override_windows: true,
        reason: why(),
        ..Default::default()
    };
    seeds.push(("rollout", one(16, 0, full.encode_to_vec())));
    for verdict in [v1::GuardVerdict::Pass, v1::GuardVerdict::Fail] {
        let signal = v1::ReportGuardSignalRequest {
            name: name("guards"),
            phase_id: "canary".into(),
            guard_id: "errors".into(),
            verdict: verdict.into(),
            ..Default::default()
        };
        seeds.push((
            "signal",
            one(17, 0, signal.encode_to_vec()).byte(MINUTES).number(40 * 24 * 60),
        ));
    }
    let number = |(n, (name, seed)): (usize, (&str, Seed))| (format!("{n:02}-{name}"), seed.0);
    seeds.into_iter().enumerate().map(number).collect()
}
