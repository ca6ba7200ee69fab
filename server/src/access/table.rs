//! What each method of gRPC and each route of HTTP takes before it is looked at. Default deny: what has
//! no row is not done.
//!
//! A row is the least: a permission under some labels. Which labels a flag has, and what a field of the
//! request asks for besides, is known only when the request was read; see [`Grants`](super::Grants).

use super::permission::Permission;
use http::Method;

/// What a method or a route takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Nothing: anybody.
    Open,
    /// A credential.
    Known,
    /// A permission, of whatever flags.
    Needs(Permission),
    /// A permission that is not scoped.
    NeedsEverywhere(Permission),
}

/// How long an answer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// It is over at once.
    Short,
    /// It goes on, or lets one wait: what the caller may is looked at again meanwhile.
    Long,
}

use Length::{Long, Short};
use Permission as P;
use Rule::{Known, Needs, NeedsEverywhere, Open};

/// Every method of gRPC, by its full path.
pub const METHODS: &[(&str, Rule, Length)] = &[
    ("/phasegate.v1.AccessService/GetIdentity", Known, Short),
    // It holds what everybody did, under all labels.
    ("/phasegate.v1.AuditService/ListAuditEntries", NeedsEverywhere(P::ReadAudit), Short),
    ("/phasegate.v1.AuditService/WatchAuditEntries", NeedsEverywhere(P::ReadAudit), Long),
    ("/phasegate.v1.AuditService/GetAuditHead", NeedsEverywhere(P::ReadAudit), Short),
    // It is everything: flags under all labels, the audit chain, who asked for what.
    ("/phasegate.v1.StoreService/ExportStore", NeedsEverywhere(P::BackUp), Long),
    // Sinks lead elsewhere and are sent what is about every flag.
    ("/phasegate.v1.NotificationService/ListSinks", NeedsEverywhere(P::Administer), Short),
    ("/phasegate.v1.NotificationService/ListDeadLetters", NeedsEverywhere(P::Administer), Short),
    ("/phasegate.v1.NotificationService/ReplayDeadLetters", NeedsEverywhere(P::Administer), Short),
    (
        "/phasegate.v1.NotificationService/SendTestNotification",
        NeedsEverywhere(P::Administer),
        Short,
    ),
    ("/phasegate.v1.FlagService/CreateFlag", Needs(P::ManageFlags), Short),
    ("/phasegate.v1.FlagService/GetFlag", Needs(P::Read), Short),
    ("/phasegate.v1.FlagService/ListFlags", Needs(P::Read), Short),
    ("/phasegate.v1.FlagService/UpdateFlag", Needs(P::ManageFlags), Short),
    ("/phasegate.v1.FlagService/DeleteFlag", Needs(P::ManageFlags), Short),
    ("/phasegate.v1.FlagService/SetKillSwitch", Needs(P::KillSwitch), Short),
    ("/phasegate.v1.FlagService/EvaluateFlag", Needs(P::Read), Short),
    ("/phasegate.v1.PipelineService/CreatePipeline", NeedsEverywhere(P::ManagePipelines), Short),
    ("/phasegate.v1.PipelineService/GetPipeline", Needs(P::Read), Short),
    ("/phasegate.v1.PipelineService/ListPipelines", Needs(P::Read), Short),
    ("/phasegate.v1.PipelineService/UpdatePipeline", NeedsEverywhere(P::ManagePipelines), Short),
    ("/phasegate.v1.PipelineService/DeletePipeline", NeedsEverywhere(P::ManagePipelines), Short),
    ("/phasegate.v1.ReleaseService/TriggerRelease", Needs(P::Trigger), Short),
    ("/phasegate.v1.ReleaseService/GetRelease", Needs(P::Read), Short),
    ("/phasegate.v1.ReleaseService/ListReleases", Needs(P::Read), Short),
    ("/phasegate.v1.ReleaseService/ApprovePhase", Needs(P::Approve), Short),
    ("/phasegate.v1.ReleaseService/RejectPhase", Needs(P::Approve), Short),
    ("/phasegate.v1.ReleaseService/PauseRelease", Needs(P::Pause), Short),
    ("/phasegate.v1.ReleaseService/UnpauseRelease", Needs(P::Progress), Short),
    ("/phasegate.v1.ReleaseService/SkipPhase", Needs(P::Progress), Short),
    ("/phasegate.v1.ReleaseService/OverrideWindow", Needs(P::OverrideWindows), Short),
    ("/phasegate.v1.ReleaseService/AdjustBake", Needs(P::Progress), Short),
    ("/phasegate.v1.ReleaseService/AbortRelease", Needs(P::Abort), Short),
    ("/phasegate.v1.ReleaseService/FullRollout", Needs(P::FullRollout), Short),
    ("/phasegate.v1.ReleaseService/ReportGuardSignal", Needs(P::ReportGuard), Short),
    ("/phasegate.v1.ReleaseService/WaitRelease", Needs(P::Read), Long),
    ("/phasegate.v1.ReleaseService/WatchRelease", Needs(P::Read), Long),
    ("/phasegate.v1.ReleaseService/WatchReleases", Needs(P::Read), Long),
    ("/phasegate.v1.ReleaseService/ListReleaseEvents", Needs(P::Read), Short),
    // A server with a clock to turn is a rehearsal; who turns it moves every release.
    ("/phasegate.rehearsal.v1.ClockService/Advance", NeedsEverywhere(P::Administer), Short),
    ("/phasegate.rehearsal.v1.ClockService/Get", Known, Short),
    // Sets are shared by all who follow an environment, so nobody's scope is looked at.
    ("/flagd.sync.v1.FlagSyncService/SyncFlags", NeedsEverywhere(P::Evaluate), Long),
    ("/flagd.sync.v1.FlagSyncService/FetchAllFlags", NeedsEverywhere(P::Evaluate), Short),
    ("/flagd.sync.v1.FlagSyncService/GetMetadata", NeedsEverywhere(P::Evaluate), Short),
    ("/flagd.evaluation.v1.Service/ResolveAll", NeedsEverywhere(P::Evaluate), Short),
    ("/flagd.evaluation.v1.Service/ResolveBoolean", NeedsEverywhere(P::Evaluate), Short),
    ("/flagd.evaluation.v1.Service/ResolveString", NeedsEverywhere(P::Evaluate), Short),
    ("/flagd.evaluation.v1.Service/ResolveFloat", NeedsEverywhere(P::Evaluate), Short),
    ("/flagd.evaluation.v1.Service/ResolveInt", NeedsEverywhere(P::Evaluate), Short),
    ("/flagd.evaluation.v1.Service/ResolveObject", NeedsEverywhere(P::Evaluate), Short),
    ("/flagd.evaluation.v1.Service/EventStream", NeedsEverywhere(P::Evaluate), Long),
    ("/flagd.evaluation.v2.Service/ResolveBoolean", NeedsEverywhere(P::Evaluate), Short),
    ("/flagd.evaluation.v2.Service/ResolveString", NeedsEverywhere(P::Evaluate), Short),
    ("/flagd.evaluation.v2.Service/ResolveFloat", NeedsEverywhere(P::Evaluate), Short),
    ("/flagd.evaluation.v2.Service/ResolveInt", NeedsEverywhere(P::Evaluate), Short),
    ("/flagd.evaluation.v2.Service/ResolveObject", NeedsEverywhere(P::Evaluate), Short),
    ("/flagd.evaluation.v2.Service/EventStream", NeedsEverywhere(P::Evaluate), Long),
    // Load balancers and supervisors have no credential, and it says nothing else.
    ("/grpc.health.v1.Health/Check", Open, Short),
    ("/grpc.health.v1.Health/Watch", Open, Long),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Needs(P::Read), Long),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Needs(P::Read), Long),
];

/// Every route of HTTP: its method, its path (`{}` is one segment, `{*}` the rest), and what it takes.
/// `HEAD` is `GET`.
pub const ROUTES: &[(Method, &str, Rule, Length)] = &[
    (Method::GET, "/", Open, Short),
    // The style and the script of the page that says no.
    (Method::GET, "/assets/{}", Open, Short),
    // The way in; each looks for itself.
    (Method::GET, "/login", Open, Short),
    (Method::POST, "/login", Open, Short),
    (Method::GET, "/login/start", Open, Short),
    (Method::GET, "/login/callback", Open, Short),
    (Method::POST, "/logout", Open, Short),
    (Method::GET, "/caller", Known, Short),
    (Method::POST, "/caller", Known, Short),
    (Method::GET, "/releases", Needs(P::Read), Short),
    (Method::GET, "/releases/{}", Needs(P::Read), Short),
    (Method::GET, "/releases/{}/{}", Needs(P::Read), Short),
    // The call of the API that it becomes is judged as anybody's.
    (Method::POST, "/releases/{}/{}", Needs(P::Read), Short),
    (Method::GET, "/flags", Needs(P::Read), Short),
    (Method::GET, "/flags/{}", Needs(P::Read), Short),
    (Method::GET, "/flags/{}/release", Needs(P::Read), Short),
    (Method::POST, "/flags/{}/release", Needs(P::Trigger), Short),
    (Method::GET, "/flags/{}/kill", Needs(P::Read), Short),
    (Method::POST, "/flags/{}/kill", Needs(P::KillSwitch), Short),
    (Method::GET, "/flags/{}/revive", Needs(P::Read), Short),
    (Method::POST, "/flags/{}/revive", Needs(P::KillSwitch), Short),
    (Method::GET, "/pipelines", Needs(P::Read), Short),
    (Method::GET, "/pipelines/{}", Needs(P::Read), Short),
    (Method::GET, "/live/{*}", Needs(P::Read), Long),
    (Method::POST, "/ofrep/v1/evaluate/flags", NeedsEverywhere(P::Evaluate), Short),
    (Method::POST, "/ofrep/v1/evaluate/flags/{*}", NeedsEverywhere(P::Evaluate), Short),
    (Method::GET, "/ofrep/v1/events", NeedsEverywhere(P::Evaluate), Long),
];

/// The part of a path that selects an environment; what follows is a route of its own.
const ENVIRONMENTS: &str = "/environments/";
/// Where answers over HTTP are.
const OFREP: &str = "/ofrep/";

/// The row of a method of gRPC.
pub fn method(path: &str) -> Option<(&'static str, Rule, Length)> {
    METHODS.iter().find(|(known, ..)| *known == path).copied()
}

/// The row of a route of HTTP.
pub fn route(method: &Method, path: &str) -> Option<(&'static str, Rule, Length)> {
    let path = below_environment(path);
    // Browsers ask whether they may ask, without credentials; the answer holds nothing else.
    if method == Method::OPTIONS && path.starts_with(OFREP) {
        return Some((OFREP, Open, Short));
    }
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let found = ROUTES.iter().find(|(known, pattern, ..)| known == method && fits(pattern, path));
    found.map(|(_, pattern, rule, length)| (*pattern, *rule, *length))
}

/// True if a path belongs to OFREP.
pub fn is_ofrep(path: &str) -> bool {
    below_environment(path).starts_with(OFREP)
}

fn below_environment(path: &str) -> &str {
    let rest = path.strip_prefix(ENVIRONMENTS).and_then(|rest| rest.split_once('/'));
    match rest {
        Some((environment, _)) => &path[ENVIRONMENTS.len() + environment.len()..],
        None => path,
    }
}

fn fits(pattern: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    for known in pattern.split('/') {
        match (known, segments.next()) {
            // The rest, which may be empty.
            ("{*}", Some(_)) => return true,
            ("{}", Some(segment)) if !segment.is_empty() => {}
            (known, Some(segment)) if known == segment => {}
            (_, Some(_) | None) => return false,
        }
    }
    segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn only_health_is_open() {
        for (path, rule, _) in METHODS {
            assert_eq!(*rule == Open, path.starts_with("/grpc.health."), "{path}");
        }
    }

    /// The paths of the routers, as their sources have them.
    fn written(source: &str) -> BTreeSet<String> {
        let routes = source.split(".route(\"").skip(1);
        routes.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn every_route_that_is_served_has_a_row() {
        let sources = [include_str!("../web/mod.rs"), include_str!("../delivery/ofrep.rs")];
        let mut count = 0;
        for path in sources.into_iter().flat_map(written) {
            let concrete: Vec<&str> = path
                .split('/')
                .map(|segment| if segment.starts_with('{') { "some" } else { segment })
                .collect();
            let concrete = concrete.join("/");
            let known =
                [Method::GET, Method::POST].iter().any(|method| route(method, &concrete).is_some());
            assert!(known, "{path}");
            count += 1;
        }
        assert!(count > 15, "{count} routes were found");
    }

    #[test]
    fn a_path_fits_its_row_and_no_other() {
        let check = |method: Method, path: &str| route(&method, path).map(|(pattern, ..)| pattern);
        assert_eq!(check(Method::GET, "/releases"), Some("/releases"));
        assert_eq!(check(Method::HEAD, "/releases/r-1"), Some("/releases/{}"));
        assert_eq!(check(Method::POST, "/flags/f/kill"), Some("/flags/{}/kill"));
        assert_eq!(check(Method::GET, "/live/releases/r-1"), Some("/live/{*}"));
        let evaluate = Some("/ofrep/v1/evaluate/flags/{*}");
        assert_eq!(check(Method::POST, "/ofrep/v1/evaluate/flags/a/b"), evaluate);
        let nested = "/environments/prod/ofrep/v1/evaluate/flags/a";
        assert_eq!(check(Method::POST, nested), evaluate);
        assert!(is_ofrep(nested) && !is_ofrep("/flags/ofrep"));
        assert_eq!(check(Method::OPTIONS, nested), Some("/ofrep/"));
        for (method, path) in [
            (Method::POST, "/releases"),
            (Method::DELETE, "/flags/f"),
            (Method::OPTIONS, "/flags/f"),
            (Method::GET, "/flags/f/other"),
            (Method::GET, "/releases/"),
            (Method::GET, "/metrics"),
            (Method::GET, "//releases"),
            (Method::GET, "/environments/prod"),
        ] {
            assert_eq!(check(method, path), None, "{path}");
        }
    }
}
