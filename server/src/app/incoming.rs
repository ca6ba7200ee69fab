//! Connections as they come: counted, with a limit to the time they take to ask for something, and
//! with a way to drop them.
//!
//! With TLS a connection comes when its handshake is over. Handshakes go on beside each other, so that
//! one that stalls holds nobody up; each counts as a connection, and there is a limit to their time and
//! to their number.

use super::{
    addresses::{self, Addresses},
    tls::Tls,
};
use crate::access::identity::ClientCertificate;
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, Sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Connections that the kernel completes before they are taken: a restart brings all clients back
/// at once.
const BACKLOG: u32 = 1024;
/// Pause after an error of accept, such as too many open files: trying at once again would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Kernel buffer of what is sent (Linux doubles it). Small, because what lies there hides from the
/// server that a watcher does not read; large enough for a page of a listing over loopback.
const SEND_BUFFER_BYTES: u32 = 128 * 1024;

/// Handshakes at a time; more are closed as they come. Each may take a millisecond of computing.
const HANDSHAKES_MAX: usize = 512;

/// What connections are held to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// So many are open at most; more are closed at once, so that their clients try elsewhere or
    /// later instead of waiting in silence.
    pub connections_max: usize,
    /// Of these, so many from one address, loopback apart.
    pub per_address_max: usize,
    /// A peer that has not asked for anything after this is closed, whatever it says meanwhile: hyper
    /// has no such limit, and HTTP/2 lets a connection stand idle for as long as it answers pings.
    pub first_request_within: Duration,
    /// A handshake that takes longer is given up.
    pub handshake_max: Duration,
}

/// Whether a connection was ever used. It is in the extensions of each request.
#[derive(Clone, Debug, Default)]
pub(super) struct FirstRequest(Arc<AtomicBool>);

impl FirstRequest {
    /// A request has come.
    pub(super) fn came(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_awaited(&self) -> bool {
        !self.0.load(Ordering::Relaxed)
    }
}

/// Takes the address.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Or a restart would have to wait until the kernel has forgotten the old connections.
    socket.set_reuseaddr(true)?;
    // Connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts connections for as long as it is polled, and counts in `open` those that are. `drop_all`
/// breaks every one of them.
pub(super) fn accept(
    listener: TcpListener,
    tls: Option<Tls>,
    limits: Limits,
    open: watch::Sender<usize>,
    drop_all: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> {
    let addresses = Addresses::new(limits.per_address_max);
    async_stream::stream! {
        let mut handshakes = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(done) = handshakes.join_next() => {
                    if let Ok(Some(connection)) = done {
                        yield Ok(connection);
                    }
                    continue;
                }
            };
            match accepted {
                Ok((_, peer)) if *open.borrow() >= limits.connections_max => {
                    tracing::debug!(%peer, ?limits, "connection refused");
                }
                Ok((_, peer)) if handshakes.len() >= HANDSHAKES_MAX => {
                    tracing::debug!(%peer, HANDSHAKES_MAX, "connection refused");
                }
                Ok((tcp, peer)) => {
                    let Some(entered) = addresses.enter(peer.ip()) else {
                        tracing::debug!(%peer, ?limits, "connection refused: too many from there");
                        continue;
                    };
                    let counted = Counted::new(&open, entered);
                    match &tls {
                        None => {
                            let wire = Wire::Plain(tcp);
                            yield Connection::new(wire, None, counted, limits, &drop_all);
                        }
                        Some(tls) => {
                            let acceptor = TlsAcceptor::from(tls.current());
                            let drop_all = drop_all.clone();
                            let handshake = async move {
                                let shaken = shake(acceptor, tcp, limits.handshake_max);
                                let shaken = drop_all.run_until_cancelled(shaken).await?;
                                let connection = shaken.and_then(|(tls, certificate)| {
                                    let wire = Wire::Tls(Box::new(tls));
                                    Connection::new(wire, certificate, counted, limits, &drop_all)
                                });
                                connection
                                    .inspect_err(
                                        |error| tracing::debug!(%peer, %error, "no handshake"),
                                    )
                                    .ok()
                            };
                            handshakes.spawn(handshake);
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Makes TLS of a connection, and reads who is at its other end.
async fn shake(
    acceptor: TlsAcceptor,
    tcp: TcpStream,
    time: Duration,
) -> io::Result<(TlsStream<TcpStream>, Option<ClientCertificate>)> {
    let tls = timeout(time, acceptor.accept(tcp)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let first = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let certificate = first.map(ClientCertificate::parse).transpose().map_err(io::Error::other)?;
    Ok((tls, certificate))
}

/// One connection of those that are open.
#[derive(Debug)]
struct Counted {
    open: watch::Sender<usize>,
    _of_its_address: addresses::Counted,
}

impl Counted {
    fn new(open: &watch::Sender<usize>, of_its_address: addresses::Counted) -> Self {
        open.send_modify(|open| *open += 1);
        Self { open: open.clone(), _of_its_address: of_its_address }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.open.send_modify(|open| *open -= 1);
    }
}

/// A connection that is counted until it is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    wire: Wire,
    certificate: Option<Arc<ClientCertificate>>,
    first_request: FirstRequest,
    written: Written,
    /// Until the first request comes.
    patience: Option<Pin<Box<Sleep>>>,
    dropped: CancellationToken,
    until_dropped: Pin<Box<WaitForCancellationFutureOwned>>,
    _counted: Counted,
}

impl Connection {
    fn new(
        wire: Wire,
        certificate: Option<ClientCertificate>,
        counted: Counted,
        limits: Limits,
        drop_all: &CancellationToken,
    ) -> io::Result<Self> {
        wire.tcp().set_nodelay(true)?;
        Ok(Self {
            wire,
            certificate: certificate.map(Arc::new),
            first_request: FirstRequest::default(),
            written: Written::Never,
            patience: Some(Box::pin(tokio::time::sleep(limits.first_request_within))),
            dropped: drop_all.clone(),
            until_dropped: Box::pin(drop_all.clone().cancelled_owned()),
            _counted: counted,
        })
    }
}

/// What bytes go through.
#[derive(Debug)]
enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(tcp) => tcp.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

/// When something was written last.
///
/// Where one event goes to a thousand streams, each of them wakes its connection, which would run next and
/// write that one message. So a connection that has only just written lets all others that are ready go
/// first, once, and then writes what has come together meanwhile. One that was silent writes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Never,
    At(Instant),
    /// It has let others go first.
    Waited,
}

/// Less than a caller needs to ask again over loopback, who is not to wait.
const JUST_NOW: Duration = Duration::from_micros(30);

impl Written {
    /// Ready when it may write. If not, its task is woken already, and stands at the end of the queue.
    fn turn(&mut self, cx: &Context<'_>) -> Poll<()> {
        match *self {
            Self::At(last) if last.elapsed() < JUST_NOW => {
                *self = Self::Waited;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Self::Never | Self::At(_) | Self::Waited => Poll::Ready(()),
        }
    }

    fn now<T>(&mut self, wrote: &Poll<T>) {
        if wrote.is_ready() {
            *self = Self::At(Instant::now());
        }
    }
}

fn dropped() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the server has stopped")
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.until_dropped.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(dropped()));
        }
        if let Some(patience) = &mut self.patience
            && patience.as_mut().poll(cx).is_ready()
        {
            if self.first_request.is_awaited() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.patience = None;
        }
        Pin::new(&mut self.wire).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.dropped.is_cancelled() {
            return Poll::Ready(Err(dropped()));
        }
        ready!(self.written.turn(cx));
        let wrote = Pin::new(&mut self.wire).poll_write(cx, buf);
        self.written.now(&wrote);
        wrote
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.dropped.is_cancelled() {
            return Poll::Ready(Err(dropped()));
        }
        ready!(self.written.turn(cx));
        let wrote = Pin::new(&mut self.wire).poll_write_vectored(cx, bufs);
        self.written.now(&wrote);
        wrote
    }

    /// HTTP/2 asks before it writes anything whether it should put small messages beside each other, up to
    /// 1 KiB each, which it does only where several buffers cannot be written at once: then hundreds of
    /// answers and events go with a few calls of the kernel instead of one each. Later it asks with every
    /// write, and what is larger goes without being copied.
    fn is_write_vectored(&self) -> bool {
        self.written != Written::Never && self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}

/// Who is at the other end of a connection. It is in the extensions of every request.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) tcp: TcpConnectInfo,
    /// None without TLS, or if none was brought.
    pub(super) certificate: Option<Arc<ClientCertificate>>,
    /// To be told that there is a request.
    pub(super) first_request: FirstRequest,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Self::ConnectInfo {
        Peer {
            tcp: self.wire.tcp().connect_info(),
            certificate: self.certificate.clone(),
            first_request: self.first_request.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{StreamExt as _, task::ArcWake};
    use std::sync::atomic::AtomicUsize;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const LOCALHOST: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
    const LIMITS: Limits = Limits {
        connections_max: 8,
        per_address_max: 8,
        first_request_within: Duration::from_secs(60),
        handshake_max: Duration::from_secs(60),
    };

    #[tokio::test]
    async fn a_connection_above_the_limit_is_closed_and_a_freed_slot_is_used_again() {
        let listener = listen(LOCALHOST).unwrap();
        let address = listener.local_addr().unwrap();
        let open = watch::Sender::new(0);
        let mut incoming = Box::pin(accept(
            listener,
            None,
            Limits { connections_max: 1, ..LIMITS },
            open.clone(),
            CancellationToken::new(),
        ));

        let _first_client = TcpStream::connect(address).await.unwrap();
        let first = incoming.next().await.unwrap().unwrap();
        let mut second_client = TcpStream::connect(address).await.unwrap();
        let mut third_client = TcpStream::connect(address).await.unwrap();
        // The second is closed as soon as the stream is polled, which yields nothing for it.
        let nothing = &mut [0];
        tokio::select! {
            _ = incoming.next() => panic!("a second connection was let in"),
            read = second_client.read(nothing) => assert_eq!(read.unwrap(), 0),
        }
        tokio::select! {
            _ = incoming.next() => panic!("a third connection was let in"),
            read = third_client.read(nothing) => assert_eq!(read.unwrap(), 0),
        }
        assert_eq!(*open.borrow(), 1);
        drop(first);
        assert_eq!(*open.borrow(), 0);
        let _fourth_client = TcpStream::connect(address).await.unwrap();
        assert!(incoming.next().await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn every_connection_breaks_when_all_are_dropped() {
        let listener = listen(LOCALHOST).unwrap();
        let address = listener.local_addr().unwrap();
        let drop_all = CancellationToken::new();
        let mut incoming =
            Box::pin(accept(listener, None, LIMITS, watch::Sender::new(0), drop_all.clone()));
        let mut client = TcpStream::connect(address).await.unwrap();
        let mut served = incoming.next().await.unwrap().unwrap();
        client.write_all(b"x").await.unwrap();
        assert_eq!(served.read_u8().await.unwrap(), b'x');

        let waiting = tokio::spawn(async move {
            let read = served.read_u8().await.map_err(|error| error.kind());
            (read, served.write_u8(1).await.map_err(|error| error.kind()))
        });
        drop_all.cancel();
        let aborted = io::ErrorKind::ConnectionAborted;
        assert_eq!(waiting.await.unwrap(), (Err(aborted), Err(aborted)));
    }

    /// How often it was woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl ArcWake for Woken {
        fn wake_by_ref(woken: &Arc<Self>) {
            woken.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A write of one byte, and how often it has woken its own task.
    fn write_one(served: &mut Connection) -> (Poll<usize>, usize) {
        let woken = Arc::new(Woken::default());
        let waker = futures_util::task::waker(Arc::clone(&woken));
        let written = Pin::new(served).poll_write(&mut Context::from_waker(&waker), b"x");
        (written.map(Result::unwrap), woken.0.load(Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_has_just_written_lets_others_go_first_once() {
        let listener = listen(LOCALHOST).unwrap();
        let address = listener.local_addr().unwrap();
        let (open, drop_all) = (watch::Sender::new(0), CancellationToken::new());
        let mut incoming = Box::pin(accept(listener, None, LIMITS, open, drop_all));
        let _client = TcpStream::connect(address).await.unwrap();
        let mut served = incoming.next().await.unwrap().unwrap();
        assert!(!served.is_write_vectored(), "small messages are to lie beside each other");
        served.wire.tcp().writable().await.unwrap();
        assert_eq!(write_one(&mut served), (Poll::Ready(1), 0), "it was silent");
        assert!(served.is_write_vectored(), "large ones are not to be copied");
        assert_eq!(write_one(&mut served), (Poll::Pending, 1), "it has just written");
        assert_eq!(write_one(&mut served), (Poll::Ready(1), 0), "others have gone first");
        tokio::time::advance(JUST_NOW).await;
        assert_eq!(write_one(&mut served), (Poll::Ready(1), 0), "it was silent again");
    }

    const AT_ONCE: Limits = Limits { first_request_within: Duration::ZERO, ..LIMITS };

    #[tokio::test]
    async fn a_peer_that_asks_for_nothing_is_closed_whatever_it_says() {
        let listener = listen(LOCALHOST).unwrap();
        let address = listener.local_addr().unwrap();
        let (open, drop_all) = (watch::Sender::new(0), CancellationToken::new());
        let mut incoming = Box::pin(accept(listener, None, AT_ONCE, open, drop_all));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
        let mut served = incoming.next().await.unwrap().unwrap();
        // What it has said may be read before its time is over.
        let mut said = Vec::new();
        let read = served.read_to_end(&mut said).await.map_err(|error| error.kind());
        assert_eq!(read, Err(io::ErrorKind::TimedOut));
    }

    #[tokio::test]
    async fn a_peer_that_has_asked_for_something_may_take_its_time() {
        let listener = listen(LOCALHOST).unwrap();
        let address = listener.local_addr().unwrap();
        let (open, drop_all) = (watch::Sender::new(0), CancellationToken::new());
        let mut incoming = Box::pin(accept(listener, None, AT_ONCE, open, drop_all));
        let mut client = TcpStream::connect(address).await.unwrap();
        let mut served = incoming.next().await.unwrap().unwrap();
        served.connect_info().first_request.came();
        client.write_all(b"x").await.unwrap();
        assert_eq!(served.read_u8().await.unwrap(), b'x');
    }
}
