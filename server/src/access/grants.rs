//! What somebody may: about a flag, by its labels.

use super::{
    identity::{Identity, Kind},
    permission::{Permission, Role},
};
use crate::driver::{self, Permit};
use arc_swap::ArcSwap;
use phasegate_engine::{
    State,
    command::{Action, Caller, ConflictPolicy, Gate},
    flag::Labels,
    id::{FlagId, Principal, ReleaseId},
    refusal::{Refusal, Resource},
    release::Release,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

/// Where something holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Of every flag, and of the releases of flags that are gone.
    Everywhere,
    /// Of flags that have all labels of one of these.
    Under(Vec<Labels>),
}

impl Reach {
    /// Whether it holds of a flag with these labels; none: the flag is gone.
    pub fn covers(&self, labels: Option<&Labels>) -> bool {
        let has = |scope: &Labels, labels: &Labels| {
            scope.iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        match (self, labels) {
            (Self::Everywhere, _) => true,
            (Self::Under(_), None) => false,
            (Self::Under(scopes), Some(labels)) => scopes.iter().any(|scope| has(scope, labels)),
        }
    }

    fn join(&mut self, other: &Self) {
        match (&mut *self, other) {
            (Self::Everywhere, _) => {}
            (_, Self::Everywhere) => *self = Self::Everywhere,
            (Self::Under(ours), Self::Under(theirs)) => {
                for scope in theirs {
                    if !ours.contains(scope) {
                        ours.push(scope.clone());
                    }
                }
            }
        }
    }
}

/// What a policy allows somebody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    permissions: BTreeMap<Permission, Reach>,
    roles: BTreeMap<Role, Reach>,
}

impl Allowed {
    /// Everything, the separate permissions too.
    pub fn everything() -> Self {
        let all = Permission::ALL.into_iter().map(|permission| (permission, Reach::Everywhere));
        Self { permissions: all.collect(), roles: BTreeMap::new() }
    }

    /// Adds a permission.
    pub fn add(&mut self, permission: Permission, reach: &Reach) {
        let held = self.permissions.entry(permission);
        held.and_modify(|held| held.join(reach)).or_insert_with(|| reach.clone());
    }

    /// Adds a role with all that it has; scoped, without what is about no flag.
    pub fn add_role(&mut self, role: Role, reach: &Reach) {
        let held = self.roles.entry(role);
        held.and_modify(|held| held.join(reach)).or_insert_with(|| reach.clone());
        for permission in Permission::ALL.into_iter().filter(|permission| role.has(*permission)) {
            if *reach == Reach::Everywhere || !permission.is_of_the_server() {
                self.add(permission, reach);
            }
        }
    }

    /// Whether it holds of a flag with these labels; none: the flag is gone.
    pub fn may(&self, permission: Permission, labels: Option<&Labels>) -> bool {
        self.permissions.get(&permission).is_some_and(|reach| reach.covers(labels))
    }

    /// Whether it holds anywhere.
    pub fn somewhere(&self, permission: Permission) -> bool {
        self.permissions.contains_key(&permission)
    }

    /// Whether it holds of everything.
    pub fn everywhere(&self, permission: Permission) -> bool {
        self.permissions.get(&permission) == Some(&Reach::Everywhere)
    }

    /// Where it holds.
    pub fn reach(&self, permission: Permission) -> Option<&Reach> {
        self.permissions.get(&permission)
    }

    /// Everything that holds, by permission.
    pub fn permissions(&self) -> impl Iterator<Item = (Permission, &Reach)> {
        self.permissions.iter().map(|(permission, reach)| (*permission, reach))
    }

    /// The roles that it comes from, by role.
    pub fn roles(&self) -> impl Iterator<Item = (Role, &Reach)> {
        self.roles.iter().map(|(role, reach)| (*role, reach))
    }
}

/// Who calls and what they may: what goes with a request. Clones share it, and those of a stream see what
/// its [`Lease`](super::Lease) finds out later.
#[derive(Clone, Debug)]
pub struct Grants(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    identity: Identity,
    caller: Caller,
    held: ArcSwap<Held>,
    is_open: bool,
}

/// What is held at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// What the caller may.
    pub(super) allowed: Allowed,
    /// What the one may whose credential it is: the same, unless they act for somebody.
    pub(super) own: Allowed,
}

static EVERYTHING: LazyLock<Arc<Held>> = LazyLock::new(|| {
    let (allowed, own) = (Allowed::everything(), Allowed::everything());
    Arc::new(Held { allowed, own })
});

impl Grants {
    pub(super) fn new(identity: Identity, caller: Caller, held: Held) -> Self {
        let held = ArcSwap::from_pointee(held);
        Self(Arc::new(Inner { identity, caller, held, is_open: false }))
    }

    /// Somebody whom the server believes, and who may do everything.
    pub fn open(identity: Identity) -> Self {
        let caller =
            Caller { principal: identity.principal.clone(), groups: identity.groups.clone() };
        let held = ArcSwap::new(Arc::clone(&EVERYTHING));
        Self(Arc::new(Inner { identity, caller, held, is_open: true }))
    }

    /// True if nothing is checked.
    pub fn is_open(&self) -> bool {
        self.0.is_open
    }

    /// As whom they act.
    pub fn caller(&self) -> &Caller {
        &self.0.caller
    }

    /// Whose credential it is.
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// The principal of the credential, if it is not the one who acts: for the record.
    pub fn authenticated(&self) -> Option<&Principal> {
        let authenticated = &self.0.identity.principal;
        (*authenticated != self.0.caller.principal).then_some(authenticated)
    }

    /// What they may now, as a whole.
    pub fn allowed(&self) -> Allowed {
        self.0.held.load().allowed.clone()
    }

    /// Whether something may be done to a flag with these labels; none: the flag is gone.
    pub fn may(&self, permission: Permission, labels: Option<&Labels>) -> bool {
        self.0.held.load().allowed.may(permission, labels)
    }

    /// Whether something may be done to anything.
    pub fn somewhere(&self, permission: Permission) -> bool {
        self.0.held.load().allowed.somewhere(permission)
    }

    /// Whether something may be done to everything.
    pub fn everywhere(&self, permission: Permission) -> bool {
        self.0.held.load().allowed.everywhere(permission)
    }

    /// Whether a flag with these labels is seen.
    pub fn sees_labels(&self, labels: &Labels) -> bool {
        self.may(Permission::Read, Some(labels))
    }

    /// Whether a flag is seen, which may be gone or never have been.
    pub fn sees_flag(&self, state: &State, id: &FlagId) -> bool {
        self.may(Permission::Read, state.flag(id).map(|flag| &flag.labels))
    }

    /// Whether a release is seen: as its flag is.
    pub fn sees_release(&self, state: &State, release: &Release) -> bool {
        self.everywhere(Permission::Read) || self.sees_flag(state, &release.proposal.flag)
    }

    /// What is seen, to be compared with what is seen later.
    pub fn view(&self) -> Option<Reach> {
        self.0.held.load().allowed.reach(Permission::Read).cloned()
    }

    /// Of a state, what is seen.
    pub fn seen(&self, state: &State) -> State {
        if self.everywhere(Permission::Read) {
            return state.clone();
        }
        let allowed = self.allowed();
        state.only(|flag| allowed.may(Permission::Read, flag.map(|flag| &flag.labels)))
    }

    /// Whether they may say yes to a phase of a release of a flag with these labels. A second pair of
    /// eyes is a person who is there: not a program, and nobody who can also speak for others, because
    /// they might have asked for the release in another name. Which permission is missing otherwise.
    fn approves(&self, labels: Option<&Labels>) -> Result<(), Permission> {
        let held = self.0.held.load();
        if !held.allowed.may(Permission::Approve, labels) {
            return Err(Permission::Approve);
        }
        let in_person = self.0.identity.kind == Kind::Person
            && self.authenticated().is_none()
            && !held.own.somewhere(Permission::ActAs);
        if self.0.is_open || in_person || held.own.may(Permission::ApproveAsService, labels) {
            Ok(())
        } else {
            Err(Permission::ApproveAsService)
        }
    }

    pub(super) fn replace(&self, held: Held) {
        self.0.held.store(Arc::new(held));
    }

    /// What lacks for an action, which is about something that is there and seen.
    fn lacks(&self, state: &State, action: &Action) -> Result<(), Permission> {
        let need = |permission, labels: Option<&Labels>| {
            if self.may(permission, labels) { Ok(()) } else { Err(permission) }
        };
        let of_flag = |id: &FlagId| state.flag(id).map(|flag| &flag.labels);
        let of =
            |id: &ReleaseId| state.release(id).and_then(|release| of_flag(&release.proposal.flag));
        match action {
            Action::CreateFlag { labels, .. } => need(Permission::ManageFlags, Some(labels)),
            Action::UpdateFlag { flag, change, .. } => {
                need(Permission::ManageFlags, of_flag(flag))?;
                if let Some(labels) = &change.labels {
                    need(Permission::ManageFlags, Some(labels))?;
                }
                // A flag without its pipeline needs nobody's approval any more.
                let attached = state.flag(flag).and_then(|flag| flag.pipeline.as_ref());
                match &change.pipeline {
                    Some(to) if attached.is_some() && to.as_ref() != attached => {
                        need(Permission::ManagePipelines, of_flag(flag))
                    }
                    Some(_) | None => Ok(()),
                }
            }
            Action::DeleteFlag { flag, .. } => {
                need(Permission::ManageFlags, of_flag(flag))?;
                // It could be created again, without it.
                if state.flag(flag).is_some_and(|flag| flag.pipeline.is_some()) {
                    need(Permission::ManagePipelines, of_flag(flag))?;
                }
                Ok(())
            }
            Action::SetKillSwitch { flag, .. } => need(Permission::KillSwitch, of_flag(flag)),
            Action::CreatePipeline { .. }
            | Action::UpdatePipeline { .. }
            | Action::DeletePipeline { .. } => need(Permission::ManagePipelines, None),
            Action::TriggerRelease(trigger) => {
                let labels = of_flag(&trigger.flag);
                need(Permission::Trigger, labels)?;
                if trigger.conflict_policy == ConflictPolicy::Supersede {
                    need(Permission::Abort, labels)?;
                }
                Ok(())
            }
            Action::ApprovePhase { release, .. } => self.approves(of(release)),
            Action::RejectPhase { release, .. } => need(Permission::Approve, of(release)),
            Action::PauseRelease { release } => need(Permission::Pause, of(release)),
            Action::UnpauseRelease { release, .. } | Action::AdjustBake { release, .. } => {
                need(Permission::Progress, of(release))
            }
            Action::SkipPhase { release, approvals, .. } => {
                need(Permission::Progress, of(release))?;
                if *approvals == Gate::Bypass {
                    need(Permission::BypassApproval, of(release))?;
                }
                Ok(())
            }
            Action::OverrideWindow { release, .. } => {
                need(Permission::OverrideWindows, of(release))
            }
            Action::AbortRelease { release } => need(Permission::Abort, of(release)),
            Action::FullRollout { release, approvals, windows, .. } => {
                need(Permission::FullRollout, of(release))?;
                if *approvals == Gate::Bypass {
                    need(Permission::BypassApproval, of(release))?;
                }
                if *windows == Gate::Bypass {
                    need(Permission::OverrideWindows, of(release))?;
                }
                Ok(())
            }
            Action::ReportGuardSignal { release, .. } => need(Permission::ReportGuard, of(release)),
        }
    }

    /// What an action is about, if it is there and the caller does not see it.
    fn unseen(&self, state: &State, action: &Action) -> Option<Resource> {
        match action {
            Action::CreateFlag { .. } | Action::CreatePipeline { .. } => None,
            Action::UpdatePipeline { pipeline, .. } | Action::DeletePipeline { pipeline, .. } => {
                let unseen = !self.somewhere(Permission::Read);
                unseen.then(|| Resource::Pipeline(pipeline.clone()))
            }
            Action::UpdateFlag { flag, .. }
            | Action::DeleteFlag { flag, .. }
            | Action::SetKillSwitch { flag, .. }
            | Action::TriggerRelease(phasegate_engine::command::Trigger { flag, .. }) => {
                let flag = state.flag(flag).filter(|flag| !self.sees_labels(&flag.labels))?;
                Some(Resource::Flag(flag.id.clone()))
            }
            Action::ApprovePhase { release, .. }
            | Action::RejectPhase { release, .. }
            | Action::PauseRelease { release }
            | Action::UnpauseRelease { release, .. }
            | Action::SkipPhase { release, .. }
            | Action::OverrideWindow { release, .. }
            | Action::AdjustBake { release, .. }
            | Action::AbortRelease { release }
            | Action::FullRollout { release, .. }
            | Action::ReportGuardSignal { release, .. } => {
                let release = state.release(release).filter(|r| !self.sees_release(state, r))?;
                Some(Resource::Release(release.id().clone()))
            }
        }
    }

    /// What is missing for an action on something that the caller sees; for pages, which say so before
    /// anybody tries.
    pub fn missing(&self, state: &State, action: &Action) -> Option<Permission> {
        self.lacks(state, action).err()
    }
}

impl Permit for Grants {
    fn check(&self, state: &State, action: &Action) -> Result<(), driver::Error> {
        if let Some(resource) = self.unseen(state, action) {
            return Err(driver::Error::Refused(Refusal::NotFound(resource)));
        }
        let is_there = match action {
            Action::UpdateFlag { flag, .. }
            | Action::DeleteFlag { flag, .. }
            | Action::SetKillSwitch { flag, .. } => state.flag(flag).is_some(),
            Action::TriggerRelease(trigger) => state.flag(&trigger.flag).is_some(),
            Action::CreateFlag { .. }
            | Action::CreatePipeline { .. }
            | Action::UpdatePipeline { .. }
            | Action::DeletePipeline { .. }
            | Action::ApprovePhase { .. }
            | Action::RejectPhase { .. }
            | Action::PauseRelease { .. }
            | Action::UnpauseRelease { .. }
            | Action::SkipPhase { .. }
            | Action::OverrideWindow { .. }
            | Action::AdjustBake { .. }
            | Action::AbortRelease { .. }
            | Action::FullRollout { .. }
            | Action::ReportGuardSignal { .. } => {
                action.release().is_none_or(|release| state.release(release).is_some())
            }
        };
        if !is_there {
            // The engine says so, in the same words as above.
            return Ok(());
        }
        self.lacks(state, action)
            .map_err(|permission| driver::Error::Forbidden { permission: permission.name() })
    }

    fn sees(&self, state: &State, resource: &Resource) -> bool {
        match resource {
            Resource::Flag(flag) => {
                state.flag(flag).is_none_or(|flag| self.sees_labels(&flag.labels))
            }
            Resource::Release(release) => {
                state.release(release).is_none_or(|release| self.sees_release(state, release))
            }
            Resource::Pipeline(_) | Resource::Phase(..) | Resource::Guard(..) => true,
        }
    }
}
