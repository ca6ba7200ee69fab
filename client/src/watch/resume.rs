//! The loop that keeps a watch going.
//!
//! What each end of a stream means is one table, [`After::of`]. The position is the last revision
//! that was delivered, so nothing is lost and nothing comes twice.

use super::{Position, Watch, channels::Seat};
use crate::{Client, Error, connect::Settings, retry::Backoff};
use futures_util::Stream;
use std::future::Future;
use tokio::time::{sleep, timeout};
use tonic::{Code, Request, Status, Streaming};

/// How often in a row a stream is opened again after the credential was refused. Whoever writes a token's
/// file anew may be a moment late.
const RENEWALS_MAX: u32 = 2;

/// What is watched.
pub(super) trait Subject: Send + Sync + 'static {
    /// As it comes off the wire.
    type Message: Send + 'static;
    /// As it is handed on.
    type Update: Send + 'static;

    /// A stream is about to be opened behind this position: forget what does not reach up to it.
    fn begin(&mut self, from: &Position);

    /// Opens the stream behind a position. The seat is the connection to take.
    fn open(
        &self,
        seat: &Seat,
        from: &Position,
        sign: impl FnOnce(&mut tonic::metadata::MetadataMap) + Send,
    ) -> impl Future<Output = Result<Streaming<Self::Message>, Status>> + Send;

    /// Takes a message in. An update is handed on before the next message is asked for.
    fn take(&mut self, message: Self::Message) -> Taken<Self::Update>;

    /// Whether an end with OK is the end of the watch.
    fn is_over(&mut self, client: &Client) -> impl Future<Output = Result<bool, Error>> + Send;

    /// The update that tells of a stream that was lost and will be resumed.
    fn interrupted(error: Error) -> Self::Update;

    /// The update that tells that a stream which was lost is open again.
    fn resumed() -> Self::Update;

    /// The update that tells that everything begins anew.
    fn restarted(error: Error) -> Self::Update;
}

/// A message that was taken in.
pub(super) struct Taken<T> {
    /// Where to resume from now on.
    pub(super) position: Position,
    /// What to hand on, if anything.
    pub(super) update: Option<T>,
}

/// What the end of a stream leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// Wait, and open it again behind the last position.
    Resume,
    /// Begin with a snapshot.
    Restart,
    /// Open it again with another credential, if there may be one.
    Renew,
    /// Nothing can be done.
    Fail,
}

impl After {
    /// The one table. UNKNOWN, INTERNAL, CANCELLED and RESOURCE_EXHAUSTED lead to another attempt
    /// because transports make them: a cut connection shows as UNKNOWN, a peer that is overwhelmed
    /// as RESOURCE_EXHAUSTED.
    fn of(error: &Error) -> Self {
        use crate::Reason;
        let replaced = matches!(error.reason, Reason::StoreReplaced);
        match error.code {
            Code::OutOfRange if error.reason != Reason::None => Self::Restart,
            // A message above the size that a client takes: it would come again.
            Code::OutOfRange => Self::Fail,
            Code::FailedPrecondition if replaced => Self::Restart,
            Code::Unauthenticated => Self::Renew,
            Code::NotFound
            | Code::InvalidArgument
            | Code::PermissionDenied
            | Code::Unimplemented => Self::Fail,
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::AlreadyExists
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => Self::Resume,
        }
    }
}

/// A watch of the subject, behind a position.
pub(super) fn watch<S: Subject>(client: Client, subject: S, from: Position) -> Watch<S::Update> {
    Watch::new(updates(client, subject, from))
}

fn updates<S: Subject>(
    client: Client,
    mut subject: S,
    from: Position,
) -> impl Stream<Item = Result<S::Update, Error>> + Send + 'static {
    async_stream::stream! {
        // One place for the whole life of the watch, so that it comes back to the same connection.
        let seat = client.watches.seat();
        let mut position = from;
        let mut backoff = Backoff::new(client.settings.retry);
        let mut lost = false;
        let mut renewed = 0;
        loop {
            subject.begin(&position);
            let opened = open(&subject, &seat, &position, &client.settings).await;
            // Said now, because the first message may be a bookmark that is many seconds away.
            if opened.is_ok() && std::mem::take(&mut lost) {
                yield Ok(S::resumed());
            }
            let error = match opened {
                Err(error) => error,
                Ok(mut stream) => loop {
                    match timeout(client.settings.silence, stream.message()).await {
                        Ok(Ok(Some(message))) => {
                            backoff.reset();
                            renewed = 0;
                            let taken = subject.take(message);
                            position = taken.position;
                            if let Some(update) = taken.update {
                                yield Ok(update);
                            }
                        }
                        Ok(Ok(None)) => match subject.is_over(&client).await {
                            Ok(true) => return,
                            Ok(false) => break Error::local(
                                Code::Unavailable,
                                "the server ended the watch before its time",
                            ),
                            Err(error) => break error,
                        },
                        Ok(Err(status)) => break status.into(),
                        Err(_) => break silent(),
                    }
                },
            };
            let mut after = After::of(&error);
            if after == After::Renew && client.settings.may_renew() && renewed < RENEWALS_MAX {
                renewed += 1;
                after = After::Resume;
            }
            match after {
                After::Fail | After::Renew => {
                    yield Err(error);
                    return;
                }
                After::Restart if position != Position::default() => {
                    position = Position::default();
                    yield Ok(S::restarted(error));
                }
                // One that fails without any position would fail again at once.
                After::Restart | After::Resume => {
                    let wait = backoff.next(&error);
                    tracing::debug!(%error, ?wait, ?position, "watching again");
                    lost = true;
                    yield Ok(S::interrupted(error));
                    sleep(wait).await;
                }
            }
        }
    }
}

async fn open<S: Subject>(
    subject: &S,
    seat: &Seat,
    from: &Position,
    settings: &Settings,
) -> Result<Streaming<S::Message>, Error> {
    let opened = subject.open(seat, from, |metadata| settings.sign(metadata));
    match timeout(settings.silence, opened).await {
        Ok(stream) => Ok(stream?),
        Err(_) => Err(silent()),
    }
}

fn silent() -> Error {
    Error::local(Code::Unavailable, "the server was silent for too long")
}

/// A request with the caller's metadata.
pub(super) fn signed<Q>(
    request: Q,
    sign: impl FnOnce(&mut tonic::metadata::MetadataMap),
) -> Request<Q> {
    let mut request = Request::new(request);
    sign(request.metadata_mut());
    request
}
