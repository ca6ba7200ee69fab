//! What may be done at all, and which role may do what. `docs/access.md` has the same table for people;
//! a test compares the two.

use serde::Deserialize;
use std::fmt;

/// Something that may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// See flags, pipelines, releases and their events; ask one flag.
    Read,
    /// Be sent the flags of an environment, whole or one answer at a time.
    Evaluate,
    /// Trigger releases.
    Trigger,
    /// Approve and reject phases.
    Approve,
    /// Hold a release.
    Pause,
    /// Let a release go on, skip a phase, adjust a bake.
    Progress,
    /// End a release without its change.
    Abort,
    /// Give a release's change to everyone at once.
    FullRollout,
    /// Engage and lift kill switches.
    KillSwitch,
    /// Report the verdict of a guard.
    ReportGuard,
    /// Create, change and delete flags.
    ManageFlags,
    /// Create, change and delete pipelines; take a flag's pipeline away.
    ManagePipelines,
    /// Read the record of who did what.
    ReadAudit,
    /// Be sent all that the store holds.
    BackUp,
    /// Operate the server itself.
    Administer,
    /// Pass over missing approvals.
    BypassApproval,
    /// Apply a phase outside its window.
    OverrideWindows,
    /// Act as somebody else.
    ActAs,
    /// Approve though nobody is there in person: a service account, or somebody who acts for others.
    ApproveAsService,
}

impl Permission {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::Read,
        Self::Evaluate,
        Self::Trigger,
        Self::Approve,
        Self::Pause,
        Self::Progress,
        Self::Abort,
        Self::FullRollout,
        Self::KillSwitch,
        Self::ReportGuard,
        Self::ManageFlags,
        Self::ManagePipelines,
        Self::ReadAudit,
        Self::BackUp,
        Self::Administer,
        Self::BypassApproval,
        Self::OverrideWindows,
        Self::ActAs,
        Self::ApproveAsService,
    ];

    /// As policies and errors have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Evaluate => "evaluate",
            Self::Trigger => "trigger",
            Self::Approve => "approve",
            Self::Pause => "pause",
            Self::Progress => "progress",
            Self::Abort => "abort",
            Self::FullRollout => "full_rollout",
            Self::KillSwitch => "kill_switch",
            Self::ReportGuard => "report_guard",
            Self::ManageFlags => "manage_flags",
            Self::ManagePipelines => "manage_pipelines",
            Self::ReadAudit => "read_audit",
            Self::BackUp => "back_up",
            Self::Administer => "administer",
            Self::BypassApproval => "bypass_approval",
            Self::OverrideWindows => "override_windows",
            Self::ActAs => "act_as",
            Self::ApproveAsService => "approve_as_service",
        }
    }

    /// True if it holds for the whole server or not at all: it is about no flag.
    pub fn is_of_the_server(self) -> bool {
        matches!(
            self,
            Self::Evaluate | Self::ReadAudit | Self::BackUp | Self::Administer | Self::ActAs
        )
    }

    /// True if no role has it.
    pub fn is_separate(self) -> bool {
        matches!(
            self,
            Self::BypassApproval | Self::OverrideWindows | Self::ActAs | Self::ApproveAsService
        )
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A fixed set of permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Brings changes, and watches over them.
    Releaser,
    /// Says yes or no.
    Approver,
    /// Is on call.
    Operator,
    /// All of these, and whatever is no day's work.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Viewer, Self::Releaser, Self::Approver, Self::Operator, Self::Admin];

    /// As policies have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Releaser => "releaser",
            Self::Approver => "approver",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// True if who has the role has the permission.
    pub fn has(self, permission: Permission) -> bool {
        use Permission as P;
        match self {
            Self::Viewer => permission == P::Read,
            Self::Releaser => matches!(
                permission,
                P::Read
                    | P::Trigger
                    | P::Pause
                    | P::Progress
                    | P::Abort
                    | P::ReportGuard
                    | P::ManageFlags
            ),
            Self::Approver => matches!(permission, P::Read | P::Approve),
            Self::Operator => matches!(
                permission,
                P::Read
                    | P::Pause
                    | P::Progress
                    | P::Abort
                    | P::FullRollout
                    | P::KillSwitch
                    | P::ReportGuard
            ),
            Self::Admin => !permission.is_separate(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_role_has_a_separate_permission() {
        for role in Role::ALL {
            for permission in Permission::ALL {
                assert!(!(permission.is_separate() && role.has(permission)), "{role:?}");
            }
        }
    }

    #[test]
    fn who_is_on_call_can_always_stop_a_release_and_so_can_who_triggered_it() {
        for role in [Role::Releaser, Role::Operator, Role::Admin] {
            assert!(role.has(Permission::Abort) && role.has(Permission::Pause), "{role:?}");
        }
    }

    #[test]
    fn the_document_has_the_table_of_the_roles() {
        let page = include_str!("../../../docs/access.md");
        let rows = page.lines().skip_while(|line| !line.starts_with("| permission |"));
        let written: Vec<String> =
            rows.skip(2).take_while(|line| line.starts_with("| ")).map(str::to_owned).collect();
        let row = |permission: Permission| {
            let mark = |role: Role| if role.has(permission) { "yes" } else { "" };
            let marks: Vec<_> = Role::ALL.into_iter().map(mark).collect();
            format!("| `{permission}` | {} |", marks.join(" | ")).replace("|  |", "| |")
        };
        for permission in Permission::ALL {
            let row = row(permission).replace("|  |", "| |");
            assert!(written.iter().any(|line| line.starts_with(&row)), "no row {row}");
        }
        assert_eq!(written.len(), Permission::ALL.len());
    }

    #[test]
    fn a_policy_names_permissions_as_errors_do() {
        for permission in Permission::ALL {
            let read: Permission = serde_json::from_value(permission.name().into()).unwrap();
            assert_eq!(read, permission);
        }
        for role in Role::ALL {
            let read: Role = serde_json::from_value(role.name().into()).unwrap();
            assert_eq!(read, role);
        }
    }
}
