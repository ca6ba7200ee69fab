//! `flagd.evaluation.v2` and `v1`: answers, for providers that ask for each of them.

use super::{
    Delivery,
    answer::{self, Answer, Asker},
    flag_set::{self, FlagSet, Scope},
    hub::{Follower, Purpose},
    refusal::Refusal,
};
use async_stream::stream;
use futures_util::{Stream, StreamExt as _, stream::BoxStream};
use phasegate_api::{
    convert,
    flagd::{evaluation as v2, evaluation_v1 as v1},
};
use phasegate_engine::{
    flag::FlagKind,
    id::FlagId,
    value::{Object, Value},
};
use prost_types::Struct;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;
use tonic::{Request, Response, Status, metadata::MetadataMap};

impl Delivery {
    /// The answer of a flag of a kind.
    fn resolve(
        &self,
        metadata: &MetadataMap,
        key: &str,
        context: Option<Struct>,
        kind: FlagKind,
    ) -> Result<Answer, Refusal> {
        let state = self.hub.driver()?.state();
        let environment = self.selected(metadata, "")?;
        let attributes = convert::evaluation_context(context)?;
        self.hub.check_environment(&state, &environment)?;
        answer::check_kind(&state, key, Some(kind), asked(kind))?;
        let bucketing = self.api.bucketing();
        let asker = Asker { environment: &environment, attributes: &attributes, bucketing };
        answer::answer(&state, key, asker)
    }

    /// What is said to a provider that asks for a type that no flag has.
    fn no_flag_is(&self, metadata: &MetadataMap, key: &str, asked: &'static str) -> Status {
        let check = || -> Result<(), Refusal> {
            let state = self.hub.driver()?.state();
            let environment = self.selected(metadata, "")?;
            self.hub.check_environment(&state, &environment)?;
            answer::check_kind(&state, key, None, asked)
        };
        match check() {
            Err(refusal) => refusal.into(),
            Ok(()) => unreachable!("no kind of flag is none"),
        }
    }

    fn events(
        &self,
        metadata: &MetadataMap,
    ) -> Result<impl Stream<Item = Happened> + use<>, Refusal> {
        let any = || Scope::Any(self.config.environments());
        let scope = self.given(metadata, "")?.map_or_else(any, Scope::Of);
        let follower = self.hub.follow(scope, Purpose::Changes)?;
        Ok(events(follower, self.config.keep_alive))
    }
}

fn asked(kind: FlagKind) -> &'static str {
    match kind {
        FlagKind::FeatureGate => "a boolean",
        FlagKind::DynamicConfig => "an object",
    }
}

/// What a stream of events says.
enum Happened {
    Ready,
    Changed(Vec<FlagId>),
    Nothing,
    Ended(Refusal),
}

/// Ready at once, then the flags that change, and a sign of life in between.
///
/// Right after the first word every flag is named once: what changed between this stream and the one
/// before it was told to nobody, and providers keep static answers until a flag is named.
fn events(mut follower: Follower, keep_alive: Duration) -> impl Stream<Item = Happened> {
    stream! {
        let mut last: Option<Arc<FlagSet>> = None;
        loop {
            match timeout(keep_alive, follower.next()).await {
                Err(_) => yield Happened::Nothing,
                Ok(Err(end)) => {
                    yield Happened::Ended(end);
                    return;
                }
                Ok(Ok(set)) => {
                    match &last {
                        None => {
                            yield Happened::Ready;
                            yield Happened::Changed(set.ids().cloned().collect());
                        }
                        Some(before) => {
                            let changed = set.changed_since(before);
                            yield Happened::Changed(changed.into_iter().cloned().collect());
                        }
                    }
                    last = Some(set);
                }
            }
        }
    }
}

/// An event as both versions have it: its type, and its data.
fn event(happened: Happened) -> Result<(&'static str, Option<Struct>), Status> {
    match happened {
        Happened::Ready => Ok(("provider_ready", None)),
        Happened::Nothing => Ok(("keep_alive", None)),
        Happened::Ended(end) => Err(end.into()),
        Happened::Changed(flags) => {
            let update = Object::from([("type".into(), Value::String("update".into()))]);
            let flag = |id: FlagId| (id.as_str().into(), Value::Object(update.clone()));
            let flags = Value::Object(flags.into_iter().map(flag).collect());
            let data = convert::object_to_wire(&Object::from([("flags".into(), flags)]));
            Ok(("configuration_change", Some(data)))
        }
    }
}

/// What a gate answers, which was asked for as one.
fn truth(answer: &Answer) -> bool {
    matches!(answer.value, Value::Bool(true))
}

/// What a config answers, which was asked for as one.
fn members(answer: &Answer) -> Struct {
    match &answer.value {
        Value::Object(object) => convert::object_to_wire(object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::List(_) => {
            Struct::default()
        }
    }
}

fn metadata_of(answer: &Answer) -> Option<Struct> {
    Some(convert::object_to_wire(&answer.metadata))
}

#[tonic::async_trait]
impl v2::service_server::Service for Delivery {
    type EventStreamStream = BoxStream<'static, Result<v2::EventStreamResponse, Status>>;

    async fn resolve_boolean(
        &self,
        request: Request<v2::ResolveBooleanRequest>,
    ) -> Result<Response<v2::ResolveBooleanResponse>, Status> {
        let (metadata, _, asked) = request.into_parts();
        let answer =
            self.resolve(&metadata, &asked.flag_key, asked.context, FlagKind::FeatureGate)?;
        Ok(Response::new(v2::ResolveBooleanResponse {
            value: Some(truth(&answer)),
            reason: answer.reason.as_str().to_owned(),
            metadata: metadata_of(&answer),
            variant: Some(answer.variant),
        }))
    }

    async fn resolve_object(
        &self,
        request: Request<v2::ResolveObjectRequest>,
    ) -> Result<Response<v2::ResolveObjectResponse>, Status> {
        let (metadata, _, asked) = request.into_parts();
        let answer =
            self.resolve(&metadata, &asked.flag_key, asked.context, FlagKind::DynamicConfig)?;
        Ok(Response::new(v2::ResolveObjectResponse {
            value: Some(members(&answer)),
            reason: answer.reason.as_str().to_owned(),
            metadata: metadata_of(&answer),
            variant: Some(answer.variant),
        }))
    }

    async fn resolve_string(
        &self,
        request: Request<v2::ResolveStringRequest>,
    ) -> Result<Response<v2::ResolveStringResponse>, Status> {
        Err(self.no_flag_is(request.metadata(), &request.get_ref().flag_key, "a text"))
    }

    async fn resolve_float(
        &self,
        request: Request<v2::ResolveFloatRequest>,
    ) -> Result<Response<v2::ResolveFloatResponse>, Status> {
        Err(self.no_flag_is(request.metadata(), &request.get_ref().flag_key, "a number"))
    }

    async fn resolve_int(
        &self,
        request: Request<v2::ResolveIntRequest>,
    ) -> Result<Response<v2::ResolveIntResponse>, Status> {
        Err(self.no_flag_is(request.metadata(), &request.get_ref().flag_key, "a number"))
    }

    async fn event_stream(
        &self,
        request: Request<v2::EventStreamRequest>,
    ) -> Result<Response<Self::EventStreamStream>, Status> {
        let events = self.events(request.metadata())?.map(|happened| {
            let (kind, data) = event(happened)?;
            Ok(v2::EventStreamResponse { r#type: kind.to_owned(), data })
        });
        Ok(Response::new(events.boxed()))
    }
}

#[tonic::async_trait]
impl v1::service_server::Service for Delivery {
    type EventStreamStream = BoxStream<'static, Result<v1::EventStreamResponse, Status>>;

    async fn resolve_all(
        &self,
        request: Request<v1::ResolveAllRequest>,
    ) -> Result<Response<v1::ResolveAllResponse>, Status> {
        let (metadata, _, asked) = request.into_parts();
        let state = self.hub.driver()?.state();
        let environment = self.selected(&metadata, "")?;
        let attributes = convert::evaluation_context(asked.context).map_err(Refusal::from)?;
        self.hub.check_environment(&state, &environment)?;
        let bucketing = self.api.bucketing();
        let asker = Asker { environment: &environment, attributes: &attributes, bucketing };
        let flags =
            answer::answers(&state, asker).map(|(id, answer)| (id.to_string(), any(answer)));
        let of_set = flag_set::metadata(&environment, bucketing);
        Ok(Response::new(v1::ResolveAllResponse {
            flags: flags.collect(),
            metadata: Some(convert::object_to_wire(&of_set)),
        }))
    }

    async fn resolve_boolean(
        &self,
        request: Request<v1::ResolveBooleanRequest>,
    ) -> Result<Response<v1::ResolveBooleanResponse>, Status> {
        let (metadata, _, asked) = request.into_parts();
        let answer =
            self.resolve(&metadata, &asked.flag_key, asked.context, FlagKind::FeatureGate)?;
        Ok(Response::new(v1::ResolveBooleanResponse {
            value: truth(&answer),
            reason: answer.reason.as_str().to_owned(),
            metadata: metadata_of(&answer),
            variant: answer.variant,
        }))
    }

    async fn resolve_object(
        &self,
        request: Request<v1::ResolveObjectRequest>,
    ) -> Result<Response<v1::ResolveObjectResponse>, Status> {
        let (metadata, _, asked) = request.into_parts();
        let answer =
            self.resolve(&metadata, &asked.flag_key, asked.context, FlagKind::DynamicConfig)?;
        Ok(Response::new(v1::ResolveObjectResponse {
            value: Some(members(&answer)),
            reason: answer.reason.as_str().to_owned(),
            metadata: metadata_of(&answer),
            variant: answer.variant,
        }))
    }

    async fn resolve_string(
        &self,
        request: Request<v1::ResolveStringRequest>,
    ) -> Result<Response<v1::ResolveStringResponse>, Status> {
        Err(self.no_flag_is(request.metadata(), &request.get_ref().flag_key, "a text"))
    }

    async fn resolve_float(
        &self,
        request: Request<v1::ResolveFloatRequest>,
    ) -> Result<Response<v1::ResolveFloatResponse>, Status> {
        Err(self.no_flag_is(request.metadata(), &request.get_ref().flag_key, "a number"))
    }

    async fn resolve_int(
        &self,
        request: Request<v1::ResolveIntRequest>,
    ) -> Result<Response<v1::ResolveIntResponse>, Status> {
        Err(self.no_flag_is(request.metadata(), &request.get_ref().flag_key, "a number"))
    }

    async fn event_stream(
        &self,
        request: Request<v1::EventStreamRequest>,
    ) -> Result<Response<Self::EventStreamStream>, Status> {
        let events = self.events(request.metadata())?.map(|happened| {
            let (kind, data) = event(happened)?;
            Ok(v1::EventStreamResponse { r#type: kind.to_owned(), data })
        });
        Ok(Response::new(events.boxed()))
    }
}

/// An answer of any type.
fn any(answer: Answer) -> v1::AnyFlag {
    let value = match &answer.value {
        Value::Bool(truth) => v1::any_flag::Value::BoolValue(*truth),
        Value::Object(object) => v1::any_flag::Value::ObjectValue(convert::object_to_wire(object)),
        Value::Null | Value::Number(_) | Value::String(_) | Value::List(_) => {
            unreachable!("a flag answers a boolean or an object")
        }
    };
    v1::AnyFlag {
        reason: answer.reason.as_str().to_owned(),
        metadata: metadata_of(&answer),
        variant: answer.variant,
        value: Some(value),
    }
}
