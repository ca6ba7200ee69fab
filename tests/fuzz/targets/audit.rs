//! What must hold of whatever the server accepted, answered or refused.

use phasegate_api::{
    convert::{self, Detail},
    v1,
};
use phasegate_engine::{
    State,
    command::Action,
    flag::{Flag, FlagKind, Spec},
    flagd,
    id::{EnvironmentId, ReleaseId},
    release::Release,
    targeting::{
        Bucketing, Condition, Context, TARGETING_KEY, TargetingRule, Test, evaluate, explain,
    },
    value::{Object, Value},
};
use phasegate_server::{
    grpc::status::{DETAILS_BYTES_MAX, DOMAIN},
    store::{
        Store as _,
        memory::{self, Disk},
    },
};
use prost::Message;
use std::{collections::BTreeSet, fmt::Debug, sync::Arc};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// A message that is sent is received as the same.
pub(crate) fn message<T: Message + Default + PartialEq + Debug>(sent: T) -> T {
    let received = T::decode(&*sent.encode_to_vec()).expect("a client can decode an answer");
    assert!(received == sent, "sent {sent:?}\nreceived {received:?}");
    received
}

/// A refusal has a reason that a program can read, and is never a defect.
pub(crate) fn refusal(status: Status) -> Status {
    let code = status.code();
    let defects = [Code::Ok, Code::Unknown, Code::Internal, Code::DataLoss];
    assert!(!defects.contains(&code), "a defect: {status:?}");
    let details = status.get_error_details();
    let info = details.error_info().expect("every refusal has a reason");
    assert_eq!(info.domain, DOMAIN);
    assert!(status.details().len() <= DETAILS_BYTES_MAX, "details of {}", status.details().len());
    status
}

/// What is on a disk is sound, and is this state.
pub(crate) fn reload(disk: &Disk, state: &State) {
    let mut store = memory::open(disk, super::server::STORE).expect("the store opens");
    let verified = store.verify().expect("the store can be read");
    assert!(verified.findings.is_empty(), "{:?}", verified.findings);
    let loaded = store.load().expect("a store that is sound loads").state;
    assert!(loaded == *state, "in memory {state:?}\non disk {loaded:?}");
}

/// Everything in a state can be sent, and can be asked.
pub(crate) fn usable(state: &State) {
    for flag in state.flags() {
        let active = state.active_release(&flag.id);
        message(convert::flag_to_wire(flag, active.map(|release| release.id())));
        answers(flag, active.map(|release| &**release));
    }
    for pipeline in state.pipelines() {
        message(convert::pipeline_to_wire(pipeline));
    }
    for release in state.releases() {
        message(convert::release_to_wire(release, Detail::Full));
    }
}

/// Besides, it is taken back as the same.
pub(crate) fn state(state: &State) {
    usable(state);
    for flag in state.flags() {
        flag_goes_round(flag, state.active_release(&flag.id).map(|release| release.id()));
    }
    for pipeline in state.pipelines() {
        let request = v1::CreatePipelineRequest {
            pipeline_id: pipeline.id.to_string(),
            pipeline: Some(message(convert::pipeline_to_wire(pipeline))),
            ..Default::default()
        };
        let parsed = convert::create_pipeline(request).expect("what was accepted is accepted");
        let Action::CreatePipeline { template, .. } = parsed.action else { unreachable!() };
        assert_eq!(*template, pipeline.template);
    }
    state.releases().for_each(|release| release_goes_round(release));
}

fn flag_goes_round(flag: &Flag, active: Option<&ReleaseId>) {
    let request = v1::CreateFlagRequest {
        flag_id: flag.id.to_string(),
        flag: Some(message(convert::flag_to_wire(flag, active))),
        ..Default::default()
    };
    let parsed = convert::create_flag(request).expect("what was accepted is accepted");
    let Action::CreateFlag { description, spec, pipeline, labels, .. } = parsed.action else {
        unreachable!()
    };
    assert_eq!(labels, flag.labels);
    assert_eq!((&description, &spec, &pipeline), (&flag.description, &flag.spec, &flag.pipeline));
}

fn release_goes_round(release: &Release) {
    let proposal = &release.proposal;
    message(convert::release_to_wire(release, Detail::Brief));
    let request = v1::TriggerReleaseRequest {
        release_id: proposal.id.to_string(),
        release: Some(message(convert::release_to_wire(release, Detail::Full))),
        ..Default::default()
    };
    let parsed = convert::trigger_release(request, proposal.id.clone());
    let parsed = parsed.expect("what was accepted is accepted");
    let Action::TriggerRelease(trigger) = parsed.action else { unreachable!() };
    assert_eq!(trigger.change, proposal.change);
    assert_eq!(trigger.labels, proposal.labels);
    assert_eq!(
        (&trigger.flag, &trigger.base, &trigger.description, &trigger.schedule_time),
        (&proposal.flag, &proposal.base, &proposal.description, &proposal.schedule_time)
    );
}

/// Asks a flag in every environment that it knows, with attributes that its conditions look at.
fn answers(flag: &Flag, active: Option<&Release>) {
    let phases = active.into_iter().flat_map(Release::phases).flat_map(|phase| &phase.rules);
    let change = active.into_iter().flat_map(|release| rules_of(&release.proposal.change));
    let rules: Vec<&TargetingRule> = rules_of(&flag.spec).chain(change).chain(phases).collect();
    let mut environments: BTreeSet<EnvironmentId> =
        rules.iter().flat_map(|rule| rule.environments.iter().cloned()).collect();
    environments.extend(["prod", "dev"].map(|id| EnvironmentId::parse(id).expect("an id")));
    let conditions: Vec<&Condition> = rules.iter().flat_map(|rule| &rule.conditions).collect();
    for attributes in [Object::new(), texts(&conditions), numbers(&conditions)] {
        for environment in &environments {
            let definition = flagd::definition(flag, active, environment);
            let variants = variants_of(&definition);
            let context = Context { environment, attributes: &attributes };
            for bucketing in [Bucketing::V2, Bucketing::V3] {
                let explained = explain(flag, active, &context, bucketing);
                let answer = &explained.answer;
                assert_eq!(*answer, evaluate(flag, active, &context, bucketing));
                let right = match (flag.spec.kind(), &answer.value) {
                    (FlagKind::FeatureGate, Value::Bool(_))
                    | (FlagKind::DynamicConfig, Value::Object(_)) => true,
                    (FlagKind::FeatureGate | FlagKind::DynamicConfig, _) => false,
                };
                assert!(right, "{:?} answers {answer:?}", flag.spec.kind());
                let variant = flagd::variant(answer, active);
                assert!(variants.contains(&variant), "{variant} is not delivered: {definition}");
                message(convert::answer_to_wire(&explained, active));
            }
        }
    }
}

/// The names of the variants of a flag as it is delivered, which every reader has to understand.
fn variants_of(definition: &str) -> BTreeSet<String> {
    let json: serde_json::Value = serde_json::from_str(definition).expect("what is sent is JSON");
    let variants = json["variants"].as_object().expect("a flag has variants");
    let default = json["defaultVariant"].as_str().expect("a flag has a default variant");
    assert!(variants.contains_key(default), "{definition}");
    variants.keys().cloned().collect()
}

fn rules_of(spec: &Spec) -> Box<dyn Iterator<Item = &TargetingRule> + '_> {
    match spec {
        Spec::Gate(rules) => Box::new(rules.rules.iter().map(|rule| &rule.targeting)),
        Spec::Config(rules) => Box::new(rules.rules.iter().map(|rule| &rule.targeting)),
    }
}

/// A value of each condition, as the text that it is.
fn texts(conditions: &[&Condition]) -> Object {
    let values = conditions.iter().filter_map(|condition| {
        let text: Arc<str> = match &condition.test {
            Test::In(values)
            | Test::NotIn(values)
            | Test::StartsWith(values)
            | Test::EndsWith(values)
            | Test::Contains(values) => Arc::clone(values.last()?),
            Test::Less(number) | Test::GreaterOrEqual(number) => number.text().into(),
            Test::SemverLess(version) | Test::SemverGreaterOrEqual(version) => {
                version.to_string().into()
            }
            Test::Exists | Test::NotExists => "".into(),
        };
        Some((Arc::clone(&condition.attribute), Value::String(text)))
    });
    let key = (TARGETING_KEY.into(), Value::String("user-1".into()));
    std::iter::once(key).chain(values).collect()
}

/// A value of each condition, as a number or a boolean.
fn numbers(conditions: &[&Condition]) -> Object {
    let value = |condition: &&Condition| {
        let value = match &condition.test {
            Test::Less(number) | Test::GreaterOrEqual(number) => Value::Number(number.value()),
            Test::In(values) | Test::NotIn(values) => {
                let number = values.first().and_then(|value| value.parse::<f64>().ok());
                let number = number.filter(|number| number.is_finite());
                number.map_or(Value::Bool(true), Value::Number)
            }
            Test::StartsWith(_) | Test::EndsWith(_) | Test::Contains(_) => Value::Number(-1e-7),
            Test::SemverLess(_) | Test::SemverGreaterOrEqual(_) => Value::Number(1.5),
            Test::Exists => Value::Null,
            Test::NotExists => Value::List(Vec::new()),
        };
        (Arc::clone(&condition.attribute), value)
    };
    conditions.iter().map(value).collect()
}
