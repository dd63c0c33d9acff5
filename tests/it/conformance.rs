//! The client tests of the OpenID Foundation's conformance suite, each under the name of its module, played by an issuer
//! that lies over the wire; and what the suite cannot see.
//!
//! The suite judges by the calls that it receives, so its logins end at the UserInfo endpoint: a good one asks there with
//! its token, and one that is refused asks nobody anything. Here the API and the browser are watched too.

mod bad_input;
mod basic;
mod beyond;
mod comprehensive;
mod configuration;
mod fapi;
mod form_post;
mod logout;
mod refresh;
mod table;
mod transport;

use serde_json::Value;
use tokio::time::{Duration, Instant, sleep};

use crate::issuer::{Document, Endpoint, Issuer, Options};
use crate::support::PATIENCE;
use crate::support::browser::{Browser, Page};
use crate::support::site::{Plan, Site};

/// A site whose logins ask the UserInfo endpoint.
async fn site() -> Site {
    site_with(|_| {}).await
}

/// The same, with an issuer that `before` has prepared: what it says of itself is asked at the start.
async fn site_with(before: impl FnOnce(&Issuer) + Send + 'static) -> Site {
    site_of(Options::default(), before).await
}

async fn site_of(issuer: Options, before: impl FnOnce(&Issuer) + Send + 'static) -> Site {
    let client = "userinfo = true".to_owned();
    Site::planned(Plan { issuer, client, before: Some(Box::new(before)), ..Plan::default() }).await
}

/// Gives a member of such documents another value; null takes it out.
fn replace(issuer: &Issuer, document: Document, changes: &[(&'static str, Value)]) {
    let changes = changes.to_vec();
    issuer.script().edit(document, move |members| {
        for (name, value) in &changes {
            if value.is_null() {
                members.remove(*name);
            } else {
                members.insert((*name).to_owned(), value.clone());
            }
        }
    });
}

/// Signs ID tokens by `alg` with the RSA key, which is published beside the others.
fn sign_with_rsa(issuer: &Issuer, alg: &'static str) {
    let key = issuer.rsa_key(alg).unwrap();
    replace(issuer, Document::IdTokenHeader, &[("alg", alg.into()), ("kid", "rsa".into())]);
    replace(issuer, Document::Metadata, &[("id_token_signing_alg_values_supported", vec![alg].into())]);
    issuer.script().edit(Document::Keys, move |set| set["keys"].as_array_mut().unwrap().push(key.clone()));
}

/// One bit of the signature is another.
fn bend(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut bytes = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(signature).unwrap();
    bytes[7] ^= 1;
    format!("{signed}.{}", base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes))
}

/// What a login ends with.
async fn login(site: &Site) -> (Browser, Page) {
    login_with(site, "").await
}

/// The same, for a login that wishes something.
async fn login_with(site: &Site, query: &str) -> (Browser, Page) {
    let browser = Browser::new();
    let page = browser.follow(&site.at(&format!("/bff/login{query}"))).await;
    (browser, page)
}

/// The access tokens that an endpoint has been shown.
fn shown_to_userinfo(site: &Site) -> Vec<String> {
    let requests = site.issuer.script().requests_to(Endpoint::Userinfo);
    requests.iter().map(|it| it.header(http::header::AUTHORIZATION).unwrap_or_default().to_owned()).collect()
}

/// The login succeeds: it has asked the UserInfo endpoint, and the API gets the same token.
async fn accepted(site: &Site) -> Browser {
    let (before, calls) = (shown_to_userinfo(site).len(), site.api.calls());
    let (browser, page) = login(site).await;
    assert_eq!((page.status, page.url.as_str()), (200, site.at("/").as_str()), "{}", page.text());
    let shown = shown_to_userinfo(site);
    assert_eq!(shown.len(), before + 1, "the UserInfo endpoint is asked once");
    let called = site.call(&browser).await;
    assert_eq!((called.status, site.api.calls()), (200, calls + 1), "{}", called.text());
    let bearer = site.api.requests().pop().unwrap().bearer().unwrap().to_owned();
    assert_eq!(shown.last(), Some(&format!("Bearer {bearer}")));
    browser
}

/// The login fails at its ID token: nobody is asked anything, nobody is signed in, and the tokens are given back.
async fn refused(site: &Site) {
    assert_eq!(shown_to_userinfo(site).len(), 0);
    let (browser, page) = login(site).await;
    ended(site, &browser, &page).await;
    assert_eq!(shown_to_userinfo(site).len(), 0, "the UserInfo endpoint is not asked");
}

/// This is the end of a login that failed after its code was redeemed.
async fn ended(site: &Site, browser: &Browser, page: &Page) {
    assert_eq!((page.status, page.url.path()), (502, "/bff/callback"), "{}", page.text());
    assert!(page.text().contains("The login could not be verified"), "{}", page.text());
    assert!(browser.cookies().names("localhost").is_empty(), "no cookie is left");
    assert_eq!(site.issuer.token_calls(), 1);
    assert_eq!((site.call(browser).await.status, site.api.calls()), (401, 0));
    given_back(site).await;
}

/// All tokens that were issued have been revoked.
async fn given_back(site: &Site) {
    let deadline = Instant::now() + PATIENCE;
    while site.issuer.families_alive() > 0 {
        assert!(Instant::now() < deadline, "the tokens of the failed login live on");
        sleep(Duration::from_millis(5)).await;
    }
}

/// The login ends before its code is redeemed.
async fn stopped(site: &Site, status: u16) -> Page {
    let (browser, page) = login(site).await;
    assert_eq!(page.status, status, "{}", page.text());
    assert_eq!((site.issuer.token_calls(), shown_to_userinfo(site).len()), (0, 0));
    assert_eq!((site.call(&browser).await.status, site.api.calls()), (401, 0));
    page
}
