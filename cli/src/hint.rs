//! What to do after a refusal: for each reason one line, with the command to run if there is one.

use phasegate_client::{Code, Error, Reason};

/// What to do next, if anything can be said.
pub(crate) fn next_step(error: &Error) -> Option<String> {
    let fact = |key: &str| error.metadata.get(key).map(String::as_str).filter(|s| !s.is_empty());
    let release = fact("release").unwrap_or("RELEASE");
    let phase = fact("phaseId").unwrap_or("PHASE");
    let phases = fact("phaseIds").unwrap_or(phase);
    let first = phases.split(',').next().unwrap_or(phase);
    let active = fact("activeRelease").unwrap_or("RELEASE");
    let look = format!("look at it with `phasegate release get {release}`");
    Some(match &error.reason {
        Reason::None if error.is_unreachable() => {
            "start one with `phasegate serve --data DIR`, or say where it is with --address, \
             PHASEGATE_ADDRESS or --context"
                .to_owned()
        }
        _ if error.code == Code::Unauthenticated => {
            "say who you are: --token-file FILE, PHASEGATE_TOKEN, --cert with --key, or a context that \
             has one (`phasegate context show` says which is meant); the log of the server, at debug, says \
             what is wrong with one that is refused"
                .to_owned()
        }
        Reason::None if error.code == Code::PermissionDenied => {
            "you are known, and may not do this: ask who keeps the server's policy".to_owned()
        }
        Reason::None if error.code == Code::Unimplemented => {
            "the server does not offer this; the clock is offered by a rehearsal only, \
             `phasegate serve --clock manual`"
                .to_owned()
        }
        Reason::ReasonRequired => "say why, with --reason TEXT".to_owned(),
        Reason::RequestIdReused => "leave --request-id out, or take another".to_owned(),
        Reason::ResourceNotFound => return not_found(fact("resource")?),
        Reason::ResourceExists => "take another name, or leave --id out".to_owned(),
        Reason::EtagMismatch => "it changed meanwhile: look at it again, then decide".to_owned(),
        Reason::SelfApproval => format!(
            "somebody else has to: `phasegate release approve {release} {phase} --as PRINCIPAL`"
        ),
        Reason::NotAnApprover => format!(
            "a member of the phase's reviewer groups has to, and says so with --groups; \
             `phasegate release get {release} -o yaml` lists them"
        ),
        Reason::ResourceInUse => format!("look at `{}` first", fact("referrer")?),
        Reason::FlagLocked => {
            format!("wait for {active} (`phasegate release watch {active}`), or abort it")
        }
        Reason::PipelineRequired => match fact("pipeline") {
            Some(pipeline) => format!(
                "changes of this flag are released along {pipeline}: write a document with \
                 `kind: Release` and run `phasegate release trigger -f FILE`"
            ),
            None => "name a pipeline in the release, or attach one to the flag".to_owned(),
        },
        Reason::ActiveReleaseExists => format!(
            "wait for {active}, or trigger with --on-conflict queue (behind it) or supersede \
             (instead of it)"
        ),
        Reason::QueueFull => {
            "abort one that waits; `phasegate release list --state pending` has them".to_owned()
        }
        Reason::BaseChanged => {
            "look at the flag again, and make the change from what it is now".to_owned()
        }
        Reason::ReleaseOver => "it is final; to undo a change, trigger a new release".to_owned(),
        Reason::ReleaseNotStarted => format!("it has not started: {look}"),
        Reason::ReleasePaused => {
            format!("lift the hold first: `phasegate release unpause {release}`")
        }
        Reason::AlreadyPaused
        | Reason::NotPaused
        | Reason::PhaseNotAwaitingApproval
        | Reason::PhaseNotAwaitingWindow
        | Reason::PhaseNotBaking => look,
        Reason::PhaseNotCurrent => match fact("phaseId") {
            Some(current) => format!("the current phase is `{current}`; {look}"),
            None => look,
        },
        Reason::AlreadyReviewed => "somebody else has to approve too".to_owned(),
        Reason::ApprovalPending => format!(
            "`phasegate release approve {release} {first}`, or go round it with \
             --bypass-approval --reason TEXT (approvals are missing for {phases})"
        ),
        Reason::WindowClosed => format!(
            "wait for it, or go round it: `phasegate release override-window {release} {first} \
             --reason TEXT`, or full-rollout with --override-windows (closed for {phases})"
        ),
        Reason::Unauthenticated => {
            "say who you are with a credential that the server takes".to_owned()
        }
        Reason::PermissionMissing => "`phasegate whoami` shows what you may".to_owned(),
        Reason::TooManyWatches => "close some watches, or try again later".to_owned(),
        Reason::RateLimited => {
            "make fewer calls, watch instead of asking again and again, or have the limit raised"
                .to_owned()
        }
        Reason::Overloaded => "try again in a second".to_owned(),
        Reason::FlagSetTooLarge => {
            "make configs smaller, delete flags that nobody asks, or finish other releases"
                .to_owned()
        }
        Reason::StoreReadOnly => {
            "try again: the server is starting, or its disk is full (its log says which)".to_owned()
        }
        Reason::Internal => format!(
            "this is a defect; report it with the lines of the server's log that have incident {}",
            fact("incident").unwrap_or("ID")
        ),
        // The message says it all, or there is nothing that a person could do.
        Reason::InvalidField | Reason::InvalidPageToken | Reason::NoChange => return None,
        Reason::RevisionCompacted
        | Reason::RevisionInFuture
        | Reason::StoreReplaced
        | Reason::ViewChanged
        | Reason::SlowConsumer
        | Reason::StreamExpired
        | Reason::ServerDraining
        | Reason::None
        | Reason::Unknown(_)
        | _ => return None,
    })
}

fn not_found(resource: &str) -> Option<String> {
    let parts: Vec<&str> = resource.split('/').collect();
    Some(match parts[..] {
        ["releases", release, ..] if parts.len() > 2 => {
            format!("`phasegate release get {release}` shows its phases and guards")
        }
        ["releases", ..] => "`phasegate release list` has them all".to_owned(),
        ["flags", ..] => {
            "`phasegate list flags` has them all; `phasegate apply -f FILE` makes one".to_owned()
        }
        ["pipelines", ..] => {
            "`phasegate list pipelines` has them all; `phasegate apply -f FILE` makes one"
                .to_owned()
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reason: &str, metadata: &[(&str, &str)]) -> Option<String> {
        let facts = metadata.iter().map(|&(key, value)| (key.to_owned(), value.to_owned()));
        let details = tonic_types::ErrorDetails::with_error_info(
            reason,
            "phasegate.v1",
            facts.collect::<std::collections::HashMap<_, _>>(),
        );
        let status = <tonic::Status as tonic_types::StatusExt>::with_error_details(
            Code::FailedPrecondition,
            "no",
            details,
        );
        next_step(&status.into())
    }

    #[test]
    fn a_hint_names_the_command_with_what_it_is_about() {
        let release = ("release", "releases/r");
        for (reason, metadata, expected) in [
            ("RELEASE_PAUSED", vec![release], "`phasegate release unpause releases/r`"),
            (
                "APPROVAL_PENDING",
                vec![release, ("phaseIds", "prod-10,prod")],
                "`phasegate release approve releases/r prod-10`",
            ),
            (
                "WINDOW_CLOSED",
                vec![release, ("phaseIds", "prod")],
                "override-window releases/r prod",
            ),
            ("PHASE_NOT_CURRENT", vec![release, ("phaseId", "dev")], "current phase is `dev`"),
            ("ACTIVE_RELEASE_EXISTS", vec![("activeRelease", "releases/a")], "wait for releases/a"),
            ("PIPELINE_REQUIRED", vec![("pipeline", "pipelines/p")], "release trigger -f FILE"),
            ("RESOURCE_NOT_FOUND", vec![("resource", "flags/f")], "phasegate list flags"),
            ("RESOURCE_NOT_FOUND", vec![("resource", "releases/r/phases/p")], "release get r"),
            ("REASON_REQUIRED", vec![], "--reason TEXT"),
        ] {
            let found = check(reason, &metadata).unwrap();
            assert!(found.contains(expected), "{reason}: {found}");
        }
        assert_eq!(check("NO_CHANGE", &[]), None);
    }
}
