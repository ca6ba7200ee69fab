//! The policy: who has which permission, under which labels of flags. A file that is read again when it
//! changes.

use super::{
    grants::{Allowed, Reach},
    permission::{Permission, Role},
};
use arc_swap::ArcSwap;
use phasegate_engine::{
    flag::Labels,
    id::{Group, Principal},
};
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

/// A policy of more bytes is a mistake.
const BYTES_MAX: usize = 1 << 20;
/// The file is looked at this often.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Why a policy is not taken.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("cannot read the policy {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// It is too large.
    #[error("the policy has more than {BYTES_MAX} bytes")]
    TooLarge,
    /// It is no policy.
    #[error("the policy is refused: {0}")]
    Malformed(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    bindings: Vec<Spanned<Written>>,
}

/// A binding as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    principals: Vec<String>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    everyone: bool,
    #[serde(default)]
    roles: Vec<Role>,
    #[serde(default)]
    permissions: Vec<Permission>,
    #[serde(default)]
    flags: Option<Flags>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Flags {
    labels: BTreeMap<String, String>,
}

/// Whom a binding means.
#[derive(Clone, Debug)]
struct Whom {
    principals: BTreeSet<Principal>,
    groups: BTreeSet<Group>,
    everyone: bool,
}

impl Whom {
    fn means(&self, principal: &Principal, groups: &[Group]) -> bool {
        self.everyone
            || self.principals.contains(principal)
            || groups.iter().any(|group| self.groups.contains(group))
    }
}

#[derive(Clone, Debug)]
struct Binding {
    whom: Whom,
    roles: BTreeSet<Role>,
    permissions: BTreeSet<Permission>,
    reach: Reach,
}

/// Who has which permission, under which labels.
#[derive(Clone, Debug)]
pub struct Policy {
    bindings: Vec<Binding>,
}

impl Policy {
    /// Reads a policy, which is YAML. What is wrong is said with its line.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if text.len() > BYTES_MAX {
            return Err(PolicyError::TooLarge);
        }
        let options = serde_saphyr::options! { strict_booleans: true };
        let file: File = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| PolicyError::Malformed(error.to_string()))?;
        let binding = |written: Spanned<Written>| {
            let line = written.referenced.line();
            let wrong = |problem| PolicyError::Malformed(format!("line {line}: {problem}"));
            binding(written.value).map_err(wrong)
        };
        let bindings = file.bindings.into_iter().map(binding).collect::<Result<_, _>>()?;
        Ok(Self { bindings })
    }

    /// What somebody may.
    pub fn allowed(&self, principal: &Principal, groups: &[Group]) -> Allowed {
        let mut allowed = Allowed::default();
        for binding in self.bindings.iter().filter(|b| b.whom.means(principal, groups)) {
            for role in &binding.roles {
                allowed.add_role(*role, &binding.reach);
            }
            for permission in &binding.permissions {
                allowed.add(*permission, &binding.reach);
            }
        }
        allowed
    }
}

fn binding(written: Written) -> Result<Binding, String> {
    let Written { principals, groups, everyone, roles, permissions, flags } = written;
    if principals.is_empty() && groups.is_empty() && !everyone {
        return Err("a binding names principals, groups, or everyone".to_owned());
    }
    if principals.iter().chain(&groups).any(String::is_empty) {
        return Err("a principal or a group is never empty".to_owned());
    }
    if roles.is_empty() && permissions.is_empty() {
        return Err("a binding gives roles or permissions".to_owned());
    }
    let reach = match flags {
        None => Reach::Everywhere,
        Some(Flags { labels }) if labels.is_empty() => {
            return Err("flags.labels is empty; leave flags out to mean every flag".to_owned());
        }
        Some(Flags { labels }) => {
            let label = |(key, value): (String, String)| (key.into(), value.into());
            Reach::Under(vec![labels.into_iter().map(label).collect::<Labels>()])
        }
    };
    if reach != Reach::Everywhere
        && let Some(permission) = permissions.iter().find(|p| p.is_of_the_server())
    {
        return Err(format!("{permission} is about no flag, so it cannot be scoped by labels"));
    }
    Ok(Binding {
        whom: Whom {
            principals: principals.into_iter().map(Principal::new).collect(),
            groups: groups.into_iter().map(Group::new).collect(),
            everyone,
        },
        roles: roles.into_iter().collect(),
        permissions: permissions.into_iter().collect(),
        reach,
    })
}

/// The policy in force. Clones share it.
#[derive(Clone, Debug)]
pub struct Policies(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    current: ArcSwap<Policy>,
    generation: watch::Sender<u64>,
    path: Option<PathBuf>,
    /// What the file held when it was last looked at, taken or not.
    seen: ArcSwap<Vec<u8>>,
}

impl Policies {
    /// One that stays until it is replaced.
    pub fn fixed(policy: Policy) -> Self {
        Self::with(policy, None, Vec::new())
    }

    /// That of a file, which has to be good.
    pub fn load(path: &Path) -> Result<Self, PolicyError> {
        let bytes = read(path)?;
        let policy = parse(&bytes)?;
        Ok(Self::with(policy, Some(path.to_owned()), bytes))
    }

    fn with(policy: Policy, path: Option<PathBuf>, seen: Vec<u8>) -> Self {
        Self(Arc::new(Shared {
            current: ArcSwap::from_pointee(policy),
            generation: watch::Sender::new(0),
            path,
            seen: ArcSwap::from_pointee(seen),
        }))
    }

    /// The one in force.
    pub fn current(&self) -> Arc<Policy> {
        self.0.current.load_full()
    }

    /// Changes whenever another one is in force.
    pub fn generation(&self) -> watch::Receiver<u64> {
        self.0.generation.subscribe()
    }

    /// Puts another one in force.
    pub fn replace(&self, policy: Policy) {
        self.0.current.store(Arc::new(policy));
        self.0.generation.send_modify(|generation| *generation += 1);
    }

    /// Reads the file again. A policy that is not good changes nothing.
    pub fn reload(&self) -> Result<(), PolicyError> {
        let Some(path) = &self.0.path else { return Ok(()) };
        let bytes = read(path)?;
        if bytes == **self.0.seen.load() {
            return Ok(());
        }
        let parsed = parse(&bytes);
        self.0.seen.store(Arc::new(bytes));
        self.replace(parsed?);
        Ok(())
    }

    /// Reads the file again whenever it changed, and whenever `asked` says so. Never ends.
    pub async fn follow(self, mut asked: watch::Receiver<u64>) {
        if self.0.path.is_none() {
            return std::future::pending().await;
        }
        let mut ticks = interval(LOOK_AGAIN);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                Ok(()) = asked.changed() => {}
            }
            let before = *self.0.generation.borrow();
            match self.reload() {
                Ok(()) if *self.0.generation.borrow() != before => {
                    tracing::info!("the policy was read again");
                    told = None;
                }
                Ok(()) => {}
                // Said once for each problem: what is in force stays.
                Err(error) => {
                    let text = error.to_string();
                    if told.as_ref() != Some(&text) {
                        tracing::error!(error = %text, "the policy stays as it was");
                        told = Some(text);
                    }
                }
            }
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, PolicyError> {
    fs::read(path).map_err(|source| PolicyError::Read { path: path.to_owned(), source })
}

fn parse(bytes: &[u8]) -> Result<Policy, PolicyError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| PolicyError::Malformed("it is not UTF-8".to_owned()))?;
    Policy::parse(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEAMS: &str = "
bindings:
- everyone: true
  roles: [viewer]
  flags: {labels: {visibility: public}}
- groups: [payments]
  roles: [releaser]
  flags: {labels: {team: payments}}
- principals: ['token:pager']
  roles: [operator]
  permissions: [bypass_approval]
";

    fn allowed(text: &str, principal: &str, groups: &[&str]) -> Allowed {
        let groups: Vec<_> = groups.iter().copied().map(Group::new).collect();
        Policy::parse(text).unwrap().allowed(&Principal::new(principal), &groups)
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    #[test]
    fn a_binding_holds_for_whom_it_names_and_under_its_labels() {
        let (ours, open) =
            (labels(&[("team", "payments"), ("x", "y")]), labels(&[("visibility", "public")]));
        let ann = allowed(TEAMS, "ann", &["payments"]);
        assert!(ann.may(Permission::Trigger, Some(&ours)));
        assert!(!ann.may(Permission::Trigger, Some(&open)), "it is another team's");
        assert!(ann.may(Permission::Read, Some(&open)) && ann.may(Permission::Read, Some(&ours)));
        assert!(
            !ann.may(Permission::Read, Some(&Labels::new())) && !ann.may(Permission::Read, None)
        );
        let bob = allowed(TEAMS, "bob", &[]);
        assert!(!bob.may(Permission::Read, Some(&ours)), "nobody said so");
        let pager = allowed(TEAMS, "token:pager", &[]);
        assert!(pager.may(Permission::Abort, Some(&ours)) && pager.may(Permission::Abort, None));
        assert!(pager.may(Permission::BypassApproval, Some(&ours)));
        assert!(!pager.may(Permission::OverrideWindows, Some(&ours)));
    }

    #[test]
    fn the_example_is_a_policy() {
        let text = include_str!("../../../examples/access/policy.yaml");
        let lead = allowed(text, "ann", &["payments-leads"]);
        assert!(lead.may(Permission::Approve, Some(&labels(&[("team", "payments")]))));
        assert!(!lead.may(Permission::Approve, Some(&labels(&[("team", "web")]))));
        assert!(allowed(text, "token:checkout-service", &[]).everywhere(Permission::Evaluate));
    }

    #[test]
    fn a_scoped_role_has_nothing_of_the_server() {
        let text = "bindings: [{everyone: true, roles: [admin], flags: {labels: {team: a}}}]";
        let ann = allowed(text, "ann", &[]);
        for permission in Permission::ALL.into_iter().filter(|p| p.is_of_the_server()) {
            assert!(!ann.somewhere(permission), "{permission}");
        }
        assert!(ann.somewhere(Permission::ManagePipelines));
        assert!(!ann.everywhere(Permission::ManagePipelines));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let check = |text: &str, line: &str, part: &str| {
            let problem = Policy::parse(text).unwrap_err().to_string();
            assert!(problem.contains(line) && problem.contains(part), "{problem}");
        };
        check("bindings:\n- everyone: true\n  roles: [boss]\n", "line 3", "boss");
        check("bindings:\n- everyone: true\n  role: [admin]\n", "line 3", "role");
        check("bindings:\n- roles: [viewer]\n", "line 2", "names principals");
        check("bindings:\n- everyone: true\n", "line 2", "gives roles");
        check("bindings:\n- everyone: false\n  roles: [viewer]\n", "line 2", "names principals");
        let scoped =
            "bindings:\n- everyone: true\n  permissions: [act_as]\n  flags: {labels: {a: b}}\n";
        check(scoped, "line 2", "act_as is about no flag");
        let empty = "bindings:\n- everyone: true\n  roles: [viewer]\n  flags: {labels: {}}\n";
        check(empty, "line 2", "flags.labels is empty");
        check("bindings: []\nmore: 1\n", "line 2", "more");
        assert!(matches!(Policy::parse(&" ".repeat(BYTES_MAX + 1)), Err(PolicyError::TooLarge)));
    }

    #[test]
    fn a_file_is_taken_as_a_whole_or_not_at_all_and_only_another_one_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.yaml");
        let of = |role: &str| format!("bindings: [{{everyone: true, roles: [{role}]}}]");
        fs::write(&path, of("viewer")).unwrap();
        let policies = Policies::load(&path).unwrap();
        let generation = policies.generation();
        let may = |permission| {
            policies.current().allowed(&Principal::new("ann"), &[]).somewhere(permission)
        };
        policies.reload().unwrap();
        assert_eq!(*generation.borrow(), 0, "it is the same");
        fs::write(&path, of("approver")).unwrap();
        policies.reload().unwrap();
        assert!(may(Permission::Approve));
        assert_eq!(*generation.borrow(), 1);
        fs::write(&path, format!("{}\nnonsense: 1\n", of("admin"))).unwrap();
        assert!(policies.reload().is_err());
        assert!(may(Permission::Approve) && !may(Permission::Trigger), "it stays as it was");
        assert_eq!(*generation.borrow(), 1);
        fs::remove_file(&path).unwrap();
        assert!(matches!(policies.reload(), Err(PolicyError::Read { .. })));
        assert!(Policies::load(&path).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_changes_is_noticed_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.yaml");
        fs::write(&path, "bindings: []").unwrap();
        let policies = Policies::load(&path).unwrap();
        let mut generation = policies.generation();
        let (_ask, asked) = watch::channel(0);
        tokio::spawn(policies.clone().follow(asked));
        fs::write(&path, "bindings: [{everyone: true, roles: [viewer]}]").unwrap();
        generation.changed().await.unwrap();
        assert!(policies.current().allowed(&Principal::new("a"), &[]).somewhere(Permission::Read));
    }
}
