//! The connection: where to, as whom, how patiently.

use crate::{
    Error, Retry,
    credential::{Ready, Tls, Token},
    error::described,
    rehearsal::clock_service_client::ClockServiceClient,
    retry::Backoff,
    v1::{
        access_service_client::AccessServiceClient, audit_service_client::AuditServiceClient,
        flag_service_client::FlagServiceClient,
        notification_service_client::NotificationServiceClient,
        pipeline_service_client::PipelineServiceClient,
        release_service_client::ReleaseServiceClient,
    },
    watch::Channels,
};
use std::{
    future::{Future, IntoFuture},
    net::IpAddr,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{
    Code, Request, Response, Status,
    metadata::{Ascii, MetadataMap, MetadataValue},
    transport::{Channel, Endpoint},
};

/// Metadata key of the caller.
const PRINCIPAL: &str = "phasegate-principal";
/// Metadata key of the caller's groups, comma-separated.
const GROUPS: &str = "phasegate-groups";
/// Metadata key of the token.
const AUTHORIZATION: &str = "authorization";
/// A connection that does not come about in this time will not.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that does not answer a ping for so long is gone: how a cut cable is found while calls are
/// outstanding.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// A client of one server. Cheap to clone; clones share connections.
///
/// A connection that is lost is made again when it is next needed.
#[derive(Clone, Debug)]
pub struct Client {
    calls: Channel,
    pub(crate) watches: Arc<Channels>,
    pub(crate) settings: Arc<Settings>,
}

/// What every call of a client has in common.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    metadata: Vec<(&'static str, MetadataValue<Ascii>)>,
    token: Option<Ready>,
    timeout: Duration,
    pub(crate) retry: Retry,
    pub(crate) silence: Duration,
}

/// A connection to be made; see [`Client::connect`]. Awaiting it makes it.
#[derive(Clone)]
#[must_use = "awaiting it connects"]
pub struct Connect {
    address: String,
    token: Option<Token>,
    plain_token: PlainToken,
    tls: Tls,
    principal: Option<String>,
    groups: Vec<String>,
    timeout: Duration,
    retry: Retry,
    silence: Duration,
}

/// Whether a token may be sent where others can read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PlainToken {
    Refused,
    Allowed,
}

impl std::fmt::Debug for Connect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to a server, such as `http://127.0.0.1:7433` or `https://gate.example.com:7433`.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), phasegate_client::Error> {
    /// use phasegate_client::Client;
    ///
    /// let client = Client::connect("http://127.0.0.1:7433")
    ///     .principal("ann@example.com")
    ///     .groups(["sre", "payments"])
    ///     .await?;
    /// println!("{:?}", client.get_flag("flags/checkout-v2").await?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect(address: impl Into<String>) -> Connect {
        Connect {
            address: address.into(),
            token: None,
            plain_token: PlainToken::Refused,
            tls: Tls::default(),
            principal: None,
            groups: Vec::new(),
            timeout: Duration::from_secs(30),
            retry: Retry::default(),
            silence: Duration::from_secs(45),
        }
    }

    fn new(calls: Channel, endpoint: Endpoint, settings: Settings) -> Self {
        let watches = Arc::new(Channels::new(endpoint));
        Self { calls, watches, settings: Arc::new(settings) }
    }

    /// The connection of calls.
    pub(crate) fn calls(&self) -> Channel {
        self.calls.clone()
    }

    pub(crate) fn flags(&self) -> FlagServiceClient<Channel> {
        FlagServiceClient::new(self.calls.clone())
    }

    pub(crate) fn audit(&self) -> AuditServiceClient<Channel> {
        AuditServiceClient::new(self.calls.clone())
    }

    pub(crate) fn pipelines(&self) -> PipelineServiceClient<Channel> {
        PipelineServiceClient::new(self.calls.clone())
    }

    pub(crate) fn releases(&self) -> ReleaseServiceClient<Channel> {
        ReleaseServiceClient::new(self.calls.clone())
    }

    pub(crate) fn notifications(&self) -> NotificationServiceClient<Channel> {
        NotificationServiceClient::new(self.calls.clone())
    }

    pub(crate) fn access(&self) -> AccessServiceClient<Channel> {
        AccessServiceClient::new(self.calls.clone())
    }

    pub(crate) fn clock(&self) -> ClockServiceClient<Channel> {
        ClockServiceClient::new(self.calls.clone())
    }

    /// Makes a call that may be made again: it changes nothing, or carries a request id.
    pub(crate) async fn call<Q, A, F>(
        &self,
        request: Q,
        send: impl Fn(Request<Q>) -> F,
    ) -> Result<A, Error>
    where
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        self.patient_call(Duration::ZERO, request, send).await
    }

    /// The same, for a call that the server may take so much longer to answer.
    pub(crate) async fn patient_call<Q, A, F>(
        &self,
        longer: Duration,
        request: Q,
        send: impl Fn(Request<Q>) -> F,
    ) -> Result<A, Error>
    where
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let time = self.settings.timeout.saturating_add(longer);
        let deadline = Instant::now() + time;
        let mut backoff = Backoff::new(self.settings.retry);
        let mut attempt = 1;
        loop {
            let error = match self.attempt(deadline, request.clone(), &send).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let wait = backoff.next(&error);
            let in_time = deadline.checked_duration_since(Instant::now() + wait).is_some();
            if !error.is_passing() || attempt >= self.settings.retry.attempts || !in_time {
                return Err(error);
            }
            tracing::debug!(%error, attempt, ?wait, "calling again");
            sleep(wait).await;
            attempt += 1;
        }
    }

    /// Makes a call that must not be made again.
    pub(crate) async fn call_once<Q, A, F>(
        &self,
        request: Q,
        send: impl FnOnce(Request<Q>) -> F,
    ) -> Result<A, Error>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        self.attempt(Instant::now() + self.settings.timeout, request, send).await
    }

    async fn attempt<Q, A, F>(
        &self,
        deadline: Instant,
        request: Q,
        send: impl FnOnce(Request<Q>) -> F,
    ) -> Result<A, Error>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let mut request = Request::new(request);
        self.settings.sign(request.metadata_mut());
        // The server is told too, so that it need not finish what nobody waits for.
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        match timeout_at(deadline, send(request)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(status.into()),
            Err(_) => {
                Err(Error::local(Code::DeadlineExceeded, "the server did not answer in time"))
            }
        }
    }
}

impl Settings {
    /// Whether the next call may have another credential than the last: a token's file is read again.
    pub(crate) fn may_renew(&self) -> bool {
        matches!(self.token, Some(Ready::File(_)))
    }

    /// Says who calls.
    pub(crate) fn sign(&self, metadata: &mut MetadataMap) {
        for (key, value) in &self.metadata {
            metadata.insert(*key, value.clone());
        }
        if let Some(token) = &self.token {
            metadata.insert(AUTHORIZATION, token.value());
        }
    }
}

impl Connect {
    /// A bearer token, by which the server knows the caller: a static one, or a JWT of an issuer that it
    /// trusts.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Token::Given(token.into()));
        self
    }

    /// The same, from a file that is read again whenever it has changed.
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.token = Some(Token::File(path.into()));
        self
    }

    /// Sends a token in plain text to another machine, too, where whoever is on the way can take it.
    /// Without this it is sent over `https`, or on this machine.
    pub fn insecure_plaintext_token(mut self) -> Self {
        self.plain_token = PlainToken::Allowed;
        self
    }

    /// The authorities that the server's certificate has to be from, in PEM, instead of those of the
    /// operating system.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls.authorities = Some(path.into());
        self
    }

    /// A certificate with its chain, and its key, in PEM, by which the server knows the caller.
    pub fn certificate_files(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.tls.certificate = Some((certificate.into(), key.into()));
        self
    }

    /// Who calls, where the server believes it: on loopback without an authentication file. Without it
    /// such a server takes the caller for `anonymous`.
    pub fn principal(mut self, principal: impl Into<String>) -> Self {
        self.principal = Some(principal.into());
        self
    }

    /// The groups the caller is in, which approvals are counted by.
    pub fn groups(mut self, groups: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.groups = groups.into_iter().map(Into::into).collect();
        self
    }

    /// How long one call may take, all its attempts together. Watches have no such limit. Default
    /// 30 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How calls are made again.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// A watch that hears nothing for so long takes its connection for dead. The server is never
    /// silent for more than 15 s. Default 45 s.
    pub fn silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// A client that connects when it is first used. Fails only if the address, the principal or a
    /// group cannot be sent.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn lazy(self) -> Result<Client, Error> {
        let (endpoint, settings) = (self.endpoint()?, self.settings()?);
        Ok(Client::new(endpoint.connect_lazy(), endpoint, settings))
    }

    fn endpoint(&self) -> Result<Endpoint, Error> {
        let wrong = || {
            let message = format!("{:?} is no address such as http://127.0.0.1:7433", self.address);
            Error::local(Code::InvalidArgument, message)
        };
        let endpoint = Endpoint::from_shared(self.address.clone()).map_err(|_| wrong())?;
        // Without these it would only fail at the first call, and not say why.
        let uri = endpoint.uri();
        let endpoint = match (uri.scheme_str(), uri.host()) {
            (Some("https"), Some(_)) => {
                endpoint.tls_config(self.tls.config()?).map_err(|error| {
                    let message =
                        format!("there is no TLS with these files: {}", described(&error));
                    Error::local(Code::InvalidArgument, message)
                })?
            }
            (Some("http"), Some(host)) => {
                if self.token.is_some()
                    && self.plain_token == PlainToken::Refused
                    && !is_loopback(host)
                {
                    let message = format!(
                        "a token is not sent to {host} over http, where others can read it; use https"
                    );
                    return Err(Error::local(Code::InvalidArgument, message));
                }
                if self.tls.authorities.is_some() || self.tls.certificate.is_some() {
                    let message = "certificates need an https address";
                    return Err(Error::local(Code::InvalidArgument, message));
                }
                endpoint
            }
            _ => return Err(wrong()),
        };
        Ok(endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT))
    }

    fn settings(&self) -> Result<Settings, Error> {
        let mut metadata = Vec::new();
        if let Some(principal) = &self.principal {
            metadata.push((PRINCIPAL, header("principal", principal)?));
        }
        if let Some(group) = self.groups.iter().find(|group| group.contains(',')) {
            let message = format!("the group {group:?} must not contain a comma");
            return Err(Error::local(Code::InvalidArgument, message));
        }
        if !self.groups.is_empty() {
            metadata.push((GROUPS, header("groups", &self.groups.join(","))?));
        }
        let token = self.token.as_ref().map(Token::ready).transpose()?;
        let &Self { timeout, retry, silence, .. } = self;
        Ok(Settings { metadata, token, timeout, retry, silence })
    }
}

/// This machine, as it is written: a name is not looked up.
fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Metadata is printable ASCII; anything else would be refused without a word about which key.
fn header(what: &str, text: &str) -> Result<MetadataValue<Ascii>, Error> {
    let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    match text.parse() {
        Ok(value) if printable => Ok(value),
        Ok(_) | Err(_) => {
            let message = format!("the {what} {text:?} must be printable ASCII");
            Err(Error::local(Code::InvalidArgument, message))
        }
    }
}

impl IntoFuture for Connect {
    type Output = Result<Client, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (endpoint, settings) = (self.endpoint()?, self.settings()?);
            let calls = endpoint.connect().await.map_err(|error| {
                let message = format!("cannot connect to {}: {}", self.address, described(&error));
                Error::local(Code::Unavailable, message)
            })?;
            Ok(Client::new(calls, endpoint, settings))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_goes_over_tls_or_stays_on_this_machine() {
        let connect = |address: &str| Client::connect(address).token("pgt_x");
        for good in
            ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1", "https://a.example"]
        {
            assert!(connect(good).lazy().is_ok(), "{good}");
        }
        for bad in ["http://10.0.0.1:1", "http://a.example", "http://127.0.0.1.example:1"] {
            let refused = connect(bad).lazy().unwrap_err();
            assert!(refused.message.contains("use https"), "{bad}: {}", refused.message);
            assert!(connect(bad).insecure_plaintext_token().lazy().is_ok());
            assert!(Client::connect(bad).lazy().is_ok());
        }
        let unread = Client::connect("https://a.example").ca_file("/none").lazy().unwrap_err();
        assert!(unread.message.contains("/none"));
        assert!(Client::connect("http://a.example").ca_file("/none").lazy().is_err());
        assert!(!format!("{:?}", connect("https://a.example")).contains("pgt_x"));
    }
}
