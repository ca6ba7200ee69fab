//! Who may do what, over a real socket: callers with tokens, a policy in a file, and what each is
//! answered.

mod acting;
mod matrix;
mod pages;
mod scopes;
mod streams;

use crate::server::{Server, config, create_pipeline, trigger};
use phasegate_api::v1::{
    self, access_service_client::AccessServiceClient, flag_service_client::FlagServiceClient,
    pipeline_service_client::PipelineServiceClient, release_service_client::ReleaseServiceClient,
};
use phasegate_engine::id::{Group, Principal};
use phasegate_server::{
    access::{
        Refusals, Refused,
        identity::{Authenticate, Credentials, Identity, Kind, Unauthenticated, Vouched},
    },
    app::Parts,
    config::Config,
};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
};
use tempfile::TempDir;
use tokio::sync::watch;
use tonic::{
    Code, Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use tonic_types::StatusExt as _;

/// Believes bearer tokens that it knows.
#[derive(Debug)]
pub(crate) struct Tokens {
    known: Mutex<BTreeMap<String, Identity>>,
    generation: watch::Sender<u64>,
}

impl Tokens {
    fn new() -> Self {
        Self { known: Mutex::default(), generation: watch::Sender::new(0) }
    }

    /// A person, with their groups.
    pub(crate) fn person(&self, name: &str, groups: &[&str]) {
        self.add(name, groups, Kind::Person);
    }

    /// A program.
    pub(crate) fn service(&self, name: &str) {
        self.add(name, &[], Kind::Service);
    }

    fn add(&self, name: &str, groups: &[&str], kind: Kind) {
        let identity = Identity {
            principal: Principal::new(format!("token:{name}")),
            name: Some(name.to_owned()),
            groups: groups.iter().copied().map(Group::new).collect(),
            kind,
            until: None,
            vouched: Vouched::Token,
        };
        self.known.lock().unwrap().insert(name.to_owned(), identity);
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// From here on it is nobody's.
    pub(crate) fn revoke(&self, name: &str) {
        self.known.lock().unwrap().remove(name);
        self.generation.send_modify(|generation| *generation += 1);
    }
}

impl Authenticate for Tokens {
    fn authenticate(
        &self,
        credentials: &Credentials<'_>,
    ) -> Result<Option<Identity>, Unauthenticated> {
        let Some(value) = credentials.headers.get("authorization") else { return Ok(None) };
        let token = value.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
        let known = self.known.lock().unwrap();
        token
            .and_then(|token| known.get(token))
            .cloned()
            .map(Some)
            .ok_or(Unauthenticated::UnknownToken)
    }

    fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}

/// Remembers who was refused at the gate.
#[derive(Debug, Default)]
pub(crate) struct Recorder(pub(crate) Mutex<Vec<Refused>>);

impl Refusals for Recorder {
    fn refused(&self, refused: Refused) {
        self.0.lock().unwrap().push(refused);
    }
}

/// A server that knows callers, and does what its policy allows.
pub(crate) struct Guarded {
    pub(crate) server: Server,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) refusals: Arc<Recorder>,
    policy: PathBuf,
    _dir: TempDir,
}

impl Guarded {
    /// With a policy. `root` is an admin with every separate permission apart from `act_as`.
    pub(crate) async fn start(policy: &str) -> Self {
        Self::start_with(config(), policy).await
    }

    /// The same, configured otherwise.
    pub(crate) async fn start_with(mut config: Config, policy: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.yaml");
        std::fs::write(&path, with_root(policy)).unwrap();
        config.policy = Some(path.clone());
        // Tests ask in a loop until something is so.
        config.edge.rates.control = 1_000_000.try_into().unwrap();
        let (tokens, refusals) = (Arc::new(Tokens::new()), Arc::new(Recorder::default()));
        tokens.person("root", &[]);
        let parts = Parts {
            who: Some(Arc::clone(&tokens) as Arc<dyn Authenticate>),
            refusals: Some(Arc::clone(&refusals) as Arc<dyn Refusals>),
            ..Parts::of(&config)
        };
        let server = Server::start_unready(config, parts).await;
        server.serves().await;
        Self { server, tokens, refusals, policy: path, _dir: dir }
    }

    /// Writes another policy. It is in force a little later.
    pub(crate) fn rewrite(&self, policy: &str) {
        std::fs::write(&self.policy, with_root(policy)).unwrap();
    }

    /// A flag `pay-a` of the team payments and `web-a` of the team web, and the pipeline `p`.
    pub(crate) async fn with_flags(self) -> Self {
        let root = self.as_("root").await;
        root.pipelines().create_pipeline(create_pipeline()).await.unwrap();
        for (id, team) in [("pay-a", "payments"), ("web-a", "web")] {
            root.flags().create_flag(create_flag_of(id, team)).await.unwrap();
        }
        self
    }

    /// And a release of each, `pay-r` and `web-r`.
    pub(crate) async fn with_releases(self) -> Self {
        let root = self.as_("root").await;
        for (release, flag) in [("pay-r", "pay-a"), ("web-r", "web-a")] {
            root.releases().trigger_release(trigger_of(release, flag)).await.unwrap();
        }
        self
    }

    pub(crate) async fn as_(&self, name: &str) -> Clients {
        self.with(vec![("authorization", format!("Bearer {name}"))]).await
    }

    pub(crate) async fn as_nobody(&self) -> Clients {
        self.with(Vec::new()).await
    }

    pub(crate) async fn with(&self, headers: Vec<(&'static str, String)>) -> Clients {
        Clients(InterceptedService::new(self.server.channel().await, Headers(headers)))
    }
}

fn with_root(policy: &str) -> String {
    format!(
        "bindings:\n- principals: ['token:root']\n  roles: [admin]\n  \
         permissions: [bypass_approval, override_windows]\n{policy}"
    )
}

pub(crate) fn create_flag_of(id: &str, team: &str) -> v1::CreateFlagRequest {
    let mut request = crate::server::create_flag(id);
    let flag = request.flag.as_mut().unwrap();
    flag.labels = [("team".to_owned(), team.to_owned())].into();
    request
}

pub(crate) fn trigger_of(release: &str, flag: &str) -> v1::TriggerReleaseRequest {
    let mut request = trigger(release);
    request.release.as_mut().unwrap().flag = format!("flags/{flag}");
    request
}

/// Puts headers into every call.
#[derive(Clone, Debug)]
pub(crate) struct Headers(Vec<(&'static str, String)>);

impl Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for (key, value) in &self.0 {
            request.metadata_mut().insert(*key, value.parse().unwrap());
        }
        Ok(request)
    }
}

pub(crate) type Service = InterceptedService<Channel, Headers>;

/// Clients of somebody.
#[derive(Clone, Debug)]
pub(crate) struct Clients(pub(crate) Service);

impl Clients {
    pub(crate) fn flags(&self) -> FlagServiceClient<Service> {
        FlagServiceClient::new(self.0.clone())
    }

    pub(crate) fn pipelines(&self) -> PipelineServiceClient<Service> {
        PipelineServiceClient::new(self.0.clone())
    }

    pub(crate) fn releases(&self) -> ReleaseServiceClient<Service> {
        ReleaseServiceClient::new(self.0.clone())
    }

    pub(crate) fn access(&self) -> AccessServiceClient<Service> {
        AccessServiceClient::new(self.0.clone())
    }
}

/// The reason of an error, and the permission that is missing if one is.
pub(crate) fn reason(status: &Status) -> (String, Option<String>) {
    let info = status.get_details_error_info();
    let info = info.unwrap_or_else(|| panic!("no reason: {status:?}"));
    (info.reason, info.metadata.get("permission").cloned())
}

/// That an answer is a lack of this permission.
pub(crate) fn lacks<T: std::fmt::Debug>(answer: Result<T, Status>, permission: &str) {
    let status = answer.expect_err(permission);
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    assert_eq!(reason(&status), ("PERMISSION_MISSING".into(), Some(permission.into())));
}

/// That an answer is that there is no such thing.
pub(crate) fn missing<T: std::fmt::Debug>(answer: Result<T, Status>) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    assert_eq!(reason(&status).0, "RESOURCE_NOT_FOUND");
}
