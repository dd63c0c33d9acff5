//! The tokens that a session holds, and how they stand in time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::oauth::{AccessToken, Means, RawIdToken, RefreshToken, TargetId, TokenSet, TokenTarget};

/// The tokens that a session holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// What API calls carry.
    pub access: HeldToken,
    /// What calls of APIs carry that have tokens of their own.
    others: Vec<(TargetId, HeldToken)>,
    /// What the next access token is asked with.
    pub refresh_token: Option<RefreshToken>,
    /// Until when the server will take the refresh token, where it says so. Many servers prolong it with each refresh.
    pub renewable_until: Option<Timestamp>,
    /// The hint for the issuer's logout; the first thing dropped when the session grows too large.
    pub id_token: Option<RawIdToken>,
}

/// An access token, and its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldToken {
    /// What API calls carry.
    pub token: AccessToken,
    /// When it was asked for: its life may have begun any time since, so this is when it is counted from.
    pub obtained: Timestamp,
    /// When it came.
    pub answered: Timestamp,
    /// When it expires; none if the server does not say and it cannot be renewed.
    pub expires: Option<Timestamp>,
    /// The scope that was granted, where it differs from what was asked for.
    pub scope: Option<String>,
    /// The certificate that it is good with, if it is bound to one (RFC 8705 section 3): the first bytes of its thumbprint.
    pub bound_to: Option<[u8; 8]>,
}

/// How tokens were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// When.
    pub at: Timestamp,
    /// The thumbprint of the certificate that the server binds them to, if it binds them to one.
    pub certificate: Option<[u8; 32]>,
}

impl Asked {
    fn binding(&self) -> Option<[u8; 8]> {
        self.certificate.and_then(|thumbprint| thumbprint.first_chunk().copied())
    }
}

/// What a token's standing depends on besides itself.
pub struct Present<'a> {
    /// The moment.
    pub now: Timestamp,
    /// A token is renewed this long before it expires, or at a third of its lifetime if that is less.
    pub ahead: Duration,
    /// The thumbprint of the certificate that is shown now; asked for only where a token is bound to one.
    pub certificate: &'a dyn Fn() -> Option<[u8; 32]>,
}

/// How an access token stands in time.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Good for longer than the refresh window.
    Good,
    /// Good, but it is time to refresh beside the request.
    Due,
    /// Expired, or so near to it that it might expire on its way.
    Spent,
}

/// A server that does not say how long its access tokens live is asked again after this long (RFC 6749 section 5.1).
const ASSUMED_LIFETIME: Duration = Duration::from_secs(300);
/// A token is not used in the last moments of its life: clocks differ and requests travel.
const TRAVEL_TIME: Duration = Duration::from_secs(5);

impl HeldToken {
    /// How it stands, if it can be renewed. One that is bound to a certificate that is not shown any more is as good as
    /// expired (RFC 8705 section 6.3).
    pub fn freshness(&self, present: &Present<'_>) -> Freshness {
        let Present { now, ahead, certificate } = *present;
        if self.bound_to.is_some_and(|bound| !certificate().is_some_and(|shown| shown.starts_with(&bound))) {
            return Freshness::Spent;
        }
        let Some(expires) = self.expires else { return Freshness::Good };
        let lifetime = expires.since(self.obtained);
        let left = expires.until(now);
        if left <= TRAVEL_TIME.min(lifetime / 10) {
            Freshness::Spent
        } else if left <= ahead.min(lifetime / 3) || left > lifetime {
            // More left than it ever had: the clock was set back, and how long it really lives nobody knows.
            Freshness::Due
        } else {
            Freshness::Good
        }
    }

    /// Whether it has only just come at `now`. Where the server takes longer to answer than its tokens live, it is spent by
    /// then all the same, because its life is counted from when it was asked for.
    pub fn has_just_come(&self, now: Timestamp) -> bool {
        let lifetime = self.expires.map_or(TRAVEL_TIME, |expires| expires.since(self.obtained));
        now.since(self.answered) <= TRAVEL_TIME.min(lifetime / 10)
    }

    /// Until when it may be used; none if nobody has said.
    pub fn usable_until(&self) -> Option<Timestamp> {
        self.expires.map(|expires| expires - TRAVEL_TIME.min(expires.since(self.obtained) / 10))
    }
}

impl Grant {
    /// The grant of a token response; what the response leaves out is kept from before (RFC 6749 section 6).
    pub(super) fn of(tokens: TokenSet, before: Option<&Self>, asked: Asked, answered: Timestamp) -> Self {
        let refresh_token = tokens.refresh_token.or_else(|| before.and_then(|it| it.refresh_token.clone()));
        let assumed = refresh_token.is_some().then_some(ASSUMED_LIFETIME);
        // A refresh that says nothing about it says nothing new, unless it brought another token.
        let kept = before.filter(|it| it.refresh_token == refresh_token).and_then(|it| it.renewable_until);
        Self {
            renewable_until: tokens.refresh_expires_in.map(|lifetime| asked.at + lifetime).or(kept),
            access: HeldToken {
                token: tokens.access_token,
                obtained: asked.at,
                answered,
                expires: tokens.expires_in.or(assumed).map(|lifetime| asked.at + lifetime),
                scope: tokens.scope.or_else(|| before.and_then(|it| it.access.scope.clone())),
                bound_to: asked.binding(),
            },
            others: before.map(|it| it.others_alive(answered).cloned().collect()).unwrap_or_default(),
            refresh_token,
            id_token: tokens.id_token.or_else(|| before.and_then(|it| it.id_token.clone())),
        }
    }

    /// The same grant, to which `tokens` bring the token of one more API.
    ///
    /// What else they bring replaces what is here as a refresh does, if they are one; an exchange leaves it alone.
    pub(super) fn with(&self, target: &TokenTarget, tokens: TokenSet, asked: Asked, answered: Timestamp) -> Self {
        let next = match target.means() {
            Means::Refresh => {
                Self { access: self.access.clone(), ..Self::of(tokens.clone(), Some(self), asked, answered) }
            }
            Means::Exchange => self.clone(),
        };
        let token = HeldToken {
            token: tokens.access_token,
            obtained: asked.at,
            answered,
            expires: Some(asked.at + tokens.expires_in.unwrap_or(ASSUMED_LIFETIME)),
            scope: tokens.scope,
            bound_to: asked.binding(),
        };
        let others = next.others_alive(answered).filter(|(id, _)| *id != target.id()).cloned();
        Self { others: others.chain([(target.id(), token)]).collect(), ..next }
    }

    /// The same without the ID token.
    pub(super) fn without_id_token(&self) -> Self {
        Self { id_token: None, ..self.clone() }
    }

    /// The token for an API that has tokens of its own.
    pub fn other(&self, id: TargetId) -> Option<&HeldToken> {
        self.others.iter().find(|(it, _)| *it == id).map(|(_, token)| token)
    }

    /// All access tokens.
    pub fn access_tokens(&self) -> impl Iterator<Item = &AccessToken> {
        [&self.access].into_iter().chain(self.others.iter().map(|(_, token)| token)).map(|it| &it.token)
    }

    /// Those of the other tokens that are worth keeping. Of what is no longer configured no more tokens come, and so it
    /// disappears.
    fn others_alive(&self, now: Timestamp) -> impl Iterator<Item = &(TargetId, HeldToken)> {
        self.others.iter().filter(move |(_, token)| token.expires.is_none_or(|expires| expires > now))
    }
}
