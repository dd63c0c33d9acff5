//! Cookies that are not what they were when they left.

use serde_json::json;

use super::{call_with, cookies_of, finish, granted};
use crate::issuer::Document;
use crate::support::browser::Browser;
use crate::support::raw::Answer;
use crate::support::site::{Plan, Site, TOKEN_SECONDS};

const HERE: &str = "localhost";
const SESSION: &str = "vestibule";

fn value(browser: &Browser, name: &str) -> String {
    browser.cookies().value(HERE, name).unwrap().to_owned()
}

/// No session, and the API has not heard of it.
fn refused(site: &Site, answer: &Answer, what: &str) {
    assert_eq!((answer.status, site.api.calls()), (401, 0), "{what}");
}

/// The names of the cookies that an answer deletes; it sets none.
fn retired(answer: &Answer) -> Vec<String> {
    let names = answer.headers("set-cookie").map(|line| {
        assert!(line.contains("=; ") && line.contains("; Max-Age=0;"), "{line}");
        line.split('=').next().unwrap().to_owned()
    });
    names.collect()
}

/// A site whose sessions take three cookies, and a browser with one.
async fn chunked() -> (Site, Browser) {
    let site = Site::planned(Plan { session: "max_cookie_bytes = 16384".to_owned(), ..Plan::default() }).await;
    site.issuer.script().edit(Document::IdToken, |claims| {
        claims.insert("filler".to_owned(), json!("x".repeat(4200)));
    });
    let browser = site.signed_in().await;
    let cookies = browser.cookies();
    let session: Vec<_> = cookies.names(HERE).into_iter().filter(|name| !name.contains("-login-")).collect();
    assert_eq!(session, ["vestibule", "vestibule-1", "vestibule-2"]);
    (site, browser)
}

/// A `Cookie` header of pieces.
fn header(chunks: &[(usize, &str)]) -> String {
    let name = |index: usize| if index == 0 { SESSION.to_owned() } else { format!("{SESSION}-{index}") };
    chunks.iter().map(|(index, value)| format!("{}={value}", name(*index))).collect::<Vec<_>>().join("; ")
}

fn chunks_of(browser: &Browser) -> [String; 3] {
    [value(browser, SESSION), value(browser, "vestibule-1"), value(browser, "vestibule-2")]
}

#[tokio::test]
async fn a_cookie_is_good_for_its_own_purpose_only() {
    // CRY-05, CRY-10, OWS-14
    let site = Site::start().await;
    let browser = Browser::new();
    let callback = granted(&site, &browser).await;
    let login_name = browser.cookies().names(HERE)[0].to_owned();
    let login = value(&browser, &login_name);
    let answer = call_with(&site, &format!("{SESSION}={login}")).await;
    refused(&site, &answer, "a login cookie as a session");
    assert_eq!(retired(&answer), [SESSION]);

    let session = value(&site.signed_in().await, SESSION);
    let calls = site.issuer.token_calls();
    for foreign in [session, login.chars().rev().collect()] {
        let mut jar = browser.cookies();
        jar.put(HERE, &login_name, &foreign);
        let other = Browser::new();
        other.restore(jar);
        let page = finish(&other, &callback).await;
        assert_eq!((page.status, page.set_cookies().len()), (200, 0));
    }
    assert_eq!(site.issuer.token_calls(), calls);
    assert_eq!(finish(&browser, &callback).await.status, 303, "the login itself is unharmed");
}

#[tokio::test]
async fn a_login_cookie_of_another_login_does_not_open_this_one() {
    // CRY-05
    let site = Site::start().await;
    let browser = Browser::new();
    let callback = granted(&site, &browser).await;
    let own = browser.cookies().names(HERE)[0].to_owned();
    granted(&site, &browser).await;
    let other = browser.cookies().names(HERE).into_iter().find(|name| *name != own).unwrap().to_owned();
    let mut jar = browser.cookies();
    jar.put(HERE, &own, &value(&browser, &other));
    browser.restore(jar);
    assert_eq!(finish(&browser, &callback).await.status, 200);
    assert_eq!(site.issuer.token_calls(), 0);
}

#[tokio::test]
async fn a_session_of_another_site_is_refused_and_left_alone() {
    // CRY-05, OWS-14: another key ring may be the newer one, so nothing of it is deleted.
    let (site, other) = (Site::start().await, Site::start().await);
    let foreign = cookies_of(&other.signed_in().await);
    let answer = call_with(&site, &foreign).await;
    refused(&site, &answer, "another site's session");
    assert_eq!(retired(&answer), Vec::<String>::new());
}

#[tokio::test]
async fn a_session_changed_at_any_place_is_none() {
    // CRY-05, OWS-14
    /// The text of the version and the key's id: with another of these it is somebody else's envelope.
    const ENVELOPE_HEAD: usize = 16;
    let site = Site::start().await;
    let good = value(&site.signed_in().await, SESSION);
    let places = (0..ENVELOPE_HEAD).chain((ENVELOPE_HEAD..good.len()).step_by(29)).chain([good.len() - 2]);
    for place in places {
        let mut bytes = good.clone().into_bytes();
        bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
        let answer = call_with(&site, &format!("{SESSION}={}", String::from_utf8(bytes).unwrap())).await;
        refused(&site, &answer, &format!("changed at {place}"));
        if place >= ENVELOPE_HEAD {
            assert_eq!(retired(&answer), [SESSION], "changed at {place}");
        }
    }
    assert_eq!(call_with(&site, &format!("{SESSION}={good}")).await.status, 200);
}

#[tokio::test]
async fn garbage_is_no_session_and_is_retired() {
    // OWS-14, CK-12
    let site = Site::start().await;
    let good = value(&site.signed_in().await, SESSION);
    let noise = "AAAA".repeat(1000);
    let mut garbage =
        vec![String::new(), "A".to_owned(), "=".to_owned(), noise, "%41%42".to_owned(), "é\u{ff}".to_owned()];
    garbage.extend(
        ["null", "{}", "\"\"", "0.", "1.", "2.", "9.x", "5.AAAA", "eyJhbGciOiJub25lIn0.e30."].map(str::to_owned),
    );
    garbage.extend([
        format!("\"{good}\""),
        format!("{good}="),
        format!("{good}A"),
        format!("1.{good}"),
        format!("2.{good}"),
    ]);
    garbage.extend((1..good.len()).step_by(97).map(|length| good[..length].to_owned()));
    for value in garbage {
        let answer = call_with(&site, &format!("{SESSION}={value}")).await;
        refused(&site, &answer, &value);
        // A piece that is cut within the head of the envelope cannot be told from anything.
        assert_eq!(retired(&answer), [SESSION], "{value}");
    }
}

#[tokio::test]
async fn a_missing_chunk_is_no_session_and_the_others_are_retired() {
    // CK-04, CRY-06
    let (site, browser) = chunked().await;
    let [one, two, three] = chunks_of(&browser);
    let sets: [&[(usize, &str)]; 5] = [
        &[(1, &two), (2, &three)],
        &[(0, &one), (2, &three)],
        &[(0, &one), (1, &two)],
        &[(0, &one)],
        &[(0, &one), (1, &three), (2, &two)],
    ];
    for set in sets {
        let answer = call_with(&site, &header(set)).await;
        refused(&site, &answer, &format!("{:?}", set.iter().map(|it| it.0).collect::<Vec<_>>()));
        let retired = retired(&answer);
        for (index, _) in set {
            assert!(
                retired.contains(&header(&[(*index, "")]).trim_end_matches('=').to_owned()),
                "{index}: {retired:?}"
            );
        }
    }
    // The order does not matter, and a leftover beyond the count is not read.
    let whole = header(&[(2, &three), (4, "leftover"), (1, &two), (0, &one)]);
    assert_eq!(call_with(&site, &whole).await.status, 200);
}

#[tokio::test]
async fn chunks_of_two_generations_do_not_mix() {
    // CRY-06, CK-11
    let (site, browser) = chunked().await;
    let old = chunks_of(&browser);
    site.pass(TOKEN_SECONDS);
    assert_eq!(site.call(&browser).await.status, 200);
    let calls = site.api.calls();
    let new = chunks_of(&browser);
    assert!(old.iter().zip(&new).all(|(old, new)| old != new));
    for choice in 1..7_usize {
        let mix: Vec<(usize, &str)> = (0..3)
            .map(|index| (index, if choice >> index & 1 == 1 { new[index].as_str() } else { old[index].as_str() }))
            .collect();
        let answer = call_with(&site, &header(&mix)).await;
        assert_eq!((answer.status, site.api.calls()), (401, calls), "{choice}");
    }
    assert_eq!(site.call(&browser).await.status, 200);
}

#[tokio::test]
async fn duplicates_that_differ_are_no_session_in_either_order() {
    // CK-11
    let (site, browser) = chunked().await;
    let [one, two, three] = chunks_of(&browser);
    let evil = "2.AAAA";
    let sets: [&[(usize, &str)]; 4] = [
        &[(0, evil), (0, &one), (1, &two), (2, &three)],
        &[(0, &one), (0, evil), (1, &two), (2, &three)],
        &[(0, &one), (1, "AAAA"), (1, &two), (2, &three)],
        &[(0, &one), (1, &two), (2, &three), (2, "AAAA")],
    ];
    for set in sets {
        refused(&site, &call_with(&site, &header(set)).await, "a duplicate");
    }
    let whole = header(&[(0, &one), (1, &two), (2, &three)]);
    assert_eq!(call_with(&site, &format!("{whole}; {SESSION}={one}")).await.status, 200, "the same value twice");
    for near in ["Vestibule", "VESTIBULE-1", "vestibule-01", "__Host-vestibule", "vestibule "] {
        for cookies in [format!("{near}=evil; {whole}"), format!("{whole}; {near}=evil")] {
            assert_eq!(call_with(&site, &cookies).await.status, 200, "{near}");
        }
    }
}

#[tokio::test]
async fn a_session_of_any_size_works_and_no_browser_drops_its_cookie() {
    // CK-01
    let site = Site::start().await;
    site.issuer.script().edit(Document::IdToken, |claims| {
        claims.remove("at_hash");
    });
    let mut in_ledger = 0;
    let sizes = [500, 1500, 2500, 3000, 3500, 4000, 4300, 4600, 5000, 6000, 10_000, 20_000, 40_000];
    for size in sizes {
        site.issuer.script().edit(Document::TokenResponse, move |answer| {
            answer.insert("access_token".to_owned(), json!("t".repeat(size)));
        });
        let browser = Browser::new();
        let page = finish(&browser, &granted(&site, &browser).await).await;
        for line in page.set_cookies() {
            assert!(line.len() <= 4096, "{size}: a browser would drop {} bytes", line.len());
        }
        assert_eq!(page.status, 303, "{size}");
        let total: usize = page.set_cookies().iter().map(|line| line.len()).sum();
        assert!(total < 8192, "{size}: {total} bytes of cookies");
        in_ledger += usize::from(total < size);
        assert_eq!(browser.fetch(http::Method::GET, &site.at("/bff/user")).await.status, 200, "{size}");
        site.call(&browser).await;
        assert_eq!(site.api.requests().last().unwrap().bearer().map(str::len), Some(size));
    }
    assert!(in_ledger > 3 && in_ledger < sizes.len() - 3, "{in_ledger}");
}
