//! The body of a request, as far as an endpoint of ours reads one.

use async_trait::async_trait;
use bytes::Bytes;

/// A body that has not been read yet. Only an endpoint that is to have one reads it: what is forwarded goes on as it
/// comes, and what has been read here can be forwarded no more.
#[async_trait]
pub trait Body: Send {
    /// The whole body, if it has `limit` bytes at most. It is read once; after that nothing is left of it.
    ///
    /// # Errors
    /// If it is longer, breaks off, or does not come in time. The connection serves no other request then.
    async fn read(&mut self, limit: usize) -> Result<Bytes, BodyError>;
}

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is longer than the limit.
    #[error("the body is larger than the limit")]
    TooLarge,
    /// It broke off, or its framing is wrong.
    #[error("the body broke off")]
    Broken,
    /// It did not come within the time that the shell allows.
    #[error("the body did not come in time")]
    TooSlow,
}

/// The body of a request that has none.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoBody;

#[async_trait]
impl Body for NoBody {
    async fn read(&mut self, _limit: usize) -> Result<Bytes, BodyError> {
        Ok(Bytes::new())
    }
}
