//! `GET /bff/jwks.json`: the public halves of the keys that we sign with, for the authorization server (`jwks_uri` of the
//! registration).

use http::HeaderValue;
use http::header::CACHE_CONTROL;
use http::request::Parts;

use super::Gateway;
use super::reply::{self, Answer, Refusal};

/// So a new key has to be published for an hour before it signs.
const KEPT: HeaderValue = HeaderValue::from_static("public, max-age=3600");

impl Gateway {
    pub(super) fn client_keys(&self, request: &Parts) -> Answer {
        let Some(keys) = &self.settings.client.keys else {
            return Refusal::NoRoute.answer(request, &self.settings.prefix);
        };
        let mut answer = reply::json(&keys.published(), request);
        answer.headers_mut().insert(CACHE_CONTROL, KEPT);
        answer
    }
}
