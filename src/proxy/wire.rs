//! A browser's connection, from which the engine can be parted without its end: a WebSocket is told why it is over.

use std::fmt;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::frames::{self, Frames};

/// The connection as the engine holds it. All passes through.
pub(super) struct Wire {
    /// There until it is dropped.
    stream: Option<Stream>,
    line: Arc<Line>,
}

/// What is known of a connection beside the engine.
#[derive(Default)]
pub(super) struct Line {
    /// Written by the connection's own task only.
    mode: AtomicU8,
    upgraded: Mutex<Upgraded>,
}

/// An upgraded connection.
struct Upgraded {
    frames: Frames,
    /// The connection, once the engine has let go of it.
    left: Option<Stream>,
}

/// Requests and answers: nobody looks at the bytes.
const PLAIN: u8 = 0;
/// The next final answer is a 101, or has been one.
const UPGRADED: u8 = 1;
/// As before, but nothing new may begin.
const CLOSING: u8 = 2;

/// How the preface of an HTTP/2 connection begins (RFC 9113 section 3.4), and no request of HTTP/1.
const PREFACE: &[u8] = b"PRI";
/// How long a browser may take to read our Close frame and to answer it (RFC 6455 section 7.1.1).
const GOODBYE: Duration = Duration::from_secs(2);

impl Wire {
    /// Wraps `stream`.
    pub(super) fn new(stream: Stream) -> (Self, Arc<Line>) {
        let line = Arc::new(Line::default());
        (Self { stream: Some(stream), line: Arc::clone(&line) }, line)
    }

    fn inner(&mut self) -> Result<Pin<&mut Stream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| ErrorKind::NotConnected.into())
    }
}

impl Line {
    /// A 101 is about to be written: from its head on frames are told apart.
    pub(super) fn upgrade(&self) {
        self.upgraded().frames = Frames::new();
        self.mode.store(UPGRADED, Ordering::Relaxed);
    }

    /// From now on nothing new may begin. Returns whether there is something to wait for and to end in good order: false
    /// for a connection that was never upgraded.
    pub(super) fn close(&self) -> bool {
        let upgraded = self.mode.load(Ordering::Relaxed) == UPGRADED;
        if upgraded {
            self.mode.store(CLOSING, Ordering::Relaxed);
        }
        upgraded
    }

    /// Whether no frame is open.
    pub(super) fn between_frames(&self) -> bool {
        self.upgraded().frames.between()
    }

    /// Says goodbye, once the engine has let go of the connection: a Close frame with `code` and `reason`, and the
    /// browser's answer to it is waited for. In the middle of a frame nothing is said.
    pub(super) async fn say(&self, code: u16, reason: &str) {
        let (left, may_close) = {
            let mut upgraded = self.upgraded();
            (upgraded.left.take(), upgraded.frames.may_close())
        };
        let Some(mut stream) = left.filter(|_| may_close) else { return };
        let frame = frames::close(code, reason);
        let goodbye = async {
            stream.write_all(&frame).await?;
            stream.flush().await?;
            stream.shutdown().await?;
            // What is left unread would make the system reset the connection, and the frame might be lost with it.
            let mut rest = [0; 4096];
            while stream.read(&mut rest).await? > 0 {}
            Result::Ok(())
        };
        match tokio::time::timeout(GOODBYE, goodbye).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a WebSocket was gone before it was closed"),
            Err(_) => tracing::debug!("a WebSocket's client does not answer the end of it"),
        }
    }

    fn upgraded(&self) -> MutexGuard<'_, Upgraded> {
        self.upgraded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes with `write` as much of `bytes` as may go, and follows the frames in it.
    fn pass(&self, bytes: &[u8], write: impl FnOnce(&[u8]) -> Poll<Result<usize>>) -> Poll<Result<usize>> {
        let mode = self.mode.load(Ordering::Relaxed);
        if mode == PLAIN {
            return write(bytes);
        }
        let mut upgraded = self.upgraded();
        let allowed = if mode == CLOSING { upgraded.frames.open_part(bytes) } else { bytes.len() };
        if allowed == 0 && !bytes.is_empty() {
            // Nobody has to be woken: whoever closes it parts the engine from it.
            return Poll::Pending;
        }
        let bytes = bytes.get(..allowed).unwrap_or(bytes);
        let written = write(bytes);
        if let Poll::Ready(Ok(count)) = &written {
            upgraded.frames.advance(bytes.get(..*count).unwrap_or(bytes));
        }
        written
    }
}

impl Default for Upgraded {
    fn default() -> Self {
        Self { frames: Frames::new(), left: None }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.line.mode.load(Ordering::Relaxed) == CLOSING {
            self.line.upgraded().left = self.stream.take();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        self.inner()?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let Self { stream, line } = self.get_mut();
        let Some(stream) = stream else { return Poll::Ready(Err(Error::from(ErrorKind::NotConnected))) };
        line.pass(bytes, |bytes| Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.line.mode.load(Ordering::Relaxed) == CLOSING {
            // The upstream has left just now, and the engine shuts down what it still writes to: we do that.
            return Poll::Ready(Ok(()));
        }
        self.inner()?.poll_shutdown(cx)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<Result<usize>> {
        let Self { stream, line } = self.get_mut();
        let Some(stream) = stream else { return Poll::Ready(Err(Error::from(ErrorKind::NotConnected))) };
        if line.mode.load(Ordering::Relaxed) == PLAIN {
            return Pin::new(stream).poll_write_vectored(cx, slices);
        }
        let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        line.pass(first, |bytes| Pin::new(stream).poll_write(cx, bytes))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }
}

#[async_trait]
impl Shutdown for Wire {
    async fn shutdown(&mut self) {
        if let Err(error) = AsyncWriteExt::shutdown(self).await {
            tracing::debug!(%error, "a connection was gone before it was shut down");
        }
    }
}

#[async_trait]
impl Peek for Wire {
    async fn try_peek(&mut self, buffer: &mut [u8]) -> Result<bool> {
        let Some(stream) = &mut self.stream else { return Ok(false) };
        // The engine looks for the preface of HTTP/2, and would wait for as many bytes of HTTP/1 as that has: some probes
        // of balancers are shorter.
        if let Some((first, _)) = buffer.split_at_mut_checked(PREFACE.len())
            && stream.try_peek(first).await?
            && first != PREFACE
        {
            return Ok(true);
        }
        stream.try_peek(buffer).await
    }
}

impl UniqueID for Wire {
    fn id(&self) -> UniqueIDType {
        self.stream.as_ref().map_or(-1, |stream| stream.id())
    }
}

impl Ssl for Wire {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.stream.as_ref()?.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.stream.as_ref()?.selected_alpn_proto()
    }
}

impl GetTimingDigest for Wire {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.as_ref().map(|stream| stream.get_timing_digest()).unwrap_or_default()
    }
}

impl GetProxyDigest for Wire {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.stream.as_ref()?.get_proxy_digest()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        if let Some(stream) = &mut self.stream {
            stream.set_proxy_digest(digest);
        }
    }
}

impl GetSocketDigest for Wire {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.as_ref()?.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        if let Some(stream) = &mut self.stream {
            stream.set_socket_digest(digest);
        }
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("stream", &self.stream).finish_non_exhaustive()
    }
}
