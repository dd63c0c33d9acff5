//! What does not go well with an authorization server, said before somebody finds out by being signed out.

use std::fmt;

use super::{Offline, Provider, fits};
use crate::oauth::client::{Client, OFFLINE_ACCESS};
use crate::oauth::logout::{EndSession, LogoutStyle};
use crate::oauth::metadata::AuthorizationServerMetadata;
use crate::oauth::requests::OfflineAccess;
use crate::oauth::values::Issuer;

/// Something that works, and does not do what people expect. It prints as `key: found; remedy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// The key of the configuration that can change it.
    pub key: &'static str,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, found, remedy } = self;
        write!(f, "{key}: {found}; {remedy}")
    }
}

/// What is configured, as far as a server can be particular about it.
#[derive(Clone, Copy, Debug)]
pub struct Practice<'a> {
    /// The issuer, as it is configured.
    pub issuer: &'a Issuer,
    /// As whom we speak to it.
    pub client: &'a Client,
    /// Whether it is listed whose people may sign in.
    pub tenants_listed: bool,
    /// Whether its pages may end sessions if they name it (`iss`), and not otherwise.
    pub front_channel_with_iss: bool,
    /// In which words it is told that its session shall end.
    pub logout: LogoutStyle,
    /// Whether tokens are revoked at a sign-out.
    pub revokes: bool,
    /// Whether they are revoked before the browser goes to sign out there.
    pub revokes_first: bool,
}

/// Something that does not go well with one product.
#[derive(PartialEq, Eq)]
pub(super) struct Caution {
    pub(super) when: When,
    pub(super) key: &'static str,
    pub(super) found: &'static str,
    pub(super) remedy: &'static str,
}

/// When something does not go well. Patterns are those of [`Sign`](super::Sign).
#[derive(PartialEq, Eq)]
pub(super) enum When {
    /// No audience is asked for, at the login or later.
    NoAudience,
    /// No resource is asked for, at the login or later.
    NoResource,
    /// No scopes but these are asked for, at the login or later.
    OnlyScopesOf(&'static [&'static str]),
    /// A scope like these is asked for.
    ScopeLike(&'static [&'static str]),
    /// The issuer is like these.
    IssuerLike(&'static [&'static str]),
    /// Its pages have to name it when they end sessions.
    FrontChannelWithIss,
    /// Tokens are revoked before the browser goes to sign out there.
    RevokesFirst,
}

impl When {
    fn is_met(&self, practice: &Practice<'_>) -> bool {
        let Client { requests, scopes, extra_params, .. } = practice.client;
        let asks = |name: &str| extra_params.iter().any(|(other, _)| other == name);
        let scopes = scopes.as_deref().unwrap_or_default();
        let like = |patterns: &[&str], text: &str| patterns.iter().any(|pattern| fits(pattern, text));
        match self {
            Self::NoAudience => {
                requests.audience.is_none()
                    && !asks("audience")
                    && requests.later.iter().all(|it| it.audience.is_none())
            }
            Self::NoResource => {
                requests.resources.is_empty()
                    && !asks("resource")
                    && requests.later.iter().all(|it| it.resource.is_none())
            }
            Self::OnlyScopesOf(names) => {
                let later = requests.later.iter().flat_map(|it| &it.scopes);
                scopes.iter().chain(later).all(|scope| names.contains(&scope.as_str()))
            }
            Self::ScopeLike(patterns) => scopes.iter().any(|scope| like(patterns, scope)),
            Self::IssuerLike(patterns) => like(patterns, practice.issuer.as_str()),
            Self::FrontChannelWithIss => practice.front_channel_with_iss,
            Self::RevokesFirst => practice.revokes && practice.revokes_first,
        }
    }
}

impl Provider {
    /// What does not go well with this product.
    pub fn advice(&self, practice: &Practice<'_>) -> Vec<Advice> {
        let mut advice: Vec<Advice> = self.about_offline_access(practice.client).into_iter().collect();
        let issuer = practice.issuer.as_str();
        if self.final_slash && !issuer.ends_with('/') {
            advice.push(Advice {
                key: "issuer.url",
                found: format!("has no slash at its end, and the issuers of {} have one", self.title),
                remedy: format!("write \"{issuer}/\""),
            });
        }
        let open = self.tenant_word(practice.issuer).filter(|word| self.open_words.contains(word));
        if let Some(word) = open.filter(|_| !practice.tenants_listed) {
            advice.push(Advice {
                key: "issuer.tenants",
                found: format!("with {word:?} in issuer.url people of any tenant of {} may sign in", self.title),
                remedy: "list the ids of the tenants that may, or name the one tenant in issuer.url".to_owned(),
            });
        }
        let met = self.cautions.iter().filter(|caution| caution.when.is_met(practice));
        advice.extend(met.map(|Caution { key, found, remedy, .. }| Advice {
            key,
            found: (*found).to_owned(),
            remedy: (*remedy).to_owned(),
        }));
        advice
    }

    /// What stands in the address of `issuer` in the place of a tenant.
    pub fn tenant_word(&self, issuer: &Issuer) -> Option<&'static str> {
        let mut parts = issuer.as_str().split('/').skip(3);
        parts.find_map(|part| self.tenant_words.iter().copied().find(|word| *word == part))
    }

    fn about_offline_access(&self, client: &Client) -> Option<Advice> {
        let asks = |wanted: &str| client.scopes.iter().flatten().any(|scope| scope == wanted);
        let (lists, forced) = (client.scopes.is_some(), client.requests.offline_access);
        let key = if lists { "issuer.scopes" } else { "issuer.offline_access" };
        match self.offline {
            Offline::Needed(other) => {
                let is_asked_for = if lists {
                    asks(OFFLINE_ACCESS) || other.is_some_and(asks)
                } else {
                    forced != OfflineAccess::Never
                };
                (!is_asked_for).then(|| Advice {
                    key,
                    found: format!(
                        "\"offline_access\" is not asked for, and without it {} issues no refresh token: people sign in \
                         again whenever an access token expires",
                        self.title
                    ),
                    remedy: if lists { "add it to the list" } else { "take this out" }.to_owned(),
                })
            }
            Offline::Unwanted(why) => {
                let is_asked_for = if lists { asks(OFFLINE_ACCESS) } else { forced == OfflineAccess::Always };
                is_asked_for.then(|| Advice {
                    key,
                    found: format!("\"offline_access\" is asked for: {why}"),
                    remedy: if lists { "take it out of the list" } else { "take this out" }.to_owned(),
                })
            }
            Offline::Announced => None,
        }
    }
}

impl AuthorizationServerMetadata {
    /// What a sign-out cannot do at this server, but for what is known of its product and cannot be changed.
    pub fn advice(&self, practice: &Practice<'_>) -> Vec<Advice> {
        let mut advice = Vec::new();
        if practice.revokes && self.revocation_endpoint.is_none() {
            advice.push(Advice {
                key: "logout.revoke",
                found:
                    "the issuer's metadata lists no revocation_endpoint: after a sign-out the tokens of a session live \
                        there until they expire"
                        .to_owned(),
                remedy: "let them be short-lived there, or write false to say that this is known".to_owned(),
            });
        }
        let has_logout = self.provider.is_none_or(|provider| provider.has_logout);
        if has_logout && !EndSession::exists(self, practice.logout) {
            advice.push(Advice {
                key: "logout.style",
                found: "the issuer's metadata lists no end_session_endpoint: after a sign-out its own session goes on, and \
                        the next login may ask nobody"
                    .to_owned(),
                remedy: "turn RP-initiated logout on there if it has it, or name the style that it understands".to_owned(),
            });
        }
        advice
    }
}
