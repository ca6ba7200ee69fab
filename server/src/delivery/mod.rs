//! Delivery: how applications follow releases, with ordinary OpenFeature providers and nothing of
//! ours in them.
//!
//! | protocol | for | where |
//! |---|---|---|
//! | `flagd.sync.v1` | providers that evaluate in process, and flagd itself | `sync` |
//! | `flagd.evaluation.v2`, `v1` | providers that ask for each answer | `evaluation` |
//! | OFREP | the same over HTTP: browsers, and everything else | `ofrep` |
//!
//! All of them answer from the state that the driver has published. What is sent whole is compiled
//! by [`phasegate_engine::flagd`], what is answered here is evaluated by
//! [`phasegate_engine::targeting`], and a property test says that the two agree. Who asks says in
//! which environment; `docs/delivery.md` is the same for people.
//!
//! Promises:
//!
//! 1. Nobody is given what is not durable.
//! 2. A set is whole: all flags of the environment, as of one revision.
//! 3. An empty set means that there are no flags. Before the store is read there is an error.
//! 4. A stream of sets or changes never ends with OK, because some providers would never come back.
//! 5. A reader that is slow gets the newest set next, and costs no more than any other.
//!
//! What is deliberately absent: writing, rules about releases, and who may ask: the gate lets in whoever
//! has `evaluate`, and a set is the same for all of them.

mod answer;
mod config;
mod evaluation;
mod flag_set;
mod hub;
mod ofrep;
mod refusal;
mod selector;
mod sync;
#[cfg(test)]
mod tests;

pub use config::Config;
pub use hub::Following;
pub use ofrep::denied;

use crate::grpc::{Api, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX};
use axum::Router;
use hub::Hub;
use phasegate_api::flagd::{
    evaluation::service_server::ServiceServer as EvaluationServer,
    evaluation_v1::service_server::ServiceServer as EvaluationV1Server,
};
use phasegate_engine::id::EnvironmentId;
use refusal::Refusal;
use std::{sync::Arc, time::Duration};
use tonic::{metadata::MetadataMap, service::Routes};

/// The header by which providers select flags, in gRPC and in HTTP.
const SELECTOR: &str = "flagd-selector";

/// What the protocols work with. Clones share it.
#[derive(Clone, Debug)]
pub struct Delivery {
    api: Api,
    config: Arc<Config>,
    hub: Hub,
}

impl Delivery {
    /// Over an API, which may not be open yet. When the server stops, streams end at random times
    /// inside `drain_over`.
    pub fn new(api: Api, config: Config, drain_over: Duration) -> Self {
        let config = Arc::new(config);
        let hub = Hub::new(api.clone(), Arc::clone(&config), drain_over);
        Self { api, config, hub }
    }

    /// What it works over.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Adds the services of gRPC.
    pub fn add_to(&self, routes: Routes) -> Routes {
        let evaluation = EvaluationServer::new(self.clone())
            .max_decoding_message_size(REQUEST_BYTES_MAX)
            .max_encoding_message_size(RESPONSE_BYTES_MAX);
        let evaluation_v1 = EvaluationV1Server::new(self.clone())
            .max_decoding_message_size(REQUEST_BYTES_MAX)
            .max_encoding_message_size(RESPONSE_BYTES_MAX);
        routes
            .add_service(sync::Sets::new(self.clone()))
            .add_service(evaluation)
            .add_service(evaluation_v1)
    }

    /// OFREP, over HTTP.
    pub fn http(&self) -> Router {
        ofrep::routes(self.clone())
    }

    /// Which environments are followed by in-process providers, and how far they are.
    pub fn following(&self) -> Vec<Following> {
        self.hub.following()
    }

    /// How many streams of applications are open.
    pub fn open(&self) -> usize {
        self.hub.open()
    }

    /// The environment that a call of gRPC selects: by its header, else by what stands in the
    /// message, else the default.
    fn selected(&self, metadata: &MetadataMap, selector: &str) -> Result<EnvironmentId, Refusal> {
        self.given(metadata, selector)?.ok_or(Refusal::NothingSelected)
    }

    /// The same, and none if nothing is selected and there is no default.
    fn given(
        &self,
        metadata: &MetadataMap,
        selector: &str,
    ) -> Result<Option<EnvironmentId>, Refusal> {
        // Bytes that are no text are no selector either, and are refused as one.
        let header = metadata.get(SELECTOR).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let selected = match header.as_deref().map(selector::parse).transpose()?.flatten() {
            Some(environment) => Some(environment),
            None => selector::parse(selector)?,
        };
        Ok(selected.or_else(|| self.config.default_environment.clone()))
    }
}
