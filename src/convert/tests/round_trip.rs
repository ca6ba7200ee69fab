//! What the server writes, it reads as the same again: random flags, pipelines and releases go out
//! and come back in.

use crate::{
    convert::{self, Detail},
    v1,
};
use phasegate_engine::{
    command::{Action, ConflictPolicy, Expected, FlagChange, PipelineChange, Trigger},
    flag::{Flag, KillSwitch, Rule, Rules, Spec},
    id::{EnvironmentId, FlagId, Group, Principal, ReleaseId, Revision},
    pipeline::{
        ApprovalRequirement, Guard, LONGEST_WAIT, OnFail, PassRequirement, Phase, Pipeline, Quota,
        SelfApproval, Template,
    },
    release::{PhaseProgress, PhaseState, Progress, Proposal, Release, Stage},
    targeting::{BasisPoints, Condition, Number, TargetingRule, Test, is_attribute_name},
    time::{Span, Timestamp},
    value::{Object, Value},
    window::{Blackout, ReleaseWindows, TimeOfDay, Weekly},
};
use proptest::{collection, option, prelude::*, sample};
use prost_types::FieldMask;
use std::{fmt, ops::RangeInclusive, str::FromStr, sync::Arc};

fn parsed<T>(text: &str) -> T
where
    T: FromStr,
    T::Err: fmt::Debug,
{
    text.parse().unwrap()
}

fn id<T>() -> impl Strategy<Value = T>
where
    T: FromStr + fmt::Debug,
    T::Err: fmt::Debug,
{
    "[a-z]([a-z0-9-]{0,61}[a-z0-9])?".prop_map(|text| parsed(&text))
}

fn flag_id() -> impl Strategy<Value = FlagId> {
    "[A-Za-z0-9]([A-Za-z0-9_.-]{0,126}[A-Za-z0-9])?".prop_map(|text| parsed(&text))
}

/// A text of any characters.
fn text(length: RangeInclusive<usize>) -> impl Strategy<Value = Arc<str>> {
    collection::vec(any::<char>(), length).prop_map(|chars| String::from_iter(chars).into())
}

fn attribute() -> impl Strategy<Value = Arc<str>> {
    text(1..=64).prop_filter("JsonLogic cannot name it", |name| is_attribute_name(name))
}

/// Things that each get an id, all different.
fn with_ids<I, T, U>(
    things: impl Strategy<Value = T>,
    count: RangeInclusive<usize>,
    join: fn(I, T) -> U,
) -> impl Strategy<Value = Vec<U>>
where
    I: FromStr + fmt::Debug + Ord,
    I::Err: fmt::Debug,
    T: fmt::Debug,
    U: fmt::Debug,
{
    let by_id = collection::btree_map(id::<I>(), things, count);
    by_id.prop_map(move |by_id| by_id.into_iter().map(|(id, thing)| join(id, thing)).collect())
}

fn ids<I>(count: RangeInclusive<usize>) -> impl Strategy<Value = Vec<I>>
where
    I: FromStr + fmt::Debug + Ord,
    I::Err: fmt::Debug,
{
    with_ids(Just(()), count, |id: I, ()| id)
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    (0..=Timestamp::MAX.as_millis()).prop_map(Timestamp::from_millis)
}

fn span(least: i64) -> impl Strategy<Value = Span> {
    (least..=LONGEST_WAIT.as_millis()).prop_map(Span::from_millis)
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(Value::Number),
        text(0..=8).prop_map(Value::String),
    ];
    leaf.prop_recursive(5, 16, 3, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..3).prop_map(Value::List),
            collection::btree_map(text(0..=3), inner, 0..3).prop_map(Value::Object),
        ]
    })
}

fn object() -> impl Strategy<Value = Object> {
    collection::btree_map(text(0..=3), value(), 0..3)
}

fn number() -> impl Strategy<Value = Number> {
    "[+-]?[0-9]{1,9}(\\.[0-9]{1,5})?([eE]-?[0-9])?".prop_map(|text| Number::parse(&text).unwrap())
}

fn version() -> impl Strategy<Value = semver::Version> {
    "[1-9][0-9]{0,3}\\.0\\.[1-9][0-9]?(-rc\\.[1-9])?(\\+[a-z]{1,4})?".prop_map(|text| parsed(&text))
}

fn test() -> impl Strategy<Value = Test> {
    let values = || collection::vec(text(0..=4), 1..4);
    prop_oneof![
        values().prop_map(Test::In),
        values().prop_map(Test::NotIn),
        values().prop_map(Test::StartsWith),
        values().prop_map(Test::EndsWith),
        values().prop_map(Test::Contains),
        Just(Test::Exists),
        Just(Test::NotExists),
        number().prop_map(Test::Less),
        number().prop_map(Test::GreaterOrEqual),
        version().prop_map(Test::SemverLess),
        version().prop_map(Test::SemverGreaterOrEqual),
    ]
}

/// The parts of a rule but its id.
type RuleBody = (Vec<EnvironmentId>, Vec<Condition>, BasisPoints, Arc<str>);

fn rule_body() -> impl Strategy<Value = RuleBody> {
    let condition =
        (attribute(), test()).prop_map(|(attribute, test)| Condition { attribute, test });
    let share = prop_oneof![Just(10_000), 0..=10_000_u32];
    let share = share.prop_map(|points| BasisPoints::new(points).unwrap());
    let bucket_by = prop_oneof![Just(Arc::from("targetingKey")), attribute()];
    (ids(0..=2), collection::vec(condition, 0..3), share, bucket_by)
}

fn rule(id: phasegate_engine::id::RuleId, body: RuleBody) -> TargetingRule {
    let (environments, conditions, share, bucket_by) = body;
    TargetingRule { id, environments, conditions, share, bucket_by }
}

fn spec() -> impl Strategy<Value = Spec> {
    fn rules<V: fmt::Debug>(
        value: impl Strategy<Value = V>,
    ) -> impl Strategy<Value = Vec<Rule<V>>> {
        with_ids((rule_body(), value), 0..=3, |id, (body, value)| Rule {
            targeting: rule(id, body),
            value,
        })
    }
    prop_oneof![
        (rules(any::<bool>()), any::<bool>())
            .prop_map(|(rules, default)| Spec::Gate(Rules { rules, default })),
        (rules(object()), object())
            .prop_map(|(rules, default)| Spec::Config(Rules { rules, default })),
    ]
}

fn flag() -> impl Strategy<Value = Flag> {
    let kill_switch = prop_oneof![
        text(0..=9).prop_map(|reason| KillSwitch::Lifted { reason }),
        text(0..=9).prop_map(|reason| KillSwitch::Engaged { reason }),
    ];
    let labels = collection::btree_map(text(1..=63), text(0..=256), 0..3);
    let head = (flag_id(), text(0..=20), spec(), option::of(id()), labels);
    (head, kill_switch, revision(), revision(), timestamp()).prop_map(
        |(head, kill_switch, spec_revision, revision, update_time)| {
            let (id, description, spec, pipeline, labels) = head;
            let (spec, labels_revision) = (Arc::new(spec), Revision::ZERO);
            Flag {
                id,
                description,
                spec,
                pipeline,
                labels,
                kill_switch,
                labels_revision,
                spec_revision,
                revision,
                update_time,
            }
        },
    )
}

fn revision() -> impl Strategy<Value = Revision> {
    (1..1_u64 << 53).prop_map(Revision::new)
}

fn time_of_day(last: u16) -> impl Strategy<Value = TimeOfDay> {
    (0..=last).prop_map(|minutes| {
        TimeOfDay::parse(&format!("{:02}:{:02}", minutes / 60, minutes % 60)).unwrap()
    })
}

fn windows() -> impl Strategy<Value = ReleaseWindows> {
    use chrono::Weekday::{Fri, Mon, Sat, Sun, Thu, Tue, Wed};
    let days = sample::subsequence(vec![Mon, Tue, Wed, Thu, Fri, Sat, Sun], 1..=7).prop_shuffle();
    let weekly = (days, time_of_day(1439), time_of_day(1440))
        .prop_map(|(days, start, end)| Weekly { days, start, end });
    let blackout = (timestamp(), timestamp(), text(0..=20))
        .prop_filter("not empty", |(a, b, _)| a != b)
        .prop_map(|(a, b, note)| Blackout { start: a.min(b), end: a.max(b), note });
    let zone = sample::select(chrono_tz::TZ_VARIANTS.as_slice());
    (zone, collection::vec(weekly, 0..3), collection::vec(blackout, 0..3))
        .prop_map(|(zone, weekly, blackouts)| ReleaseWindows { zone, weekly, blackouts })
}

fn approval() -> impl Strategy<Value = ApprovalRequirement> {
    let group = || "[a-zA-Z0-9é/:._-]{1,128}".prop_map(Group::new);
    let quotas = collection::btree_map(group(), 1..=20_u32, 0..=3);
    let reviewers = collection::btree_set(group(), 0..=3);
    let self_approval = prop_oneof![Just(SelfApproval::Allowed), Just(SelfApproval::Forbidden)];
    (1..=20_u32, quotas, reviewers, self_approval, option::of(span(1))).prop_map(
        |(min_approvals, quotas, reviewers, self_approval, expiry)| ApprovalRequirement {
            min_approvals,
            quotas: quotas
                .into_iter()
                .map(|(group, min_approvals)| Quota { group, min_approvals })
                .collect(),
            reviewer_groups: reviewers.into_iter().collect(),
            self_approval,
            expiry,
        },
    )
}

fn phases() -> impl Strategy<Value = Vec<Phase>> {
    let pass = prop_oneof![
        Just(PassRequirement::Optional),
        option::of(span(1)).prop_map(|timeout| PassRequirement::Required { timeout }),
    ];
    let on_fail = prop_oneof![Just(OnFail::Pause), Just(OnFail::Fail)];
    let guards =
        with_ids((pass, on_fail), 0..=3, |id, (pass, on_fail)| Guard { id, pass, on_fail });
    let rules = with_ids(rule_body(), 1..=3, rule);
    let body = (rules, span(0), option::of(approval()), option::of(windows()), guards);
    with_ids(body, 1..=3, |id, (rules, bake, approval, windows, guards)| Phase {
        id,
        rules,
        bake,
        approval,
        windows,
        guards,
    })
}

fn template() -> impl Strategy<Value = Template> {
    (text(0..=20), phases(), ids(0..=3), text(0..=20))
        .prop_map(|(description, phases, exempt_environments, trigger_notice)| Template {
            description,
            phases,
            exempt_environments,
            trigger_notice,
        })
        .prop_map(|mut template| {
            let named = template.phases.iter().flat_map(|phase| &phase.rules);
            let named: Vec<EnvironmentId> =
                named.flat_map(|rule| rule.environments.clone()).collect();
            template.exempt_environments.retain(|environment| !named.contains(environment));
            template
        })
}

fn pipeline() -> impl Strategy<Value = Pipeline> {
    (id(), template(), revision(), timestamp()).prop_map(|(id, template, revision, update_time)| {
        Pipeline { id, template, revision, update_time }
    })
}

fn proposal() -> impl Strategy<Value = Proposal> {
    let labels = collection::btree_map(text(1..=63), text(0..=256), 0..3);
    let head = (id(), flag_id(), pipeline(), spec());
    let rest = (option::of(revision()), labels, text(0..=20), option::of(timestamp()), timestamp());
    (head, rest).prop_map(|((id, flag, pipeline, change), rest)| {
        let (base, labels, description, schedule_time, create_time) = rest;
        Proposal {
            id,
            flag,
            pipeline: Arc::new(pipeline),
            change: Arc::new(change),
            base,
            labels,
            description,
            schedule_time,
            creator: Principal::new("ann"),
            created: Revision::new(1),
            create_time,
        }
    })
}

/// A release that has not started.
fn pending(proposal: Proposal) -> Release {
    let untouched = |phase: &Phase| PhaseProgress {
        state: PhaseState::Pending,
        applied: false,
        bypassed: false,
        enter_time: None,
        apply_time: None,
        end_time: None,
        reviews: [].into(),
        guards: phase.guards.iter().map(|_| Default::default()).collect(),
    };
    let progress = Progress {
        stage: Stage::Pending,
        phases: proposal.pipeline.template.phases.iter().map(untouched).collect(),
        start_time: None,
        revision: proposal.created,
        update_time: proposal.create_time,
        timer_generation: 0,
    };
    Release { proposal: Arc::new(proposal), progress }
}

proptest! {
    #[test]
    fn a_flag_as_it_is_answered_can_be_created_again(flag in flag()) {
        let wire = convert::flag_to_wire(&flag, None);
        let flag_id = flag.id.to_string();
        let request = v1::CreateFlagRequest { flag_id, flag: Some(wire), ..Default::default() };
        let Flag { id, description, spec, pipeline, labels, .. } = flag;
        let action = Action::CreateFlag { flag: id, description, spec, pipeline, labels };
        prop_assert_eq!(convert::create_flag(request).map(|parsed| parsed.action), Ok(action));
    }

    #[test]
    fn a_flag_as_it_is_answered_can_be_sent_back_as_an_update(flag in flag()) {
        let update_mask = Some(FieldMask { paths: vec!["*".to_owned()] });
        let wire = Some(convert::flag_to_wire(&flag, None));
        let request = v1::UpdateFlagRequest { flag: wire, update_mask, ..Default::default() };
        let change = FlagChange {
            description: Some(flag.description),
            spec: Some(flag.spec),
            pipeline: Some(flag.pipeline),
            labels: Some(flag.labels),
        };
        let expected = Expected::Revision(flag.revision);
        let action = Action::UpdateFlag { flag: flag.id, expected, change };
        prop_assert_eq!(convert::update_flag(request).map(|parsed| parsed.action), Ok(action));
    }

    #[test]
    fn a_pipeline_as_it_is_answered_can_be_created_again(pipeline in pipeline()) {
        let request = v1::CreatePipelineRequest {
            pipeline_id: pipeline.id.to_string(),
            pipeline: Some(convert::pipeline_to_wire(&pipeline)),
            ..Default::default()
        };
        let template = Arc::new(pipeline.template);
        let action = Action::CreatePipeline { pipeline: pipeline.id, template };
        prop_assert_eq!(convert::create_pipeline(request).map(|parsed| parsed.action), Ok(action));
    }

    #[test]
    fn a_pipeline_as_it_is_answered_can_be_sent_back_as_an_update(pipeline in pipeline()) {
        let update_mask = Some(FieldMask { paths: vec!["*".to_owned()] });
        let wire = Some(convert::pipeline_to_wire(&pipeline));
        let request = v1::UpdatePipelineRequest { pipeline: wire, update_mask, ..Default::default() };
        let template = pipeline.template;
        let change = PipelineChange {
            description: Some(template.description),
            phases: Some(template.phases),
            exempt_environments: Some(template.exempt_environments),
            trigger_notice: Some(template.trigger_notice),
        };
        let expected = Expected::Revision(pipeline.revision);
        let action = Action::UpdatePipeline { pipeline: pipeline.id, expected, change };
        prop_assert_eq!(convert::update_pipeline(request).map(|parsed| parsed.action), Ok(action));
    }

    #[test]
    fn a_release_as_it_is_answered_can_be_triggered_again(proposal in proposal()) {
        let release = pending(proposal.clone());
        let request = v1::TriggerReleaseRequest {
            release_id: proposal.id.to_string(),
            release: Some(convert::release_to_wire(&release, Detail::Full)),
            ..Default::default()
        };
        let fresh: ReleaseId = parsed("fresh");
        let action = Action::TriggerRelease(Trigger {
            id: proposal.id,
            flag: proposal.flag,
            pipeline: Some(proposal.pipeline.id.clone()),
            change: proposal.change,
            base: proposal.base,
            labels: proposal.labels,
            description: proposal.description,
            schedule_time: proposal.schedule_time,
            conflict_policy: ConflictPolicy::Fail,
        });
        let found = convert::trigger_release(request, fresh).map(|parsed| parsed.action);
        prop_assert_eq!(found, Ok(action));
    }

    #[test]
    fn a_context_comes_in_as_the_object_that_it_is(attributes in object()) {
        let context = super::super::value::object_to_wire(&attributes);
        let request = v1::EvaluateFlagRequest {
            flag: "flags/a".to_owned(),
            environment: "prod".to_owned(),
            context: Some(context),
        };
        let found = convert::evaluate_flag(request).map(|asked| asked.attributes);
        prop_assert_eq!(found, Ok(attributes));
    }
}

#[test]
fn defaults_are_left_out_of_answers() {
    let rule = TargetingRule {
        id: parsed("all"),
        environments: Vec::new(),
        conditions: Vec::new(),
        share: BasisPoints::ALL,
        bucket_by: Arc::from("targetingKey"),
    };
    let phase = Phase {
        id: parsed("canary"),
        rules: vec![rule],
        bake: Span::ZERO,
        approval: None,
        windows: None,
        guards: Vec::new(),
    };
    let template = Template {
        description: Arc::from(""),
        phases: vec![phase],
        exempt_environments: Vec::new(),
        trigger_notice: Arc::from(""),
    };
    let pipeline = Pipeline {
        id: parsed("standard"),
        template,
        revision: Revision::new(1),
        update_time: Timestamp::EPOCH,
    };
    let wire = convert::pipeline_to_wire(&pipeline);
    let rule = v1::TargetingRule { id: "all".to_owned(), ..Default::default() };
    let phase = v1::Phase { id: "canary".to_owned(), rules: vec![rule], ..Default::default() };
    assert_eq!(wire.phases, [phase]);
}
