//! How a session's token is shown to an upstream: as a bearer token, or with a proof of its key (RFC 9449 section 7).

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use url::{Position, Url};

use super::Gateway;
use super::nonces::Part;
use super::route::{CanonicalPath, Route, Upstream};
use crate::oauth::{self, AccessToken, Proof, TokenScheme};
use crate::session::Session;

/// A request that shows a token.
pub(super) struct Shown<'a> {
    /// Where it goes.
    pub(super) upstream: &'a Upstream,
    pub(super) method: &'a Method,
    /// What a proof calls its target.
    pub(super) target: &'a str,
    /// The nonce that was demanded for it; none for the newest that is known.
    pub(super) nonce: Option<&'a str>,
}

impl Upstream {
    /// How a token of `session` is shown here.
    pub(super) fn scheme_for(&self, session: &Session) -> TokenScheme {
        if self.bearer { TokenScheme::Bearer } else { session.scheme() }
    }

    /// What a proof calls the target of a request for `path`: the address as the server sees it, without its query (section
    /// 4.2, `htu`).
    pub(super) fn proven_target(&self, route: &Route, path: &CanonicalPath) -> String {
        let base = self.external_url.as_ref().unwrap_or(&self.url);
        format!("{}{}", origin(base), path.forwarded_behind(route, base))
    }
}

/// Scheme, host and port.
fn origin(url: &Url) -> &str {
    &url[..Position::BeforePath]
}

impl Gateway {
    /// The fields that show `token` of `session` with a request, and a new proof if it is bound. A token that cannot be shown
    /// is left out.
    pub(super) fn presented(
        &self,
        session: &Session,
        token: &AccessToken,
        shown: &Shown<'_>,
    ) -> Vec<(HeaderName, HeaderValue)> {
        let Shown { upstream, method, target, nonce } = *shown;
        match upstream.scheme_for(session) {
            TokenScheme::Bearer => {
                TokenScheme::Bearer.presented(token).into_iter().map(|value| (AUTHORIZATION, value)).collect()
            }
            TokenScheme::DPoP => {
                let seams = &self.seams;
                let newest = seams.nonces.newest(Part::ResourceServer, upstream.url.as_str());
                let proof = Proof {
                    method,
                    target,
                    access_token: Some(token),
                    nonce: nonce.or(newest.as_deref()),
                    now: seams.clock.now(),
                    random: &*seams.random,
                };
                let signer = seams.signers.of(session);
                signer.and_then(|signer| oauth::bound_fields(&signer, &proof)).map(Vec::from).unwrap_or_default()
            }
        }
    }

    /// Takes over the nonce of an upstream's answer, and returns it if the request was refused for want of it: then it was not
    /// worked on, and its next proof has to have it.
    pub(super) fn demanded_nonce(
        &self,
        upstream: &Upstream,
        status: StatusCode,
        fields: &HeaderMap,
    ) -> Option<Arc<str>> {
        self.seams.nonces.learn(Part::ResourceServer, upstream.url.as_str(), fields);
        let demanded = oauth::nonce_in(fields).filter(|_| oauth::resource_demands_nonce(status, fields));
        demanded.map(Arc::from)
    }
}
