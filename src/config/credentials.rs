//! How the client shows the issuer who it is: `issuer.client_auth` and the keys that belong to it.

use super::file::{RawIdentity, RawSecret};
use super::problem::{Flaw, quoted};
use super::rules::Checker;
use super::value::choice;
use crate::identity::{Identity, IdentityError, KeyOrigin, Origin, Shown};
use crate::oauth::{
    Assertion, AssertionKind, Audience, ClientAuthentication, ClientKey, ClientKeys, ClientSecret, InvalidClientKey,
};

/// The keys of `[issuer]` that are looked at here.
pub(super) struct RawCredentials {
    pub(super) client_auth: Option<String>,
    pub(super) client_secret: Option<RawSecret>,
    pub(super) client_keys: Option<Vec<RawSecret>>,
    pub(super) assertion_audience: Option<String>,
    pub(super) assertion_typ: Option<String>,
    pub(super) mtls: Option<RawIdentity>,
}

/// As whom we speak to the issuer. What is wrong has been noted.
pub(super) struct Credentials {
    /// None if something that it needs is wrong.
    pub(super) authentication: Option<ClientAuthentication>,
    pub(super) keys: Option<ClientKeys>,
    pub(super) identity: Option<Identity>,
}

/// The ways to authenticate, by the names that `issuer.client_auth` has for them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Basic,
    Post,
    PrivateKeyJwt,
    Certificate,
    None,
}

const WAYS: [(&str, Way); 6] = [
    ("basic", Way::Basic),
    ("post", Way::Post),
    ("private_key_jwt", Way::PrivateKeyJwt),
    ("tls_client_auth", Way::Certificate),
    ("self_signed_tls_client_auth", Way::Certificate),
    ("none", Way::None),
];
const KEY_REMEDY: &str = "name a private key in PEM form: P-256 or Ed25519 in PKCS #8, or RSA of 2048 to 4096 bits";

/// Turns the credentials into settings. A way that is not known is noted; what it would need is then not asked for.
pub(super) fn apply(checker: &mut Checker<'_>, raw: RawCredentials) -> Credentials {
    let name = raw.client_auth.as_deref().unwrap_or("basic");
    let way = checker.check("issuer.client_auth", choice(name, &WAYS));
    let with_keys = raw.client_keys.is_some();
    let keys = raw.client_keys.and_then(|raw| client_keys(checker, raw));
    let identity = raw.mtls.and_then(|raw| identity(checker, "issuer.mtls", raw));
    let secret = secret(checker, way, name, raw.client_secret);
    let assertion = assertion(checker, way, raw.assertion_audience.as_deref(), raw.assertion_typ.as_deref());
    let authentication = match way {
        Some(Way::Basic) => secret.map(ClientAuthentication::Basic),
        Some(Way::Post) => secret.map(ClientAuthentication::Post),
        Some(Way::PrivateKeyJwt) => {
            let remedy = "write [{ file = \"…\" }], and make the file with `openssl genpkey -algorithm ed25519`";
            // Keys that are there and wrong have been noted one by one.
            let keys = if with_keys { keys.clone() } else { checker.required("issuer.client_keys", None, remedy, Ok) };
            let (audience, kind) = assertion;
            keys.map(|keys| ClientAuthentication::PrivateKeyJwt(Assertion { keys, audience, kind }))
        }
        Some(Way::Certificate) => {
            let remedy = "write { certificate = \"…\", key = { file = \"…\" } }";
            let shown = checker.required("issuer.mtls", identity.as_ref(), remedy, Ok);
            shown.map(|_| ClientAuthentication::Certificate)
        }
        Some(Way::None) => {
            checker.warn(
                "issuer.client_auth is \"none\": whoever knows the client id can use it; give the client a key if the \
                 issuer can check one",
            );
            Some(ClientAuthentication::None)
        }
        None => None,
    };
    Credentials { authentication, keys, identity }
}

/// The secret, where one is sent; where none is, one that lies about is told of.
fn secret(checker: &mut Checker<'_>, way: Option<Way>, name: &str, raw: Option<RawSecret>) -> Option<ClientSecret> {
    match way {
        Some(Way::Basic | Way::Post) => {
            let remedy = "write { file = \"…\" } or { env = \"…\" }";
            let secret = checker.required("issuer.client_secret", raw, remedy, Ok)?;
            let secret = checker.sources.fetch(secret);
            let secret = checker.check("issuer.client_secret", secret)?;
            Some(ClientSecret::new(secret.expose().clone()))
        }
        Some(Way::PrivateKeyJwt | Way::Certificate | Way::None) => {
            if raw.is_some() {
                let found = format!("it is not used with client_auth = {name:?}");
                checker.note("issuer.client_secret", Flaw::new(found, "take it out, and withdraw it at the issuer"));
            }
            None
        }
        None => None,
    }
}

fn assertion(
    checker: &mut Checker<'_>,
    way: Option<Way>,
    audience: Option<&str>,
    kind: Option<&str>,
) -> (Audience, AssertionKind) {
    for (key, is_there) in [("assertion_audience", audience.is_some()), ("assertion_typ", kind.is_some())] {
        if is_there && way.is_some_and(|way| way != Way::PrivateKeyJwt) {
            let flaw = Flaw::new("nothing is asserted", "take it out, or write client_auth = \"private_key_jwt\"");
            checker.note(&format!("issuer.{key}"), flaw);
        }
    }
    let audiences = [("issuer", Audience::Issuer), ("token_endpoint", Audience::TokenEndpoint)];
    let audience = checker.or("issuer.assertion_audience", audience, Audience::Issuer, |it| choice(it, &audiences));
    if audience == Audience::TokenEndpoint {
        checker.warn(
            "issuer.assertion_audience is \"token_endpoint\": an issuer that is not honest could have this client's \
             assertions made for another one; write \"issuer\" as soon as the issuer takes that",
        );
    }
    let kinds = [("JWT", AssertionKind::Jwt), ("client-authentication+jwt", AssertionKind::ClientAuthentication)];
    (audience, checker.or("issuer.assertion_typ", kind, AssertionKind::Jwt, |it| choice(it, &kinds)))
}

/// The keys in the order of the file. Each that is wrong is noted by its place in the list.
fn client_keys(checker: &mut Checker<'_>, raw: Vec<RawSecret>) -> Option<ClientKeys> {
    if raw.is_empty() {
        checker.note("issuer.client_keys", Flaw::new("the list is empty", "write [{ file = \"…\" }], or take it out"));
    }
    let mut keys: Vec<ClientKey> = Vec::new();
    for (index, source) in raw.into_iter().enumerate() {
        let name = format!("issuer.client_keys[{}]", index + 1);
        let read = checker.sources.fetch_text(source).and_then(|text| {
            ClientKey::from_pem(text.as_bytes())
                .map_err(|invalid: InvalidClientKey| Flaw::new(format!("it {invalid}"), KEY_REMEDY))
        });
        let Some(key) = checker.check(&name, read) else { continue };
        if keys.iter().any(|other| other.id() == key.id()) {
            checker.note(&name, Flaw::new("the same key is listed before", "remove it"));
        } else {
            keys.push(key);
        }
    }
    let mut keys = keys.into_iter();
    Some(ClientKeys::new(keys.next()?, keys.collect()))
}

/// The certificate that the table at `name` says, and its key.
pub(super) fn identity(checker: &mut Checker<'_>, name: &str, raw: RawIdentity) -> Option<Identity> {
    const REMEDY: &str = "write { certificate = \"…\", key = { file = \"…\" } }";
    let RawIdentity { certificate: Some(certificate), key: Some(key) } = raw else {
        checker.note(name, Flaw::new("the certificate or its key is missing", REMEDY));
        return None;
    };
    let path = checker.sources.base.join(certificate);
    let shown = quoted(&path.to_string_lossy());
    let certificates = std::fs::read(&path)
        .map_err(|error| Flaw::new(format!("{shown} cannot be read ({error})"), "correct the path"));
    let certificates = checker.check(name, certificates);
    let key_file = checker.sources.path_of(&key);
    let key = checker.sources.fetch_text(key);
    let key = checker.check(name, key)?;
    let read = Shown::from_pem(&certificates?, key.as_bytes()).map_err(|error| {
        let what = if error == IdentityError::Certificate { &*shown } else { "the key" };
        Flaw::new(format!("{what} {error}"), error.remedy())
    });
    let read = checker.check(name, read)?;
    let key = key_file.map_or(KeyOrigin::Text(key), KeyOrigin::File);
    Some(Identity::new(read, Some(Origin { name: name.to_owned(), certificate: path, key })))
}
