//! JWTs that an authorization server makes for this client: the checks that ID tokens, logout tokens and signed answers
//! of the UserInfo endpoint share (OpenID Connect Core sections 3.1.3.7 and 5.3.2, OpenID Connect Back-Channel Logout
//! section 2.6).

use std::time::Duration;

use super::client::Client;
use super::document::Document;
use super::error::{Error, Misbehaviour, presentable};
use super::jwks::JwkSet;
use super::jws::{Algorithm, Jws};
use super::metadata::AuthorizationServerMetadata;
use super::tenants::{Tid, key_is_for};
use super::values::Issuer;
use crate::clock::Timestamp;

/// A JWT whose signature, issuer, audience and times are in order.
pub(super) struct Jwt {
    pub(super) claims: Document,
    /// Whose it is: the server's own issuer, or that of one tenant.
    pub(super) issuer: Issuer,
    pub(super) algorithm: Algorithm,
    pub(super) issued_at: Timestamp,
    /// From this moment on it is refused.
    pub(super) refused_from: Timestamp,
}

/// A JWT whose signature, issuer and audience are in order; of its times nothing has been said.
pub(super) struct SignedClaims {
    pub(super) claims: Document,
    issuer: Issuer,
    algorithm: Algorithm,
}

/// What is asked of a JWT beside its content.
pub(super) struct Rules<'a> {
    /// What faults call it.
    pub(super) name: &'static str,
    /// The `typ` that are accepted, in whatever case; none stands for a header without one.
    pub(super) kinds: &'a [Option<&'static str>],
    /// Whether it has to name its tenant, where the server has tenants.
    pub(super) tid: Tid,
    pub(super) client: &'a Client,
    pub(super) metadata: &'a AuthorizationServerMetadata,
    pub(super) keys: &'a JwkSet,
    pub(super) now: Timestamp,
}

/// Such a token is issued when it is needed; one that is older was kept somewhere.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// A server's clock may be ahead by this much even if less is configured: `iat` alone makes nothing valid.
const MAX_AHEAD: Duration = Duration::from_secs(600);
/// The longest `sub` (OpenID Connect Core section 2), in ASCII characters.
const MAX_SUBJECT: usize = 255;

impl SignedClaims {
    /// Makes the checks. The signature comes first: nothing else is read before.
    ///
    /// # Errors
    /// [`Error::UnknownKey`] if no key verifies the signature; [`Error::IssuerMisbehaved`] with what is wrong.
    pub(super) fn verify(raw: &str, announced: &[String], rules: &Rules<'_>) -> Result<Self, Error> {
        let Rules { name, kinds, client, metadata, keys, .. } = *rules;
        let jws = Jws::parse(name, raw)?;
        // ID tokens, logout tokens, access tokens and the like are not one another (RFC 8725 section 3.11).
        let is_accepted = |kind: &Option<&str>| match (kind, jws.kind()) {
            (Some(kind), Some(found)) => kind.eq_ignore_ascii_case(found),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !kinds.iter().any(is_accepted) {
            let accepted: Vec<_> = kinds.iter().flatten().copied().collect();
            return Err(Misbehaviour::from(format!("{name}: typ is not {}", accepted.join(" or "))).into());
        }
        if !announced.iter().any(|it| Algorithm::named(it) == Some(jws.algorithm())) {
            return Err(Misbehaviour::from(format!("{name}: alg is none of those that the metadata announces")).into());
        }
        if !client.requests.profile.accepts(jws.algorithm()) {
            return Err(Misbehaviour::from(format!("{name}: alg is none that the security profile accepts")).into());
        }
        let (payload, key) = jws.verify(keys)?;
        let claims = Document::read(name, &payload)?;
        let issuer = examine_issuer(&claims, metadata, rules.tid, key.issuer())?;
        examine_audience(&claims, client)?;
        Ok(Self { claims, issuer, algorithm: jws.algorithm() })
    }
}

impl Jwt {
    /// Makes the checks of [`SignedClaims::verify`], and then those of the times.
    ///
    /// # Errors
    /// [`Error::UnknownKey`] if no key verifies the signature; [`Error::IssuerMisbehaved`] with what is wrong.
    pub(super) fn verify(raw: &str, rules: &Rules<'_>) -> Result<Self, Error> {
        let announced = &rules.metadata.id_token_signing_alg_values_supported;
        let SignedClaims { claims, issuer, algorithm } = SignedClaims::verify(raw, announced, rules)?;
        let (issued_at, refused_from) = examine_times(&claims, rules.client.clock_skew, rules.now)?;
        Ok(Self { claims, issuer, algorithm, issued_at, refused_from })
    }

    /// The person whom it speaks of, if it speaks of one.
    pub(super) fn subject(&self) -> Result<Option<String>, Misbehaviour> {
        match self.claims.text("sub")? {
            Some(subject) if subject.len() > MAX_SUBJECT || !subject.is_ascii() => {
                Err(self.claims.fault("sub", "is not 1 to 255 ASCII characters"))
            }
            subject => Ok(subject.map(str::to_owned)),
        }
    }
}

/// That a JWT which need not say when it ends has not ended (RFC 7519 sections 4.1.4 and 4.1.5).
pub(super) fn examine_validity(claims: &Document, skew: Duration, now: Timestamp) -> Result<(), Misbehaviour> {
    if claims.moment("exp")?.is_some_and(|it| now >= it + skew) {
        return Err(claims.fault("exp", "has passed").about_clocks());
    }
    if claims.moment("nbf")?.is_some_and(|it| it > now + skew) {
        return Err(claims.fault("nbf", "lies in the future").about_clocks());
    }
    Ok(())
}

/// Step 2. A server with tenants is one issuer for each, and its keys may be for some of them only.
fn examine_issuer(
    claims: &Document,
    metadata: &AuthorizationServerMetadata,
    tid: Tid,
    key_issuer: Option<&str>,
) -> Result<Issuer, Misbehaviour> {
    let Some(tenants) = &metadata.tenants else {
        return match claims.required_text("iss")? {
            iss if iss == metadata.issuer.as_str() => Ok(metadata.issuer.clone()),
            _ => Err(claims.fault("iss", "is another issuer")),
        };
    };
    let issuer = tenants.examine(claims, tid)?;
    match key_issuer {
        Some(key_issuer) if !key_is_for(key_issuer, &issuer) => {
            Err(claims.fault("iss", "is not an issuer that the signing key is for"))
        }
        Some(_) | None => Ok(issuer),
    }
}

/// Steps 3 to 5: for us, and for nobody whom we do not trust.
fn examine_audience(claims: &Document, client: &Client) -> Result<(), Misbehaviour> {
    let audience = claims.texts("aud")?.ok_or_else(|| claims.fault("aud", "is absent"))?;
    let us = client.id.as_str();
    if !audience.iter().any(|it| it == us) {
        return Err(claims.fault("aud", "does not name this client"));
    }
    if let Some(stranger) = audience.iter().find(|it| *it != us && !client.trusted_audiences.contains(it)) {
        let what = format!("also names {:?}, which is not among the trusted audiences", presentable(stranger));
        return Err(claims.fault("aud", &what));
    }
    match claims.text("azp")? {
        Some(azp) if azp != us => Err(claims.fault("azp", "is another client")),
        Some(_) | None => Ok(()),
    }
}

/// Steps 9 and 10, and `nbf` (RFC 7519 section 4.1.5). Returns `iat`, and the moment from which the token is refused.
fn examine_times(claims: &Document, skew: Duration, now: Timestamp) -> Result<(Timestamp, Timestamp), Misbehaviour> {
    let expires = claims.required_moment("exp")? + skew;
    examine_validity(claims, skew, now)?;
    let issued_at = claims.required_moment("iat")?;
    if issued_at > now + skew.max(MAX_AHEAD) {
        return Err(claims.fault("iat", "lies in the future").about_clocks());
    }
    let too_old = issued_at + MAX_AGE;
    if now >= too_old {
        return Err(claims.fault("iat", "is more than a day ago"));
    }
    Ok((issued_at, expires.min(too_old)))
}
