//! The issuer is a measure for other things, so it is measured first.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use base64_simd::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use url::Url;
use vestibule::clock::{Clock as _, ManualClock, Timestamp};

use super::act::{Act, Hold, Record};
use super::options::Announce;
use super::serving::Serving;
use super::{Document, Endpoint, Issuer, Login, Options, Rotation, User};

const CALLBACK: &str = "http://app.test/bff/callback";
const HOME: &str = "http://app.test/";
/// RFC 7636 appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

#[tokio::test]
async fn a_code_buys_tokens_and_the_id_token_says_who_signed_in() {
    let bench = Bench::start(Options::default()).await;
    let answer = bench.authorize(&[("state", "st"), ("nonce", "no")]).await;
    let landing = answer.location();
    // ISS-2.4-01: the issuer names itself beside the code.
    assert_eq!(field(&landing, "state").as_deref(), Some("st"));
    assert_eq!(field(&landing, "iss").as_deref(), Some(bench.issuer.url()));

    let tokens = bench.redeem(&field(&landing, "code").unwrap()).await.json();
    let access = tokens["access_token"].as_str().unwrap();
    assert_eq!(bench.issuer.active(access), Some("ada"));
    assert_eq!((&tokens["token_type"], &tokens["expires_in"]), (&json!("Bearer"), &json!(300)));

    let claims = bench.verified(tokens["id_token"].as_str().unwrap()).await;
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!(bench.issuer.url()), &json!("spa-bff")));
    assert_eq!((&claims["sub"], &claims["name"]), (&json!("ada"), &json!("Ada Lovelace")));
    assert_eq!((&claims["nonce"], &claims["sid"]), (&json!("no"), &json!(bench.issuer.newest_sid())));
    assert_eq!(claims["auth_time"], json!(bench.clock.now().as_secs()));
    let hash = Sha256::digest(access);
    assert_eq!(claims["at_hash"], json!(URL_SAFE_NO_PAD.encode_to_string(&hash[..16])));

    let user = bench.get(Endpoint::Userinfo, &[], &[("authorization", &format!("Bearer {access}"))]).await.json();
    assert_eq!((&user["sub"], &user["email"]), (&json!("ada"), &json!("ada@example.org")));
}

#[tokio::test]
async fn every_json_answer_forbids_keeping_it() {
    let bench = Bench::start(Options::default()).await;
    for endpoint in [Endpoint::Discovery, Endpoint::Jwks] {
        assert_eq!(bench.get(endpoint, &[], &[]).await.headers[header::CACHE_CONTROL], "no-store");
    }
    for answer in [bench.redeem("nonsense").await, bench.sign_in().await] {
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
    }
}

#[tokio::test]
async fn a_code_used_twice_takes_its_tokens_with_it() {
    let bench = Bench::start(Options::default()).await;
    let code = bench.code(&[]).await;
    let tokens = bench.redeem(&code).await.json();
    // BCP-4.5-02: what a client that redeems twice would do to its user.
    bench.redeem(&code).await.is_refused("invalid_grant");
    assert_eq!(bench.issuer.active(tokens["access_token"].as_str().unwrap()), None);
    bench.refresh(&tokens).await.is_refused("invalid_grant");
    assert_eq!(bench.issuer.families_alive(), 0);
}

#[tokio::test]
async fn a_code_needs_its_verifier_its_address_and_its_minute() {
    let bench = Bench::start(Options::default()).await;
    // PKCE-4.5-01 and O2-4.1.3-01.
    for (name, value) in [("code_verifier", "another-verifier-of-the-right-length-000000000"), ("redirect_uri", HOME)] {
        let code = bench.code(&[]).await;
        let mut form = redemption(&code);
        form.retain(|(other, _)| *other != name);
        bench.post(Endpoint::Token, &form, &[]).await.is_refused("invalid_request");
        form.push((name, value));
        bench.post(Endpoint::Token, &form, &[]).await.is_refused("invalid_grant");
        // The one try is spent.
        bench.redeem(&code).await.is_refused("invalid_grant");
    }
    let code = bench.code(&[]).await;
    bench.clock.advance(Duration::from_secs(60));
    bench.redeem(&code).await.is_refused("invalid_grant");
    assert_eq!(bench.issuer.families_alive(), 0);
}

#[tokio::test]
async fn a_client_proves_itself_in_exactly_one_of_two_ways() {
    let bench = Bench::start(Options::default()).await;
    let form = redemption("nonsense");
    // O2-2.3.1-01: both halves are form-encoded, and the default secret is made of what that changes.
    let with_secret = |secret| [&form[..], &[("client_id", "spa-bff"), ("client_secret", secret)]].concat();
    let secret = Options::default().client_secret;
    bench.call(Endpoint::Token, &with_secret(secret.expose()), &[]).await.is_refused("invalid_grant");
    bench.post(Endpoint::Token, &with_secret(secret.expose()), &[]).await.is_refused("invalid_request");
    for answer in [
        bench.call(Endpoint::Token, &with_secret("wrong"), &[]).await,
        bench.call(Endpoint::Token, &form, &[("authorization", &basic("spa-bff", "wrong"))]).await,
        bench.call(Endpoint::Token, &form, &[]).await,
    ] {
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(answer.headers.contains_key(header::WWW_AUTHENTICATE));
        assert_eq!(answer.json()["error"], "invalid_client");
    }
}

#[tokio::test]
async fn strict_rotation_replaces_the_token_and_punishes_its_reuse() {
    let bench = Bench::start(Options::default()).await;
    let first = bench.sign_in().await.json();
    let second = bench.refresh(&first).await.json();
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    assert_ne!(first["access_token"], second["access_token"]);
    assert_eq!((bench.issuer.refreshes(), bench.issuer.reuses(), bench.issuer.families_alive()), (1, 0, 1));

    // BCP-4.14-05: reuse costs the whole family.
    bench.refresh(&first).await.is_refused("invalid_grant");
    bench.refresh(&second).await.is_refused("invalid_grant");
    for tokens in [&first, &second] {
        assert_eq!(bench.issuer.active(tokens["access_token"].as_str().unwrap()), None);
    }
    assert_eq!((bench.issuer.refreshes(), bench.issuer.reuses(), bench.issuer.families_alive()), (1, 1, 0));
    assert_eq!(bench.issuer.token_calls(), 4);
}

#[tokio::test]
async fn an_id_token_from_a_refresh_keeps_the_time_of_the_sign_in_and_drops_the_nonce() {
    let bench = Bench::start(Options::default()).await;
    let code = bench.code(&[("nonce", "no")]).await;
    let (first, before) = (bench.redeem(&code).await.json(), bench.clock.now());
    bench.clock.advance(Duration::from_secs(100));
    let second = bench.refresh(&first).await.json();
    let claims = bench.verified(second["id_token"].as_str().unwrap()).await;
    assert_eq!((&claims["auth_time"], &claims["iat"]), (&json!(before.as_secs()), &json!(before.as_secs() + 100)));
    assert!(!claims.contains_key("nonce"));
}

#[tokio::test]
async fn without_rotation_the_token_stays_good_and_is_not_repeated() {
    let bench = Bench::start(Options { rotation: Rotation::Never, ..Options::default() }).await;
    let first = bench.sign_in().await.json();
    for _ in 0..2 {
        assert!(bench.refresh(&first).await.json().get("refresh_token").is_none());
    }
    assert_eq!((bench.issuer.refreshes(), bench.issuer.reuses()), (2, 0));
}

#[tokio::test]
async fn tokens_end_when_their_time_is_over() {
    let options = Options { refresh_token_ttl: Duration::from_secs(1000), ..Options::default() };
    let bench = Bench::start(options).await;
    let tokens = bench.sign_in().await.json();
    let access = tokens["access_token"].as_str().unwrap();
    bench.clock.advance(Duration::from_secs(299));
    assert_eq!(bench.issuer.active(access), Some("ada"));
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(bench.issuer.active(access), None);
    bench.clock.advance(Duration::from_secs(700));
    bench.refresh(&tokens).await.is_refused("invalid_grant");
}

#[tokio::test]
async fn revoking_a_refresh_token_ends_its_family_and_an_access_token_only_itself() {
    let bench = Bench::start(Options::default()).await;
    let tokens = bench.sign_in().await.json();
    let access = tokens["access_token"].as_str().unwrap();
    // REV-2.1-02.
    assert_eq!(bench.post(Endpoint::Revoke, &[("token", access)], &[]).await.status, StatusCode::OK);
    assert_eq!(bench.issuer.active(access), None);
    let tokens = bench.refresh(&tokens).await.json();
    // REV-2.1-01.
    let refresh = tokens["refresh_token"].as_str().unwrap();
    assert_eq!(bench.post(Endpoint::Revoke, &[("token", refresh)], &[]).await.status, StatusCode::OK);
    assert_eq!(bench.issuer.active(tokens["access_token"].as_str().unwrap()), None);
    bench.refresh(&tokens).await.is_refused("invalid_grant");
    assert_eq!(bench.post(Endpoint::Revoke, &[("token", "unknown")], &[]).await.status, StatusCode::OK);
    bench.call(Endpoint::Revoke, &[("token", refresh)], &[]).await.has_error(401, "invalid_client");
}

#[tokio::test]
async fn a_sign_out_with_a_hint_ends_the_sign_in_and_goes_back_with_the_state() {
    let bench = Bench::start(Options::default()).await;
    let answer = bench.authorize(&[]).await;
    let cookie = answer.cookie();
    let tokens = bench.redeem(&field(&answer.location(), "code").unwrap()).await.json();
    // RIL-2-01.
    let hint = tokens["id_token"].as_str().unwrap();
    let query = [("id_token_hint", hint), ("post_logout_redirect_uri", HOME), ("state", "bye")];
    let answer = bench.get(Endpoint::EndSession, &query, &[("cookie", &cookie)]).await;
    assert_eq!(answer.location().as_str(), format!("{HOME}?state=bye"));
    assert_eq!(bench.issuer.families_alive(), 0);
    let answer = bench.authorize_with(&[("prompt", "none")], &[("cookie", &cookie)]).await;
    assert_eq!(field(&answer.location(), "error").as_deref(), Some("login_required"));
}

#[tokio::test]
async fn a_sign_out_without_a_hint_asks_first_and_never_goes_to_a_stranger() {
    let bench = Bench::start(Options::default()).await;
    let cookie = bench.authorize(&[]).await.cookie();
    let again = [("prompt", "none")];
    let answer = bench.get(Endpoint::EndSession, &[], &[("cookie", &cookie)]).await;
    assert!(answer.body.contains("Sign out?"));
    assert!(field(&bench.authorize_with(&again, &[("cookie", &cookie)]).await.location(), "code").is_some());

    // RIL-2-06: another site cannot confirm for the person.
    let confirm = [("confirm", "yes")];
    let forged = [("cookie", cookie.as_str()), ("sec-fetch-site", "cross-site")];
    assert!(bench.call(Endpoint::EndSession, &confirm, &forged).await.body.contains("Sign out?"));
    let answer = bench.call(Endpoint::EndSession, &confirm, &[("cookie", &cookie)]).await;
    assert!(answer.body.contains("You are signed out"));
    let answer = bench.authorize_with(&again, &[("cookie", &cookie)]).await;
    assert_eq!(field(&answer.location(), "error").as_deref(), Some("login_required"));

    // RIL-2-02.
    let tokens = bench.sign_in().await.json();
    let hint = tokens["id_token"].as_str().unwrap();
    let query = [("id_token_hint", hint), ("post_logout_redirect_uri", "http://evil.test/")];
    let answer = bench.get(Endpoint::EndSession, &query, &[]).await;
    assert_eq!((answer.status, answer.headers.get(header::LOCATION)), (StatusCode::BAD_REQUEST, None));
}

#[tokio::test]
async fn a_sign_out_tells_the_client_before_it_answers() {
    let heard = Arc::new(Record::<String>::default());
    let listener = Serving::start(0, |_| {
        let heard = Arc::clone(&heard);
        Router::new().fallback(move |form: String| async move { heard.push(form) })
    });
    let listener = listener.await.unwrap();
    let bench = Bench::start(Options::default()).await;
    bench.issuer.register_backchannel_logout(&format!("http://{}/told", listener.address()));
    bench.issuer.script().edit(Document::LogoutToken, |claims| drop(claims.insert("more".to_owned(), json!(1))));
    let tokens = bench.sign_in().await.json();
    let sid = bench.issuer.newest_sid();
    let query = [("id_token_hint", tokens["id_token"].as_str().unwrap())];
    assert_eq!(bench.get(Endpoint::EndSession, &query, &[]).await.status, StatusCode::OK);
    // CS-L-04: that this has happened is known as soon as the answer is there.
    let [form] = &heard.all()[..] else { panic!("told {} times", heard.all().len()) };
    let token = form.strip_prefix("logout_token=").unwrap();
    let claims = bench.verified(token).await;
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!(bench.issuer.url()), &json!("spa-bff")));
    assert_eq!((&claims["sub"], &claims["sid"], &claims["more"]), (&json!("ada"), &json!(sid), &json!(1)));
    assert_eq!(claims["events"], json!({ "http://schemas.openid.net/event/backchannel-logout": {} }));
    assert_eq!(claims["exp"].as_u64().unwrap(), bench.clock.now().as_secs() + 120);
    assert_eq!(bench.issuer.told()[0].as_ref().unwrap().status, 200);

    // On command, and with a name of its own.
    let again = bench.issuer.logout_claims(None, Some("sid"));
    assert_ne!(again["jti"], claims["jti"]);
    assert_eq!(again.get("sub"), None);
    bench.issuer.tell("anything").await.unwrap();
    assert_eq!(heard.all()[1], "logout_token=anything");
    listener.pause().await;
    assert!(bench.issuer.tell("anything").await.is_err());
}

#[tokio::test]
async fn a_browser_is_known_again_until_the_client_asks_for_more() {
    let bench = Bench::start(Options::default()).await;
    let cookie = bench.authorize(&[]).await.cookie();
    let cookie = [("cookie", cookie.as_str())];
    let first = bench.sid(bench.authorize_with(&[], &cookie).await).await;
    assert_eq!(bench.sid(bench.authorize_with(&[("prompt", "none")], &cookie).await).await, first);
    // OIDC-3.1.3.7-12: a stale sign-in is renewed, and its time with it.
    bench.clock.advance(Duration::from_secs(61));
    assert_ne!(bench.sid(bench.authorize_with(&[("max_age", "60")], &cookie).await).await, first);
    assert_ne!(bench.sid(bench.authorize_with(&[("prompt", "login")], &cookie).await).await, first);
    // OIDC-3.1.2.1-07.
    for (query, error) in [
        (vec![("prompt", "none"), ("max_age", "60")], "login_required"),
        (vec![("prompt", "none login")], "invalid_request"),
        (vec![("max_age", "soon")], "invalid_request"),
    ] {
        let location = bench.authorize_with(&query, &cookie).await.location();
        assert_eq!(field(&location, "error").as_deref(), Some(error), "{query:?}");
    }
}

#[tokio::test]
async fn people_choose_who_they_are_on_the_page() {
    let bench = Bench::start(Options { login: Login::Page, ..Options::default() }).await;
    let page = bench.authorize(&[("login_hint", "grace@example.org")]).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap().contains("frame-ancestors 'none'"));
    for user in User::ALL {
        assert!(page.body.contains(user.name()));
    }
    assert!(page.body.contains(r#"value="grace" autofocus"#));

    let chosen = bench.choose("grace", &[]).await;
    let tokens = bench.redeem(&field(&chosen.location(), "code").unwrap()).await.json();
    assert_eq!(bench.issuer.active(tokens["access_token"].as_str().unwrap()), Some("grace"));
    let declined = bench.choose("nobody", &[]).await;
    assert_eq!(field(&declined.location(), "error").as_deref(), Some("access_denied"));
    assert_eq!(field(&declined.location(), "iss").as_deref(), Some(bench.issuer.url()));
    let forged = bench.choose("grace", &[("sec-fetch-site", "cross-site")]).await;
    assert_eq!(forged.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn what_the_request_says_is_shown_as_text() {
    let bench = Bench::start(Options { login: Login::Page, ..Options::default() }).await;
    let page = bench.authorize(&[("login_hint", "\"><script>"), ("state", "'\"><script>alert(1)</script>")]).await;
    assert!(!page.body.contains("<script"));
}

#[tokio::test]
async fn a_request_that_may_not_be_answered_elsewhere_is_answered_here() {
    let bench = Bench::start(Options::default()).await;
    // BCP-2.1-01: no open redirector.
    for (name, value) in
        [("redirect_uri", "http://evil.test/"), ("redirect_uri", "http://app.test/bff/callback?"), ("client_id", "x")]
    {
        let answer = bench.authorize(&[(name, value)]).await;
        assert_eq!((answer.status, answer.headers.get(header::LOCATION)), (StatusCode::BAD_REQUEST, None), "{value}");
    }
    let query = format!("{}&state=1&state=2", encoded(&request(&[])));
    let answer = bench.send(bench.client.get(format!("{}/authorize?{query}", bench.issuer.url()))).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_request_that_cannot_be_granted_is_refused_to_the_client() {
    let bench = Bench::start(Options::default()).await;
    for (name, value, error) in [
        ("response_type", "token", "unsupported_response_type"),
        ("response_mode", "fragment", "invalid_request"),
        ("code_challenge_method", "plain", "invalid_request"),
        ("code_challenge", "", "invalid_request"),
        ("request", "x", "request_not_supported"),
        ("request_uri", "x", "request_uri_not_supported"),
    ] {
        let location = bench.authorize(&[(name, value), ("state", "st")]).await.location();
        assert_eq!(field(&location, "error").as_deref(), Some(error), "{name}={value}");
        assert_eq!(field(&location, "state").as_deref(), Some("st"));
    }
}

#[tokio::test]
async fn metadata_names_what_is_there_and_nothing_else() {
    let bench = Bench::start(Options::default()).await;
    let metadata = bench.get(Endpoint::Discovery, &[], &[]).await.json();
    assert_eq!(metadata["issuer"], bench.issuer.url());
    for name in ["token_endpoint", "revocation_endpoint", "end_session_endpoint", "jwks_uri"] {
        assert!(metadata[name].as_str().unwrap().starts_with(bench.issuer.url()), "{name}");
    }
    let announce = Announce {
        issuer_parameter: false,
        end_session: false,
        revocation: false,
        pushed: super::Pushed::No,
        bound_tokens: false,
    };
    let bench = Bench::start(Options { announce, ..Options::default() }).await;
    let metadata = bench.get(Endpoint::Discovery, &[], &[]).await.json();
    assert_eq!((metadata.get("revocation_endpoint"), metadata.get("end_session_endpoint")), (None, None));
    assert_eq!(metadata["authorization_response_iss_parameter_supported"], false);
    assert_eq!(bench.get(Endpoint::EndSession, &[], &[]).await.status, StatusCode::NOT_FOUND);
    assert_eq!(bench.post(Endpoint::Revoke, &[("token", "x")], &[]).await.status, StatusCode::NOT_FOUND);
    assert_eq!(field(&bench.authorize(&[]).await.location(), "iss"), None);
}

#[tokio::test]
async fn a_new_key_signs_at_once_and_the_one_before_stays_published() {
    let bench = Bench::start(Options::default()).await;
    let sign = || bench.issuer.sign("JWT", &Map::new()).unwrap();
    let oldest = sign();
    bench.issuer.rotate_keys().unwrap();
    let newest = sign();
    assert_ne!(kid(&oldest), kid(&newest));
    bench.verified(&oldest).await;
    bench.verified(&newest).await;
    bench.issuer.rotate_keys().unwrap();
    let published = bench.get(Endpoint::Jwks, &[], &[]).await.json();
    assert!(published["keys"].as_array().unwrap().iter().all(|key| key["kid"] != kid(&oldest)));
}

#[tokio::test]
async fn an_answer_can_be_replaced_and_the_work_done_or_not() {
    let bench = Bench::start(Options::default()).await;
    let tokens = bench.sign_in().await.json();
    let script = bench.issuer.script();
    script.next(Endpoint::Token, Act::instead(503, "busy").header("retry-after", "2"));
    let busy = bench.refresh(&tokens).await;
    assert_eq!((busy.status.as_u16(), busy.body.as_str()), (503, "busy"));
    assert_eq!(busy.headers[header::RETRY_AFTER], "2");
    assert_eq!(bench.issuer.refreshes(), 0);

    script.next(Endpoint::Token, Act::instead(502, "").processed());
    assert_eq!(bench.refresh(&tokens).await.status, StatusCode::BAD_GATEWAY);
    assert_eq!(bench.issuer.refreshes(), 1);
    bench.refresh(&tokens).await.is_refused("invalid_grant");
    assert_eq!(bench.issuer.reuses(), 1);
}

#[tokio::test]
async fn a_connection_can_be_cut_before_or_after_the_work() {
    let bench = Bench::start(Options::default()).await;
    let tokens = bench.sign_in().await.json();
    for (act, refreshes) in [(Act::cut(), 0), (Act::cut().processed(), 1)] {
        bench.issuer.script().next(Endpoint::Token, act);
        assert!(bench.refreshing(&tokens).send().await.is_err());
        assert_eq!(bench.issuer.refreshes(), refreshes);
    }
}

#[tokio::test]
async fn a_held_request_waits_for_its_release() {
    let bench = Bench::start(Options::default()).await;
    let tokens = bench.sign_in().await.json();
    let (first, then) = (Hold::default(), Hold::default());
    bench.issuer.script().next(Endpoint::Token, Act::usual().wait_first(&first).wait_then(&then));
    let direct = async {
        first.arrived().await;
        assert_eq!(bench.issuer.refreshes(), 0);
        first.release();
        then.arrived().await;
        assert_eq!(bench.issuer.refreshes(), 1);
        then.release();
    };
    let (answer, ()) = tokio::join!(bench.refresh(&tokens), direct);
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn documents_can_be_edited_before_they_are_signed_or_sent() {
    let bench = Bench::start(Options::default()).await;
    let script = bench.issuer.script();
    script.edit(Document::IdToken, |claims| drop(claims.insert("nonce".to_owned(), json!("another"))));
    script.edit(Document::TokenResponse, |answer| drop(answer.remove("expires_in")));
    let tokens = bench.sign_in().await.json();
    assert_eq!(bench.verified(tokens["id_token"].as_str().unwrap()).await["nonce"], "another");
    assert_eq!(tokens.get("expires_in"), None);
    script.restore(Document::TokenResponse);
    assert_eq!(bench.sign_in().await.json()["expires_in"], 300);
}

#[tokio::test]
async fn an_outage_cuts_who_is_waiting_and_leaves_no_other_trace() {
    let bench = Bench::start(Options::default()).await;
    let tokens = bench.sign_in().await.json();
    let hold = Hold::default();
    bench.issuer.script().next(Endpoint::Token, Act::usual().wait_first(&hold));
    let outage = async {
        hold.arrived().await;
        bench.issuer.pause().await;
    };
    let (waiting, ()) = tokio::join!(bench.refreshing(&tokens).send(), outage);
    assert!(waiting.is_err());
    assert!(bench.refreshing(&tokens).send().await.unwrap_err().is_connect());

    bench.issuer.resume().await.unwrap();
    assert_eq!(bench.refresh(&tokens).await.status, StatusCode::OK);
    assert_eq!((bench.issuer.refreshes(), bench.issuer.reuses()), (1, 0));
}

#[tokio::test]
async fn every_secret_is_listed_and_none_is_printed() {
    let bench = Bench::start(Options::default()).await;
    let code = bench.code(&[]).await;
    let first = bench.redeem(&code).await.json();
    let second = bench.refresh(&first).await.json();
    let canaries = bench.issuer.canaries();
    let printed = format!("{:?}", bench.issuer.script().requests());
    let tokens = [&first, &second].into_iter().flat_map(|tokens| {
        ["access_token", "refresh_token", "id_token"].map(|name| tokens[name].as_str().unwrap().to_owned())
    });
    for secret in tokens.chain([code]) {
        assert!(canaries.contains(&secret), "{secret}");
        assert!(!printed.contains(&secret), "{secret}");
    }
    assert!(printed.contains("refresh_token"), "names are printed");
}

/// An issuer, a clock that it goes by, and a client that follows nothing.
struct Bench {
    issuer: Issuer,
    clock: Arc<ManualClock>,
    client: reqwest::Client,
}

impl Bench {
    async fn start(options: Options) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000)));
        let issuer = Issuer::start(Options { clock: Arc::clone(&clock) as Arc<_>, ..options }).await.unwrap();
        issuer.register(CALLBACK, HOME);
        // Nothing here is encrypted, but a client cannot be built without a provider.
        rustls::crypto::ring::default_provider().install_default().unwrap_or_default();
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
        // `rustls` is asked for without roots of trust, for the same reason.
        let tls = rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty());
        let client = client.tls_backend_preconfigured(tls.with_no_client_auth()).build().unwrap();
        Self { issuer, clock, client }
    }

    async fn sign_in(&self) -> Answer {
        self.redeem(&self.code(&[]).await).await
    }

    async fn code(&self, more: &[(&'static str, &'static str)]) -> String {
        field(&self.authorize(more).await.location(), "code").unwrap()
    }

    async fn authorize(&self, more: &[(&'static str, &'static str)]) -> Answer {
        self.authorize_with(more, &[]).await
    }

    async fn authorize_with(&self, more: &[(&'static str, &'static str)], headers: &[(&str, &str)]) -> Answer {
        self.get(Endpoint::Authorize, &request(more), headers).await
    }

    /// Presses a button on the sign-in page.
    async fn choose(&self, user: &str, headers: &[(&str, &str)]) -> Answer {
        let url = format!("{}?{}", self.at(Endpoint::Authorize), encoded(&request(&[])));
        self.send(with_headers(form(self.client.post(url), &[("user", user)]), headers)).await
    }

    /// The `sid` of the sign-in behind the code in this answer.
    async fn sid(&self, answer: Answer) -> String {
        let tokens = self.redeem(&field(&answer.location(), "code").unwrap()).await.json();
        self.verified(tokens["id_token"].as_str().unwrap()).await["sid"].as_str().unwrap().to_owned()
    }

    async fn redeem(&self, code: &str) -> Answer {
        self.post(Endpoint::Token, &redemption(code), &[]).await
    }

    async fn refresh(&self, tokens: &Value) -> Answer {
        self.send(self.refreshing(tokens)).await
    }

    fn refreshing(&self, tokens: &Value) -> reqwest::RequestBuilder {
        let token = tokens["refresh_token"].as_str().unwrap();
        let call = self.client.post(self.at(Endpoint::Token)).header("authorization", credentials());
        form(call, &[("grant_type", "refresh_token"), ("refresh_token", token)])
    }

    async fn get(&self, endpoint: Endpoint, query: &[(&str, &str)], headers: &[(&str, &str)]) -> Answer {
        let url = format!("{}?{}", self.at(endpoint), encoded(query));
        self.send(with_headers(self.client.get(url), headers)).await
    }

    /// A form from the client, with its credentials.
    async fn post(&self, endpoint: Endpoint, fields: &[(&str, &str)], headers: &[(&str, &str)]) -> Answer {
        let call = self.client.post(self.at(endpoint)).header("authorization", credentials());
        self.send(with_headers(form(call, fields), headers)).await
    }

    /// A form from anybody.
    async fn call(&self, endpoint: Endpoint, fields: &[(&str, &str)], headers: &[(&str, &str)]) -> Answer {
        self.send(with_headers(form(self.client.post(self.at(endpoint)), fields), headers)).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, body: response.text().await.unwrap() }
    }

    fn at(&self, endpoint: Endpoint) -> String {
        format!("{}{}", self.issuer.url(), endpoint.path())
    }

    /// The claims of a token, checked by another implementation against the published keys.
    async fn verified(&self, token: &str) -> Map<String, Value> {
        let keys = self.get(Endpoint::Jwks, &[], &[]).await.json();
        let key = keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == kid(token)).unwrap();
        let (x, y) = (key["x"].as_str().unwrap(), key["y"].as_str().unwrap());
        let key = jsonwebtoken::DecodingKey::from_ec_components(x, y).unwrap();
        let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
        validation.required_spec_claims.clear();
        (validation.validate_exp, validation.validate_aud) = (false, false);
        jsonwebtoken::decode(token, &key, &validation).unwrap().claims
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn location(&self) -> Url {
        assert_eq!(self.status, StatusCode::SEE_OTHER, "{}", self.body);
        Url::parse(self.headers[header::LOCATION].to_str().unwrap()).unwrap()
    }

    /// The cookie that it sets, as a request shows it.
    fn cookie(&self) -> String {
        let line = self.headers[header::SET_COOKIE].to_str().unwrap();
        assert!(line.contains("; HttpOnly; SameSite=Lax"));
        line.split(';').next().unwrap().to_owned()
    }

    fn is_refused(&self, error: &str) {
        self.has_error(400, error);
    }

    fn has_error(&self, status: u16, error: &str) {
        assert_eq!((self.status.as_u16(), &self.json()["error"]), (status, &json!(error)), "{}", self.body);
    }
}

/// A valid authorization request, with these fields changed or added.
fn request(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let mut fields = vec![
        ("response_type", "code"),
        ("client_id", "spa-bff"),
        ("redirect_uri", CALLBACK),
        ("scope", "openid profile email"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    fields.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
    fields.extend(more);
    fields
}

fn redemption(code: &str) -> Vec<(&str, &str)> {
    vec![("grant_type", "authorization_code"), ("code", code), ("redirect_uri", CALLBACK), ("code_verifier", VERIFIER)]
}

fn credentials() -> String {
    basic("spa-bff", Options::default().client_secret.expose())
}

fn basic(id: &str, secret: &str) -> String {
    let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    format!("Basic {}", STANDARD.encode_to_string(format!("{}:{}", encode(id), encode(secret))))
}

fn form(request: reqwest::RequestBuilder, fields: &[(&str, &str)]) -> reqwest::RequestBuilder {
    request.header("content-type", "application/x-www-form-urlencoded").body(encoded(fields))
}

fn with_headers(request: reqwest::RequestBuilder, headers: &[(&str, &str)]) -> reqwest::RequestBuilder {
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
}

fn encoded(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

fn field(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
}

fn kid(token: &str) -> Value {
    let header = URL_SAFE_NO_PAD.decode_to_vec(token.split('.').next().unwrap()).unwrap();
    serde_json::from_slice::<Value>(&header).unwrap()["kid"].clone()
}
