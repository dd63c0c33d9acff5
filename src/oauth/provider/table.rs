//! The products that are known. To add one, add an entry; `tests.rs` wants to see its metadata once.

use super::advice::{Caution, When};
use super::{Grace, Member, Offline, Provider, Sign};
use crate::oauth::logout::LogoutStyle;
use crate::oauth::requests::Consent;

/// A product of which nothing particular is known.
const PLAIN: Provider = Provider {
    name: "",
    title: "",
    signs: &[],
    offline: Offline::Announced,
    consent: None,
    params: &[],
    logout: LogoutStyle::Standard,
    has_logout: true,
    logout_hint: None,
    tenant_words: &[],
    open_words: &[],
    final_slash: false,
    grace: Grace::Unknown,
    cautions: &[],
};

/// An issuer at an address of the product's own.
const fn at(issuer: &'static str) -> Sign {
    Sign { issuer: Some(issuer), endpoints: &[] }
}

/// An issuer anywhere, whose metadata has this shape.
const fn shaped(endpoints: &'static [(Member, &'static str)]) -> Sign {
    Sign { issuer: None, endpoints }
}

pub(super) const PROVIDERS: &[Provider] = &[
    Provider {
        name: "keycloak",
        title: "Keycloak",
        signs: &[Sign {
            issuer: Some("http**/realms/*"),
            endpoints: &[(Member::Token, "**/protocol/openid-connect/token")],
        }],
        offline: Offline::Unwanted("refresh tokens come without it, and those that come with it outlive a sign-out"),
        grace: Grace::Unlimited,
        cautions: &[Caution {
            when: When::RevokesFirst,
            key: "logout.order",
            found: "a revocation ends the session at Keycloak, which then tells no other application",
            remedy: "write \"after\", or take it out",
        }],
        ..PLAIN
    },
    Provider {
        name: "auth0",
        title: "Auth0",
        signs: &[
            at("https://*.auth0.com/"),
            at("https://*.auth0.com"),
            shaped(&[
                (Member::Authorization, "{issuer}/authorize"),
                (Member::Token, "{issuer}/oauth/token"),
                (Member::Keys, "{issuer}/.well-known/jwks.json"),
            ]),
        ],
        offline: Offline::Needed(None),
        consent: Some(Consent::Never),
        logout: LogoutStyle::Auth0,
        final_slash: true,
        grace: Grace::Seconds(0, 60),
        cautions: &[Caution {
            when: When::NoAudience,
            key: "issuer.audience",
            found: "is missing, and without it Auth0 issues an access token that no API of yours can check",
            remedy: "write the identifier of your API at Auth0",
        }],
        ..PLAIN
    },
    Provider {
        name: "entra",
        title: "Microsoft Entra ID",
        signs: &[
            at("https://login.microsoftonline.com/*/v2.0"),
            at("https://login.microsoftonline.us/*/v2.0"),
            at("https://login.partner.microsoftonline.cn/*/v2.0"),
            at("https://*.ciamlogin.com/*/v2.0"),
        ],
        offline: Offline::Needed(None),
        consent: Some(Consent::Never),
        logout_hint: Some("login_hint"),
        tenant_words: &["common", "organizations", "consumers"],
        // The metadata of "consumers" names one tenant.
        open_words: &["common", "organizations"],
        grace: Grace::Unlimited,
        cautions: &[
            Caution {
                when: When::OnlyScopesOf(&["openid", "profile", "email", "offline_access"]),
                key: "issuer.scopes",
                found: "no scope of an API is among them, so the access token is for Microsoft Graph and no API of yours \
                        can check it",
                remedy: "add one of your API, such as \"api://<application id>/<scope>\"",
            },
            Caution {
                when: When::ScopeLike(&[
                    "https://graph.microsoft.com/**",
                    "User.*",
                    "Mail.*",
                    "Files.*",
                    "Calendars.*",
                ]),
                key: "issuer.scopes",
                found: "a scope of Microsoft Graph is among them: such an access token is for Graph, and no API of yours \
                        can check it",
                remedy: "ask for the scopes of one API alone, your own",
            },
            Caution {
                when: When::FrontChannelWithIss,
                key: "logout.front_channel",
                found: "\"on\" waits for iss, which Entra ID does not send, so it ends nothing",
                remedy: "write \"sid-only\"",
            },
        ],
        ..PLAIN
    },
    Provider {
        name: "okta",
        title: "Okta",
        signs: &[
            at("https://*.okta.com"),
            at("https://*.okta.com/oauth2/*"),
            at("https://*.okta-emea.com"),
            at("https://*.okta-emea.com/oauth2/*"),
            at("https://*.oktapreview.com"),
            at("https://*.oktapreview.com/oauth2/*"),
            Sign {
                issuer: Some("https://*/oauth2/*"),
                endpoints: &[
                    (Member::Authorization, "{issuer}/v1/authorize"),
                    (Member::Token, "{issuer}/v1/token"),
                    (Member::Keys, "{issuer}/v1/keys"),
                ],
            },
        ],
        offline: Offline::Needed(None),
        consent: Some(Consent::Never),
        grace: Grace::Seconds(30, 60),
        cautions: &[Caution {
            when: When::IssuerLike(&["https://*.okta.com", "https://*.okta-emea.com", "https://*.oktapreview.com"]),
            key: "issuer.url",
            found: "is the authorization server of the organisation, whose access tokens no API of yours can check",
            remedy: "name one for your API, such as the same with /oauth2/default behind it",
        }],
        ..PLAIN
    },
    Provider {
        name: "google",
        title: "Google",
        signs: &[at("https://accounts.google.com")],
        offline: Offline::Unwanted("Google refuses it as a scope; access_type = \"offline\" is its word for it"),
        consent: Some(Consent::Always),
        params: &[("access_type", "offline")],
        has_logout: false,
        grace: Grace::Unlimited,
        ..PLAIN
    },
    Provider {
        name: "cognito",
        title: "Amazon Cognito",
        signs: &[at("https://cognito-idp.*.amazonaws.com/*"), at("https://cognito-idp.*.amazonaws.com.cn/*")],
        offline: Offline::Unwanted("Cognito refuses it as a scope; refresh tokens come without it"),
        logout: LogoutStyle::Cognito,
        grace: Grace::Seconds(0, 60),
        ..PLAIN
    },
    Provider {
        name: "zitadel",
        title: "Zitadel",
        signs: &[
            at("https://*.zitadel.cloud"),
            shaped(&[
                (Member::Authorization, "{issuer}/oauth/v2/authorize"),
                (Member::Token, "{issuer}/oauth/v2/token"),
                (Member::EndSession, "{issuer}/oidc/v1/end_session"),
            ]),
        ],
        offline: Offline::Needed(None),
        consent: Some(Consent::Never),
        grace: Grace::Seconds(0, 0),
        ..PLAIN
    },
    Provider {
        name: "authentik",
        title: "authentik",
        signs: &[
            Sign { issuer: Some("http**/application/o/*/"), endpoints: &[(Member::Token, "**/application/o/token/")] },
            // One issuer for all its applications.
            shaped(&[(Member::Token, "{issuer}/application/o/token/")]),
        ],
        offline: Offline::Needed(None),
        consent: Some(Consent::Never),
        final_slash: true,
        grace: Grace::Seconds(0, 0),
        ..PLAIN
    },
    Provider {
        name: "hydra",
        title: "Ory Hydra",
        signs: &[
            at("https://*.projects.oryapis.com"),
            shaped(&[
                (Member::Authorization, "{issuer}/oauth2/auth"),
                (Member::Token, "{issuer}/oauth2/token"),
                (Member::EndSession, "{issuer}/oauth2/sessions/logout"),
            ]),
        ],
        offline: Offline::Needed(Some("offline")),
        consent: Some(Consent::Never),
        grace: Grace::Seconds(0, 300),
        ..PLAIN
    },
    Provider {
        name: "logto",
        title: "Logto",
        // Elsewhere it has to be named: its endpoints are those of any oidc-provider, from which it is made.
        signs: &[at("https://*.logto.app/oidc")],
        offline: Offline::Needed(None),
        consent: Some(Consent::Offline),
        grace: Grace::Seconds(0, 0),
        cautions: &[Caution {
            when: When::NoResource,
            key: "issuer.resource",
            found: "is empty, and without one Logto issues an access token that no API of yours can check",
            remedy: "list the identifier of your API at Logto",
        }],
        ..PLAIN
    },
    Provider {
        name: "curity",
        title: "Curity Identity Server",
        signs: &[shaped(&[(Member::Authorization, "**/oauth-authorize"), (Member::Token, "**/oauth-token")])],
        ..PLAIN
    },
    Provider {
        name: "pingone",
        title: "PingOne",
        signs: &[at("https://auth.pingone.*/*/as")],
        grace: Grace::Seconds(0, 86_400),
        ..PLAIN
    },
    Provider {
        name: "pingfederate",
        title: "PingFederate",
        signs: &[shaped(&[
            (Member::Authorization, "**/as/authorization.oauth2"),
            (Member::Token, "**/as/token.oauth2"),
        ])],
        ..PLAIN
    },
];
