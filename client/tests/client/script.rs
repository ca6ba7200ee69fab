//! A server that does what a script says: answers, refuses, sends so many messages of a stream and
//! then ends it, falls silent, or cuts the connection. It writes down every call.
//!
//! It implements the generated traits, so names and types of the contract are the real ones.

use futures_util::{Stream, StreamExt as _};
use phasegate_api::{
    rehearsal::{self, clock_service_server},
    v1::{
        self,
        flag_service_server::FlagService,
        flag_service_server::FlagServiceServer,
        pipeline_service_server::{PipelineService, PipelineServiceServer},
        release_service_server::{ReleaseService, ReleaseServiceServer},
    },
};
use phasegate_client::{Client, Connect, Retry};
use prost::Message;
use std::{
    collections::VecDeque,
    future::Future,
    net::{Shutdown, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::net::{TcpListener, TcpStream};
use tonic::{Code, Request, Response, Status, transport::Server};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Longer than anything in a test takes, shorter than anybody wants to wait for a test that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What a call gets.
pub(crate) enum Reply {
    /// A message, encoded.
    Answer(Vec<u8>),
    Refusal(Status),
    /// Nothing, for ever.
    Silence,
    /// The connection is cut.
    Cut,
}

/// What a stream does next.
pub(crate) enum Step<T> {
    Send(T),
    End(Status),
    /// Nothing more, for ever.
    Silence,
}

/// A call that came.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) rpc: &'static str,
    pub(crate) principal: Option<String>,
    pub(crate) groups: Option<String>,
    pub(crate) authorization: Option<String>,
    pub(crate) timeout: Option<String>,
    body: Vec<u8>,
}

impl Call {
    pub(crate) fn request<Q: Message + Default>(&self) -> Q {
        Q::decode(&self.body[..]).unwrap()
    }
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    replies: VecDeque<Reply>,
    release_streams: VecDeque<Vec<Step<v1::WatchReleaseResponse>>>,
    releases_streams: VecDeque<Vec<Step<v1::WatchReleasesResponse>>>,
    connections: Vec<std::net::TcpStream>,
}

/// The server. Ends with the runtime of its test.
#[derive(Clone)]
pub(crate) struct Scripted {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Scripted {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scripted = Self { address, state: Arc::default() };
        let state = Arc::clone(&scripted.state);
        let connections = async_stream::stream! {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                let connection = connection.into_std().unwrap();
                state.lock().unwrap().connections.push(connection.try_clone().unwrap());
                yield TcpStream::from_std(connection);
            }
        };
        let router = Server::builder()
            .add_service(FlagServiceServer::new(scripted.clone()))
            .add_service(PipelineServiceServer::new(scripted.clone()))
            .add_service(ReleaseServiceServer::new(scripted.clone()))
            .add_service(clock_service_server::ClockServiceServer::new(scripted.clone()));
        tokio::spawn(router.serve_with_incoming(connections));
        scripted
    }

    /// A connection to it, without waits before a call is made again.
    pub(crate) fn connect(&self) -> Connect {
        let retry = Retry { attempts: 5, first: Duration::ZERO, longest: Duration::ZERO };
        Client::connect(format!("http://{}", self.address)).retry(retry).timeout(PATIENCE)
    }

    pub(crate) async fn client(&self) -> Client {
        self.connect().await.unwrap()
    }

    fn state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap())
    }

    /// The next call that is not a watch gets this.
    pub(crate) fn reply(&self, reply: Reply) -> &Self {
        self.state(|state| state.replies.push_back(reply));
        self
    }

    pub(crate) fn answer(&self, message: impl Message) -> &Self {
        self.reply(Reply::Answer(message.encode_to_vec()))
    }

    /// The next WatchRelease does this.
    pub(crate) fn release_stream(
        &self,
        steps: impl IntoIterator<Item = Step<v1::WatchReleaseResponse>>,
    ) -> &Self {
        self.state(|state| state.release_streams.push_back(steps.into_iter().collect()));
        self
    }

    /// The next WatchReleases does this.
    pub(crate) fn releases_stream(
        &self,
        steps: impl IntoIterator<Item = Step<v1::WatchReleasesResponse>>,
    ) -> &Self {
        self.state(|state| state.releases_streams.push_back(steps.into_iter().collect()));
        self
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state(|state| state.calls.clone())
    }

    /// How many connections were made so far.
    pub(crate) fn connections(&self) -> usize {
        self.state(|state| state.connections.len())
    }

    /// Cuts every connection.
    pub(crate) fn cut(&self) {
        self.state(|state| {
            for connection in &state.connections {
                // One that is gone already is as good.
                let _ = connection.shutdown(Shutdown::Both);
            }
        });
    }

    fn record<Q: Message>(&self, rpc: &'static str, request: &Request<Q>) {
        let text =
            |key| request.metadata().get(key).map(|value| value.to_str().unwrap().to_owned());
        let call = Call {
            rpc,
            principal: text("phasegate-principal"),
            groups: text("phasegate-groups"),
            authorization: text("authorization"),
            timeout: text("grpc-timeout"),
            body: request.get_ref().encode_to_vec(),
        };
        self.state(|state| state.calls.push(call));
    }

    async fn unary<Q: Message, A: Message + Default>(
        &self,
        rpc: &'static str,
        request: Request<Q>,
    ) -> Result<Response<A>, Status> {
        self.record(rpc, &request);
        match self.state(|state| state.replies.pop_front()) {
            Some(Reply::Answer(bytes)) => Ok(Response::new(A::decode(&bytes[..]).unwrap())),
            Some(Reply::Refusal(status)) => Err(status),
            Some(Reply::Silence) => std::future::pending().await,
            Some(Reply::Cut) => {
                self.cut();
                std::future::pending().await
            }
            None => Err(Status::unimplemented(format!("{rpc} was not in the script"))),
        }
    }

    fn stream<T: Send + 'static>(steps: Option<Vec<Step<T>>>) -> Messages<T> {
        let absent = || vec![Step::End(Status::unimplemented("the stream was not in the script"))];
        let steps = steps.unwrap_or_else(absent);
        let messages = async_stream::stream! {
            for step in steps {
                match step {
                    Step::Send(message) => yield Ok(message),
                    Step::End(status) if status.code() == Code::Ok => return,
                    Step::End(status) => {
                        yield Err(status);
                        return;
                    }
                    Step::Silence => std::future::pending::<()>().await,
                }
            }
        };
        messages.boxed()
    }
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Answered<'t, A> = Pin<Box<dyn Future<Output = Result<Response<A>, Status>> + Send + 't>>;

/// A refusal as the server makes it.
pub(crate) fn refused(code: Code, reason: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, "phasegate.v1", []);
    Status::with_error_details(code, format!("because of {reason}"), details)
}

/// The same, with a time to wait.
pub(crate) fn refused_for(code: Code, reason: &str, wait: Duration) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, "phasegate.v1", []);
    details.set_retry_info(Some(wait));
    Status::with_error_details(code, format!("because of {reason}"), details)
}

/// What the attribute macro of tonic makes of an async method, for methods that differ in names
/// only.
macro_rules! unary {
    ($package:ident: $($rpc:ident($request:ident) -> $answer:ident;)*) => {$(
        fn $rpc<'a, 't>(
            &'a self,
            request: Request<$package::$request>,
        ) -> Answered<'t, $package::$answer>
        where
            'a: 't,
            Self: 't,
        {
            Box::pin(self.unary(stringify!($rpc), request))
        }
    )*};
}

impl FlagService for Scripted {
    unary! {
        v1:
        create_flag(CreateFlagRequest) -> CreateFlagResponse;
        get_flag(GetFlagRequest) -> GetFlagResponse;
        list_flags(ListFlagsRequest) -> ListFlagsResponse;
        update_flag(UpdateFlagRequest) -> UpdateFlagResponse;
        delete_flag(DeleteFlagRequest) -> DeleteFlagResponse;
        set_kill_switch(SetKillSwitchRequest) -> SetKillSwitchResponse;
        evaluate_flag(EvaluateFlagRequest) -> EvaluateFlagResponse;
    }
}

impl PipelineService for Scripted {
    unary! {
        v1:
        create_pipeline(CreatePipelineRequest) -> CreatePipelineResponse;
        get_pipeline(GetPipelineRequest) -> GetPipelineResponse;
        list_pipelines(ListPipelinesRequest) -> ListPipelinesResponse;
        update_pipeline(UpdatePipelineRequest) -> UpdatePipelineResponse;
        delete_pipeline(DeletePipelineRequest) -> DeletePipelineResponse;
    }
}

impl clock_service_server::ClockService for Scripted {
    unary! {
        rehearsal:
        advance(AdvanceRequest) -> AdvanceResponse;
        get(GetRequest) -> GetResponse;
    }
}

impl ReleaseService for Scripted {
    unary! {
        v1:
        trigger_release(TriggerReleaseRequest) -> TriggerReleaseResponse;
        get_release(GetReleaseRequest) -> GetReleaseResponse;
        list_releases(ListReleasesRequest) -> ListReleasesResponse;
        approve_phase(ApprovePhaseRequest) -> ApprovePhaseResponse;
        reject_phase(RejectPhaseRequest) -> RejectPhaseResponse;
        pause_release(PauseReleaseRequest) -> PauseReleaseResponse;
        unpause_release(UnpauseReleaseRequest) -> UnpauseReleaseResponse;
        skip_phase(SkipPhaseRequest) -> SkipPhaseResponse;
        override_window(OverrideWindowRequest) -> OverrideWindowResponse;
        adjust_bake(AdjustBakeRequest) -> AdjustBakeResponse;
        abort_release(AbortReleaseRequest) -> AbortReleaseResponse;
        full_rollout(FullRolloutRequest) -> FullRolloutResponse;
        report_guard_signal(ReportGuardSignalRequest) -> ReportGuardSignalResponse;
        wait_release(WaitReleaseRequest) -> WaitReleaseResponse;
        list_release_events(ListReleaseEventsRequest) -> ListReleaseEventsResponse;
    }

    type WatchReleaseStream = Messages<v1::WatchReleaseResponse>;

    fn watch_release<'a, 't>(
        &'a self,
        request: Request<v1::WatchReleaseRequest>,
    ) -> Answered<'t, Self::WatchReleaseStream>
    where
        'a: 't,
        Self: 't,
    {
        self.record("watch_release", &request);
        let steps = self.state(|state| state.release_streams.pop_front());
        let stream = Self::stream(steps);
        Box::pin(async move { Ok(Response::new(stream)) })
    }

    type WatchReleasesStream = Messages<v1::WatchReleasesResponse>;

    fn watch_releases<'a, 't>(
        &'a self,
        request: Request<v1::WatchReleasesRequest>,
    ) -> Answered<'t, Self::WatchReleasesStream>
    where
        'a: 't,
        Self: 't,
    {
        self.record("watch_releases", &request);
        let steps = self.state(|state| state.releases_streams.pop_front());
        let stream = Self::stream(steps);
        Box::pin(async move { Ok(Response::new(stream)) })
    }
}
