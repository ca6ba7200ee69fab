use super::*;
use crate::watch::TooMany;
use phasegate_engine::id::{FlagId, GuardId, PipelineId, ReleaseId};
use prost::Message as _;
use std::collections::{BTreeMap, BTreeSet};

fn flag() -> FlagId {
    FlagId::parse("checkout").unwrap()
}

fn release() -> ReleaseId {
    ReleaseId::parse("r-1").unwrap()
}

fn phase() -> PhaseId {
    PhaseId::parse("canary").unwrap()
}

fn paused() -> Box<Standing> {
    Box::new(Standing {
        release: release(),
        state: ReleaseState::Paused,
        held: Some(ReleaseState::Baking),
        phase: Some(phase()),
        revision: Revision::new(7),
    })
}

fn of_release(why: ReleaseRefusal) -> Status {
    refused(Refusal::Release { standing: paused(), why })
}

/// What a client sees: code, reason, metadata in order, and which other details there are.
fn check(status: &Status, code: Code, reason: &str, metadata: &[(&str, &str)]) {
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.details().len() < DETAILS_BYTES_MAX);
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!((info.domain.as_str(), info.reason.as_str()), (DOMAIN, reason));
    let found: BTreeMap<_, _> =
        info.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(found, metadata.iter().copied().collect(), "{reason}");

    let precondition = details.precondition_failure();
    assert_eq!(precondition.is_some(), code == Code::FailedPrecondition, "{reason}");
    if let Some(precondition) = precondition {
        assert_eq!(precondition.violations[0].r#type, reason);
    }
    assert_eq!(details.bad_request().is_some(), reason == "INVALID_FIELD");
    let later = [
        "SERVER_DRAINING",
        "STORE_READ_ONLY",
        "SLOW_CONSUMER",
        "TOO_MANY_WATCHES",
        "RATE_LIMITED",
        "OVERLOADED",
    ];
    assert_eq!(details.retry_info().is_some(), later.contains(&reason), "{reason}");
}

#[test]
fn a_refusal_about_a_release_says_where_it_stands() {
    let standing = [
        ("release", "releases/r-1"),
        ("state", "PAUSED"),
        ("heldState", "BAKING"),
        ("phaseId", "canary"),
        ("revision", "7"),
    ];
    let check = |why, code, reason, more: &[(&str, &str)]| {
        let status = of_release(why);
        check(&status, code, reason, &[&standing, more].concat());
        if let Some(precondition) = status.get_details_precondition_failure() {
            assert_eq!(precondition.violations[0].subject, "releases/r-1");
        }
    };
    let failed = Code::FailedPrecondition;
    let running = "AWAITING_APPROVAL,AWAITING_WINDOW,BAKING";
    let started = "AWAITING_APPROVAL,AWAITING_WINDOW,BAKING,PAUSED";
    let unpaused = "PENDING,AWAITING_APPROVAL,AWAITING_WINDOW,BAKING";
    let allowed = |states| [("allowedStates", states)];
    use ReleaseRefusal::*;
    check(StaleEtag, Code::Aborted, "ETAG_MISMATCH", &[]);
    check(Over, failed, "RELEASE_OVER", &[]);
    check(NotStarted, failed, "RELEASE_NOT_STARTED", &allowed(started));
    check(Paused, failed, "RELEASE_PAUSED", &allowed(running));
    check(AlreadyPaused, failed, "ALREADY_PAUSED", &allowed(unpaused));
    check(NotPaused, failed, "NOT_PAUSED", &allowed("PAUSED"));
    check(PhaseNotCurrent(phase()), failed, "PHASE_NOT_CURRENT", &[]);
    let awaiting = allowed("AWAITING_APPROVAL");
    check(PhaseNotAwaitingApproval(phase()), failed, "PHASE_NOT_AWAITING_APPROVAL", &awaiting);
    let awaiting = allowed("AWAITING_WINDOW");
    check(PhaseNotAwaitingWindow(phase()), failed, "PHASE_NOT_AWAITING_WINDOW", &awaiting);
    check(PhaseNotBaking(phase()), failed, "PHASE_NOT_BAKING", &allowed("BAKING"));
    check(NotAnApprover(phase()), Code::PermissionDenied, "NOT_AN_APPROVER", &[]);
    check(SelfApproval, Code::PermissionDenied, "SELF_APPROVAL", &[]);
    check(AlreadyReviewed(phase()), failed, "ALREADY_REVIEWED", &[]);
    let two = vec![phase(), PhaseId::parse("all").unwrap()];
    let ids = [("phaseIds", "canary,all")];
    check(ApprovalPending(two.clone()), failed, "APPROVAL_PENDING", &ids);
    check(WindowClosed(two), failed, "WINDOW_CLOSED", &ids);
}

#[test]
fn a_refusal_about_a_flag_names_what_stands_in_the_way() {
    let check = |refusal, code, reason, metadata| {
        let status = refused(refusal);
        check(&status, code, reason, metadata);
        if let Some(precondition) = status.get_details_precondition_failure() {
            assert_eq!(precondition.violations[0].subject, "flags/checkout");
        }
    };
    let failed = Code::FailedPrecondition;
    let (flag, active) = (flag(), release());
    let resource = Resource::Flag(flag.clone());
    let named = [("resource", "flags/checkout")];
    check(Refusal::NotFound(resource.clone()), Code::NotFound, "RESOURCE_NOT_FOUND", &named);
    check(Refusal::Exists(resource.clone()), Code::AlreadyExists, "RESOURCE_EXISTS", &named);
    let stale = Refusal::StaleEtag { resource: resource.clone(), revision: Revision::new(9) };
    let now = [named[0], ("revision", "9")];
    check(stale, Code::Aborted, "ETAG_MISMATCH", &now);
    let in_use = Refusal::InUse { resource, referrer: Resource::Release(active.clone()) };
    check(in_use, failed, "RESOURCE_IN_USE", &[("referrer", "releases/r-1")]);
    let running = [("activeRelease", "releases/r-1")];
    let locked = Refusal::FlagLocked { flag: flag.clone(), active: active.clone() };
    check(locked, failed, "FLAG_LOCKED", &running);
    let exists = Refusal::ActiveReleaseExists { flag: flag.clone(), active };
    check(exists, failed, "ACTIVE_RELEASE_EXISTS", &running);
    let pipeline = Some(PipelineId::parse("p").unwrap());
    let required = Refusal::PipelineRequired { flag: flag.clone(), pipeline };
    check(required, failed, "PIPELINE_REQUIRED", &[("pipeline", "pipelines/p")]);
    let required = Refusal::PipelineRequired { flag: flag.clone(), pipeline: None };
    check(required, failed, "PIPELINE_REQUIRED", &[("pipeline", "")]);
    let base = Refusal::BaseChanged { flag: flag.clone(), spec_revision: Revision::new(3) };
    check(base, failed, "BASE_CHANGED", &[("specRevision", "3")]);
    check(Refusal::NoChange { flag: flag.clone() }, failed, "NO_CHANGE", &[]);
    check(Refusal::QueueFull { flag }, Code::ResourceExhausted, "QUEUE_FULL", &[]);
}

#[test]
fn phases_and_guards_are_named_in_full() {
    let guard = GuardId::parse("latency").unwrap();
    let status = not_found(&Resource::Guard(release(), phase(), guard));
    let name = "releases/r-1/phases/canary/guards/latency";
    check(&status, Code::NotFound, "RESOURCE_NOT_FOUND", &[("resource", name)]);
}

#[test]
fn the_driver_and_the_request_have_their_answers() {
    let invalid = Code::InvalidArgument;
    check(&failed(driver::Error::RequestIdReused), invalid, "REQUEST_ID_REUSED", &[]);
    check(&failed(driver::Error::DiskFull), Code::Unavailable, "STORE_READ_ONLY", &[]);
    check(&failed(driver::Error::Stopped), Code::Unavailable, "SERVER_DRAINING", &[]);
    let internal = failed(driver::Error::Internal("abc".into()));
    check(&internal, Code::Internal, "INTERNAL", &[("incident", "abc")]);
    check(&recovering(), Code::Unavailable, "STORE_READ_ONLY", &[]);
    check(&rejected(Rejected::ReasonRequired), invalid, "REASON_REQUIRED", &[]);
    check(&rejected(Rejected::InvalidPageToken), invalid, "INVALID_PAGE_TOKEN", &[]);
    check(&log_failed(LogError::Stopped), Code::Unavailable, "SERVER_DRAINING", &[]);
    let compacted = log_failed(LogError::Compacted { oldest: Revision::new(12) });
    let oldest = [("oldestRevision", "12")];
    check(&compacted, Code::OutOfRange, "REVISION_COMPACTED", &oldest);
}

#[test]
fn a_watch_is_refused_or_ends_with_its_reason() {
    let (oldest, head) = (Revision::new(12), Revision::new(3));
    let compacted = [("oldestRevision", "12")];
    let refused = |refusal, code, reason, metadata: &[_]| {
        check(&watch_refused(refusal), code, reason, metadata);
    };
    let not_found = [("resource", "releases/r-1")];
    refused(WatchRefusal::Draining, Code::Unavailable, "SERVER_DRAINING", &[]);
    let missing = WatchRefusal::NotFound(release());
    refused(missing, Code::NotFound, "RESOURCE_NOT_FOUND", &not_found);
    let replaced = WatchRefusal::StoreReplaced;
    refused(replaced, Code::FailedPrecondition, "STORE_REPLACED", &[]);
    let old = WatchRefusal::Compacted { oldest };
    refused(old, Code::OutOfRange, "REVISION_COMPACTED", &compacted);
    refused(WatchRefusal::InFuture { head }, Code::OutOfRange, "REVISION_IN_FUTURE", &[]);
    let many = WatchRefusal::TooMany(TooMany::InAll(20_000));
    refused(many, Code::ResourceExhausted, "TOO_MANY_WATCHES", &[]);
    check(&overloaded(), Code::ResourceExhausted, "OVERLOADED", &[]);
    let limited = rate_limited(Duration::from_millis(20));
    check(&limited, Code::ResourceExhausted, "RATE_LIMITED", &[]);

    let ended = |end, code, reason, metadata: &[_]| {
        check(&watch_ended(end), code, reason, metadata);
    };
    ended(WatchEnd::Expired, Code::Unavailable, "STREAM_EXPIRED", &[]);
    ended(WatchEnd::Draining, Code::Unavailable, "SERVER_DRAINING", &[]);
    ended(WatchEnd::SlowConsumer, Code::ResourceExhausted, "SLOW_CONSUMER", &[]);
    ended(WatchEnd::Compacted { oldest }, Code::OutOfRange, "REVISION_COMPACTED", &compacted);
    let deadline = watch_ended(WatchEnd::DeadlineExceeded);
    assert_eq!(deadline.code(), Code::DeadlineExceeded);
}

fn violations(count: usize, bytes: usize) -> Vec<Violation> {
    let field = |n: usize| format!("pipeline.phases[{n}].{}", "x".repeat(bytes));
    let violation = |n| Violation { field: field(n), description: "é".repeat(bytes / 2) };
    (0..count).map(violation).collect()
}

#[test]
fn all_violations_are_listed_or_the_last_says_how_many_more() {
    let listed = |count, bytes| {
        let status = invalid(violations(count, bytes));
        check(&status, Code::InvalidArgument, "INVALID_FIELD", &[]);
        status.get_details_bad_request().unwrap().field_violations
    };
    assert_eq!(listed(1, 10).len(), 1);
    assert_eq!(listed(30, 10).len(), 30);

    let cut = listed(10_000, 2_000);
    let last = cut.last().unwrap();
    assert_eq!(last.field, "");
    assert_eq!(last.description, format!("and {} more", 10_000 - (cut.len() - 1)));
    assert!(cut[0].field.starts_with("pipeline.phases[0].x"));
    assert!(cut[0].description.ends_with('…'));
}

#[test]
fn the_longest_refusal_fits_into_trailers_and_says_what_it_leaves_out() {
    let long = |n: usize| PhaseId::parse(&format!("{}{n:02}", "p".repeat(61))).unwrap();
    let standing = Box::new(Standing {
        release: ReleaseId::parse(&"r".repeat(63)).unwrap(),
        phase: Some(long(0)),
        ..*paused()
    });
    let why = ReleaseRefusal::ApprovalPending((0..50).map(long).collect());
    let status = refused(Refusal::Release { standing, why });
    assert!(status.details().len() < DETAILS_BYTES_MAX, "{}", status.details().len());
    let info = status.get_details_error_info().unwrap();
    let ids = info.metadata["phaseIds"].split(',').count();
    assert_eq!(info.metadata["phaseIdsOmitted"], (50 - ids).to_string());
}

/// Code and reason of each row of the table in docs/errors.md.
fn documented() -> BTreeSet<(String, String)> {
    let page = include_str!("../../../../docs/errors.md");
    let rows = page.lines().skip_while(|line| !line.starts_with("| code |"));
    rows.skip(2)
        .map_while(|line| line.strip_prefix("| "))
        .map(|row| {
            let mut cells = row.split(" | ").map(str::to_owned);
            (cells.next().unwrap(), cells.next().unwrap())
        })
        .collect()
}

#[test]
fn the_document_lists_every_reason_of_the_contract_with_its_code() {
    let files = prost_types::FileDescriptorSet::decode(phasegate_api::DESCRIPTORS).unwrap();
    let mut enums = files.file.iter().flat_map(|file| &file.enum_type);
    let reasons = enums.find(|e| e.name() == "ErrorReason").unwrap();
    let of_contract: BTreeSet<_> = reasons
        .value
        .iter()
        .filter(|value| value.number() != 0)
        .map(|value| {
            let reason = ErrorReason::from_str_name(value.name()).unwrap();
            let code = format!("{:?}", code(reason));
            (screaming(&code), name(reason).to_owned())
        })
        .collect();
    assert_eq!(documented(), of_contract);
}

/// `InvalidArgument` as `INVALID_ARGUMENT`.
fn screaming(camel: &str) -> String {
    let mut text = String::new();
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text
}

#[test]
fn the_comment_of_each_reason_in_the_contract_begins_with_its_code() {
    let proto = include_str!("../../../../proto/phasegate/v1/errors.proto");
    let mut comment = String::new();
    let mut checked = 0;
    for line in proto.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("// ") {
            if comment.is_empty() {
                comment = text.to_owned();
            }
            continue;
        }
        if let Some((value, _)) = line.split_once(" = ")
            && let Some(reason) = ErrorReason::from_str_name(value)
            && reason != ErrorReason::Unspecified
        {
            let code = screaming(&format!("{:?}", code(reason)));
            assert!(comment.starts_with(&code), "{value}: {comment}");
            checked += 1;
        }
        comment.clear();
    }
    assert_eq!(checked, documented().len());
}

/// The names of an enum of the contract, without their prefix, all but the first, which says nothing.
fn names<E: TryFrom<i32>>(name: impl Fn(&E) -> &'static str, prefix: &str) -> BTreeSet<String> {
    let known = (1..1000).filter_map(|number| E::try_from(number).ok());
    known.map(|value| name(&value).strip_prefix(prefix).unwrap().to_owned()).collect()
}

#[test]
fn every_reason_and_every_type_of_event_is_the_value_of_a_label() {
    use crate::telemetry::{Metrics, cells::Cell as _};
    use phasegate_api::v1::ReleaseEventType;
    let metrics = Metrics::default();
    let labelled = |labels: Vec<(&str, &[&'static str])>| {
        labels[0].1.iter().map(|value| (*value).to_owned()).collect::<BTreeSet<_>>()
    };
    let reasons = names(ErrorReason::as_str_name, "ERROR_REASON_");
    assert_eq!(labelled(metrics.refusals.labels()), reasons);
    let types = names(ReleaseEventType::as_str_name, "RELEASE_EVENT_TYPE_");
    assert_eq!(labelled(metrics.transitions.labels()), types);
}
