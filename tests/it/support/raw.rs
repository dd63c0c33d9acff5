//! HTTP/1.1 by hand: for requests that no client library would send, and answers read byte by byte.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;

/// Sends `bytes` on a connection of their own and reads one answer.
///
/// # Errors
///
/// As [`Connection::answer`].
pub(crate) async fn exchange(address: SocketAddr, bytes: &[u8]) -> Result<Answer> {
    let mut connection = Connection::open(address).await?;
    connection.send(bytes).await?;
    connection.answer().await
}

/// A TCP connection to a server.
pub(crate) struct Connection(BufReader<TcpStream>);

/// One answer, an interim one (1xx) like any other.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// Status line and headers as they came, with the empty line at their end.
    pub(crate) head: String,
    /// The body without its framing.
    pub(crate) body: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    ///
    /// The connection was refused.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        Ok(Self(BufReader::new(TcpStream::connect(address).await?)))
    }

    /// Sends `bytes` as they are.
    ///
    /// # Errors
    ///
    /// The connection is broken.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.get_mut().write_all(bytes).await
    }

    /// Sends the end: nothing more comes from this side, which goes on reading.
    ///
    /// # Errors
    ///
    /// The connection is broken.
    pub(crate) async fn finish(&mut self) -> Result<()> {
        self.0.get_mut().shutdown().await
    }

    /// Reads one answer to a request that was not `HEAD`.
    ///
    /// # Errors
    ///
    /// The connection ended early, nothing came for too long, or it was no HTTP/1.1.
    pub(crate) async fn answer(&mut self) -> Result<Answer> {
        within(self.read_answer(true)).await
    }

    /// Reads one answer to a `HEAD` request, which has no body whatever its headers say.
    ///
    /// # Errors
    ///
    /// As [`answer`](Self::answer).
    pub(crate) async fn answer_to_head(&mut self) -> Result<Answer> {
        within(self.read_answer(false)).await
    }

    /// Everything up to the end of the connection.
    ///
    /// # Errors
    ///
    /// The connection broke, or did not end for too long.
    pub(crate) async fn rest(&mut self) -> Result<Vec<u8>> {
        let mut rest = Vec::new();
        within(self.0.read_to_end(&mut rest)).await?;
        Ok(rest)
    }

    async fn read_answer(&mut self, may_have_body: bool) -> Result<Answer> {
        let mut head = self.line().await?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(ErrorKind::InvalidData)?;
        loop {
            let line = self.line().await?;
            head.push_str(&line);
            if line == "\r\n" {
                break;
            }
        }
        let mut answer = Answer { status, head, body: Vec::new() };
        if may_have_body && !matches!(status, 100..=199 | 204 | 304) {
            self.read_body(&mut answer).await?;
        }
        Ok(answer)
    }

    /// RFC 9112 section 6.3.
    async fn read_body(&mut self, answer: &mut Answer) -> Result<()> {
        if answer.header("transfer-encoding").is_some() {
            return self.read_chunks(&mut answer.body).await;
        }
        if let Some(length) = answer.header("content-length") {
            let length = length.parse().map_err(|_| ErrorKind::InvalidData)?;
            return self.read_exactly(length, &mut answer.body).await;
        }
        self.0.read_to_end(&mut answer.body).await?;
        Ok(())
    }

    async fn read_chunks(&mut self, body: &mut Vec<u8>) -> Result<()> {
        loop {
            let size = self.line().await?;
            let size = size.trim_end().split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(size, 16).map_err(|_| ErrorKind::InvalidData)?;
            if size == 0 {
                // Trailer fields, up to an empty line.
                while self.line().await? != "\r\n" {}
                return Ok(());
            }
            self.read_exactly(size, body).await?;
            self.line().await?;
        }
    }

    async fn read_exactly(&mut self, length: usize, body: &mut Vec<u8>) -> Result<()> {
        let start = body.len();
        body.resize(start + length, 0);
        self.0.read_exact(&mut body[start..]).await?;
        Ok(())
    }

    /// One line with its end.
    ///
    /// # Errors
    ///
    /// The connection ended within it.
    pub(crate) async fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line).await?;
        if line.last() == Some(&b'\n') {
            Ok(String::from_utf8_lossy(&line).into_owned())
        } else {
            Err(ErrorKind::UnexpectedEof.into())
        }
    }
}

impl Answer {
    /// The first header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).next()
    }

    /// All headers of this name.
    pub(crate) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

async fn within<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(Error::from(ErrorKind::TimedOut)))
}

mod tests {
    use std::io::ErrorKind;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::Connection;

    /// A connection on which `bytes` arrive, and then the end.
    async fn receiving(bytes: &[u8]) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connection = Connection::open(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        server.write_all(bytes).await.unwrap();
        connection
    }

    #[tokio::test]
    async fn every_framing_is_understood() {
        let mut connection = receiving(
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
              HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Type: a\r\n\r\nbody\
              HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nchu\r\n4\r\nnked\r\n0\r\nTrailer: t\r\n\r\n\
              HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n\
              HTTP/1.0 502 Bad Gateway\r\nSet-Cookie: a\r\nset-cookie: b\r\n\r\nto the end",
        )
        .await;
        assert_eq!(connection.answer().await.unwrap().status, 103);
        let plain = connection.answer().await.unwrap();
        assert_eq!((plain.body.as_slice(), plain.header("content-type")), (&b"body"[..], Some("a")));
        assert_eq!(connection.answer().await.unwrap().body, b"chunked");
        assert_eq!(connection.answer_to_head().await.unwrap().body, b"");
        let last = connection.answer().await.unwrap();
        assert_eq!((last.status, last.body.as_slice()), (502, &b"to the end"[..]));
        assert_eq!(last.headers("Set-Cookie").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(connection.rest().await.unwrap(), b"");
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_an_error() {
        for bytes in [&b""[..], b"HTTP/1.1 200 OK\r\nA", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbod"] {
            let error = receiving(bytes).await.answer().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        }
    }
}
