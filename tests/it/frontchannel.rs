//! A page of the issuer says that a session is over (OpenID Connect Front-Channel Logout 1.0).

use http::Method;
use url::form_urlencoded;

use crate::issuer::Issuer;
use crate::support::browser::{Browser, Initiator, Page, Request};
use crate::support::site::{Plan, Site};

const PATH: &str = "/bff/frontchannel-logout";

fn plan(tokens: &str, front_channel: &str) -> Plan {
    let session = format!("tokens = \"{tokens}\"");
    Plan { session, more: format!("[logout]\nfront_channel = \"{front_channel}\""), ..Plan::default() }
}

async fn site(front_channel: &str) -> Site {
    Site::planned(plan("cookie", front_channel)).await
}

fn query(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(format!("{PATH}?tenant=1")).extend_pairs(pairs).finish()
}

/// What a frame on the issuer's page asks for. `browser` may have cookies that are sent there, or not.
fn frame(browser: &Browser, site: &Site, pairs: &[(&str, &str)]) -> Request {
    let request = browser.navigate(&site.at(&query(pairs))).started_by(Initiator::CrossSite);
    request.header("sec-fetch-dest", "iframe")
}

async fn told(site: &Site, pairs: &[(&str, &str)]) -> Page {
    frame(&Browser::new(), site, pairs).await
}

fn is_done(page: &Page, issuer: &Issuer) {
    assert_eq!((page.status, page.header("cache-control")), (200, Some("no-store")), "{}", page.text());
    let policy = page.header("content-security-policy").unwrap();
    let ancestors = format!("frame-ancestors {};", issuer.url());
    assert!(policy.contains(&ancestors), "{policy}");
    assert_eq!((page.header("x-frame-options"), page.set_cookies().len()), (None, 0));
}

fn outcome(page: &Page) -> (u16, Option<String>) {
    let reason = (page.status == 401).then(|| page.json()["reason"].as_str().unwrap_or_default().to_owned());
    (page.status, reason)
}

#[tokio::test]
async fn the_session_that_is_named_ends_in_every_copy_and_no_other_does() {
    // FCL-2-03, FCL-2-04, FCL-2-06
    for tokens in ["cookie", "ledger"] {
        let site = Site::planned(plan(tokens, "on")).await;
        let (browser, copy) = (site.signed_in().await, Browser::new());
        copy.restore(browser.cookies());
        assert_eq!(site.call(&browser).await.status, 200);
        let sid = site.issuer.newest_sid().unwrap();
        let other = site.signed_in().await;
        // Twice: that it is over already is success.
        for _ in 0..2 {
            is_done(&told(&site, &[("iss", site.issuer.url()), ("sid", &sid)]).await, &site.issuer);
        }
        for browser in [&browser, &copy] {
            assert_eq!(outcome(&site.call(browser).await), (401, Some("issuer_logout".to_owned())), "{tokens}");
        }
        assert_eq!(site.call(&other).await.status, 200);
        site.stop().await;
    }
}

#[tokio::test]
async fn oidcc_client_test_rp_frontchannel_rpinitlogout() {
    // CS-L-12: the frame comes while the browser is at the issuer, after the session has ended here.
    let site = site("on").await;
    let browser = site.signed_in().await;
    let sid = site.issuer.newest_sid().unwrap();
    let away = browser.submit(&site.at("/bff/logout"), &[]).await.location().unwrap();
    assert!(away.as_str().starts_with(site.issuer.url()), "{away}");
    is_done(&frame(&browser, &site, &[("iss", site.issuer.url()), ("sid", &sid)]).await, &site.issuer);
    let end = browser.follow(away.as_str()).await;
    assert_eq!((end.status, end.url.path()), (200, "/"), "{}", end.text());
    assert_eq!(site.call(&browser).await.status, 401);
    site.stop().await;
}

#[tokio::test]
async fn oidcc_client_test_rp_frontchannel_opinitlogout() {
    // CS-L-14: nobody has signed out here.
    let site = site("on").await;
    let browser = site.signed_in().await;
    let sid = site.issuer.newest_sid().unwrap();
    is_done(&frame(&browser, &site, &[("iss", site.issuer.url()), ("sid", &sid)]).await, &site.issuer);
    assert_eq!(outcome(&site.call(&browser).await), (401, Some("issuer_logout".to_owned())));
    site.stop().await;
}

#[tokio::test]
async fn a_request_that_does_not_name_one_session_of_the_issuer_ends_nothing() {
    // FCL-2-04, FCL-2-05
    let site = site("on").await;
    let browser = site.signed_in().await;
    let (sid, issuer) = (site.issuer.newest_sid().unwrap(), site.issuer.url().to_owned());
    let slash = format!("{issuer}/");
    for pairs in [
        &[][..],
        &[("sid", &*sid)],
        &[("iss", &*issuer)],
        &[("iss", &*issuer), ("sid", "")],
        &[("iss", &*issuer), ("sid", "unknown")],
        &[("iss", &*slash), ("sid", &*sid)],
        &[("iss", "https://other.example"), ("sid", &*sid)],
        &[("iss", &*issuer), ("sid", &*sid), ("sid", &*sid)],
    ] {
        // Also with the cookies of somebody who is signed in, as a page of our own site would send them.
        is_done(&told(&site, pairs).await, &site.issuer);
        is_done(&frame(&browser, &site, pairs).started_by(Initiator::SameOrigin).await, &site.issuer);
        is_done(&frame(&browser, &site, pairs).await, &site.issuer);
        assert_eq!(site.call(&browser).await.status, 200, "{pairs:?}");
    }
    site.stop().await;
}

#[tokio::test]
async fn a_login_that_comes_later_is_not_touched() {
    // FCL-2-04
    let site = site("on").await;
    let browser = site.signed_in().await;
    let sid = site.issuer.newest_sid().unwrap();
    is_done(&told(&site, &[("iss", site.issuer.url()), ("sid", &sid)]).await, &site.issuer);
    assert_eq!(site.call(&browser).await.status, 401);
    // The issuer knows the person still, under the same name for its session.
    site.pass(1);
    let again = browser.follow(&site.at("/bff/login")).await;
    assert_eq!((again.status, site.issuer.newest_sid().as_deref()), (200, Some(&*sid)));
    assert_eq!(site.call(&browser).await.status, 200);
    // And that one can be ended too.
    is_done(&told(&site, &[("iss", site.issuer.url()), ("sid", &sid)]).await, &site.issuer);
    assert_eq!(site.call(&browser).await.status, 401);
    site.stop().await;
}

#[tokio::test]
async fn the_sid_is_enough_only_where_that_is_configured() {
    // FCL-2-04
    let site = site("sid-only").await;
    let browser = site.signed_in().await;
    let sid = site.issuer.newest_sid().unwrap();
    is_done(&told(&site, &[("iss", "https://other.example"), ("sid", &sid)]).await, &site.issuer);
    assert_eq!(site.call(&browser).await.status, 200);
    is_done(&told(&site, &[("sid", &sid)]).await, &site.issuer);
    assert_eq!(site.call(&browser).await.status, 401);
    site.stop().await;
}

#[tokio::test]
async fn without_the_setting_there_is_no_such_address() {
    // FCL-2-05
    let site = Site::start().await;
    let browser = site.signed_in().await;
    let sid = site.issuer.newest_sid().unwrap();
    assert_eq!(told(&site, &[("iss", site.issuer.url()), ("sid", &sid)]).await.status, 404);
    assert_eq!(site.call(&browser).await.status, 200);
    site.stop().await;
}

#[tokio::test]
async fn the_address_is_on_the_site_of_the_redirect_uri_and_is_read_by_get_alone() {
    // FCL-2-01
    let site = site("on").await;
    let browser = site.signed_in().await;
    let sid = site.issuer.newest_sid().unwrap();
    let away = browser.navigate(&site.at("/bff/login")).await.location().unwrap();
    let redirect_uri = away.query_pairs().find(|(name, _)| name == "redirect_uri").unwrap().1.into_owned();
    let (ours, registered) = (site.at(PATH).parse::<url::Url>().unwrap(), redirect_uri.parse::<url::Url>().unwrap());
    assert_eq!((ours.origin(), ours.fragment()), (registered.origin(), None));
    let pairs = [("iss", site.issuer.url()), ("sid", sid.as_str())];
    let posted = Browser::new().fetch(Method::POST, &site.at(&query(&pairs))).started_by(Initiator::CrossSite).await;
    assert_eq!((posted.status, posted.header("allow")), (405, Some("GET")));
    assert_eq!(site.call(&browser).await.status, 200);
    site.stop().await;
}
