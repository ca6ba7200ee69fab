//! Who calls, and what they may.

use crate::{Client, Error, v1};

impl Client {
    /// Who this client is to the server, and what it may do there.
    pub async fn identity(&self) -> Result<v1::GetIdentityResponse, Error> {
        let call = |request| {
            let mut service = self.access();
            async move { service.get_identity(request).await }
        };
        self.call(v1::GetIdentityRequest {}, call).await
    }
}
