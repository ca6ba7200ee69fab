//! From the words of the model to those of the engine, and back.

use crate::{
    model::{PhaseStanding, Review, Standing},
    words::{
        self, Act, Call, Cause, End, FlagAct, Group, Kind, Ms, Person, PipelineAct, Policy, Reason,
        Spec, State, Template, Templates, Trigger, Verb, Verdict,
    },
};
use chrono::Weekday;
use phasegate_engine::{
    Refusal, State as Engine, TimerKind,
    command::{self, Action, ConflictPolicy, Expected, FlagChange, Gate, PipelineChange, SwitchTo},
    event::{Actor, Commit, Event, Happened},
    flag::{self, Rule, Rules},
    id::{self as ids, FlagId, PhaseId, PipelineId, Principal, ReleaseId, Revision},
    pipeline::{self, ApprovalRequirement, OnFail, PassRequirement, Quota, SelfApproval},
    refusal::ReleaseRefusal,
    release::{
        EndReason, GuardVerdict, Held, HeldWait, PauseCause, PhaseIndex, PhaseProgress, PhaseState,
        Release, ReleaseState, ReviewVerdict, Stage, Wait,
    },
    targeting::{BasisPoints, TARGETING_KEY, TargetingRule},
    time::{Span, Timestamp},
    value::{Object, Value},
    window::{Blackout, ReleaseWindows, TimeOfDay, Weekly},
};
use std::{collections::BTreeMap, sync::Arc};

/// The environment that a pipeline may exempt.
pub(crate) const STAGING: &str = "staging";
const WEEK: [Weekday; 7] = [
    Weekday::Mon,
    Weekday::Tue,
    Weekday::Wed,
    Weekday::Thu,
    Weekday::Fri,
    Weekday::Sat,
    Weekday::Sun,
];

pub(crate) fn id<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().expect("an id")
}

pub(crate) fn flag_id(number: usize) -> FlagId {
    id(&format!("f{number}"))
}

pub(crate) fn pipeline_id(number: usize) -> PipelineId {
    id(&format!("w{number}"))
}

pub(crate) fn release_id(number: usize) -> ReleaseId {
    id(&format!("r{number}"))
}

fn phase_id(number: usize) -> PhaseId {
    id(&format!("p{number}"))
}

/// The number in a name of a letter and a number.
pub(crate) fn number(name: &str) -> usize {
    name[1..].parse().expect("a name of a story")
}

pub(crate) fn at(ms: Ms) -> Timestamp {
    Timestamp::from_millis(ms)
}

pub(crate) fn span(ms: Ms) -> Span {
    Span::from_millis(ms)
}

pub(crate) fn principal(person: Person) -> Principal {
    Principal::new(format!("u{}", person.0))
}

pub(crate) fn group_of(group: Group) -> ids::Group {
    ids::Group::new(format!("g{}", group.0))
}

fn rule(name: &str, environment: Option<&str>) -> TargetingRule {
    TargetingRule {
        id: id(name),
        environments: environment.map(id).into_iter().collect(),
        conditions: Vec::new(),
        share: BasisPoints::ALL,
        bucket_by: Arc::from(TARGETING_KEY),
    }
}

/// What a config answers for a number.
pub(crate) fn value(number: u8) -> Object {
    Object::from([(Arc::from("n"), Value::Number(f64::from(number)))])
}

fn spec(spec: Spec) -> Arc<flag::Spec> {
    Arc::new(match spec {
        Spec::Gate => flag::Spec::Gate(Rules { rules: Vec::new(), default: true }),
        Spec::Config { all, staging } => {
            let in_staging =
                |number| Rule { targeting: rule("staging", Some(STAGING)), value: value(number) };
            let rules = staging.map(in_staging).into_iter().collect();
            flag::Spec::Config(Rules { rules, default: value(all) })
        }
    })
}

/// A spec of a story, told back.
pub(crate) fn spec_told(spec: &flag::Spec) -> Spec {
    let flag::Spec::Config(rules) = spec else { return Spec::Gate };
    let number_of = |object: &Object| {
        (0..=u8::MAX).find(|number| value(*number) == *object).expect("a value of the story")
    };
    let staging = rules.rules.first().map(|rule| number_of(&rule.value));
    Spec::Config { all: number_of(&rules.default), staging }
}

/// What a call asks of the engine as it stands.
pub(crate) fn action(state: &Engine, templates: &Templates, call: &Call) -> Action {
    match &call.verb {
        Verb::Trigger(wish) => trigger(state, wish),
        Verb::Steer { release, etag, act } => {
            let release = release_id(*release);
            let revision = state.release(&release).map_or(0, |r| r.progress.revision.get());
            let expected = match etag {
                words::Etag::None => Expected::Anything,
                words::Etag::Fresh => Expected::Revision(Revision::new(revision)),
                words::Etag::Stale => Expected::Revision(Revision::new(revision.saturating_sub(1))),
                words::Etag::Foreign => Expected::Unknown,
            };
            steer(release, expected, *act)
        }
        Verb::Flag { flag, act } => flag_action(flag_id(*flag), *act),
        Verb::Pipeline { pipeline, act } => {
            let (pipeline, expected) = (pipeline_id(*pipeline), Expected::Anything);
            match act {
                PipelineAct::Create { template } => {
                    let template = Arc::new(template_of(&templates[*template]));
                    Action::CreatePipeline { pipeline, template }
                }
                PipelineAct::Edit { template } => {
                    let template = template_of(&templates[*template]);
                    let change = PipelineChange {
                        phases: Some(template.phases),
                        exempt_environments: Some(template.exempt_environments),
                        ..PipelineChange::default()
                    };
                    Action::UpdatePipeline { pipeline, expected, change }
                }
                PipelineAct::Delete => Action::DeletePipeline { pipeline, expected },
            }
        }
    }
}

fn trigger(state: &Engine, wish: &Trigger) -> Action {
    let flag = flag_id(wish.flag);
    let settled = state.flag(&flag).map_or(0, |flag| flag.spec_revision.get());
    Action::TriggerRelease(command::Trigger {
        id: release_id(wish.release),
        flag,
        pipeline: wish.pipeline.map(pipeline_id),
        change: spec(wish.change),
        base: match wish.base {
            words::Base::Unchecked => None,
            words::Base::Settled => Some(Revision::new(settled)),
            words::Base::Old => Some(Revision::new(settled.saturating_sub(1))),
        },
        labels: BTreeMap::new(),
        description: Arc::from("a change"),
        schedule_time: wish.schedule.map(at),
        conflict_policy: match wish.policy {
            Policy::Fail => ConflictPolicy::Fail,
            Policy::Queue => ConflictPolicy::Queue,
            Policy::Supersede => ConflictPolicy::Supersede,
        },
    })
}

fn steer(release: ReleaseId, expected: Expected, act: Act) -> Action {
    let gate = |goes_round| if goes_round { Gate::Bypass } else { Gate::Respect };
    match act {
        Act::Approve { phase } => {
            Action::ApprovePhase { release, expected, phase: phase_id(phase) }
        }
        Act::Reject { phase } => Action::RejectPhase { release, expected, phase: phase_id(phase) },
        Act::Pause => Action::PauseRelease { release },
        Act::Unpause => Action::UnpauseRelease { release, expected },
        Act::Skip { phase, bypass } => {
            let (phase, approvals) = (phase_id(phase), gate(bypass));
            Action::SkipPhase { release, expected, phase, approvals }
        }
        Act::Override { phase } => {
            Action::OverrideWindow { release, expected, phase: phase_id(phase) }
        }
        Act::Bake { phase, left } => {
            let (phase, remaining) = (phase_id(phase), span(left));
            Action::AdjustBake { release, expected, phase, remaining }
        }
        Act::Abort => Action::AbortRelease { release },
        Act::Rollout { bypass, override_windows } => {
            let (approvals, windows) = (gate(bypass), gate(override_windows));
            Action::FullRollout { release, expected, approvals, windows }
        }
        Act::Report { phase, guard, verdict } => {
            let (phase, guard) = (phase_id(phase), id(&format!("g{guard}")));
            let verdict = match verdict {
                Verdict::Pass => GuardVerdict::Pass,
                Verdict::Fail => GuardVerdict::Fail,
            };
            Action::ReportGuardSignal { release, phase, guard, verdict }
        }
    }
}

fn flag_action(flag: FlagId, act: FlagAct) -> Action {
    let expected = Expected::Anything;
    match act {
        FlagAct::Create { pipeline } => Action::CreateFlag {
            flag,
            description: Arc::from(""),
            spec: spec(Spec::Config { all: 0, staging: None }),
            pipeline: pipeline.map(pipeline_id),
            labels: Default::default(),
        },
        FlagAct::Kill(true) => Action::SetKillSwitch { flag, switch: SwitchTo::Engaged },
        FlagAct::Kill(false) => Action::SetKillSwitch { flag, switch: SwitchTo::Lifted },
        FlagAct::Edit(new) => {
            let change = FlagChange { spec: Some(spec(new)), ..FlagChange::default() };
            Action::UpdateFlag { flag, expected, change }
        }
        FlagAct::Attach { pipeline } => {
            let pipeline = Some(pipeline.map(pipeline_id));
            let change = FlagChange { pipeline, ..FlagChange::default() };
            Action::UpdateFlag { flag, expected, change }
        }
        FlagAct::Delete => Action::DeleteFlag { flag, expected },
    }
}

fn template_of(template: &Template) -> pipeline::Template {
    let phases = template.phases.iter().enumerate();
    pipeline::Template {
        description: Arc::from(""),
        phases: phases.map(|(index, phase)| phase_of(index, phase)).collect(),
        exempt_environments: template.exempts_staging.then(|| id(STAGING)).into_iter().collect(),
        trigger_notice: Arc::from(""),
    }
}

fn phase_of(index: usize, phase: &words::Phase) -> pipeline::Phase {
    let environment = format!("e{index}");
    let approval = phase.approval.as_ref().map(|approval| ApprovalRequirement {
        min_approvals: u32::try_from(approval.min).expect("a few"),
        quotas: approval
            .quotas
            .iter()
            .map(|(group, min)| Quota {
                group: group_of(*group),
                min_approvals: u32::try_from(*min).expect("a few"),
            })
            .collect(),
        reviewer_groups: approval.reviewers.iter().map(|group| group_of(*group)).collect(),
        self_approval: match approval.allows_self {
            true => SelfApproval::Allowed,
            false => SelfApproval::Forbidden,
        },
        expiry: approval.expiry.map(span),
    });
    let guards = phase.guards.iter().enumerate().map(|(index, guard)| pipeline::Guard {
        id: id(&format!("g{index}")),
        pass: match guard.must_pass {
            true => PassRequirement::Required { timeout: guard.timeout.map(span) },
            false => PassRequirement::Optional,
        },
        on_fail: if guard.fails { OnFail::Fail } else { OnFail::Pause },
    });
    pipeline::Phase {
        id: phase_id(index),
        rules: vec![rule("who", (!phase.everyone).then_some(&environment))],
        bake: span(phase.bake),
        approval,
        windows: phase.window.as_ref().map(windows_of),
        guards: guards.collect(),
    }
}

fn windows_of(window: &words::Window) -> ReleaseWindows {
    let time = |minutes: Ms| {
        TimeOfDay::parse(&format!("{:02}:{:02}", minutes / 60, minutes % 60))
            .expect("a time of day")
    };
    let weekly = window.weekly.iter().map(|(days, start, end)| Weekly {
        days: days.iter().map(|day| WEEK[usize::from(*day)]).collect(),
        start: time(*start),
        end: time(*end),
    });
    let blackouts = window.blackouts.iter().map(|(start, end)| Blackout {
        start: at(*start),
        end: at(*end),
        note: Arc::from(""),
    });
    ReleaseWindows {
        zone: chrono_tz::UTC,
        weekly: weekly.collect(),
        blackouts: blackouts.collect(),
    }
}

/// Why a call was refused.
pub(crate) fn reason(refusal: &Refusal) -> Reason {
    let why = match refusal {
        Refusal::NotFound(_) => return Reason::ResourceNotFound,
        Refusal::Exists(_) => return Reason::ResourceExists,
        Refusal::InvalidField { .. } => return Reason::InvalidField,
        Refusal::StaleEtag { .. } => return Reason::EtagMismatch,
        Refusal::InUse { .. } => return Reason::ResourceInUse,
        Refusal::FlagLocked { .. } => return Reason::FlagLocked,
        Refusal::PipelineRequired { .. } => return Reason::PipelineRequired,
        Refusal::ActiveReleaseExists { .. } => return Reason::ActiveReleaseExists,
        Refusal::QueueFull { .. } => return Reason::QueueFull,
        Refusal::BaseChanged { .. } => return Reason::BaseChanged,
        Refusal::NoChange { .. } => return Reason::NoChange,
        Refusal::Release { why, .. } => why,
    };
    let numbers = |phases: &[PhaseId]| phases.iter().map(|id| number(id.as_str())).collect();
    match why {
        ReleaseRefusal::NoSuchPart(_) => Reason::ResourceNotFound,
        ReleaseRefusal::StaleEtag => Reason::EtagMismatch,
        ReleaseRefusal::Over => Reason::ReleaseOver,
        ReleaseRefusal::NotStarted => Reason::ReleaseNotStarted,
        ReleaseRefusal::Paused => Reason::ReleasePaused,
        ReleaseRefusal::AlreadyPaused => Reason::AlreadyPaused,
        ReleaseRefusal::NotPaused => Reason::NotPaused,
        ReleaseRefusal::PhaseNotCurrent(_) => Reason::PhaseNotCurrent,
        ReleaseRefusal::PhaseNotAwaitingApproval(_) => Reason::PhaseNotAwaitingApproval,
        ReleaseRefusal::PhaseNotAwaitingWindow(_) => Reason::PhaseNotAwaitingWindow,
        ReleaseRefusal::PhaseNotBaking(_) => Reason::PhaseNotBaking,
        ReleaseRefusal::NotAnApprover(_) => Reason::NotAnApprover,
        ReleaseRefusal::SelfApproval => Reason::SelfApproval,
        ReleaseRefusal::AlreadyReviewed(_) => Reason::AlreadyReviewed,
        ReleaseRefusal::ApprovalPending(phases) => Reason::ApprovalPending(numbers(phases)),
        ReleaseRefusal::WindowClosed(phases) => Reason::WindowClosed(numbers(phases)),
    }
}

pub(crate) fn kind(kind: TimerKind) -> Kind {
    match kind {
        TimerKind::Start => Kind::Start,
        TimerKind::Expiry => Kind::Expiry,
        TimerKind::Window => Kind::Window,
        TimerKind::Bake => Kind::Bake,
        TimerKind::Guard => Kind::Guard,
    }
}

/// The public log of a commit.
pub(crate) fn events(commit: &Commit) -> Vec<words::Event> {
    let told = commit.events.iter().filter_map(|event| match event {
        Event::Release(event) => Some(words::Event {
            release: number(event.release.as_str()),
            name: event_name(&event.happened),
            phase: event.phase().map(PhaseIndex::get),
            actor: match &event.actor {
                Actor::Engine => None,
                Actor::Principal(principal) => Some(Person(number(principal.as_str()))),
            },
            timer: timer_record(&event.happened),
        }),
        Event::FlagStored(_)
        | Event::FlagDeleted(_)
        | Event::PipelineStored(_)
        | Event::PipelineDeleted(_)
        | Event::ReleaseCreated(_) => None,
    });
    told.collect()
}

/// When a timer was to do what happened, and how late it was.
fn timer_record(happened: &Happened) -> Option<(Ms, Ms)> {
    let record = match happened {
        Happened::Started { timer }
        | Happened::WindowOpened { timer, .. }
        | Happened::BakeElapsed { timer, .. }
        | Happened::GuardReported { timer, .. }
        | Happened::PhaseSucceeded { timer, .. }
        | Happened::Failed { timer, .. } => *timer,
        Happened::Triggered
        | Happened::PhaseEntered { .. }
        | Happened::ApprovalRecorded { .. }
        | Happened::ApprovalRejected { .. }
        | Happened::WindowRescheduled { .. }
        | Happened::WindowOverridden { .. }
        | Happened::PhaseApplied { .. }
        | Happened::BakeAdjusted { .. }
        | Happened::PhaseSkipped { .. }
        | Happened::Paused { .. }
        | Happened::Unpaused { .. }
        | Happened::Succeeded { .. }
        | Happened::Aborted { .. } => None,
    };
    record.map(|record| (record.scheduled_for.as_millis(), record.late.as_millis()))
}

fn event_name(happened: &Happened) -> &'static str {
    match happened {
        Happened::Triggered => "TRIGGERED",
        Happened::Started { .. } => "STARTED",
        Happened::PhaseEntered { .. } => "PHASE_ENTERED",
        Happened::ApprovalRecorded { .. } => "APPROVAL_RECORDED",
        Happened::ApprovalRejected { .. } => "APPROVAL_REJECTED",
        Happened::WindowOpened { .. } => "WINDOW_OPENED",
        Happened::WindowRescheduled { .. } => "WINDOW_RESCHEDULED",
        Happened::WindowOverridden { .. } => "WINDOW_OVERRIDDEN",
        Happened::PhaseApplied { .. } => "PHASE_APPLIED",
        Happened::BakeElapsed { .. } => "BAKE_ELAPSED",
        Happened::BakeAdjusted { .. } => "BAKE_ADJUSTED",
        Happened::GuardReported { .. } => "GUARD_REPORTED",
        Happened::PhaseSucceeded { .. } => "PHASE_SUCCEEDED",
        Happened::PhaseSkipped { .. } => "PHASE_SKIPPED",
        Happened::Paused { .. } => "PAUSED",
        Happened::Unpaused { .. } => "UNPAUSED",
        Happened::Succeeded { .. } => "SUCCEEDED",
        Happened::Aborted { .. } => "ABORTED",
        Happened::Failed { .. } => "FAILED",
    }
}

/// Where a release stands.
pub(crate) fn standing(release: &Release) -> Standing {
    let progress = &release.progress;
    let mut told = Standing {
        state: state(release.state()),
        held: release.held_state().map(state),
        cause: None,
        phase: release.current().map(PhaseIndex::get),
        end: release.end_reason().map(end),
        until: None,
        left: None,
        elapsed: None,
        since: None,
        phases: progress.phases.iter().map(phase_standing).collect(),
        started: progress.start_time.map(Timestamp::as_millis),
        updated: progress.update_time.as_millis(),
        revision: progress.revision.get(),
    };
    match &progress.stage {
        Stage::Running { wait, .. } => match wait {
            Wait::Approval { expires: until } | Wait::Window { opens: until } => {
                told.until = until.map(Timestamp::as_millis);
            }
            Wait::Bake { ends } => told.until = Some(ends.as_millis()),
            Wait::Guards { ended, since } => {
                told.elapsed = Some(ended.as_millis());
                told.since = Some(since.as_millis());
            }
        },
        Stage::Paused { held, by } => {
            told.cause = Some(match &by.cause {
                PauseCause::Requested => Cause::Requested,
                PauseCause::Guard(guard) => Cause::Guard(number(guard.as_str())),
                PauseCause::Overdue(late) => Cause::Overdue(late.as_millis()),
            });
            if let Held::Running { wait, .. } = held {
                match wait {
                    HeldWait::Approval { remaining } => told.left = remaining.map(Span::as_millis),
                    HeldWait::Bake { remaining } => told.left = Some(remaining.as_millis()),
                    HeldWait::Guards { ended } => told.elapsed = Some(ended.as_millis()),
                    HeldWait::Window => {}
                }
            }
        }
        Stage::Pending | Stage::Over { .. } => {}
    }
    told
}

fn phase_standing(phase: &PhaseProgress) -> PhaseStanding {
    let groups = |groups: &[ids::Group]| groups.iter().map(|g| Group(number(g.as_str()))).collect();
    let reviews = phase.reviews.iter().map(|review| Review {
        who: Person(number(review.principal.as_str())),
        approves: review.verdict == ReviewVerdict::Approved,
        groups: groups(&review.groups),
    });
    let verdicts = phase.guards.iter().map(|guard| {
        guard.verdict.map(|verdict| match verdict {
            GuardVerdict::Pass => Verdict::Pass,
            GuardVerdict::Fail => Verdict::Fail,
        })
    });
    PhaseStanding {
        state: match phase.state {
            PhaseState::Pending => words::PhaseState::Pending,
            PhaseState::AwaitingApproval => words::PhaseState::AwaitingApproval,
            PhaseState::AwaitingWindow => words::PhaseState::AwaitingWindow,
            PhaseState::Baking => words::PhaseState::Baking,
            PhaseState::Succeeded => words::PhaseState::Succeeded,
            PhaseState::Skipped => words::PhaseState::Skipped,
            PhaseState::Aborted => words::PhaseState::Aborted,
            PhaseState::Failed => words::PhaseState::Failed,
            PhaseState::Cancelled => words::PhaseState::Cancelled,
        },
        applied: phase.applied,
        bypassed: phase.bypassed,
        entered: phase.enter_time.map(Timestamp::as_millis),
        applied_at: phase.apply_time.map(Timestamp::as_millis),
        ended: phase.end_time.map(Timestamp::as_millis),
        reviews: reviews.collect(),
        verdicts: verdicts.collect(),
    }
}

fn state(state: ReleaseState) -> State {
    match state {
        ReleaseState::Pending => State::Pending,
        ReleaseState::AwaitingApproval => State::AwaitingApproval,
        ReleaseState::AwaitingWindow => State::AwaitingWindow,
        ReleaseState::Baking => State::Baking,
        ReleaseState::Paused => State::Paused,
        ReleaseState::Succeeded => State::Succeeded,
        ReleaseState::Aborted => State::Aborted,
        ReleaseState::Failed => State::Failed,
    }
}

fn end(reason: EndReason) -> End {
    match reason {
        EndReason::AllPhasesDone => End::AllPhasesDone,
        EndReason::FullRollout => End::FullRollout,
        EndReason::AbortRequested => End::AbortRequested,
        EndReason::ApprovalRejected => End::ApprovalRejected,
        EndReason::Superseded => End::Superseded,
        EndReason::ApprovalExpired => End::ApprovalExpired,
        EndReason::GuardFailed => End::GuardFailed,
        EndReason::BaseChanged => End::BaseChanged,
    }
}
