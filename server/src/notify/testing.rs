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

/// A key that signs.
pub(super) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Settings out of a file beside which a secret lies, and where they lie.
pub(super) fn settings_from(text: &str) -> (super::Settings, tempfile::TempDir) {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(dir.path().join(name), private).unwrap();
    };
    write("secret", SECRET);
    write("notifications.yaml", text);
    (super::read(&dir.path().join("notifications.yaml")).unwrap(), dir)
}

/// Webhooks of these names, which lead nowhere.
pub(super) fn settings_of(names: &[&str]) -> (super::Settings, tempfile::TempDir) {
    let mut text = "allowed_hosts: [hooks.example.com]\nsinks:\n".to_owned();
    for name in names {
        text.push_str(&format!(
            "  - id: {name}\n    webhook: {{url: https://hooks.example.com/, secrets: [secret]}}\n    \
             subscriptions: [{{events: ['*']}}]\n"
        ));
    }
    settings_from(&text)
}
