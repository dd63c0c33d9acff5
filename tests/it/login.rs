//! Signing in, as a browser sees it.

use std::net::TcpListener;
use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use http::Method;
use vestibule::clock::SystemClock;

use crate::issuer::act::{Act, Hold};
use crate::issuer::{Endpoint, Login, User};
use crate::support::browser::{Browser, Initiator};
use crate::support::site::{Ground, Plan, Site, Texts};
use crate::support::{beside, plain_client};

#[tokio::test]
async fn a_person_signs_in_and_scripts_see_who_it_is_and_no_token() {
    // BBA-6.1-03, BBA-6.1-04, BBA-6.1-05, BBA-6.1-07
    let site = Site::start().await;
    let browser = Browser::new();
    let before = browser.fetch(Method::GET, &site.at("/bff/user")).await;
    assert_eq!((before.status, before.header("location")), (401, None));
    assert_eq!(before.header("content-type"), Some("application/problem+json"));
    assert_eq!(before.json()["login"], "/bff/login");
    let anonymous = browser.fetch(Method::GET, &site.at("/bff/user?anonymous=200")).await;
    assert_eq!((anonymous.status, anonymous.text().as_str()), (200, "null"));

    // Nor does it matter what asks: a health check, a command line.
    let bare = plain_client().get(site.at("/bff/user?anonymous=200")).send().await.unwrap();
    assert_eq!((bare.status().as_u16(), bare.text().await.unwrap().as_str()), (200, "null"));
    assert_eq!(plain_client().get(site.at("/bff/user")).send().await.unwrap().status(), 401);

    let landing = browser.follow(&site.at("/bff/login?return_to=/orders%3Fid%3D1%23top")).await;
    assert_eq!(landing.url.as_str(), site.at("/orders?id=1#top"));

    let user = browser.fetch(Method::GET, &site.at("/bff/user")).await;
    assert_eq!(user.json()["claims"]["name"], "Ada Lovelace");
    assert_eq!(user.header("cache-control"), Some("no-store"));
    let session = browser.fetch(Method::GET, &site.at("/bff/session")).await.json();
    assert_eq!((&session["generation"], &session["ends_in"]), (&1.into(), &43_200.into()));
    let called = site.call(&browser).await;
    assert_eq!(called.status, 200, "{}", called.text());
    for canary in site.issuer.canaries() {
        // A code travels through the address bar once and is spent then.
        if !canary.starts_with("code") {
            assert_eq!(browser.received_contains(&canary), None, "{canary}");
        }
    }
    site.stop().await;
}

#[tokio::test]
async fn cookies_have_the_attributes_that_keep_them_safe() {
    // BBA-6.1-17..22, CK-07..09 (over plain http on this machine: no prefix, no Secure)
    let site = Site::start().await;
    let browser = Browser::new();
    let away = browser.navigate(&site.at("/bff/login")).await;
    let [login] = away.set_cookies()[..] else { panic!("{:?}", away.set_cookies()) };
    assert!(login.starts_with("vestibule-login-"), "{login}");
    assert!(login.ends_with("; HttpOnly; SameSite=Lax; Path=/; Max-Age=900"), "{login}");
    let back = browser.navigate(away.location().unwrap().as_str()).await;
    let home = browser.navigate(back.location().unwrap().as_str()).started_by(Initiator::CrossSite).await;
    let lines = home.set_cookies();
    let [session, landed, retired] = lines[..] else { panic!("{lines:?}") };
    assert!(landed.starts_with("vestibule-login-") && landed.contains("; HttpOnly; SameSite=Lax"), "{landed}");
    assert!(session.starts_with("vestibule="), "{session}");
    assert!(session.ends_with("; HttpOnly; SameSite=Strict; Path=/; Max-Age=43200"), "{session}");
    assert!(retired.contains("=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0;"), "{retired}");
    assert_eq!(home.header("location"), Some("/"));
}

#[tokio::test]
async fn several_tabs_may_sign_in_at_once_and_abandoned_logins_do_not_pile_up() {
    // BCP-2.1-06, CK-03
    let site = Site::start().await;
    let browser = Browser::new();
    let mut tabs = Vec::new();
    for tab in 0..3 {
        let away = browser.navigate(&site.at(&format!("/bff/login?return_to=/tab{tab}"))).await;
        let back = browser.navigate(away.location().unwrap().as_str()).await;
        tabs.push((tab, back.location().unwrap()));
    }
    for (tab, callback) in tabs.into_iter().rev() {
        let page = browser.navigate(callback.as_str()).started_by(Initiator::CrossSite).await;
        assert_eq!(page.header("location"), Some(format!("/tab{tab}").as_str()));
    }
    for _ in 0..20 {
        browser.navigate(&site.at("/bff/login")).await;
    }
    let pending = browser.cookies().names("localhost").iter().filter(|name| name.contains("-login-")).count();
    assert_eq!(pending, 5);
}

#[tokio::test]
async fn a_used_callback_leads_into_the_app_and_redeems_nothing() {
    // BCP-2.1-04, BCP-4.5-02
    let site = Site::start().await;
    let browser = Browser::new();
    let away = browser.navigate(&site.at("/bff/login")).await;
    let back = browser.navigate(away.location().unwrap().as_str()).await;
    let callback = back.location().unwrap();
    browser.navigate(callback.as_str()).started_by(Initiator::CrossSite).await;
    let calls = site.issuer.token_calls();
    // The back button: the same address again, and the transaction's cookie is gone.
    let again = browser.navigate(callback.as_str()).started_by(Initiator::CrossSite).await;
    assert_eq!((again.status, again.set_cookies().len()), (200, 0));
    assert!(again.text().contains("url=/bff/callback?resume=0"), "{}", again.text());
    let resumed = browser.navigate(&site.at("/bff/callback?resume=0")).started_by(Initiator::SameOrigin).follow().await;
    assert_eq!(resumed.url.path(), "/");
    assert_eq!(site.issuer.token_calls(), calls);
    assert_eq!(site.call(&browser).await.status, 200);
}

#[tokio::test]
async fn a_callback_whose_answer_was_lost_gets_the_same_result_when_it_is_loaded_again() {
    let site = Site::start().await;
    let browser = Browser::new();
    let away = browser.navigate(&site.at("/bff/login")).await;
    let back = browser.navigate(away.location().unwrap().as_str()).await;
    let callback = back.location().unwrap();
    let before = browser.cookies();
    let first = browser.navigate(callback.as_str()).started_by(Initiator::CrossSite).await;
    browser.restore(before);
    let second = browser.navigate(callback.as_str()).started_by(Initiator::CrossSite).await;
    assert_eq!((first.status, second.status), (303, 303));
    assert_eq!(site.issuer.token_calls(), 1);
    assert_eq!(site.call(&browser).await.status, 200);
}

#[tokio::test]
async fn two_connections_with_one_callback_redeem_the_code_once() {
    // BCP-4.5-02, FAPI-6.4-01
    let site = Site::start().await;
    let browser = Browser::new();
    let away = browser.navigate(&site.at("/bff/login")).await;
    let back = browser.navigate(away.location().unwrap().as_str()).await;
    let callback = back.location().unwrap();
    let hold = Hold::default();
    site.issuer.script().next(Endpoint::Token, Act::usual().wait_first(&hold));
    let [first, second] = [(); 2].map(|()| {
        let request = browser.navigate(callback.as_str()).started_by(Initiator::CrossSite);
        beside(request)
    });
    hold.arrived().await;
    hold.release();
    assert_eq!([first.await.unwrap().status, second.await.unwrap().status], [303, 303]);
    assert_eq!(site.issuer.token_calls(), 1);
}

#[tokio::test]
async fn a_login_starts_only_when_a_person_goes_to_it() {
    let site = Site::start().await;
    let browser = Browser::new();
    let url = site.at("/bff/login");
    let script = browser.fetch(Method::GET, &url).await;
    let frame = browser.navigate(&url).header("sec-fetch-dest", "iframe").await;
    let prefetch = browser.navigate(&url).header("sec-purpose", "prefetch").await;
    for refused in [script, frame, prefetch] {
        assert_eq!((refused.status, refused.set_cookies().len()), (400, 0));
    }
    assert_eq!(browser.navigate(&url).started_by(Initiator::CrossSite).await.status, 303);
}

#[tokio::test]
async fn a_prefetched_callback_does_not_use_up_the_login() {
    let site = Site::start().await;
    let browser = Browser::new();
    let away = browser.navigate(&site.at("/bff/login")).await;
    let back = browser.navigate(away.location().unwrap().as_str()).await;
    let callback = back.location().unwrap();
    let ahead = browser.navigate(callback.as_str()).header("sec-purpose", "prefetch").await;
    assert_eq!((ahead.status, site.issuer.token_calls()), (400, 0));
    assert_eq!(browser.navigate(callback.as_str()).started_by(Initiator::CrossSite).await.status, 303);
}

#[tokio::test]
async fn an_error_of_the_issuer_ends_on_a_page_and_not_in_a_loop() {
    // O2-4.1.2.1-01, OIDC-3.1.2.6-01, OIDC-3.1.2.1-07
    let site = Site::start().await;
    site.issuer.set_login(Login::Page);
    let browser = Browser::new();
    let page = browser.follow(&site.at("/bff/login?prompt=none")).await;
    assert_eq!((page.status, page.url.path()), (403, "/bff/callback"));
    assert!(page.text().contains("login_required"), "{}", page.text());
    assert!(browser.cookies().names("localhost").is_empty(), "the transaction's cookie is retired");
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
}

#[tokio::test]
async fn an_issuer_that_is_down_at_the_start_is_found_when_it_comes_up() {
    // ASM-C-01
    let site = Site::start().await;
    site.issuer.pause().await;
    let late = Site::planned(Plan::default()).await;
    late.issuer.pause().await;
    let browser = Browser::new();
    let refused = browser.navigate(&late.at("/bff/login")).await;
    if refused.status == 503 {
        assert!(refused.header("retry-after").is_some());
    }
    late.issuer.resume().await.unwrap();
    let deadline = tokio::time::Instant::now() + crate::support::PATIENCE;
    while browser.navigate(&late.at("/bff/login")).await.status != 303 {
        assert!(tokio::time::Instant::now() < deadline, "the issuer was not found again");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn keys_that_change_between_two_logins_are_found() {
    // OIDC-10.1.1-01
    let site = Site::start().await;
    site.signed_in().await;
    // The previous key stays published once, so two rotations take it away.
    site.issuer.rotate_keys().unwrap();
    site.issuer.rotate_keys().unwrap();
    let browser = site.signed_in().await;
    assert_eq!(site.call(&browser).await.status, 200);
}

#[tokio::test]
async fn a_login_under_another_host_name_is_sent_home_first() {
    let site = Site::start().await;
    let browser = Browser::new();
    let elsewhere = format!("http://127.0.0.1:{}/bff/login?return_to=/x", site.address.port());
    let page = browser.navigate(&elsewhere).await;
    assert_eq!(page.header("location"), Some(site.at("/bff/login?return_to=/x&sent_home=1").as_str()));
    assert!(page.set_cookies().is_empty());
}

#[tokio::test]
async fn behind_a_proxy_that_changes_the_host_name_a_login_starts_and_does_not_go_in_circles() {
    let site = Site::start().await;
    let browser = Browser::new();
    let as_it_arrives = |url: &str| url.replace("//localhost:", "//127.0.0.1:");
    let page = browser.navigate(&as_it_arrives(&site.at("/bff/login"))).await;
    let home = page.header("location").unwrap();
    assert!(home.starts_with(&site.at("/bff/login?")), "{home}");
    let page = browser.navigate(&as_it_arrives(home)).await;
    let onward = page.header("location").unwrap();
    assert!(onward.starts_with(site.issuer.url()), "{onward}");
    assert_eq!(page.set_cookies().len(), 1);
}

#[tokio::test]
async fn a_browser_that_does_not_keep_the_session_is_told_so_instead_of_going_in_circles() {
    let plan = Plan {
        more: "[[route]]\npath = \"/app/\"\nupstream = \"{api}\"\nauth = \"page\"".to_owned(),
        ..Plan::default()
    };
    let site = Site::planned(plan).await;
    let browser = Browser::new();
    let lose = || {
        let mut cookies = browser.cookies();
        let session: Vec<String> =
            cookies.names("localhost").iter().filter(|it| !it.contains("-login-")).map(|&it| it.to_owned()).collect();
        assert!(!session.is_empty());
        session.iter().for_each(|name| cookies.remove("localhost", name));
        browser.restore(cookies);
    };
    assert_eq!(browser.follow(&site.at("/app/orders")).await.status, 200);
    lose();
    let page = browser.follow(&site.at("/app/orders")).await;
    assert_eq!(page.status, 400);
    assert!(page.text().contains("does not send your session") && page.text().contains(" bytes"), "{}", page.text());
    // One more round by hand, as the page offers.
    assert!(page.text().contains("/bff/login?return_to=%2F&amp;attempt=1"), "{}", page.text());
    assert_eq!(browser.follow(&site.at("/bff/login?return_to=/app/orders&attempt=1")).await.status, 200);
    // Who has signed out may sign in again, and so may whoever comes later.
    assert_eq!(browser.fetch(Method::POST, &site.at("/bff/logout")).await.status, 200);
    assert_eq!(browser.follow(&site.at("/app/orders")).await.status, 200);
    lose();
    site.pass(31);
    assert_eq!(browser.follow(&site.at("/app/orders")).await.status, 200);
}

#[tokio::test]
async fn clocks_that_differ_are_named() {
    let site = Site::start().await;
    let browser = Browser::new();
    let hold = Hold::default();
    site.issuer.script().next(Endpoint::Token, Act::usual().wait_then(&hold));
    let login = browser.navigate(&site.at("/bff/login")).follow();
    let skewed = async {
        hold.arrived().await;
        site.pass(3 * 24 * 3600);
        hold.release();
    };
    let (page, ()) = tokio::join!(login, skewed);
    assert_eq!(page.status, 502);
    assert!(page.text().contains("clocks of this site and of the sign-in service differ"), "{}", page.text());
}

#[tokio::test]
async fn a_page_route_sends_a_person_to_the_login_and_back() {
    // HDR-02, CK-06
    let plan = Plan {
        more: "[[route]]\npath = \"/app/\"\nupstream = \"{api}\"\nauth = \"page\"".to_owned(),
        ..Plan::default()
    };
    let site = Site::planned(plan).await;
    let browser = Browser::new();
    let page = browser.follow(&site.at("/app/orders?x=1")).await;
    assert_eq!((page.status, page.url.as_str()), (200, site.at("/app/orders?x=1").as_str()));
    // A script of the page is told, never redirected.
    let script = Browser::new().fetch(Method::GET, &site.at("/app/orders")).await;
    assert_eq!((script.status, script.header("location")), (401, None));
    // From another site's link the Lax cookie comes along.
    let link = browser.navigate(&site.at("/app/orders")).started_by(Initiator::CrossSite).await;
    assert_eq!(link.status, 200);
}

#[tokio::test]
async fn with_strict_cookies_a_link_from_another_site_costs_one_bounce_and_no_login() {
    // CK-06
    let plan = Plan {
        session: "same_site = \"strict\"".to_owned(),
        more: "[[route]]\npath = \"/app/\"\nupstream = \"{api}\"\nauth = \"page\"".to_owned(),
        ..Plan::default()
    };
    let site = Site::planned(plan).await;
    let browser = site.signed_in().await;
    let calls = site.issuer.script().calls(Endpoint::Authorize);
    let link = browser.navigate(&site.at("/app/orders?x=1")).started_by(Initiator::CrossSite).await;
    assert_eq!(link.status, 200);
    assert!(link.text().contains("url=/app/orders?x=1"), "{}", link.text());
    let onward = browser.navigate(&site.at("/app/orders?x=1")).started_by(Initiator::SameOrigin).await;
    assert_eq!(onward.status, 200);
    assert_eq!(site.api.calls(), 1);
    assert_eq!(site.issuer.script().calls(Endpoint::Authorize), calls);
}

#[tokio::test]
async fn signing_in_again_ends_the_session_before() {
    // ASVS-7.2.4, STEP-R-02
    let site = Site::start().await;
    let browser = site.signed_in().await;
    let before = browser.cookies();
    site.issuer.set_login(Login::Automatic(User::Grace));
    browser.follow(&site.at("/bff/login?prompt=login")).await;
    let user = browser.fetch(Method::GET, &site.at("/bff/user")).await;
    assert_eq!(user.json()["claims"]["name"], "Grace Hopper");
    let copy = Browser::new();
    copy.restore(before);
    let refused = site.call(&copy).await;
    assert_eq!((refused.status, refused.json()["reason"].as_str()), (401, Some("replaced")));
    assert!(refused.set_cookies().is_empty(), "a late answer must not delete the newer session's cookie");
}

#[tokio::test]
async fn metadata_that_lies_only_where_rfc_8414_says_is_found() {
    // ASM-3-01, ASM-5-01
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = format!("http://{}/tenant", server.local_addr().unwrap());
    let metadata = serde_json::json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/jwks"),
    });
    let document = get(move || async move { Json(metadata) });
    let router = Router::new().route("/.well-known/oauth-authorization-server/tenant", document);
    let serving = beside(axum::serve(server, router));

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://localhost:{}", listener.local_addr().unwrap().port());
    let ground = Ground {
        listener,
        url: &url,
        issuer: &issuer,
        client_id: "client",
        client_secret: "secret",
        api: "http://127.0.0.1:9",
        files: "dist",
        clock: Arc::new(SystemClock::default()),
    };
    let vestibule = ground.build(&Texts::default()).await;
    let away = Browser::new().navigate(&format!("{url}/bff/login")).await;
    assert!(away.location().unwrap().as_str().starts_with(&format!("{issuer}/authorize?")), "{}", away.text());
    drop(vestibule);
    serving.abort();
}

#[tokio::test]
async fn files_for_those_who_are_signed_in_are_kept_from_shared_caches() {
    // CACHE-02
    let plan = Plan {
        more: "[[route]]\npath = \"/inside/\"\nfiles = \"dist\"\nauth = \"page\"".to_owned(),
        ..Plan::default()
    };
    let site = Site::planned(plan).await;
    let page = site.signed_in().await.navigate(&site.at("/inside/")).await;
    assert_eq!(page.status, 200, "{}", page.text());
    assert!(page.header("cache-control").unwrap().contains("private"), "{:?}", page.header("cache-control"));
    let stranger = Browser::new().fetch(Method::GET, &site.at("/inside/")).await;
    assert_eq!(stranger.status, 401);
}
