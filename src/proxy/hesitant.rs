//! Connections to upstreams on which a WebSocket may begin.
//!
//! The engine takes the end of a handshake's empty body for the end of the whole tunnel if it reads the 101 first, and
//! a near upstream is fast enough for that now and then (cloudflare/pingora#946, open as of 0.9.1). So what is read is
//! one turn late after each write: by then the body's end has been dealt with.

use std::io::Result;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora::connectors::l4::Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::{Error, ErrorType, OrErr as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Makes such connections, in at most this time.
#[derive(Debug)]
pub(super) struct Hesitantly(pub(super) Duration);

#[derive(Debug)]
struct Hesitant {
    stream: TcpStream,
    /// Something has been written since the last time that something was to be read.
    late: bool,
}

#[async_trait]
impl Connect for Hesitantly {
    async fn connect(&self, address: &SocketAddr) -> pingora::Result<Stream> {
        let address = address.as_inet().ok_or_else(|| Error::explain(ErrorType::ConnectNoRoute, "no TCP address"))?;
        let stream = tokio::time::timeout(self.0, TcpStream::connect(address))
            .await
            .or_err(ErrorType::ConnectTimedout, "the upstream does not take the connection")?
            .or_err(ErrorType::ConnectError, "the upstream cannot be reached")?;
        Ok(VirtualSocketStream::new(Box::new(Hesitant { stream, late: false })).into())
    }
}

impl VirtualSocket for Hesitant {
    fn set_socket_option(&self, option: VirtualSockOpt) -> Result<()> {
        if let VirtualSockOpt::NoDelay = option {
            self.stream.set_nodelay(true)?;
        }
        Ok(())
    }
}

impl AsyncRead for Hesitant {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        if std::mem::take(&mut self.late) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Hesitant {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.late = true;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_answer_that_is_there_already_is_read_one_turn_late() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut upstream, _) = listener.accept().await.unwrap();
        let mut hesitant = Hesitant { stream, late: false };
        for _ in 0..3 {
            upstream.write_all(b"a").await.unwrap();
            hesitant.stream.readable().await.unwrap();
            hesitant.write_all(b"b").await.unwrap();
            let mut turns = 0;
            let mut bytes = [0; 1];
            let reading = hesitant.read_exact(&mut bytes);
            tokio::pin!(reading);
            std::future::poll_fn(|cx| {
                turns += 1;
                reading.as_mut().poll(cx).map(drop)
            })
            .await;
            assert!(turns >= 2 && bytes == *b"a", "{turns}");
        }
    }
}
