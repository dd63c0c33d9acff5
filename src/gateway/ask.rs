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
        let answer = self.prove_and_send(build(&self.proofs()), &signer, token, None, deadline).await?;
        let demanded = oauth::nonce_in(answer.headers()).filter(|_| oauth::server_demands_nonce(&answer));
        let Some(demanded) = demanded.map(str::to_owned) else { return Ok(answer) };
        tracing::debug!("the authorization server demands a newer nonce; it is asked once more");
        let left = deadline.saturating_sub(self.clock.uptime().saturating_sub(began));
        self.prove_and_send(build(&self.proofs()), &signer, token, Some(&demanded), left).await
    }

    /// The answer to a request whose proof has the nonce that was `demanded`, or else the newest.
    async fn prove_and_send(
        &self,
        mut request: http::Request<Vec<u8>>,
        signer: &ProofSigner,
        token: Option<&AccessToken>,
        demanded: Option<&str>,
        deadline: Duration,
    ) -> Result<http::Response<Bytes>, SendError> {
        let part = if token.is_some() { Part::ResourceServer } else { Part::AuthorizationServer };
        let authority = request.uri().authority().map_or("", |it| it.as_str());
        let origin = format!("{}://{authority}", request.uri().scheme_str().unwrap_or_default());
        let newest = self.nonces.newest(part, &origin);
        signer
            .prove(&mut request, token, demanded.or(newest.as_deref()), self.clock.now(), &*self.random)
            .map_err(not_sent)?;
        let answer = self.server.send(request, deadline).await?;
        self.nonces.learn(part, &origin, answer.headers());
        Ok(answer)
    }
}

fn not_sent(error: oauth::InvalidProofKey) -> SendError {
    SendError::NotSent(format!("its proof cannot be made: {error}"))
}
