//! Which product an authorization server is, and what that product is known to want.
//!
//! What is known stands in `table.rs`: another product is another entry there. A profile sets defaults and nothing else:
//! what the configuration says goes before it.

mod advice;
mod table;

use std::fmt;

use self::advice::Caution;
pub use self::advice::{Advice, Practice};
use super::logout::LogoutStyle;
use super::metadata::AuthorizationServerMetadata;
use super::requests::Consent;
use super::values::Issuer;

/// What is known of one product.
#[derive(PartialEq, Eq)]
pub struct Provider {
    /// The word that `issuer.provider` has for it.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// By what it is recognised: any of these.
    signs: &'static [Sign],
    /// What it makes of the scope `offline_access`.
    pub offline: Offline,
    /// When it has to ask people for their consent; none leaves that to the rule of the specification.
    pub consent: Option<Consent>,
    /// Further parameters of the authorization request.
    pub params: &'static [(&'static str, &'static str)],
    /// In which words it is told that its session shall end.
    pub logout: LogoutStyle,
    /// Whether it can be told at all that its session shall end.
    pub has_logout: bool,
    /// The claim whose value it wants as `logout_hint`.
    pub logout_hint: Option<&'static str>,
    /// Words that its address may have in the place of a tenant. Its metadata then names `{tenantid}` as the issuer, and
    /// each token names its own.
    pub tenant_words: &'static [&'static str],
    /// Those of them by which people of more than one tenant may sign in.
    open_words: &'static [&'static str],
    /// Whether its issuers end with a slash, where that is always so.
    final_slash: bool,
    /// How long a refresh token that was used is still good. For people: nothing here relies on it.
    pub grace: Grace,
    /// What does not go well with it.
    cautions: &'static [Caution],
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// What a server makes of the scope `offline_access` (OpenID Connect Core section 11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offline {
    /// It is asked for where the metadata announces it.
    Announced,
    /// There is no refresh token without it, or without this other scope that means the same.
    Needed(Option<&'static str>),
    /// It is not to be asked for, for this reason.
    Unwanted(&'static str),
}

/// How long a refresh token that was used is still good, so that the answer to a refresh may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grace {
    /// That is not known.
    Unknown,
    /// As long as before: using one does not use it up.
    Unlimited,
    /// So many seconds: as it comes, and the most that can be set there.
    Seconds(u32, u32),
}

impl fmt::Display for Grace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("it is not known how long a used one stays good"),
            Self::Unlimited => f.write_str("a used one stays good, as the product comes"),
            Self::Seconds(0, 0) => f.write_str("a used one is refused at once"),
            Self::Seconds(0, most) => write!(f, "a used one is refused at once; up to {most} s can be set there"),
            Self::Seconds(usual, most) => {
                write!(f, "a used one stays good for {usual} s; up to {most} s can be set there")
            }
        }
    }
}

/// By what a product is recognised: all that is given has to fit.
#[derive(PartialEq, Eq)]
struct Sign {
    /// The issuer. `*` stands for anything but a slash, `**` for anything; neither for nothing.
    issuer: Option<&'static str>,
    /// Members of the metadata. `{issuer}` stands for the issuer without a final slash.
    endpoints: &'static [(Member, &'static str)],
}

/// A member of the metadata that signs look at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Member {
    Authorization,
    Token,
    Keys,
    EndSession,
}

/// Which product the configuration says that the server is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProviderChoice {
    /// The one that is recognised, if any.
    #[default]
    Auto,
    /// This one.
    Named(&'static Provider),
    /// None that is known.
    None,
}

impl ProviderChoice {
    /// The product, where it is named or the server's address can belong to no other. A sign that is in the metadata too
    /// tells nothing without it: anybody's address may look like that.
    pub fn by_address(self, issuer: &Issuer) -> Option<&'static Provider> {
        let fits = |pattern| fits(pattern, issuer.as_str());
        self.or_recognised(|sign| sign.endpoints.is_empty() && sign.issuer.is_some_and(fits))
    }

    /// The product.
    pub fn by_metadata(self, metadata: &AuthorizationServerMetadata) -> Option<&'static Provider> {
        self.or_recognised(|sign| sign.is_of(metadata))
    }

    fn or_recognised(self, has: impl Fn(&Sign) -> bool) -> Option<&'static Provider> {
        match self {
            Self::Auto => Provider::all().iter().find(|provider| provider.signs.iter().any(&has)),
            Self::Named(provider) => Some(provider),
            Self::None => None,
        }
    }
}

impl Provider {
    /// All that are known.
    pub const fn all() -> &'static [Self] {
        table::PROVIDERS
    }

    /// The one with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::all().iter().find(|provider| provider.name == name)
    }
}

impl Sign {
    fn is_of(&self, metadata: &AuthorizationServerMetadata) -> bool {
        let issuer = metadata.issuer.as_str();
        let base = issuer.strip_suffix('/').unwrap_or(issuer);
        let has = |(member, pattern): &(Member, &str)| {
            let endpoint = match member {
                Member::Authorization => Some(&metadata.authorization_endpoint),
                Member::Token => Some(&metadata.token_endpoint),
                Member::Keys => metadata.jwks_uri.as_ref(),
                Member::EndSession => metadata.end_session_endpoint.as_ref(),
            };
            endpoint.is_some_and(|endpoint| match pattern.strip_prefix("{issuer}") {
                Some(rest) => endpoint.as_str().strip_prefix(base) == Some(rest),
                None => fits(pattern, endpoint.as_str()),
            })
        };
        self.issuer.is_none_or(|pattern| fits(pattern, issuer)) && self.endpoints.iter().all(has)
    }
}

/// Whether the whole of `text` fits the pattern.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(head) else { return false };
    let (rest, slashes) = rest.strip_prefix('*').map_or((rest, false), |rest| (rest, true));
    let ends = text.char_indices().take_while(|(_, c)| slashes || *c != '/').map(|(at, c)| at + c.len_utf8());
    ends.filter_map(|end| text.get(end..)).any(|left| fits(rest, left))
}

#[cfg(test)]
mod tests;
