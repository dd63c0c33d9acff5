//! How the authorization server is asked for something that is bound to a key: every token request, every login that is
//! lodged, and the UserInfo endpoint go through here.

use std::time::Duration;

use bytes::Bytes;

use super::nonces::Part;
use super::{Seams, SendError};
use crate::oauth::{self, AccessToken, ProofKey, ProofSigner, Proofs};

impl Seams {
    /// Asks with a proof of `key`, if there is one (RFC 9449 section 5). `build` makes the request: once more, with all that
    /// is good only once, where the server refuses the first unread because its proof has not the newest nonce (section 8).
    ///
    /// # Errors
    /// As [`send`](super::AuthorizationServer::send): both requests together take at most `deadline`.
    pub(super) async fn ask(
        &self,
        key: Option<&ProofKey>,
        deadline: Duration,
        build: impl Fn(&Proofs<'_>) -> http::Request<Vec<u8>> + Send,
    ) -> Result<http::Response<Bytes>, SendError> {
        self.ask_showing(None, key, deadline, build).await
    }

    /// The same with an access token that the request carries, and that the proof is then of as well (section 7.1).
    pub(super) async fn ask_showing(
        &self,
        token: Option<&AccessToken>,
        key: Option<&ProofKey>,
        deadline: Duration,
        build: impl Fn(&Proofs<'_>) -> http::Request<Vec<u8>> + Send,
    ) -> Result<http::Response<Bytes>, SendError> {
        let Some(key) = key else { return self.server.send(build(&self.proofs()), deadline).await };
        let signer = key.prepare().map_err(not_sent)?;
        let began = self.clock.uptime();
        let (answer, learnt) = self.prove_and_send(build(&self.proofs()), &signer, token, deadline).await?;
        if !learnt || !oauth::server_demands_nonce(&answer) {
            return Ok(answer);
        }
        tracing::debug!("the authorization server demands a newer nonce; it is asked once more");
        let left = deadline.saturating_sub(self.clock.uptime().saturating_sub(began));
        let (answer, _) = self.prove_and_send(build(&self.proofs()), &signer, token, left).await?;
        Ok(answer)
    }

    /// The answer, and whether it brought a nonce.
    async fn prove_and_send(
        &self,
        mut request: http::Request<Vec<u8>>,
        signer: &ProofSigner,
        token: Option<&AccessToken>,
        deadline: Duration,
    ) -> Result<(http::Response<Bytes>, bool), SendError> {
        let part = if token.is_some() { Part::ResourceServer } else { Part::AuthorizationServer };
        let authority = request.uri().authority().map_or("", |it| it.as_str());
        let origin = format!("{}://{authority}", request.uri().scheme_str().unwrap_or_default());
        let nonce = self.nonces.newest(part, &origin);
        signer.prove(&mut request, token, nonce.as_deref(), self.clock.now(), &*self.random).map_err(not_sent)?;
        let answer = self.server.send(request, deadline).await?;
        let learnt = self.nonces.learn(part, &origin, answer.headers());
        Ok((answer, learnt))
    }
}

fn not_sent(error: oauth::InvalidProofKey) -> SendError {
    SendError::NotSent(format!("its proof cannot be made: {error}"))
}
