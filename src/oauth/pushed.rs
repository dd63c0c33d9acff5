//! Pushed authorization requests (RFC 9126): the login is lodged at the server, and the browser carries a reference.

use bytes::Bytes;
use http::StatusCode;
use url::Url;

use super::answer::refusal;
use super::authorization::AuthorizationRequest;
use super::client::{Client, Proofs};
use super::document::{Document, seconds};
use super::endpoint::Endpoint;
use super::error::{Error, Verdict};
use super::metadata::AuthorizationServerMetadata;

/// What faults call an answer.
const NAME: &str = "pushed authorization response";
/// Longer references are not taken, in bytes: they become part of a URL.
const MAX_REFERENCE: usize = 2048;

impl AuthorizationRequest {
    /// Where this one is lodged; none where the server has no place for it.
    pub fn place<'m>(&self, client: &Client, metadata: &'m AuthorizationServerMetadata) -> Option<&'m Endpoint> {
        let endpoint = metadata.pushed_authorization_request_endpoint.as_ref()?;
        let alias = metadata.mtls_endpoint_aliases.pushed_authorization_request_endpoint.as_ref();
        Some(client.door(endpoint, alias))
    }

    /// The request that lodges this one at its `place`. A reference is good for one login, so each login is lodged anew.
    pub fn push(
        &self,
        client: &Client,
        metadata: &AuthorizationServerMetadata,
        place: &Endpoint,
        proofs: &Proofs<'_>,
    ) -> http::Request<Vec<u8>> {
        let parameters = &self.lodged().0;
        let fields: Vec<(&str, &str)> =
            parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        client.form(metadata, place, &fields, proofs)
    }

    /// Where the browser goes with what the server has answered (RFC 9126 section 2.2).
    ///
    /// # Errors
    /// [`Error::IssuerRefused`] if the server says no, [`Error::IssuerMisbehaved`] if it is in trouble or its answer is
    /// malformed.
    pub fn pushed(&self, client: &Client, response: &http::Response<Bytes>) -> Result<Url, Error> {
        if let Some(error) = refusal(NAME, &[StatusCode::CREATED, StatusCode::OK], response) {
            return Err(error);
        }
        let document = Document::read(NAME, response.body())?;
        let reference = document.required_text("request_uri")?;
        if reference.len() > MAX_REFERENCE || !reference.bytes().all(|it| it.is_ascii_graphic()) {
            return Err(document.fault("request_uri", "is not a URI of at most 2 KiB").into());
        }
        if document.value("expires_in").is_some_and(|it| seconds(it).unwrap_or_default() == 0) {
            return Err(document.fault("expires_in", "is not a number of seconds above zero").into());
        }
        Ok(self.url_of_reference(client, reference))
    }
}

impl Error {
    /// Whether the server has understood a request and said no to it, rather than been in trouble or not the right one to
    /// ask.
    pub fn is_a_no(&self) -> bool {
        match self {
            Self::IssuerRefused { error, .. } => {
                error != Self::UNSPECIFIED && !matches!(self.verdict(), Verdict::Transient { .. })
            }
            Self::Callback(_) | Self::IssuerMisbehaved(_) | Self::UnknownKey => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::authorization::LoginWishes;
    use crate::oauth::client::ClientAuthentication;
    use crate::oauth::endpoint::PlainHttp;
    use crate::oauth::testing::{answer, client, fields, metadata, proofs};
    use crate::oauth::{LoginTransaction, RawIdToken, State};

    fn offering() -> AuthorizationServerMetadata {
        let endpoint = |text| Endpoint::parse(text, PlainHttp::LoopbackOnly).expect("is an endpoint");
        let mut metadata = metadata();
        metadata.authorization_endpoint = endpoint("https://as.test/authorize?p=1");
        metadata.pushed_authorization_request_endpoint = Some(endpoint("https://as.test/par"));
        metadata.mtls_endpoint_aliases.pushed_authorization_request_endpoint =
            Some(endpoint("https://mtls.as.test/par"));
        metadata
    }

    fn asked(client: &Client) -> AuthorizationRequest {
        let wishes = LoginWishes::default();
        LoginTransaction::begin(client, &offering(), &wishes, State::new("s".into()), &proofs()).1
    }

    #[test]
    fn a_push_holds_what_the_url_would_and_proves_who_asks() {
        // PAR-2.1-01, MTLS-5-01
        let client = client();
        let asked = asked(&client);
        let lodged = |client: &Client| {
            let offering = offering();
            asked.push(client, &offering, asked.place(client, &offering).expect("has an endpoint"), &proofs())
        };
        let request = lodged(&client);
        assert_eq!(request.uri(), "https://as.test/par");
        assert!(request.headers()[http::header::AUTHORIZATION].is_sensitive());
        let in_url: Vec<(String, String)> = asked.url().query_pairs().into_owned().skip(1).collect();
        assert_eq!(fields(&request), in_url);
        assert!(in_url.iter().all(|(name, _)| name != "request_uri"));
        assert!(asked.place(&client, &metadata()).is_none());
        let showing = Client { mutual_tls: true, authentication: ClientAuthentication::Certificate, ..client };
        let request = lodged(&showing);
        assert_eq!(request.uri(), "https://mtls.as.test/par");
        assert_eq!(fields(&request).iter().filter(|(name, _)| name == "client_id").count(), 1);
    }

    #[test]
    fn who_is_meant_is_lodged_and_never_carried_by_the_browser() {
        // OIDC-3.1.2.1-08, BBA-6.1-03
        let wishes = LoginWishes { id_token_hint: Some(RawIdToken::new("canary".into())), ..LoginWishes::default() };
        let client = client();
        let asked = LoginTransaction::begin(&client, &offering(), &wishes, State::new("s".into()), &proofs()).1;
        let offering = offering();
        let place = asked.place(&client, &offering).expect("has an endpoint");
        let request = asked.push(&client, &offering, place, &proofs());
        assert!(fields(&request).contains(&("id_token_hint".to_owned(), "canary".to_owned())));
        let url = asked.url();
        assert!(url.query_pairs().all(|(name, value)| name != "id_token_hint" && value != "canary"), "{url}");
    }

    #[test]
    fn the_browser_carries_the_reference_and_the_name_of_the_client_alone() {
        // PAR-4-02, PAR-2.2-01, FAPI-5.3.3.2-06, CS-FH-01
        for (status, body) in [
            (201, r#"{"request_uri":"urn:ietf:params:oauth:request_uri:a&b","expires_in":5}"#),
            (200, r#"{"request_uri":"urn:ietf:params:oauth:request_uri:a&b"}"#),
        ] {
            let url = asked(&client()).pushed(&client(), &answer(status, body)).expect("is taken");
            assert_eq!(
                url.as_str(),
                "https://as.test/authorize?p=1&client_id=app&request_uri=urn%3Aietf%3Aparams%3Aoauth%3Arequest_uri%3Aa%26b"
            );
        }
    }

    #[test]
    fn an_answer_that_is_none_is_told_from_a_no() {
        // PAR-2.3-01
        let fault = |status, body: &str| asked(&client()).pushed(&client(), &answer(status, body)).expect_err("fails");
        for (status, body) in [
            (201, "{}"),
            (201, r#"{"request_uri":7,"expires_in":5}"#),
            (201, r#"{"request_uri":"a b","expires_in":5}"#),
            (201, r#"{"request_uri":"urn:a","expires_in":0}"#),
            (201, r#"{"request_uri":"urn:a","expires_in":"soon"}"#),
            (201, "<html>"),
            (302, ""),
            (404, ""),
            (405, "<html>"),
            (413, ""),
            (429, r#"{"error":"slow_down"}"#),
            (500, r#"{"error":"invalid_request"}"#),
        ] {
            assert!(!fault(status, body).is_a_no(), "{status} {body}");
        }
        for (status, error) in [(400, "invalid_request"), (401, "invalid_client"), (400, "invalid_request_object")] {
            assert!(fault(status, &format!(r#"{{"error":"{error}"}}"#)).is_a_no(), "{status} {error}");
        }
    }
}
