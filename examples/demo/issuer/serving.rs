//! A server on the loopback interface that can fail on command: stop listening, come back on the same port, or hang up
//! on one caller without a word.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use vestibule::tasks::Tasks;

/// A running server. Dropping it closes the port and every connection.
pub struct Serving {
    address: SocketAddr,
    app: Router,
    links: Arc<Links>,
    running: Mutex<Option<Running>>,
}

impl Serving {
    /// Binds `127.0.0.1:port` (any free port if it is 0) and serves what `app` makes of the address.
    ///
    /// # Errors
    ///
    /// The port cannot be had.
    pub async fn start(port: u16, app: impl FnOnce(SocketAddr) -> Router) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let serving = Self { address, app: app(address), links: Arc::default(), running: Mutex::default() };
        serving.run(listener);
        Ok(serving)
    }

    /// Where it listens, or listened before the pause.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the port and cuts every connection, answers under way included. Returns when nobody listens any more.
    pub async fn pause(&self) {
        let running = lock(&self.running).take();
        if let Some(Running { tasks, stop }) = running {
            self.links.close();
            drop(stop);
            tasks.drain(Duration::from_secs(5)).await;
        }
    }

    /// Listens again, on the same port.
    ///
    /// # Errors
    ///
    /// Somebody else has taken the port meanwhile.
    pub async fn resume(&self) -> io::Result<()> {
        if lock(&self.running).is_none() {
            let listener = TcpListener::bind(self.address).await?;
            self.links.reopen();
            self.run(listener);
        }
        Ok(())
    }

    fn run(&self, listener: TcpListener) {
        let (stop, stopped) = oneshot::channel::<()>();
        let door = Door { listener, links: Arc::clone(&self.links) };
        let app = self.app.clone().into_make_service_with_connect_info::<Scissors>();
        let tasks = Tasks::default();
        tasks.spawn(async move {
            let until_stopped = async { stopped.await.unwrap_or_default() };
            axum::serve(door, app).with_graceful_shutdown(until_stopped).await.unwrap_or_default();
        });
        *lock(&self.running) = Some(Running { tasks, stop });
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.links.close();
    }
}

/// Cuts one connection: nothing is read from it and nothing written to it any more.
#[derive(Clone, Debug)]
pub struct Scissors(Arc<Mutex<Option<oneshot::Sender<()>>>>);

impl Scissors {
    /// Cuts. The caller sees the connection end in the middle of the exchange.
    pub fn cut(&self) {
        drop(lock(&self.0).take());
    }

    fn is_spent(&self) -> bool {
        lock(&self.0).as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

impl Connected<IncomingStream<'_, Door>> for Scissors {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        stream.io().scissors.clone()
    }
}

/// The content of a lock. A panic elsewhere has failed the test already; it need not fail it twice.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Running {
    tasks: Tasks,
    stop: oneshot::Sender<()>,
}

/// The connections that are open, or `None` while nobody may connect.
struct Links(Mutex<Option<Vec<Scissors>>>);

impl Default for Links {
    fn default() -> Self {
        Self(Mutex::new(Some(Vec::new())))
    }
}

impl Links {
    fn close(&self) {
        lock(&self.0).take().into_iter().flatten().for_each(|scissors| scissors.cut());
    }

    fn reopen(&self) {
        *lock(&self.0) = Some(Vec::new());
    }

    fn add(&self, stream: TcpStream) -> Link {
        let (sender, cut) = oneshot::channel();
        let scissors = Scissors(Arc::new(Mutex::new(Some(sender))));
        match &mut *lock(&self.0) {
            Some(open) => {
                open.retain(|scissors| !scissors.is_spent());
                open.push(scissors.clone());
            }
            // The port was closed between the handshake and now.
            None => scissors.cut(),
        }
        Link { stream, scissors, cut: Some(cut) }
    }
}

struct Door {
    listener: TcpListener,
    links: Arc<Links>,
}

impl Listener for Door {
    type Io = Link;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Link, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (self.links.add(stream), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends when its scissors close.
struct Link {
    stream: TcpStream,
    scissors: Scissors,
    /// `None` once it has been cut.
    cut: Option<oneshot::Receiver<()>>,
}

impl Link {
    /// The stream while it is whole. Asking also registers for the cut, so a waiting reader is woken by it.
    fn whole(&mut self, cx: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        if self.cut.as_mut().is_some_and(|cut| Pin::new(cut).poll(cx).is_pending()) {
            return Ok(Pin::new(&mut self.stream));
        }
        self.cut = None;
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}

impl AsyncRead for Link {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.whole(cx)?.poll_read(cx, into)
    }
}

impl AsyncWrite for Link {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.whole(cx)?.poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.whole(cx)?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
