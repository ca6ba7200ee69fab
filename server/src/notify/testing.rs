//! What the tests of this room stand on.

use crate::driver::{Notification, NotificationKind};
use phasegate_engine::{
    id::{FlagId, PhaseId, PipelineId, Principal, ReleaseId, Revision},
    time::{Span, Timestamp},
};

/// 2030-06-14T12:00:00Z.
pub(super) const START: Timestamp = Timestamp::from_millis(1_907_668_800_000);

/// A phase of a release needs approvals.
pub(super) fn approval_due(release: &str) -> Notification {
    Notification {
        id: format!("n-{release}").into(),
        kind: NotificationKind::ReleaseApprovalDue,
        time: START,
        revision: Revision::new(7),
        flag: Some(FlagId::parse("checkout").unwrap()),
        release: Some(ReleaseId::parse(release).unwrap()),
        pipeline: Some(PipelineId::parse("standard").unwrap()),
        phase: Some(PhaseId::parse("prod").unwrap()),
        guard: None,
        principal: None,
        creator: Some(Principal::new("ann")),
        reason: "".into(),
        end: None,
        until: Some(START + Span::DAY),
        labels: [("team".into(), "web".into())].into(),
        trace: None,
    }
}
