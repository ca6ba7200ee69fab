//! Calls about the audit chain.

use crate::{Client, Error, v1};

impl Client {
    /// Returns a page of entries, newest first. A page may be short, or empty, and have a token all
    /// the same.
    pub async fn list_audit_entries(
        &self,
        request: v1::ListAuditEntriesRequest,
    ) -> Result<v1::ListAuditEntriesResponse, Error> {
        let call = |request| {
            let mut service = self.audit();
            async move { service.list_audit_entries(request).await }
        };
        self.call(request, call).await
    }

    /// Returns the newest entry as number and hash: an anchor to keep elsewhere.
    pub async fn get_audit_head(&self) -> Result<v1::GetAuditHeadResponse, Error> {
        let call = |request| {
            let mut service = self.audit();
            async move { service.get_audit_head(request).await }
        };
        self.call(v1::GetAuditHeadRequest {}, call).await
    }
}
