//! `grpc.health.v1`: one status for all services, because one store carries them all.

use super::{Offer, REQUEST_BYTES_MAX};
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

/// The health of every service on offer, and of the server as a whole (the empty name).
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
    offer: Offer,
}

impl Health {
    /// Everything is NOT_SERVING.
    pub async fn new(offer: Offer) -> Self {
        let health = Self { reporter: HealthReporter::new(), offer };
        health.set(ServingStatus::NotServing).await;
        health
    }

    pub(super) fn service(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
            .max_decoding_message_size(REQUEST_BYTES_MAX)
    }

    /// Everything is SERVING.
    pub async fn serving(&self) {
        self.set(ServingStatus::Serving).await;
    }

    /// Everything is NOT_SERVING.
    pub async fn not_serving(&self) {
        self.set(ServingStatus::NotServing).await;
    }

    /// Ends the streams of `Health.Watch`, which nothing else would end.
    pub async fn clear(&mut self) {
        for service in self.names() {
            self.reporter.clear_service_status(service).await;
        }
    }

    async fn set(&self, status: ServingStatus) {
        for service in self.names() {
            self.reporter.set_service_status(service, status).await;
        }
    }

    fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        std::iter::once("").chain(self.offer.services().iter().copied())
    }
}
