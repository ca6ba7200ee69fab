//! A whole server on a disk in memory, turned by hand: the services, the driver and the store of
//! production, without sockets, threads or a clock that moves by itself.

use crate::audit;
use phasegate_engine::{
    State,
    id::Revision,
    targeting::Bucketing,
    time::{Span, Timestamp},
};
use phasegate_server::{
    clock::{Clock as _, ManualClock},
    driver::{self, Handle, Inbox, LogMemory, Message, OpenError, Wait, Writer, assemble},
    grpc::{Api, caller},
    store::{
        StoreId,
        memory::{self, Disk},
    },
    watch::{self, Watches},
};
use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Arc, LazyLock},
    task::{Context, Poll, Waker},
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

/// The identity of all stores here.
pub(crate) const STORE: StoreId = StoreId(Uuid::from_u128(0x5eed));

/// A call is answered after one turn, and a page of the log takes a read or two; what takes more
/// hangs.
const TURNS_MAX: usize = 64;

/// Timers of tokio need a runtime to be made. They never elapse: nothing drives it.
static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without I/O needs nothing of the system")
});

/// A server.
pub(crate) struct Server {
    pub(crate) disk: Disk,
    pub(crate) api: Api,
    pub(crate) handle: Handle,
    clock: Arc<ManualClock>,
    /// None once the store has failed, as the process would have ended.
    writer: Option<(Writer, Inbox)>,
    waiting: VecDeque<Message>,
    store: Condition,
}

/// What is known of the store on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It must not fail.
    Sound,
    /// It may.
    Damaged,
}

impl Server {
    /// Starts on a disk, and does what there is to do at once.
    pub(crate) fn start(
        disk: &Disk,
        now: Timestamp,
        condition: Condition,
    ) -> Result<Self, OpenError> {
        let store = memory::open(disk, STORE)?;
        let clock = Arc::new(ManualClock::new(now));
        // So little memory that old events come from the store.
        let config = driver::Config { log_memory: LogMemory(8 << 10), ..Default::default() };
        let shared: Arc<ManualClock> = Arc::clone(&clock);
        let (writer, inbox, handle) = assemble(Box::new(store), shared, config)?;
        let api = Api::new(Bucketing::default());
        api.open(handle.clone(), Watches::new(handle.clone(), watch::Config::default()));
        let writer = Some((writer, inbox));
        let (disk, waiting, store) = (disk.clone(), VecDeque::new(), condition);
        let mut server = Self { disk, api, handle, clock, writer, waiting, store };
        server.turn();
        Ok(server)
    }

    /// Another process on the same disk: it must find what this one had.
    pub(crate) fn restart(self) -> Self {
        let (disk, before, now) = (self.disk.clone(), self.state(), self.clock.now());
        drop(self);
        audit::reload(&disk, &before);
        Self::start(&disk, now, Condition::Sound).expect("what was just loaded loads again")
    }

    pub(crate) fn state(&self) -> State {
        self.handle.state()
    }

    pub(crate) fn revision(&self) -> Revision {
        *self.handle.head().borrow()
    }

    /// Turns the writer until it has nothing more to do.
    pub(crate) fn turn(&mut self) {
        let Some((writer, inbox)) = &mut self.writer else { return };
        inbox.receive(Wait::No, &mut self.waiting, usize::MAX);
        for _ in 0..TURNS_MAX {
            if let Err(failed) = writer.turn(&mut self.waiting) {
                assert_eq!(self.store, Condition::Damaged, "a sound store fails: {failed:?}");
                self.waiting.clear();
                self.writer = None;
                return;
            }
            if self.waiting.is_empty() && writer.wait() != Wait::No {
                return;
            }
        }
        panic!("the writer never has enough");
    }

    /// Awaits a call, with turns of the writer in between.
    pub(crate) fn ask<T>(&mut self, call: impl Future<Output = T>) -> T {
        let mut call = pin!(call);
        for _ in 0..TURNS_MAX {
            if let Some(answer) = poll(call.as_mut()) {
                return answer;
            }
            self.turn();
        }
        panic!("a call is never answered");
    }

    /// Moves the clock; what comes due meanwhile happens.
    pub(crate) fn advance(&mut self, by: Span) {
        let handle = self.handle.clone();
        let moved = self.ask(handle.advance(by)).expect("the clock is a manual one");
        assert!(moved.is_ok() || self.store == Condition::Damaged, "{moved:?}");
    }
}

/// Looks whether something is ready.
pub(crate) fn poll<T>(future: std::pin::Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Option<T> {
    let _entered = RUNTIME.enter();
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

/// Does something that makes timers.
pub(crate) fn within_runtime<T>(make: impl FnOnce() -> T) -> T {
    let _entered = RUNTIME.enter();
    make()
}

/// Callers that may do different things.
const CALLERS: [(&str, &str); 4] =
    [("ann", ""), ("bob", "sre"), ("cleo", "sre,release-managers"), ("", "")];

/// A request of one of a few callers.
pub(crate) fn request<R>(message: R, caller: u8) -> Request<R> {
    let mut request = Request::new(message);
    let (principal, groups) = CALLERS[usize::from(caller) % CALLERS.len()];
    let metadata = request.metadata_mut();
    if !principal.is_empty() {
        metadata.insert(caller::PRINCIPAL, principal.parse().expect("a name is a header"));
    }
    if !groups.is_empty() {
        metadata.insert(caller::GROUPS, groups.parse().expect("names are a header"));
    }
    request
}

/// An answer as a client has it, once it was looked at.
pub(crate) fn answer<T: prost::Message + Default + PartialEq + std::fmt::Debug>(
    answer: Result<Response<T>, Status>,
) -> Result<T, Status> {
    match answer {
        Ok(response) => Ok(audit::message(response.into_inner())),
        Err(status) => Err(audit::refusal(status)),
    }
}

/// Calls a method of the services, and looks at the answer.
macro_rules! call {
    ($server:expr, $method:ident, $message:expr, $caller:expr) => {{
        let api = $server.api.clone();
        let request = $crate::server::request($message, $caller);
        $crate::server::answer($server.ask(api.$method(request)))
    }};
}
pub(crate) use call;
