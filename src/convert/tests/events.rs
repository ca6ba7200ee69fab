//! What the entries of the log look like on the wire.

use super::story::{Story, plain};
use crate::{convert::events_to_wire, v1::ReleaseEventType as Type};
use phasegate_engine::{
    event::{Actor, Bypass, Change, Happened, ReleaseEvent, TimerRecord},
    id::{Group, GuardId, Principal, RequestId, Revision},
    release::{EndReason, GuardVerdict, Held, HeldWait, PauseCause, PhaseIndex, Wait},
    time::{Span, Timestamp},
};

/// An entry of the log of a release that bakes its phase `canary`.
fn change(actor: Actor, request_id: Option<RequestId>, happened: Happened) -> Change {
    let story = Story::triggered(vec![plain("canary")]);
    let release = story.release();
    let event = ReleaseEvent {
        release: release.id().clone(),
        ordinal: 4,
        actor,
        reason: "because".into(),
        request_id,
        happened,
    };
    let revision = Revision::new(17);
    Change {
        revision,
        time: Timestamp::from_millis(5_250),
        before: None,
        release,
        events: vec![event],
        trace: None,
    }
}

#[test]
fn an_event_says_who_did_it_when_and_in_which_call() {
    let by = Actor::Principal(Principal::new("bob"));
    let happened = Happened::Started { timer: None };
    let events = events_to_wire(&change(by, Some(RequestId::new("q1")), happened.clone()));
    let [event] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(event.name, "releases/r1/events/17-4");
    assert_eq!(event.revision, 17);
    let time = event.event_time.unwrap();
    assert_eq!((time.seconds, time.nanos), (5, 250_000_000));
    let actor = event.actor.as_ref().unwrap();
    assert_eq!((actor.engine, actor.principal.as_str()), (false, "bob"));
    assert_eq!((event.reason.as_str(), event.request_id.as_str()), ("because", "q1"));
    assert_eq!(event.state(), crate::v1::ReleaseState::Baking);

    let events = events_to_wire(&change(Actor::Engine, None, happened));
    let actor = events[0].actor.as_ref().unwrap();
    assert_eq!((actor.engine, actor.principal.as_str()), (true, ""));
    assert_eq!(events[0].request_id, "");
}

#[test]
fn an_event_of_a_call_that_belongs_to_a_trace_says_which() {
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let by = Actor::Principal(Principal::new("bob"));
    let untraced = change(by, None, Happened::Triggered);
    let traced = Change { trace: Some(trace.into()), ..untraced.clone() };
    let details = |change| events_to_wire(change)[0].details.clone();
    assert_eq!(details(&traced).get("traceparent").map(String::as_str), Some(trace));
    assert!(!details(&untraced).contains_key("traceparent"));
    assert_eq!(details(&traced).len(), details(&untraced).len() + 1);
}

/// Asserts the type, the phase and the details of an event, written as `key=value` by key, with a
/// `!` in front if something was bypassed.
fn check(happened: Happened, event_type: Type, phase: &str, details: &str) {
    let name = happened.name();
    let events = events_to_wire(&change(Actor::Engine, None, happened));
    let event = &events[0];
    assert_eq!(event.event_type(), event_type);
    assert_eq!(event_type.as_str_name().trim_start_matches("RELEASE_EVENT_TYPE_"), name);
    assert_eq!(event.phase_id, phase, "{event_type:?}");
    let bypass = event.bypass.then(|| "!".to_owned());
    let pairs = event.details.iter().map(|(key, value)| format!("{key}={value}"));
    let found: Vec<String> = bypass.into_iter().chain(pairs).collect();
    assert_eq!(found.join(" "), details, "{event_type:?}");
}

#[test]
fn everything_that_happens_has_a_type_a_phase_and_details() {
    let phase = PhaseIndex::FIRST;
    let at = Timestamp::from_millis(1_000);
    let timer =
        Some(TimerRecord { scheduled_for: Timestamp::EPOCH, late: Span::from_millis(1_500) });
    let late = "lateMs=1500 scheduledFor=1970-01-01T00:00:00.000Z";
    let groups = || vec![Group::new("sre"), Group::new("payments")];

    check(Happened::Triggered, Type::Triggered, "", "pipeline=pipelines/standard");
    check(Happened::Started { timer: None }, Type::Started, "", "");
    check(Happened::Started { timer }, Type::Started, "", late);
    let wait = Some(Wait::Approval { expires: None });
    check(Happened::PhaseEntered { phase, wait }, Type::PhaseEntered, "canary", "");
    check(
        Happened::ApprovalRecorded { phase, groups: groups(), then: None },
        Type::ApprovalRecorded,
        "canary",
        "groups=sre,payments",
    );
    check(
        Happened::ApprovalRecorded { phase, groups: Vec::new(), then: None },
        Type::ApprovalRecorded,
        "canary",
        "",
    );
    check(
        Happened::ApprovalRejected { phase, groups: groups() },
        Type::ApprovalRejected,
        "canary",
        "groups=sre,payments",
    );
    check(Happened::WindowOpened { phase, timer }, Type::WindowOpened, "canary", late);
    check(
        Happened::WindowRescheduled { phase, opens: Some(at) },
        Type::WindowRescheduled,
        "canary",
        "",
    );
    check(Happened::WindowOverridden { phase }, Type::WindowOverridden, "canary", "!");
    check(Happened::PhaseApplied { phase, bake_ends: at }, Type::PhaseApplied, "canary", "");
    check(Happened::BakeElapsed { phase, ended: at, timer }, Type::BakeElapsed, "canary", late);
    check(
        Happened::BakeAdjusted { phase, remaining: Span::from_secs(300), ends: Some(at) },
        Type::BakeAdjusted,
        "canary",
        "bakeRemaining=300s",
    );
    let guard = GuardId::parse("latency").unwrap();
    for (verdict, text) in [(GuardVerdict::Pass, "PASS"), (GuardVerdict::Fail, "FAIL")] {
        check(
            Happened::GuardReported { phase, guard: guard.clone(), verdict, timer: None },
            Type::GuardReported,
            "canary",
            &format!("guardId=latency verdict={text}"),
        );
    }
    let timed_out =
        Happened::GuardReported { phase, guard: guard.clone(), verdict: GuardVerdict::Fail, timer };
    let details = format!("guardId=latency {late} verdict=FAIL");
    check(timed_out, Type::GuardReported, "canary", &details);
    check(Happened::PhaseSucceeded { phase, timer }, Type::PhaseSucceeded, "canary", late);
    check(Happened::PhaseSkipped { phase, bypass: Bypass::None }, Type::PhaseSkipped, "canary", "");
    check(
        Happened::PhaseSkipped { phase, bypass: Bypass::OnRecord },
        Type::PhaseSkipped,
        "canary",
        "!",
    );
    let held = Held::Running { phase, wait: HeldWait::Window };
    let paused = |held, cause| Happened::Paused { held, cause };
    check(paused(Held::Pending, PauseCause::Requested), Type::Paused, "", "");
    check(paused(held, PauseCause::Guard(guard)), Type::Paused, "canary", "guardId=latency");
    let overdue = PauseCause::Overdue(Span::from_secs(3600));
    check(paused(held, overdue), Type::Paused, "canary", "overdueMs=3600000");
    check(Happened::Unpaused { to: None }, Type::Unpaused, "", "");
}

#[test]
fn the_last_event_says_why_a_release_ended() {
    let succeeded = |reason| Happened::Succeeded { reason };
    let aborted = |reason| Happened::Aborted { reason };
    let failed = |reason| Happened::Failed { reason, timer: None };
    let check = |happened, event_type, reason: &str| {
        check(happened, event_type, "", &format!("endReason={reason}"));
    };
    check(succeeded(EndReason::AllPhasesDone), Type::Succeeded, "ALL_PHASES_DONE");
    check(succeeded(EndReason::FullRollout), Type::Succeeded, "FULL_ROLLOUT");
    check(aborted(EndReason::AbortRequested), Type::Aborted, "ABORT_REQUESTED");
    check(aborted(EndReason::ApprovalRejected), Type::Aborted, "APPROVAL_REJECTED");
    check(aborted(EndReason::Superseded), Type::Aborted, "SUPERSEDED");
    check(failed(EndReason::ApprovalExpired), Type::Failed, "APPROVAL_EXPIRED");
    check(failed(EndReason::GuardFailed), Type::Failed, "GUARD_FAILED");
    check(failed(EndReason::BaseChanged), Type::Failed, "BASE_CHANGED");
}
