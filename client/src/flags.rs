//! Calls about flags.

use crate::{
    Client, Error,
    mutation::{given_or_fresh, mutations, plans},
    v1,
};

mutations! {
    flags:
    /// Creates a flag. Its first spec needs no release.
    create_flag(CreateFlagRequest) -> flag: Flag;
    /// Changes fields of a flag; its spec only as far as no release is needed.
    update_flag(UpdateFlagRequest) -> flag: Flag;
    /// Engages or lifts the kill switch. `engaged` must be said.
    set_kill_switch(SetKillSwitchRequest) -> flag: Flag;
}

plans! {
    flags:
    /// Checks everything that [`create_flag`](Self::create_flag) checks, and creates nothing.
    plan_create_flag = create_flag(CreateFlagRequest) -> CreateFlagResponse;
    /// Checks everything that [`update_flag`](Self::update_flag) checks, and changes nothing.
    plan_update_flag = update_flag(UpdateFlagRequest) -> UpdateFlagResponse;
}

impl Client {
    /// Returns one flag, by its name `flags/{flag}`.
    pub async fn get_flag(&self, name: impl Into<String>) -> Result<v1::Flag, Error> {
        let call = |request| {
            let mut service = self.flags();
            async move { service.get_flag(request).await }
        };
        let request = v1::GetFlagRequest { name: name.into() };
        self.call(request, call).await?.flag.ok_or_else(|| Error::incomplete("flag"))
    }

    /// Returns a page of flags, by name.
    pub async fn list_flags(
        &self,
        request: v1::ListFlagsRequest,
    ) -> Result<v1::ListFlagsResponse, Error> {
        let call = |request| {
            let mut service = self.flags();
            async move { service.list_flags(request).await }
        };
        self.call(request, call).await
    }

    /// Deletes a flag for good. The request gets a `request_id` unless it has one.
    pub async fn delete_flag(&self, mut request: v1::DeleteFlagRequest) -> Result<(), Error> {
        given_or_fresh(&mut request.request_id);
        let call = |request| {
            let mut service = self.flags();
            async move { service.delete_flag(request).await }
        };
        self.call(request, call).await.map(|v1::DeleteFlagResponse {}| ())
    }

    /// Answers for one context, and says why.
    pub async fn evaluate_flag(
        &self,
        request: v1::EvaluateFlagRequest,
    ) -> Result<v1::EvaluateFlagResponse, Error> {
        let call = |request| {
            let mut service = self.flags();
            async move { service.evaluate_flag(request).await }
        };
        self.call(request, call).await
    }
}
