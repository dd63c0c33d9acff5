//! Logins that were not started here, or were changed on the way.

use http::Method;
use url::Url;

use super::{finish, granted, parameter, with};
use crate::issuer::{Login, User};
use crate::support::browser::{Browser, Initiator, Page};
use crate::support::site::Site;

/// Goes on as the bounce page of a callback does, to the end.
async fn led_on(browser: &Browser, page: &Page) -> Page {
    assert_eq!(page.status, 200, "{}", page.text());
    let (_, rest) = page.text().split_once("url=").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let target = rest.split('"').next().unwrap().to_owned();
    browser.navigate(page.url.join(&target).unwrap().as_str()).started_by(Initiator::SameOrigin).await
}

/// Who is signed in.
async fn name(site: &Site, browser: &Browser) -> Option<String> {
    let page = browser.fetch(Method::GET, &site.at("/bff/user?anonymous=200")).await;
    page.json()["claims"]["name"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn a_callback_of_anothers_login_changes_nothing_for_somebody_signed_in() {
    // BCP-2.1-02, O2-10.12-01, OWS-10
    let site = Site::start().await;
    let victim = site.signed_in().await;
    site.issuer.set_login(Login::Automatic(User::Grace));
    let foreign = granted(&site, &Browser::new()).await;
    let (calls, cookies) = (site.issuer.token_calls(), victim.cookies());
    let page = finish(&victim, &foreign).await;
    assert!(page.set_cookies().is_empty());
    let end = led_on(&victim, &page).await;
    assert_eq!((end.status, end.header("location"), end.set_cookies().len()), (303, Some("/"), 0));
    assert!(victim.cookies() == cookies);
    assert_eq!(name(&site, &victim).await.as_deref(), Some("Ada Lovelace"));
    assert_eq!(site.issuer.token_calls(), calls);
}

#[tokio::test]
async fn a_callback_of_anothers_login_signs_nobody_in() {
    // BCP-2.1-02, OIDC-3.1.2.1-03
    let site = Site::start().await;
    let foreign = granted(&site, &Browser::new()).await;
    for pending in [false, true] {
        let victim = Browser::new();
        let own = if pending { Some(granted(&site, &victim).await) } else { None };
        let cookies = victim.cookies();
        let page = finish(&victim, &foreign).await;
        assert!(page.set_cookies().is_empty());
        assert!(victim.cookies() == cookies);
        assert_eq!(name(&site, &victim).await, None);
        if let Some(own) = own {
            // The login that is really theirs can still be finished.
            assert_eq!(finish(&victim, &own).await.header("location"), Some("/"));
        }
    }
    assert_eq!(site.issuer.token_calls(), 1);
}

#[tokio::test]
async fn a_login_that_fails_twice_to_come_back_ends_on_a_page() {
    // BCP-2.1-02
    let site = Site::start().await;
    let foreign = granted(&site, &Browser::new()).await;
    let victim = Browser::new();
    let again = led_on(&victim, &finish(&victim, &foreign).await).await;
    assert!(again.header("location").unwrap().starts_with("/bff/login?"), "one fresh start");
    let away = victim.navigate(again.location().unwrap().as_str()).await;
    let second = victim.navigate(away.location().unwrap().as_str()).await.location().unwrap();
    let blocked = Browser::new();
    let end = led_on(&blocked, &finish(&blocked, &second).await).await;
    assert_eq!(end.status, 400);
    // Nothing of ours came along: the page names the cause, and the address that cookies are kept for.
    assert!(end.text().contains("sends no cookies") && end.text().contains(&site.url), "{}", end.text());
    assert_eq!(site.issuer.token_calls(), 0);
    // Where other cookies of ours come along it is the link.
    let other = Browser::new();
    let away = other.navigate(&site.at("/bff/login?attempt=1")).await;
    let copied = other.navigate(away.location().unwrap().as_str()).await.location().unwrap();
    let end = led_on(&victim, &finish(&victim, &copied).await).await;
    assert!(end.text().contains("used before, or copied"), "{}", end.text());
}

#[tokio::test]
async fn an_authorization_address_that_was_copied_cannot_be_finished_elsewhere() {
    // BCPU-2.3-01, FAPI-6.4-01, FAPI-6.5-01
    let site = Site::start().await;
    let attacker = Browser::new();
    let away = attacker.navigate(&site.at("/bff/login")).await.location().unwrap();
    let victim = Browser::new();
    let callback = victim.navigate(away.as_str()).await.location().unwrap();
    let page = finish(&victim, &callback).await;
    assert_eq!((page.status, page.set_cookies().len()), (200, 0));
    assert_eq!((site.issuer.token_calls(), name(&site, &victim).await), (0, None));
}

#[tokio::test]
async fn swapped_states_of_two_pending_logins_sign_nobody_in() {
    // BCP-2.1.1-02, BCP-2.1-02: the code is bound to the transaction by PKCE and nonce.
    let site = Site::start().await;
    let browser = Browser::new();
    let (one, other) = (granted(&site, &browser).await, granted(&site, &browser).await);
    let swapped = [
        with(&one, "state", Some(&parameter(&other, "state"))),
        with(&other, "state", Some(&parameter(&one, "state"))),
    ];
    for callback in swapped {
        let page = finish(&browser, &callback).await;
        assert!(page.status >= 400, "{}", page.status);
        assert_eq!(name(&site, &browser).await, None);
    }
    assert!(browser.cookies().names("localhost").is_empty(), "both transactions are spent");
    assert_eq!(site.issuer.families_alive(), 0);
}

#[tokio::test]
async fn a_code_of_anothers_login_cannot_be_injected_into_ones_own() {
    // BCP-4.5-01, ASVS-10.1.2
    let site = Site::start().await;
    let victim = Browser::new();
    let own = granted(&site, &victim).await;
    site.issuer.set_login(Login::Automatic(User::Grace));
    let foreign = granted(&site, &Browser::new()).await;
    let page = finish(&victim, &with(&own, "code", Some(&parameter(&foreign, "code")))).await;
    assert!(page.status >= 400, "{}", page.status);
    assert_eq!(name(&site, &victim).await, None);
    // The same transaction is not good for a second try with the right code.
    let late = finish(&victim, &own).await;
    assert_eq!((late.status, late.set_cookies().len()), (200, 0));
    assert_eq!(name(&site, &victim).await, None);
}

#[tokio::test]
async fn an_edited_state_is_not_recognised() {
    // BCP-2.1-02
    let site = Site::start().await;
    let browser = Browser::new();
    let callback = granted(&site, &browser).await;
    let state = parameter(&callback, "state");
    let cookies = browser.cookies();
    let edits = [
        format!("{state}x"),
        state[1..].to_owned(),
        format!("{}{}", if state.starts_with('A') { "B" } else { "A" }, &state[1..]),
        state.to_ascii_uppercase(),
        format!("{state} "),
        "%00".to_owned(),
    ];
    for edit in edits {
        let page = finish(&browser, &with(&callback, "state", Some(&edit))).await;
        assert_eq!((page.status, page.set_cookies().len()), (200, 0), "{edit:?}");
    }
    let twice: Url = format!("{callback}&state={state}").parse().unwrap();
    for unreadable in [with(&callback, "state", None), with(&callback, "state", Some("")), twice] {
        let page = finish(&browser, &unreadable).await;
        assert_eq!((page.status, page.set_cookies().len()), (400, 0), "{unreadable}");
    }
    assert!(browser.cookies() == cookies);
    assert_eq!(site.issuer.token_calls(), 0);
    assert_eq!(finish(&browser, &callback).await.header("location"), Some("/"), "the right one still works");
}

#[tokio::test]
async fn an_answer_of_another_issuer_redeems_nothing() {
    // ISS-2.4-01, ISS-2.4-03
    let site = Site::start().await;
    let issuer = site.issuer.url().to_owned();
    let near = [
        Some(format!("{issuer}/")),
        Some(issuer.replace("http:", "https:")),
        Some(issuer.replace("http:", "HTTP:")),
        Some(format!("{issuer}x")),
        Some(issuer.replace("127", "%3127")),
        Some(issuer.replace("127.0.0.1", "localhost")),
        Some(String::new()),
        None,
    ];
    for iss in near {
        let browser = Browser::new();
        let callback = with(&granted(&site, &browser).await, "iss", iss.as_deref());
        let page = finish(&browser, &callback).await;
        assert!(page.status >= 400, "{iss:?}: {}", page.status);
        assert_eq!(name(&site, &browser).await, None);
    }
    let browser = Browser::new();
    let callback = granted(&site, &browser).await;
    let twice: Url = format!("{callback}&iss=https%3A%2F%2Fevil.example").parse().unwrap();
    assert!(finish(&browser, &twice).await.status >= 400);
    assert_eq!(site.issuer.token_calls(), 0);
}

#[tokio::test]
async fn an_error_of_another_issuer_is_not_told_as_our_issuers() {
    // ISS-2.4-02
    let site = Site::start().await;
    for (iss, believed) in [(Some("https://evil.example"), false), (None, false), (Some(site.issuer.url()), true)] {
        let browser = Browser::new();
        let callback = with(&granted(&site, &browser).await, "code", None);
        let page = finish(&browser, &with(&with(&callback, "error", Some("access_denied")), "iss", iss)).await;
        assert!(page.status >= 400);
        assert_eq!(page.text().contains("access_denied"), believed, "{iss:?}: {}", page.text());
    }
    assert_eq!(site.issuer.token_calls(), 0);
}

#[tokio::test]
async fn an_error_without_its_transaction_is_neither_believed_nor_shown() {
    // BCP-2.1-02, ISS-2.4-02
    let site = Site::start().await;
    let browser = site.signed_in().await;
    let url = site.at("/bff/callback?error=%3Cscript%3E&error_description=call+555&state=x0");
    let page = browser.navigate(&url).started_by(Initiator::CrossSite).await;
    assert_eq!((page.status, page.set_cookies().len()), (200, 0));
    assert!(!page.text().contains("script") && !page.text().contains("555"), "{}", page.text());
    assert_eq!(site.call(&browser).await.status, 200);
}

#[tokio::test]
async fn no_return_path_leads_to_another_site() {
    // BCP-2.1-01, FAPI-5.3.3.1-04, ASVS-3.7.2
    let site = Site::start().await;
    let own: Url = site.url.parse().unwrap();
    let vectors = [
        "//e.test",
        "/\\e.test",
        "/%5Ce.test",
        "\\\\e.test",
        "/%09/e.test",
        "/\t/e.test",
        "/\r\n/e.test",
        "https:e.test",
        "javascript:alert(1)",
        "data:text/html,x",
        "http://app@e.test",
        "app.test.e.test",
        "///e.test",
        "/%0d%0aLocation:x",
        "\u{ff0f}\u{ff0f}e.test",
        "/\u{ff0f}e.test",
        "/..//e.test",
        "/.//e.test",
        "/a/..//e.test",
        "/%2e%2e//e.test",
        "/@e.test",
        "/%2F%2Fe.test",
        "//localhost@e.test/",
        "https://e.test/",
        "\u{0}//e.test",
        "",
        "?//e.test",
        "/bff/login?return_to=//e.test",
    ];
    for vector in vectors {
        let browser = Browser::new();
        let mut start: Url = site.at("/bff/login").parse().unwrap();
        start.query_pairs_mut().append_pair("return_to", vector);
        let away = browser.navigate(start.as_str()).await;
        assert_eq!(away.status, 303, "{vector:?}: {}", away.text());
        let back = browser.navigate(away.location().unwrap().as_str()).await;
        let landing = finish(&browser, &back.location().unwrap()).await;
        assert_eq!(landing.status, 303, "{vector:?}: {}", landing.text());
        let location = landing.header("location").unwrap();
        // As the WHATWG rules resolve it, at the callback's address.
        let resolved = landing.url.join(location).unwrap();
        assert_eq!(resolved.origin(), own.origin(), "{vector:?} became {location:?}");
        assert_eq!((resolved.username(), resolved.password()), ("", None), "{vector:?} became {location:?}");
    }
    // A foreign Host changes nothing about where people are sent.
    let page = super::send(&site, "GET /bff/login?return_to=//e.test", &["X-Forwarded-Host: e.test"]).await;
    assert!(page.header("location").unwrap().starts_with(site.issuer.url()));
    let out = Browser::new()
        .submit(&site.at("/bff/logout?return_to=//e.test"), &[("post_logout_redirect_uri", "https://e.test")])
        .await;
    assert_eq!(out.header("location"), Some(site.at("/").as_str()));
}
