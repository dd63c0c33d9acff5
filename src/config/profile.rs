//! What a product's profile sets, in the words of the file. The values themselves are used where they are needed: some of
//! them hang on the issuer's metadata.

use super::logout::STYLES;
use super::requests::CONSENTS;
use crate::gateway::broker::Revocation;
use crate::gateway::logout::{FrontChannel, LogoutSettings};
use crate::oauth::{Authority, Client, LogoutStyle, Offline, OfflineAccess, Practice, Provider};

/// The keys that the file leaves open and this product's profile sets, with their values as the file would have them.
pub fn values(provider: &Provider, client: &Client, logout: &LogoutSettings) -> Vec<(String, String)> {
    let mut values = Vec::new();
    let mut set = |key: &str, value: &str| values.push((key.to_owned(), format!("{value:?}")));
    if client.scopes.is_none() && client.requests.offline_access == OfflineAccess::Auto {
        match provider.offline {
            Offline::Announced => {}
            Offline::Needed(_) => set("issuer.offline_access", "always"),
            Offline::Unwanted(_) => set("issuer.offline_access", "never"),
        }
    }
    if client.requests.consent.is_none()
        && let Some((word, _)) = CONSENTS.iter().find(|(_, it)| it.is_some() && *it == provider.consent)
    {
        set("issuer.consent", word);
    }
    for (name, value) in provider.params {
        if !client.extra_params.iter().any(|(other, _)| other == name) {
            set(&format!("issuer.extra_params.{name}"), value);
        }
    }
    if logout.style == LogoutStyle::Auto
        && provider.logout != LogoutStyle::Standard
        && let Some((word, _)) = STYLES.iter().find(|(_, style)| *style == provider.logout)
    {
        set("logout.style", word);
    }
    if logout.logout_hint.is_none()
        && let Some(claim) = provider.logout_hint
    {
        set("logout.logout_hint", claim);
    }
    values
}

/// What a product may be particular about.
pub fn practice<'a>(authority: &'a Authority, client: &'a Client, logout: &LogoutSettings) -> Practice<'a> {
    Practice {
        issuer: &authority.issuer,
        client,
        tenants_listed: !authority.tenants.is_empty(),
        front_channel_with_iss: logout.front_channel == FrontChannel::On,
        logout: logout.style,
        revokes: logout.revocation != Revocation::Never,
        revokes_first: logout.revocation == Revocation::Now,
    }
}
