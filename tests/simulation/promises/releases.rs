//! What a commit may do to releases and flags.

use super::{Broken, Step, Verdict};
use phasegate_engine::{
    command::{Action, Gate},
    environment,
    event::{Actor, Happened},
    flagd,
    id::{EnvironmentId, FlagId},
    pipeline::SelfApproval,
    release::{PhaseState, Release, ReleaseState, ReviewVerdict},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub(crate) fn revisions_have_no_gap(step: Step<'_>) -> Verdict {
    let revision = step.record.revision;
    let before = step.before.revision();
    hold!(revisions_have_no_gap, revision == before.next(), "{revision} follows on {before}");
    for change in &step.record.changes {
        let of_release = change.release.progress.revision;
        let fits = change.revision == revision && of_release == revision;
        hold!(revisions_have_no_gap, fits, "{of_release} in {revision}");
    }
    Ok(())
}

pub(crate) fn event_times_never_go_back(step: Step<'_>) -> Verdict {
    let expected = step.wall.max(step.before.time());
    let time = step.record.time;
    hold!(event_times_never_go_back, time == expected, "{time}, the clock says {}", step.wall);
    Ok(())
}

/// `after` was made by applying the events of the record and nothing else.
pub(crate) fn a_state_is_the_fold_of_its_events(step: Step<'_>) -> Verdict {
    for (before, release, change) in step.motions() {
        let folded = step.after.release(release.id());
        let same = folded.is_some_and(|folded| **folded == *release);
        hold!(a_state_is_the_fold_of_its_events, same, "{release:?} is stored, not {folded:?}");
        let state = before.map(|before| before.state());
        hold!(a_state_is_the_fold_of_its_events, change.before == state, "{:?}", change.before);
    }
    Ok(())
}

pub(crate) fn what_is_over_stays_over(step: Step<'_>) -> Verdict {
    for (before, release, change) in step.motions() {
        let was_over = before.is_some_and(|before| before.is_over());
        hold!(what_is_over_stays_over, !was_over, "{}: {:?}", release.id(), change.events);
    }
    Ok(())
}

pub(crate) fn phases_go_in_order(step: Step<'_>) -> Verdict {
    for (before, release, change) in step.motions() {
        let Some(before) = before else { continue };
        let id = release.id();
        let (was, is) = (before.current(), release.current());
        hold!(phases_go_in_order, is >= was || is.is_none(), "{id} from {was:?} to {is:?}");
        let phases = before.progress.phases.iter().zip(&release.progress.phases).enumerate();
        for (index, (was, is)) in phases {
            if is.state == was.state {
                continue;
            }
            let told = change.events.iter().any(|event| {
                let here = event.phase().is_some_and(|phase| phase.get() == index);
                let by_hand = matches!(event.actor, Actor::Principal(_));
                match is.state {
                    PhaseState::Succeeded => {
                        here && matches!(event.happened, Happened::PhaseSucceeded { .. })
                    }
                    PhaseState::Skipped => {
                        let skipped = matches!(event.happened, Happened::PhaseSkipped { .. });
                        here && by_hand && skipped
                    }
                    PhaseState::Pending => false,
                    PhaseState::AwaitingApproval
                    | PhaseState::AwaitingWindow
                    | PhaseState::Baking => here || release.is_active(),
                    PhaseState::Aborted | PhaseState::Failed | PhaseState::Cancelled => {
                        release.is_over()
                    }
                }
            });
            hold!(phases_go_in_order, told, "{id}: {was:?} became {is:?} by {:?}", change.events);
        }
        if let Some(current) = is {
            let done =
                |state: PhaseState| matches!(state, PhaseState::Succeeded | PhaseState::Skipped);
            let left = &release.progress.phases[..current.get()];
            let in_order = left.iter().all(|phase| done(phase.state));
            hold!(phases_go_in_order, in_order, "{id} is at {current:?} and left {left:?}");
        }
    }
    Ok(())
}

pub(crate) fn exposure_grows_by_applying_and_shrinks_by_ending(step: Step<'_>) -> Verdict {
    for (before, release, change) in step.motions() {
        let id = release.id();
        let reverted = matches!(release.state(), ReleaseState::Aborted | ReleaseState::Failed);
        for (index, phase) in release.progress.phases.iter().enumerate() {
            let was_applied = before.is_some_and(|before| before.progress.phases[index].applied);
            let (grows, shrinks) = (phase.applied && !was_applied, was_applied && !phase.applied);
            let told = change.events.iter().any(|event| {
                matches!(&event.happened, Happened::PhaseApplied { phase, .. } if phase.get() == index)
            });
            hold!(
                exposure_grows_by_applying_and_shrinks_by_ending,
                (!grows || told) && (!shrinks || reverted) && !(phase.applied && reverted),
                "{id}, phase {index}: applied {was_applied} then {}, {:?}",
                phase.applied,
                change.events
            );
        }
    }
    Ok(())
}

/// Approvals that a phase lacks, counted from the reviews by the words of the contract.
fn missing(release: &Release, phase: usize) -> usize {
    let Some(requirement) = &release.phases()[phase].approval else { return 0 };
    let reviews = &release.progress.phases[phase].reviews;
    let approvals: BTreeMap<_, _> = reviews
        .iter()
        .filter(|review| review.verdict == ReviewVerdict::Approved)
        .map(|review| (&review.principal, &review.groups))
        .collect();
    let mut missing = (requirement.min_approvals as usize).saturating_sub(approvals.len());
    for quota in &requirement.quotas {
        let from = approvals.values().filter(|groups| groups.contains(&quota.group)).count();
        missing = missing.max((quota.min_approvals as usize).saturating_sub(from));
    }
    missing
}

pub(crate) fn a_phase_is_applied_only_with_its_approvals(step: Step<'_>) -> Verdict {
    for (_, release, change) in step.motions() {
        for event in &change.events {
            if let Happened::PhaseApplied { phase, .. } = &event.happened {
                let missing = missing(release, phase.get());
                hold!(
                    a_phase_is_applied_only_with_its_approvals,
                    missing == 0,
                    "{} applied {phase:?}, {missing} approvals short",
                    release.id()
                );
            }
        }
    }
    Ok(())
}

pub(crate) fn an_approval_is_given_by_who_may_and_once(step: Step<'_>) -> Verdict {
    for (before, release, change) in step.motions() {
        for event in &change.events {
            let Happened::ApprovalRecorded { phase, .. } = &event.happened else { continue };
            let index = phase.get();
            let (Some(requirement), Some(asked)) = (&release.phases()[index].approval, step.asked)
            else {
                hold!(an_approval_is_given_by_who_may_and_once, false, "nobody gave {event:?}");
                continue;
            };
            let caller = &asked.submission.call.caller;
            let forbidden = requirement.self_approval == SelfApproval::Forbidden;
            let own = release.proposal.creator == caller.principal;
            let earlier = before.is_some_and(|before| {
                let mut reviews = before.progress.phases[index].reviews.iter();
                reviews.any(|review| review.principal == caller.principal)
            });
            let groups = &requirement.reviewer_groups;
            let member =
                groups.is_empty() || groups.iter().any(|group| caller.groups.contains(group));
            hold!(
                an_approval_is_given_by_who_may_and_once,
                member && !(earlier || forbidden && own),
                "{event:?} by {caller:?} under {requirement:?}"
            );
        }
    }
    Ok(())
}

pub(crate) fn going_round_an_approval_is_on_record(step: Step<'_>) -> Verdict {
    for (before, release, change) in step.motions() {
        let Some(before) = before else { continue };
        for event in &change.events {
            let Happened::PhaseSkipped { phase, .. } = &event.happened else { continue };
            let index = phase.get();
            let was = &before.progress.phases[index];
            if was.applied || missing(before, index) == 0 {
                continue;
            }
            let asked_for = step.asked.is_some_and(|asked| {
                matches!(
                    &asked.submission.call.action,
                    Action::SkipPhase { approvals: Gate::Bypass, .. }
                        | Action::FullRollout { approvals: Gate::Bypass, .. }
                )
            });
            let on_record = release.progress.phases[index].bypassed;
            hold!(
                going_round_an_approval_is_on_record,
                asked_for && on_record,
                "{} left {phase:?} without approval: {event:?}",
                release.id()
            );
        }
    }
    Ok(())
}

pub(crate) fn a_flag_changes_by_a_success_or_by_hand(step: Step<'_>) -> Verdict {
    for flag in step.after.flags() {
        let Some(was) = step.before.flag(&flag.id) else { continue };
        if Arc::ptr_eq(was, flag) || was.spec == flag.spec {
            continue;
        }
        let by_hand = step.asked.is_some_and(|asked| {
            matches!(&asked.submission.call.action, Action::UpdateFlag { flag: of, .. } if *of == flag.id)
        });
        let by_success = step.motions().any(|(_, release, _)| {
            release.proposal.flag == flag.id
                && release.state() == ReleaseState::Succeeded
                && release.proposal.change == flag.spec
        });
        hold!(
            a_flag_changes_by_a_success_or_by_hand,
            by_hand || by_success,
            "{} became {:?} by {:?}",
            flag.id,
            flag.spec,
            step.commit
        );
    }
    for (_, release, _) in step.motions() {
        let flag = &release.proposal.flag;
        let settles = |(_, other, _): (_, &Release, _)| {
            other.proposal.flag == *flag
                && other.state() == ReleaseState::Succeeded
                && step.after.flag(flag).is_some_and(|flag| flag.spec == other.proposal.change)
        };
        // In one commit several may succeed one after the other, and the last one counts.
        let settled = release.state() != ReleaseState::Succeeded || step.motions().any(settles);
        hold!(a_flag_changes_by_a_success_or_by_hand, settled, "{} is lost", release.id());
    }
    Ok(())
}

pub(crate) fn a_flag_has_one_active_release(step: Step<'_>) -> Verdict {
    for flag in step.after.flags() {
        let unfinished = step.after.unfinished(&flag.id);
        let active: Vec<_> = unfinished.filter(|release| release.is_active()).collect();
        hold!(a_flag_has_one_active_release, active.len() <= 1, "{}: {active:?}", flag.id);
    }
    Ok(())
}

/// What a flag may come to as it is delivered is counted when it is changed and when a release is
/// triggered. Nothing that happens afterwards by itself may go beyond.
pub(crate) fn a_delivered_flag_stays_within_what_was_counted(step: Step<'_>) -> Verdict {
    let nowhere = EnvironmentId::parse("nowhere").expect("it is an id");
    let mut environments = environment::environments(step.after);
    environments.insert(nowhere);
    let flags: BTreeSet<&FlagId> =
        step.motions().map(|(_, release, _)| &release.proposal.flag).collect();
    for flag in flags.into_iter().filter_map(|id| step.after.flag(id)) {
        let counted = flagd::flag_bytes_max(step.after, &flag.id);
        let active = step.after.active_release(&flag.id).map(|release| &**release);
        for environment in &environments {
            let definition = flagd::definition(flag, active, environment);
            let fits = flag.id.as_str().len() + definition.len() <= counted;
            hold!(a_delivered_flag_stays_within_what_was_counted, fits, "{counted}: {definition}");
        }
    }
    Ok(())
}

pub(crate) fn every_event_says_who_did_it(step: Step<'_>) -> Verdict {
    for (_, release, change) in step.motions() {
        for (place, event) in change.events.iter().enumerate() {
            let right = match (&event.actor, step.asked) {
                (Actor::Engine, _) => event.request_id.is_none(),
                (Actor::Principal(principal), Some(asked)) => {
                    let call = &asked.submission.call;
                    // A trigger has a description in place of a reason.
                    let triggers = matches!(call.action, Action::TriggerRelease(_));
                    *principal == call.caller.principal
                        && event.request_id == call.request_id
                        && (event.reason == call.reason || triggers)
                }
                (Actor::Principal(_), None) => false,
            };
            let right = right && event.ordinal as usize == place && event.release == *release.id();
            hold!(every_event_says_who_did_it, right, "{event:?}, asked by {:?}", step.asked);
        }
        let about = step
            .asked
            .is_some_and(|asked| asked.submission.call.action.release() == Some(release.id()));
        let by_hand = change.events.iter().any(|e| e.actor != Actor::Engine);
        hold!(every_event_says_who_did_it, !about || by_hand, "{:?}", change.events);
    }
    Ok(())
}
