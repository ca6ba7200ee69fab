//! The clock of a server that was started for a rehearsal, with `--clock=manual`.

use crate::{
    Client, Error,
    rehearsal::{AdvanceRequest, GetRequest},
};
use std::time::Duration;
use tonic::Code;

impl Client {
    /// What the clock of a rehearsal says. Any other server answers `Unimplemented`.
    pub async fn clock_now(&self) -> Result<prost_types::Timestamp, Error> {
        let call = |request| {
            let mut service = self.clock();
            async move { service.get(request).await }
        };
        self.call(GetRequest {}, call).await?.now.ok_or_else(|| Error::incomplete("now"))
    }

    /// Moves the clock of a rehearsal ahead, and returns what it says then. All that came due on the
    /// way is done and on disk.
    ///
    /// This is the one call that is made once only: made again, it would move the clock twice.
    pub async fn advance_clock(&self, by: Duration) -> Result<prost_types::Timestamp, Error> {
        let duration = prost_types::Duration::try_from(by).map_err(|_| {
            Error::local(Code::InvalidArgument, "the clock cannot be moved as far as that")
        })?;
        let request = AdvanceRequest { duration: Some(duration) };
        let mut service = self.clock();
        let answer =
            self.call_once(request, |request| async move { service.advance(request).await });
        answer.await?.now.ok_or_else(|| Error::incomplete("now"))
    }
}
