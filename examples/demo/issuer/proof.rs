//! Who a client is, by the one way that it is registered for.

use axum::http::StatusCode;
use axum::response::Response;
use base64_simd::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use serde_json::Value;
use vestibule::secret::constant_time_eq;

use super::Inner;
use super::message::{Received, challenge, refusal};
use super::serving::lock;

/// How the client proves who it is (OpenID Connect Core section 9, RFC 8705 section 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// By its secret, in the header or in the form.
    #[default]
    Secret,
    /// By a signed assertion (`private_key_jwt`), of a key that is [registered](super::Issuer::register_client_keys).
    Assertion,
    /// By the certificate of its connection, which whatever stands in front of this server has looked at; so here it only
    /// names itself.
    Certificate,
}

impl Proof {
    /// What the metadata calls it.
    pub(super) const fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Secret => &["client_secret_basic", "client_secret_post"],
            Self::Assertion => &["private_key_jwt"],
            Self::Certificate => &["tls_client_auth", "self_signed_tls_client_auth"],
        }
    }
}

/// Why a client is not believed.
pub(super) enum Stranger {
    ProvenTwice,
    Unproven,
}

impl Stranger {
    pub(super) fn reply(&self) -> Response {
        match self {
            Self::ProvenTwice => {
                refusal(StatusCode::BAD_REQUEST, "invalid_request", "the client proves itself in two ways")
            }
            Self::Unproven => {
                let refused = refusal(StatusCode::UNAUTHORIZED, "invalid_client", "unknown client or wrong secret");
                challenge(refused, "Basic realm=\"issuer\"")
            }
        }
    }
}

/// Asks the client who it is, by one way and no more (RFC 6749 section 2.3).
pub(super) fn authenticate(inner: &Inner, request: &Received) -> Result<(), Stranger> {
    let form = &request.form;
    let (secret, asserted) = (form.get("client_secret"), form.get("client_assertion"));
    let ways = [request.credential("basic"), secret, asserted].iter().flatten().count();
    let is_named = form.get("client_id") == Some(inner.options.client_id.as_str());
    match inner.options.proof {
        _ if ways > 1 => Err(Stranger::ProvenTwice),
        Proof::Secret => by_secret(inner, request),
        Proof::Assertion => {
            let (kind, assertion) = (form.get("client_assertion_type"), asserted.unwrap_or_default());
            let is_good = kind == Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
                && (is_named || form.get("client_id").is_none())
                && asserts(inner, assertion).is_some();
            if is_good { Ok(()) } else { Err(Stranger::Unproven) }
        }
        Proof::Certificate if ways == 0 && is_named => Ok(()),
        Proof::Certificate => Err(Stranger::Unproven),
    }
}

/// Whether this is a new assertion of the client for this server (RFC 7523 section 3, with the audience of its update).
fn asserts(inner: &Inner, assertion: &str) -> Option<()> {
    let (signed, signature) = assertion.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode_to_vec(part).ok();
    let read = |part| serde_json::from_slice::<Value>(&decode(part)?).ok();
    let (header, claims) = (read(header)?, read(claims)?);
    let keys = lock(&inner.client_keys);
    let key = keys.as_array()?.iter().find(|key| ["kid", "alg"].iter().all(|it| key.get(it) == header.get(it)))?;
    let member = |name: &str| decode(text(key, name)?);
    let (algorithm, public): (&dyn VerificationAlgorithm, _) = match text(&header, "alg")? {
        "ES256" => (&ECDSA_P256_SHA256_FIXED, [vec![4], member("x")?, member("y")?].concat()),
        "EdDSA" => (&ED25519, member("x")?),
        _ => return None,
    };
    UnparsedPublicKey::new(algorithm, public).verify(signed.as_bytes(), &decode(signature)?).ok()?;
    let (now, id) = (inner.clock.now().as_secs(), inner.options.client_id.as_str());
    let says = |name: &str, value: &str| text(&claims, name) == Some(value);
    let at = |name: &str| claims.get(name).and_then(Value::as_u64);
    let holds = says("iss", id) && says("sub", id) && says("aud", &inner.url) && at("iat")? <= now && at("exp")? > now;
    let is_new = lock(&inner.assertions).insert(text(&claims, "jti")?.to_owned());
    (holds && is_new).then_some(())
}

fn text<'v>(object: &'v Value, name: &str) -> Option<&'v str> {
    object.get(name)?.as_str()
}

fn by_secret(inner: &Inner, request: &Received) -> Result<(), Stranger> {
    let form = (request.form.get("client_id"), request.form.get("client_secret"));
    let presented = match (request.credential("basic"), form) {
        (Some(_), (_, Some(_))) => return Err(Stranger::ProvenTwice),
        (Some(basic), _) => basic_credentials(basic),
        (None, (Some(id), Some(secret))) => Some((id.to_owned(), secret.to_owned())),
        (None, _) => None,
    };
    let options = &inner.options;
    let is_known = presented.is_some_and(|(id, secret)| {
        id == options.client_id && constant_time_eq(secret.as_bytes(), options.client_secret.expose().as_bytes())
    });
    if is_known { Ok(()) } else { Err(Stranger::Unproven) }
}

/// Both halves are form-encoded before they are joined.
fn basic_credentials(encoded: &str) -> Option<(String, String)> {
    let joined = String::from_utf8(STANDARD.decode_to_vec(encoded).ok()?).ok()?;
    let decode = |half: &str| {
        let spaced = half.replace('+', " ");
        percent_encoding::percent_decode_str(&spaced).decode_utf8().ok().map(|text| text.into_owned())
    };
    let (id, secret) = joined.split_once(':')?;
    Some((decode(id)?, decode(secret)?))
}
