//! Every member of every document that an authorization server sends, wrong in every way; and every document that is none.
//!
//! Each is refused within the limits, with a line in the log that names the member or the fault. No secret is in it, and no
//! session is harmed.
//!
//! What is the same for every answer, TLS that is cut off or not to be trusted, is in `transport.rs`.

use http::Method;
use serde_json::{Map, Value, json};
use vestibule::gateway::AuthorizationServer;
use vestibule::issuer::HttpIssuer;
use vestibule::oauth::{Authority, Issuer as Identifier};

use super::site_with;
use crate::issuer::act::Act;
use crate::issuer::options::Announce;
use crate::issuer::{Document, Endpoint, Issuer, Options, Pushed};
use crate::support::browser::Browser;
use crate::support::canary::form_found;
use crate::support::log::Log;
use crate::support::site::{Plan, Site, TOKEN_SECONDS};

/// What a member has to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Address,
    Texts,
    Flag,
    Members,
    /// It informs, and what cannot be read counts as absent.
    Lenient,
}

struct Member {
    name: &'static str,
    kind: Kind,
    needed: bool,
}

const fn needed(name: &'static str, kind: Kind) -> Member {
    Member { name, kind, needed: true }
}

const fn optional(name: &'static str, kind: Kind) -> Member {
    Member { name, kind, needed: false }
}

/// What is wrong with a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Absent,
    Null,
    Number,
    Flag,
    List,
    Object,
    Text,
    /// Beyond the limit of 512 KiB.
    Huge,
    /// Beyond what the parser descends into.
    Deep,
    Twice,
}

impl Fault {
    const ALL: [Self; 10] = [
        Self::Absent,
        Self::Null,
        Self::Number,
        Self::Flag,
        Self::List,
        Self::Object,
        Self::Text,
        Self::Huge,
        Self::Deep,
        Self::Twice,
    ];

    fn apply(self, members: &mut Map<String, Value>, name: &str) {
        let value = match self {
            Self::Absent => {
                members.remove(name);
                return;
            }
            Self::Twice => return,
            Self::Null => Value::Null,
            Self::Number => json!(7),
            Self::Flag => json!(true),
            Self::List => json!([7]),
            Self::Object => json!({ "a": 1 }),
            Self::Text => json!("no such thing"),
            Self::Huge => json!("x".repeat(600 * 1024)),
            Self::Deep => (0..200).fold(json!(1), |inner, _| json!([inner])),
        };
        members.insert(name.to_owned(), value);
    }

    /// The document with this fault.
    fn text(self, document: &Map<String, Value>, name: &str) -> String {
        let mut members = document.clone();
        self.apply(&mut members, name);
        let second = if self == Self::Twice { members.insert(name.to_owned(), json!(1)) } else { None };
        let text = Value::Object(members).to_string();
        let first = second.unwrap_or_else(|| json!(1));
        if self == Self::Twice { format!("{{{}:{first},{}", json!(name), &text[1..]) } else { text }
    }

    /// What the log says of it; none if it is no fault here.
    fn finding(self, member: &Member) -> Option<String> {
        let name = member.name;
        let what = match (self, member.kind) {
            (Self::Twice, _) => "occurs more than once",
            (Self::Deep, _) => return Some("not a JSON object".to_owned()),
            (Self::Huge, _) => return Some("larger than".to_owned()),
            (Self::Absent | Self::Null, _) if member.needed => "is absent",
            (Self::Absent | Self::Null, _) | (_, Kind::Lenient) => return None,
            (Self::Text, Kind::Address) => "is not an absolute http or https URL",
            (Self::Text, Kind::Text | Kind::Texts) | (Self::Flag, Kind::Flag) | (Self::Object, Kind::Members) => {
                return None;
            }
            (Self::List, Kind::Texts) => "holds something that is not a string",
            (_, Kind::Texts) => "is not a list of strings",
            (_, Kind::Flag) => "is not true or false",
            (_, Kind::Members) => "is not an object",
            (_, Kind::Text | Kind::Address) => "is not a string",
        };
        Some(format!("{name} {what}"))
    }
}

/// Answers that are no good document at all, and what the log says of them: one of these.
fn no_documents(good: &str, elsewhere: &str) -> Vec<(&'static str, Act, &'static [&'static str])> {
    const NO_OBJECT: &[&str] = &["not a JSON object"];
    const HTML: &[&str] = &["an HTML page", "not a JSON object"];
    const STATUS: &[&str] = &["neither success nor a refusal", "not 200"];
    const BROKEN: &[&str] = &["there is no usable answer"];
    let json = |act: Act| act.header("content-type", "application/json");
    let utf_16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let with_member = |member: &[u8]| [b"{\"x\":\"", member, b"\",", &good.as_bytes()[1..]].concat();
    let page = "<!doctype html><title>Please wait</title>";
    let half = good.len() / 2;
    let (first, second) = (good.as_bytes()[..half].to_vec(), good.as_bytes()[half..].to_vec());
    let whole_length = (good.len() + 10).to_string();
    vec![
        ("UTF-16", json(Act::bytes(200, utf_16.clone())), NO_OBJECT),
        ("UTF-16 with its mark", json(Act::bytes(200, [&[0xff, 0xfe], utf_16.as_slice()].concat())), NO_OBJECT),
        ("Latin-1", json(Act::bytes(200, with_member(b"\xe9\xe8"))), NO_OBJECT),
        ("a lone surrogate", json(Act::bytes(200, with_member(b"\\ud800"))), NO_OBJECT),
        ("a byte order mark", json(Act::bytes(200, [b"\xef\xbb\xbf", good.as_bytes()].concat())), NO_OBJECT),
        ("a page", Act::instead(200, page).header("content-type", "text/html"), HTML),
        ("a page that is called JSON", json(Act::instead(200, page)), HTML),
        ("nothing", json(Act::instead(200, "")), NO_OBJECT),
        ("a list", json(Act::instead(200, format!("[{good}]"))), NO_OBJECT),
        ("a text", json(Act::instead(200, json!(good).to_string())), NO_OBJECT),
        ("two objects", json(Act::instead(200, format!("{good}{good}"))), NO_OBJECT),
        ("a comment", json(Act::instead(200, format!("/**/{good}"))), NO_OBJECT),
        ("half of it", json(Act::bytes(200, first.clone())), NO_OBJECT),
        ("an abyss", json(Act::instead(200, "[".repeat(100_000))), NO_OBJECT),
        ("gzip", json(Act::bytes(200, gzip(good.as_bytes()))).header("content-encoding", "gzip"), &["encoded"]),
        ("gzip that is called nothing", json(Act::bytes(200, gzip(good.as_bytes()))), NO_OBJECT),
        ("a bomb", json(Act::bytes(200, gzip(&[b' '; 60_000]))).header("content-encoding", "gzip"), &["encoded"]),
        ("another encoding", json(Act::instead(200, good)).header("content-encoding", "br"), &["encoded"]),
        ("a redirect by 302", Act::instead(302, good).header("location", elsewhere), STATUS),
        ("a redirect by 307", Act::instead(307, good).header("location", elsewhere), STATUS),
        ("another success", json(Act::instead(203, good)), STATUS),
        ("no end", pieces(vec![first, second], Some(&whole_length)), BROKEN),
        ("too much, without a length", pieces(vec![vec![b' '; 100 * 1024]; 6], None), &["larger than"]),
        ("too much, with its length", pieces(vec![vec![b' '; 1024]], Some("99999999999")), &["larger than"]),
        ("no answer", Act::cut(), BROKEN),
    ]
}

fn pieces(pieces: Vec<Vec<u8>>, length: Option<&str>) -> Act {
    let act = Act::pieces(pieces, std::time::Duration::ZERO).header("content-type", "application/json");
    match length {
        Some(length) => act.header("content-length", length),
        None => act,
    }
}

/// A gzip file (RFC 1952) of one stored block (RFC 1951 section 3.2.4).
fn gzip(content: &[u8]) -> Vec<u8> {
    let crc = !content.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    });
    let length = u16::try_from(content.len()).unwrap();
    let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 1];
    let block = [length.to_le_bytes(), (!length).to_le_bytes()].concat();
    let tail = [crc.to_le_bytes(), u32::from(length).to_le_bytes()].concat();
    [head.as_slice(), &block, content, &tail].concat()
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// The issuer as the product asks it, with nothing known yet.
fn ask(issuer: &Issuer) -> HttpIssuer {
    let identifier = Identifier::new(issuer.url().to_owned());
    HttpIssuer::new(Authority::new(identifier), None, None).unwrap()
}

#[test]
fn whatever_is_wrong_with_the_metadata_is_named_and_nothing_of_it_is_believed() {
    // ASM-3-01, ASM-5-01, DISC-3-01, DISC-4.3-01
    const MEMBERS: [Member; 20] = [
        needed("issuer", Kind::Text),
        needed("authorization_endpoint", Kind::Address),
        needed("token_endpoint", Kind::Address),
        needed("jwks_uri", Kind::Address),
        optional("revocation_endpoint", Kind::Address),
        optional("end_session_endpoint", Kind::Address),
        optional("userinfo_endpoint", Kind::Address),
        optional("scopes_supported", Kind::Texts),
        optional("code_challenge_methods_supported", Kind::Texts),
        optional("token_endpoint_auth_methods_supported", Kind::Texts),
        optional("id_token_signing_alg_values_supported", Kind::Texts),
        optional("grant_types_supported", Kind::Texts),
        optional("authorization_response_iss_parameter_supported", Kind::Flag),
        optional("pushed_authorization_request_endpoint", Kind::Address),
        optional("require_pushed_authorization_requests", Kind::Flag),
        optional("require_signed_request_object", Kind::Flag),
        optional("request_object_signing_alg_values_supported", Kind::Texts),
        optional("token_endpoint_auth_signing_alg_values_supported", Kind::Texts),
        optional("userinfo_signing_alg_values_supported", Kind::Texts),
        optional("mtls_endpoint_aliases", Kind::Members),
    ];
    let log = Log::default();
    log.hears(async {
        crate::support::plain_client();
        let issuer = Issuer::start(Options::default()).await.unwrap();
        let (elsewhere, url) = (Issuer::start(Options::default()).await.unwrap(), issuer.url());
        let good = object(json!({
            "issuer": url,
            "authorization_endpoint": format!("{url}/authorize"),
            "token_endpoint": format!("{url}/token"),
            "jwks_uri": format!("{url}/jwks"),
        }));
        let refused = async |what: &str, act: Act, findings: &[&str]| {
            let length = log.length();
            issuer.script().next(Endpoint::Discovery, act);
            assert!(ask(&issuer).metadata().await.is_err(), "{what} is taken");
            let said = log.since(length);
            assert!(findings.iter().any(|it| said.contains(it)), "{what}: {said}");
        };
        for member in &MEMBERS {
            for fault in Fault::ALL {
                let (what, act) =
                    (format!("{} {fault:?}", member.name), Act::instead(200, fault.text(&good, member.name)));
                match fault.finding(member) {
                    Some(finding) => refused(&what, act, &[&finding]).await,
                    None if member.name == "issuer" => refused(&what, act, &["issuer is not, letter by letter"]).await,
                    None => {
                        issuer.script().next(Endpoint::Discovery, act);
                        assert!(ask(&issuer).metadata().await.is_ok(), "{what} is refused");
                    }
                }
            }
        }
        let text = Value::Object(good).to_string();
        let location = format!("{}/.well-known/openid-configuration", elsewhere.url());
        for (what, act, findings) in no_documents(&text, &location) {
            refused(what, act, findings).await;
        }
        assert_eq!(elsewhere.script().requests().len(), 0, "nobody is sent elsewhere");
        assert!(ask(&issuer).metadata().await.is_ok());
    });
}

#[test]
fn whatever_is_wrong_with_the_keys_is_named_and_none_is_used() {
    // ASM-C-02, OIDC-10.1-01
    let log = Log::default();
    log.hears(async {
        crate::support::plain_client();
        let issuer = Issuer::start(Options::default()).await.unwrap();
        let elsewhere = Issuer::start(Options::default()).await.unwrap();
        let coordinate = base64_simd::URL_SAFE_NO_PAD.encode_to_string([1; 32]);
        let good = json!({ "kty": "EC", "crv": "P-256", "x": coordinate, "y": coordinate, "kid": "k", "alg": "ES256" });
        let set = |key: &Value| object(json!({ "keys": [key] }));
        let refused = async |what: &str, act: Act, findings: &[&str]| {
            let length = log.length();
            issuer.script().next(Endpoint::Jwks, act);
            assert!(ask(&issuer).keys(false).await.is_err(), "{what} is taken");
            let said = log.since(length);
            assert!(findings.iter().any(|it| said.contains(it)), "{what}: {said}");
        };
        for fault in Fault::ALL {
            let finding = match fault {
                Fault::Twice => "keys occurs more than once",
                Fault::Huge => "larger than",
                Fault::Deep => "not a JSON object",
                Fault::List => "holds no key that can verify a signature",
                Fault::Absent | Fault::Null | Fault::Number | Fault::Flag | Fault::Object | Fault::Text => {
                    "keys is not a list"
                }
            };
            refused(&format!("keys {fault:?}"), Act::instead(200, fault.text(&set(&good), "keys")), &[finding]).await;
        }
        for name in ["kty", "crv", "x", "y"] {
            for fault in
                [Fault::Absent, Fault::Null, Fault::Number, Fault::Flag, Fault::List, Fault::Object, Fault::Text]
            {
                let mut key = object(good.clone());
                fault.apply(&mut key, name);
                let text = Value::Object(set(&key.into())).to_string();
                let finding = ["holds no key that can verify a signature"];
                refused(&format!("{name} {fault:?}"), Act::instead(200, text), &finding).await;
            }
        }
        let text = Value::Object(set(&good)).to_string();
        for (what, act, findings) in no_documents(&text, &format!("{}/jwks", elsewhere.url())) {
            refused(what, act, findings).await;
        }
        assert_eq!(elsewhere.script().requests().len(), 0, "nobody is sent elsewhere");
        issuer.script().next(Endpoint::Jwks, Act::instead(200, text));
        assert!(ask(&issuer).keys(false).await.is_ok(), "the good one is good");
    });
}

/// The members of a token response.
const TOKEN: [Member; 7] = [
    needed("access_token", Kind::Text),
    needed("id_token", Kind::Text),
    optional("token_type", Kind::Text),
    optional("refresh_token", Kind::Text),
    optional("expires_in", Kind::Lenient),
    optional("refresh_expires_in", Kind::Lenient),
    optional("scope", Kind::Lenient),
];

const CANARIES: [&str; 3] = ["canary-access-token", "canary-refresh-token", "canary.of-the.id-token"];

fn tokens() -> Map<String, Value> {
    let [access, refresh, id] = CANARIES;
    object(json!({
        "access_token": access, "refresh_token": refresh, "id_token": id, "token_type": "Bearer", "expires_in": 300,
        "refresh_expires_in": 3000, "scope": "openid",
    }))
}

/// Answers in place of good tokens, and what the log says of them. Those that are no fault are left out.
fn bad_tokens(elsewhere: &str, is_login: bool) -> Vec<(String, Act, Vec<String>)> {
    let mut cases = Vec::new();
    for member in &TOKEN {
        for fault in Fault::ALL {
            let is_normal = !is_login && member.name == "id_token" && matches!(fault, Fault::Absent | Fault::Null);
            let finding = match fault.finding(member) {
                None if member.name == "token_type" && fault == Fault::Text => {
                    Some("token_type is not Bearer".to_owned())
                }
                None if member.name == "access_token" => Some("holds characters that no header can carry".to_owned()),
                // As a token it is none.
                None if member.name == "id_token" && is_login => Some("not a signed token in compact form".to_owned()),
                finding => finding.filter(|_| !is_normal),
            };
            if let Some(finding) = finding {
                let act = Act::instead(200, fault.text(&tokens(), member.name));
                cases.push((format!("{} {fault:?}", member.name), act, vec![finding]));
            }
        }
    }
    for (what, act, findings) in no_documents(&Value::Object(tokens()).to_string(), elsewhere) {
        cases.push((what.to_owned(), act, findings.iter().map(|&it| it.to_owned()).collect()));
    }
    cases
}

/// None of the secrets is in the log or has come to the browser.
fn tells_nothing(site: &Site, log: &Log, browser: &Browser) {
    let said = log.text();
    for secret in site.issuer.canaries().iter().map(String::as_str).chain(CANARIES) {
        assert_eq!(form_found(said.as_bytes(), secret), None, "the log holds {secret}");
        if !secret.starts_with("code") {
            assert_eq!(browser.received_contains(secret), None, "{secret}");
        }
    }
}

/// A login ends on the page of one that has failed, and the log says why.
async fn fails(site: &Site, browser: &Browser, log: &Log, what: &str, findings: &[String]) {
    let length = log.length();
    let page = browser.follow(&site.at("/bff/login")).await;
    assert_eq!((page.status, page.url.path()), (502, "/bff/callback"), "{what}: {}", page.text());
    assert!(browser.cookies().names("localhost").is_empty(), "{what}");
    let said = log.since(length);
    assert!(findings.iter().any(|it| said.contains(it)), "{what}: {said}");
}

#[test]
fn whatever_is_wrong_with_the_tokens_of_a_login_is_named_and_nobody_is_signed_in() {
    // O2-5.1-01, BCP-4.9-01
    let log = Log::default();
    log.hears(async {
        let site = Site::start().await;
        let other = site.signed_in().await;
        let browser = Browser::new();
        for (what, act, findings) in bad_tokens(&format!("{}/token", site.api.url()), true) {
            site.issuer.script().next(Endpoint::Token, act);
            fails(&site, &browser, &log, &what, &findings).await;
        }
        assert_eq!(site.api.calls(), 0, "no secret is sent elsewhere");
        for member in TOKEN.iter().filter(|it| !it.needed) {
            for fault in Fault::ALL {
                if fault.finding(member).is_none() && (member.name, fault) != ("token_type", Fault::Text) {
                    // The issuer's own tokens, so that they work afterwards.
                    site.issuer.script().edit(Document::TokenResponse, move |answer| fault.apply(answer, member.name));
                    let signed_in = site.signed_in().await;
                    assert_eq!(site.call(&signed_in).await.status, 200, "{} {fault:?}", member.name);
                }
            }
        }
        site.issuer.script().restore(Document::TokenResponse);
        // The session of before has noticed nothing.
        site.pass(TOKEN_SECONDS);
        assert_eq!((site.call(&other).await.status, site.issuer.refreshes()), (200, 1));
        tells_nothing(&site, &log, &browser);
    });
}

#[test]
fn whatever_is_wrong_with_refreshed_tokens_is_named_and_harms_no_session() {
    // O2-6-03, BCP-4.14-03
    let log = Log::default();
    log.hears(async {
        let day = std::time::Duration::from_secs(24 * 3600);
        let site = Site::planned(Plan {
            issuer: Options { refresh_token_ttl: day * 30, ..Options::default() },
            session: "idle = \"30d\"\nabsolute = \"30d\"".to_owned(),
            ..Plan::default()
        })
        .await;
        let browser = site.signed_in().await;
        for (what, act, findings) in bad_tokens(&format!("{}/token", site.api.url()), false) {
            // Time for the last failure to be forgotten, and for the token to expire.
            site.pass(TOKEN_SECONDS * 2);
            site.issuer.script().next(Endpoint::Token, act);
            let (calls, length) = (site.issuer.token_calls(), log.length());
            let page = site.call(&browser).await;
            assert_eq!((page.status, site.issuer.token_calls()), (503, calls + 1), "{what}: {}", page.text());
            let said = log.since(length);
            assert!(findings.iter().any(|it| said.contains(it)), "{what}: {said}");
        }
        assert_eq!(site.api.calls(), 0, "nothing was forwarded, and no secret is sent elsewhere");
        site.pass(TOKEN_SECONDS * 2);
        assert_eq!((site.call(&browser).await.status, site.issuer.refreshes()), (200, 1));
        assert_eq!((site.issuer.reuses(), site.issuer.families_alive()), (0, 1));
        tells_nothing(&site, &log, &browser);
    });
}

#[test]
fn whatever_is_wrong_with_the_userinfo_is_named_and_nobody_is_signed_in() {
    // OIDC-5.3.2-01, OIDC-5.3.4-01
    let log = Log::default();
    log.hears(async {
        let site = site_with(|_| {}).await;
        let browser = Browser::new();
        let good = object(json!({ "sub": "ada", "name": "Ada", "email": "ada@example.org" }));
        let subject = needed("sub", Kind::Text);
        for fault in Fault::ALL {
            let finding = fault.finding(&subject).unwrap_or_else(|| "sub is not that of the ID token".to_owned());
            site.issuer.script().next(Endpoint::Userinfo, Act::instead(200, fault.text(&good, "sub")));
            fails(&site, &browser, &log, &format!("sub {fault:?}"), &[finding]).await;
        }
        // What it says of the person may be anything; only the document has to be one.
        let name = optional("name", Kind::Lenient);
        for fault in Fault::ALL {
            site.issuer.script().next(Endpoint::Userinfo, Act::instead(200, fault.text(&good, "name")));
            match fault.finding(&name) {
                Some(finding) => fails(&site, &browser, &log, &format!("name {fault:?}"), &[finding]).await,
                None => {
                    let user = site.signed_in().await.fetch(Method::GET, &site.at("/bff/user")).await;
                    assert_eq!((user.status, &user.json()["claims"]["sub"]), (200, &json!("ada")), "{fault:?}");
                }
            }
        }
        let elsewhere = format!("{}/userinfo", site.api.url());
        for (what, act, findings) in no_documents(&Value::Object(good).to_string(), &elsewhere) {
            let findings: Vec<String> = findings.iter().map(|&it| it.to_owned()).collect();
            site.issuer.script().next(Endpoint::Userinfo, act);
            fails(&site, &browser, &log, what, &findings).await;
        }
        assert_eq!(site.api.calls(), 0, "no token is sent elsewhere");
        assert!(site.issuer.script().calls(Endpoint::Revoke) > 0);
        tells_nothing(&site, &log, &browser);
    });
}

/// A site that revokes tokens before it answers a logout.
async fn revoking() -> Site {
    Site::planned(Plan { more: "[logout]\norder = \"before\"".to_owned(), ..Plan::default() }).await
}

#[test]
fn whatever_a_revocation_is_answered_the_logout_is_done() {
    // REV-2.2.1-01
    let log = Log::default();
    log.hears(async {
        let site = revoking().await;
        let elsewhere = format!("{}/revoke", site.api.url());
        let mut failures = 0;
        for (number, (what, act, findings)) in no_documents("{}", &elsewhere).into_iter().enumerate() {
            let browser = site.signed_in().await;
            let copy = Browser::new();
            copy.restore(browser.cookies());
            site.issuer.script().next(Endpoint::Revoke, act);
            let length = log.length();
            let out = browser.fetch(Method::POST, &site.at("/bff/logout")).await;
            assert_eq!((out.status, site.call(&copy).await.status), (200, 401), "{what}");
            // What is in an answer of success is nobody's business (RFC 7009 section 2.2).
            let said = log.since(length);
            let is_failure = what.contains("redirect") || findings.iter().any(|it| said.contains(it));
            assert_eq!(said.contains("a token was not revoked"), is_failure, "{what}: {said}");
            failures += usize::from(is_failure);
            assert_eq!(site.issuer.script().calls(Endpoint::Revoke), 2 * (number + 1), "{what}: both tokens");
            tells_nothing(&site, &log, &browser);
        }
        assert!(failures >= 6, "redirects, encodings, and answers without an end: {failures}");
        assert_eq!(site.api.calls(), 0, "no token is sent elsewhere");
    });
}

/// The answer to a push that is good but for its reference, which nobody has.
fn lodged() -> Map<String, Value> {
    object(json!({ "request_uri": "urn:ietf:params:oauth:request_uri:canary", "expires_in": 60 }))
}

#[test]
fn whatever_is_wrong_with_the_answer_to_a_push_is_named_and_no_login_starts() {
    // PAR-2.2-01, PAR-2.3-01
    let log = Log::default();
    log.hears(async {
        let announce = Announce { pushed: Pushed::Required, ..Announce::default() };
        let issuer = Options { announce, ..Options::default() };
        let site = Site::planned(Plan { issuer, ..Plan::default() }).await;
        let other = site.signed_in().await;
        let started = site.issuer.script().calls(Endpoint::Authorize);
        let mut cases = Vec::new();
        for fault in Fault::ALL {
            let reference = fault.finding(&needed("request_uri", Kind::Text));
            let reference = reference.unwrap_or_else(|| "request_uri is not a URI of at most 2 KiB".to_owned());
            cases.push((format!("request_uri {fault:?}"), fault.text(&lodged(), "request_uri"), vec![reference]));
            let lifetime = match fault {
                Fault::Absent | Fault::Null | Fault::Number => continue,
                Fault::Flag | Fault::List | Fault::Object | Fault::Text => {
                    "expires_in is not a number of seconds above zero".to_owned()
                }
                Fault::Huge | Fault::Deep | Fault::Twice => {
                    fault.finding(&optional("expires_in", Kind::Text)).expect("is a fault")
                }
            };
            cases.push((format!("expires_in {fault:?}"), fault.text(&lodged(), "expires_in"), vec![lifetime]));
        }
        let members = cases.into_iter().map(|(what, text, findings)| (what, Act::instead(201, text), findings));
        let elsewhere = format!("{}/par", site.api.url());
        let documents = no_documents(&Value::Object(lodged()).to_string(), &elsewhere).into_iter();
        let documents = documents.map(|(what, act, findings)| {
            (what.to_owned(), act, findings.iter().map(|&it| it.to_owned()).collect::<Vec<_>>())
        });
        let browser = Browser::new();
        for (what, act, findings) in members.chain(documents) {
            let length = log.length();
            site.issuer.script().next(Endpoint::Push, act);
            let page = browser.navigate(&site.at("/bff/login")).await;
            let said = log.since(length);
            assert!([502, 503].contains(&page.status), "{what}: {} {}", page.status, page.text());
            assert_eq!((page.location(), page.set_cookies().len()), (None, 0), "{what}");
            assert!(findings.iter().any(|it| said.contains(it)), "{what}: {said}");
        }
        assert_eq!(site.issuer.script().calls(Endpoint::Authorize), started, "nobody is sent there");
        assert_eq!(site.api.calls(), 0, "no login is lodged elsewhere");
        let lodgings = site.issuer.script().requests_to(Endpoint::Push);
        for secret in
            ["state", "nonce", "code_challenge"].iter().flat_map(|name| lodgings.iter().map(|it| it.form.get(name)))
        {
            assert!(!log.text().contains(secret.unwrap()), "the log holds what was lodged");
        }
        site.pass(TOKEN_SECONDS);
        assert_eq!((site.call(&other).await.status, site.issuer.refreshes()), (200, 1));
        tells_nothing(&site, &log, &browser);
        site.signed_in().await;
    });
}

/// Every byte comes soon enough to look alive, and the last one never.
fn drip() -> Act {
    Act::pieces(vec![b" ".to_vec(); 100_000], std::time::Duration::from_millis(100))
        .header("content-type", "application/json")
}

/// A login ends although this endpoint does not come to an end, and nobody is signed in by it.
async fn login_ends(endpoint: Endpoint, statuses: &[u16]) {
    let announce = Announce { pushed: Pushed::Required, ..Announce::default() };
    let issuer = Options { announce, ..Options::default() };
    let client = "userinfo = true".to_owned();
    let site = Site::planned(Plan { issuer, client, ..Plan::default() }).await;
    let other = site.signed_in().await;
    site.issuer.script().next(endpoint, drip());
    let browser = Browser::new();
    let page = browser.follow(&site.at("/bff/login")).await;
    assert!(statuses.contains(&page.status), "{endpoint:?}: {} {}", page.status, page.text());
    assert_eq!(browser.fetch(Method::GET, &site.at("/bff/user")).await.status, 401, "{endpoint:?}");
    assert_eq!(site.call(&other).await.status, 200, "{endpoint:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes half a minute: run ./tests/run"]
async fn whatever_drips_is_given_up_within_the_limits_and_harms_no_session() {
    // O2-6-03: the limits are the product's own, and time is the real one.
    crate::support::plain_client();
    let documents = async {
        let issuer = Issuer::start(Options::default()).await.unwrap();
        issuer.script().next(Endpoint::Discovery, drip());
        assert!(ask(&issuer).metadata().await.is_err());
        issuer.script().next(Endpoint::Jwks, drip());
        assert!(ask(&issuer).keys(false).await.is_err());
    };
    let refresh = async {
        let site = Site::start().await;
        let browser = site.signed_in().await;
        site.pass(TOKEN_SECONDS);
        site.issuer.script().next(Endpoint::Token, drip());
        let page = site.call(&browser).await;
        assert_eq!((page.status, page.set_cookies().len()), (503, 0), "{}", page.text());
        assert_eq!(browser.fetch(Method::GET, &site.at("/bff/user")).await.status, 200);
    };
    let revocation = async {
        let site = revoking().await;
        let (browser, copy) = (site.signed_in().await, Browser::new());
        copy.restore(browser.cookies());
        site.issuer.script().next(Endpoint::Revoke, drip());
        let out = browser.fetch(Method::POST, &site.at("/bff/logout")).await;
        assert_eq!((out.status, site.call(&copy).await.status), (200, 401));
    };
    let all = async {
        tokio::join!(
            documents,
            refresh,
            revocation,
            login_ends(Endpoint::Push, &[503]),
            login_ends(Endpoint::Token, &[502, 503, 504]),
            login_ends(Endpoint::Userinfo, &[502, 503, 504]),
        )
    };
    tokio::time::timeout(4 * crate::support::PATIENCE, all).await.expect("everything is given up");
}
