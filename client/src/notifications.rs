//! Calls about notifications.

use crate::{Client, Error, v1};

impl Client {
    /// Returns all sinks, and how they are.
    pub async fn list_sinks(&self) -> Result<v1::ListSinksResponse, Error> {
        let call = |request| {
            let mut service = self.notifications();
            async move { service.list_sinks(request).await }
        };
        self.call(v1::ListSinksRequest {}, call).await
    }

    /// Returns a page of what was given up, oldest first.
    pub async fn list_dead_letters(
        &self,
        request: v1::ListDeadLettersRequest,
    ) -> Result<v1::ListDeadLettersResponse, Error> {
        let call = |request| {
            let mut service = self.notifications();
            async move { service.list_dead_letters(request).await }
        };
        self.call(request, call).await
    }

    /// Has what was given up sent again. Made again, it does nothing more.
    pub async fn replay_dead_letters(
        &self,
        request: v1::ReplayDeadLettersRequest,
    ) -> Result<v1::ReplayDeadLettersResponse, Error> {
        let call = |request| {
            let mut service = self.notifications();
            async move { service.replay_dead_letters(request).await }
        };
        self.call(request, call).await
    }

    /// Sends a test to a sink. Made again after a lost connection, it may arrive twice.
    pub async fn send_test_notification(
        &self,
        sink: impl Into<String>,
    ) -> Result<v1::SendTestNotificationResponse, Error> {
        let call = |request| {
            let mut service = self.notifications();
            async move { service.send_test_notification(request).await }
        };
        self.call(v1::SendTestNotificationRequest { sink: sink.into() }, call).await
    }
}
