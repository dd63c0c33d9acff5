//! What is known of products: that it reaches the issuer, that the configuration goes before it, and issuers that are one
//! for each tenant.

use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;

use http::Method;
use serde_json::json;
use tempfile::TempDir;
use url::{Url, form_urlencoded};

use crate::issuer::options::Announce;
use crate::issuer::{Document, Endpoint, Issuer, Options};
use crate::support::browser::{Browser, Initiator, Page};
use crate::support::plain_client;
use crate::support::site::{Plan, Site, TOKEN_SECONDS};

const OURS: &str = "11111111-1111-4111-8111-111111111111";
const THEIRS: &str = "22222222-2222-4222-8222-222222222222";

/// The identifier of one tenant.
fn of(issuer: &Issuer, tenant: &str) -> String {
    format!("{}/{tenant}/v2.0", issuer.url())
}

/// Lets the issuer's tokens be of this tenant.
fn belong_to(issuer: &Issuer, tenant: &'static str) {
    let iss = of(issuer, tenant);
    issuer.script().restore(Document::IdToken);
    issuer.script().edit(Document::IdToken, move |claims| {
        claims.insert("iss".to_owned(), json!(iss));
        claims.insert("tid".to_owned(), json!(tenant));
    });
}

/// An issuer with tenants, as Entra ID is one: asked as `common`, whose metadata names a pattern.
fn plan(client: &str, more: &str) -> Plan {
    Plan {
        issuer_path: "/common/v2.0",
        client: format!("provider = \"entra\"\nbackchannel_url = \"{{issuer}}\"\n{client}"),
        more: more.to_owned(),
        issuer: Options { announce: Announce { issuer_parameter: false, ..Announce::default() }, ..Options::default() },
        before: Some(Box::new(|issuer| {
            let pattern = of(issuer, "{tenantid}");
            issuer.script().edit(Document::Metadata, move |metadata| {
                metadata.insert("issuer".to_owned(), json!(pattern));
            });
            issuer.script().edit(Document::AuthorizationResponse, |answer| drop(answer.remove("iss")));
            belong_to(issuer, OURS);
        })),
        ..Plan::default()
    }
}

async fn login(site: &Site) -> Page {
    Browser::new().follow(&site.at("/bff/login")).await
}

/// Where a login at this site leads to.
async fn asked(site: &Site) -> Url {
    Browser::new().navigate(&site.at("/bff/login")).await.location().unwrap()
}

fn parameter(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(other, _)| other == name).map(|(_, value)| value.into_owned())
}

#[tokio::test]
async fn somebody_of_a_tenant_signs_in_and_stays_one_of_that_tenant() {
    // OIDC-3.1.3.7-02, OIDC-12.2-01
    for client in ["", "tenants = [\"11111111-1111-4111-8111-111111111111\"]"] {
        let site = Site::planned(plan(client, "")).await;
        let browser = site.signed_in().await;
        site.pass(TOKEN_SECONDS + 10);
        assert_eq!(site.call(&browser).await.status, 200);
        // A refresh that speaks of another tenant's person is not one of this session.
        belong_to(&site.issuer, THEIRS);
        site.pass(TOKEN_SECONDS + 10);
        let refused = site.call(&browser).await;
        assert_ne!(refused.status, 200, "{}", refused.text());
        site.stop().await;
    }
}

#[tokio::test]
async fn a_token_that_does_not_prove_its_tenant_signs_nobody_in() {
    // OIDC-3.1.3.7-02
    let site = Site::planned(plan("", "")).await;
    let (ours, common) = (of(&site.issuer, OURS), of(&site.issuer, "common"));
    for (what, iss, tid) in [
        ("another tenant's issuer", ours.clone(), Some(json!(THEIRS))),
        ("no tid", ours.clone(), None),
        ("a tid that is no UUID", of(&site.issuer, "acme"), Some(json!("acme"))),
        ("a tid that is the pattern", of(&site.issuer, "{tenantid}"), Some(json!("{tenantid}"))),
        ("the address that was asked", common, Some(json!(OURS))),
        ("another server", format!("https://evil.test/{OURS}/v2.0"), Some(json!(OURS))),
        ("a slash too many", format!("{ours}/"), Some(json!(OURS))),
    ] {
        site.issuer.script().restore(Document::IdToken);
        site.issuer.script().edit(Document::IdToken, move |claims| {
            claims.insert("iss".to_owned(), json!(iss));
            claims.extend(tid.clone().map(|tid| ("tid".to_owned(), tid)));
        });
        let page = login(&site).await;
        assert_eq!(page.status, 502, "{what}: {}", page.text());
    }
    belong_to(&site.issuer, OURS);
    site.signed_in().await;
    site.stop().await;
}

#[tokio::test]
async fn somebody_of_a_tenant_that_is_not_listed_is_told_that_the_account_may_not_sign_in() {
    let site = Site::planned(plan("tenants = [\"11111111-1111-4111-8111-111111111111\"]", "")).await;
    belong_to(&site.issuer, THEIRS);
    let page = login(&site).await;
    assert_eq!(page.status, 403, "{}", page.text());
    assert!(page.text().contains("This account may not sign in here"), "{}", page.text());
    // Otherwise the issuer takes the same account again.
    assert!(page.text().contains("&amp;prompt=select_account\">Sign in with another account</a>"), "{}", page.text());
    belong_to(&site.issuer, OURS);
    site.signed_in().await;
    site.stop().await;
}

#[tokio::test]
async fn a_key_of_one_tenant_signs_for_no_other() {
    let site = Site::prepared(plan("", ""), async |issuer| {
        let theirs = of(issuer, THEIRS);
        issuer.script().edit(Document::Keys, move |set| {
            for key in set["keys"].as_array_mut().unwrap() {
                key["issuer"] = json!(theirs);
            }
        });
    })
    .await;
    assert_eq!(login(&site).await.status, 502);
    belong_to(&site.issuer, THEIRS);
    site.signed_in().await;
    site.stop().await;
}

#[tokio::test]
async fn without_a_profile_that_knows_of_tenants_issuers_are_compared_letter_by_letter() {
    // ASM-3.3-01, DISC-4.3-01
    let mut plan = plan("", "");
    plan.client = plan.client.replace("entra", "none");
    let site = Site::planned(plan).await;
    assert_eq!(login(&site).await.status, 503);
    assert_eq!(site.issuer.script().calls(Endpoint::Authorize), 0);
    site.stop().await;
}

#[tokio::test]
async fn a_logout_token_ends_sessions_of_its_own_tenant_alone() {
    // BCL-2.6-03
    let site = Site::planned(plan("", "")).await;
    let browser = site.signed_in().await;
    let sid = site.issuer.newest_sid().unwrap();
    let tell = async |iss: String, tid: Option<&str>| {
        let mut claims = site.issuer.logout_claims(Some("ada"), Some(&sid));
        claims.insert("iss".to_owned(), json!(iss));
        claims.extend(tid.map(|tid| ("tid".to_owned(), json!(tid))));
        let token = site.issuer.sign("logout+jwt", &claims).unwrap();
        let form = form_urlencoded::Serializer::new(String::new()).append_pair("logout_token", &token).finish();
        let request = plain_client().post(site.at("/bff/backchannel-logout")).body(form);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.send().await.unwrap().status().as_u16()
    };
    let (ours, theirs) = (of(&site.issuer, OURS), of(&site.issuer, THEIRS));
    for (iss, tid) in [
        (of(&site.issuer, "common"), None),
        (of(&site.issuer, "{tenantid}"), None),
        (site.issuer.url().to_owned(), None),
        (ours.clone(), Some(THEIRS)),
    ] {
        assert_eq!(tell(iss.clone(), tid).await, 400, "{iss}");
    }
    assert_eq!((tell(theirs, None).await, site.call(&browser).await.status), (200, 200));
    assert_eq!((tell(ours, None).await, site.call(&browser).await.status), (200, 401));
    site.stop().await;
}

#[tokio::test]
async fn a_page_of_the_issuer_ends_a_session_of_a_tenant_also_if_it_names_the_session_alone() {
    // FCL-2-04
    for front_channel in ["on", "sid-only"] {
        let site = Site::planned(plan("", &format!("[logout]\nfront_channel = \"{front_channel}\""))).await;
        let browser = site.signed_in().await;
        let sid = site.issuer.newest_sid().unwrap();
        let tell = async |pairs: &[(&str, &str)]| {
            let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
            let request = Browser::new().navigate(&site.at(&format!("/bff/frontchannel-logout?{query}")));
            let frame = request.started_by(Initiator::CrossSite).header("sec-fetch-dest", "iframe");
            assert_eq!(frame.await.status, 200);
            site.call(&browser).await.status
        };
        let (ours, theirs) = (of(&site.issuer, OURS), of(&site.issuer, THEIRS));
        assert_eq!(tell(&[("iss", &theirs), ("sid", &sid)]).await, 200);
        assert_eq!(tell(&[("iss", &of(&site.issuer, "common")), ("sid", &sid)]).await, 200);
        assert_eq!(tell(&[("sid", "another")]).await, 200);
        if front_channel == "on" {
            assert_eq!(tell(&[("sid", &sid)]).await, 200);
            assert_eq!(tell(&[("iss", &ours), ("sid", &sid)]).await, 401);
        } else {
            assert_eq!(tell(&[("sid", &sid)]).await, 401);
        }
        site.stop().await;
    }
}

#[tokio::test]
async fn an_administrator_who_ends_a_subject_ends_it_in_every_tenant() {
    for sessions in [false, true] {
        let more = format!("[admin]\nlisten = \"127.0.0.1:0\"\nsessions = {sessions}");
        let site = Site::planned(plan("", &more)).await;
        let ours = site.signed_in().await;
        belong_to(&site.issuer, THEIRS);
        let theirs = site.signed_in().await;
        let admin = site.admin().unwrap();
        let ended = plain_client().post(format!("http://{admin}/subjects/end?subject=ada")).send().await.unwrap();
        assert_eq!(ended.status(), 200);
        assert_eq!((site.call(&ours).await.status, site.call(&theirs).await.status), (401, 401));
        site.stop().await;
    }
}

#[tokio::test]
async fn what_a_product_needs_reaches_the_issuer() {
    let google = Site::planned(Plan { client: "provider = \"google\"".to_owned(), ..Plan::default() }).await;
    let url = asked(&google).await;
    assert_eq!(parameter(&url, "access_type").as_deref(), Some("offline"));
    assert_eq!(parameter(&url, "prompt").as_deref(), Some("consent"));
    assert!(!parameter(&url, "scope").unwrap().contains("offline_access"), "{url}");
    google.stop().await;

    let okta = Site::planned(Plan { client: "provider = \"okta\"".to_owned(), ..Plan::default() }).await;
    let url = asked(&okta).await;
    assert_eq!(parameter(&url, "prompt"), None);
    assert!(parameter(&url, "scope").unwrap().contains("offline_access"), "{url}");
    okta.stop().await;

    let cognito = Site::planned(Plan { client: "provider = \"cognito\"".to_owned(), ..Plan::default() }).await;
    let browser = cognito.signed_in().await;
    let away = browser.submit(&cognito.at("/bff/logout"), &[]).await.location().unwrap();
    assert!(parameter(&away, "logout_uri").is_some_and(|back| back == cognito.at("/bff/logout/return")), "{away}");
    cognito.stop().await;
}

#[tokio::test]
async fn what_the_file_says_goes_before_what_a_product_needs() {
    let client = "provider = \"google\"\nscopes = [\"openid\", \"offline_access\"]\nconsent = \"never\"\n\
                  extra_params = { access_type = \"online\" }";
    let google = Site::planned(Plan { client: client.to_owned(), ..Plan::default() }).await;
    let url = asked(&google).await;
    let found = ["access_type", "prompt", "scope"].map(|name| parameter(&url, name));
    assert_eq!(found, [Some("online".to_owned()), None, Some("openid offline_access".to_owned())]);
    // A page goes before both.
    let client = "provider = \"google\"".to_owned();
    let silent = Site::planned(Plan { client, ..Plan::default() }).await;
    let away = Browser::new().navigate(&silent.at("/bff/login?prompt=none")).await.location().unwrap();
    assert_eq!(parameter(&away, "prompt").as_deref(), Some("none"));
    google.stop().await;
    silent.stop().await;

    let login_hint = |issuer: &Issuer| {
        issuer.script().edit(Document::IdToken, |claims| drop(claims.insert("login_hint".to_owned(), json!("O.ada"))));
    };
    for (more, expected) in
        [("", Some("O.ada")), ("[logout]\nlogout_hint = \"\"", None), ("[logout]\nlogout_hint = \"sub\"", Some("ada"))]
    {
        let entra = Plan { client: "provider = \"entra\"".to_owned(), more: more.to_owned(), ..Plan::default() };
        let entra = Site::planned(Plan { before: Some(Box::new(login_hint)), ..entra }).await;
        let browser = entra.signed_in().await;
        let away = browser.submit(&entra.at("/bff/logout"), &[]).await.location().unwrap();
        assert_eq!(parameter(&away, "logout_hint").as_deref(), expected, "{more}");
        entra.stop().await;
    }
    let more = "[logout]\nstyle = \"standard\"".to_owned();
    let cognito = Plan { client: "provider = \"cognito\"".to_owned(), more, ..Plan::default() };
    let cognito = Site::planned(cognito).await;
    let away = cognito.signed_in().await.submit(&cognito.at("/bff/logout"), &[]).await.location().unwrap();
    assert!(parameter(&away, "post_logout_redirect_uri").is_some(), "{away}");
    cognito.stop().await;
}

#[tokio::test]
async fn a_product_at_an_address_of_its_own_is_recognised_by_its_metadata() {
    // Whoever lies at such an address without the shape of it is asked as any other.
    for (token, is_asked) in [("/realms/acme/protocol/openid-connect/token", false), ("/realms/acme/token", true)] {
        let plan = Plan {
            issuer_path: "/realms/acme",
            client: "backchannel_url = \"{issuer}\"".to_owned(),
            before: Some(Box::new(move |issuer| {
                let (identifier, token) = (format!("{}/realms/acme", issuer.url()), format!("{}{token}", issuer.url()));
                issuer.script().edit(Document::Metadata, move |metadata| {
                    metadata.insert("issuer".to_owned(), json!(identifier));
                    metadata.insert("token_endpoint".to_owned(), json!(token));
                    metadata.insert("scopes_supported".to_owned(), json!(["openid", "profile", "offline_access"]));
                });
            })),
            ..Plan::default()
        };
        let site = Site::planned(plan).await;
        let scope = parameter(&asked(&site).await, "scope").unwrap();
        assert_eq!(scope.contains("offline_access"), is_asked, "{token}: {scope}");
        site.stop().await;
    }
}

#[tokio::test]
async fn an_issuer_behind_another_address_is_asked_there_and_seen_by_browsers_at_its_own() {
    // The identifier's own host answers nothing to us: only browsers ever go there.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let front = format!("http://localhost:{}", nobody.local_addr().unwrap().port());
    drop(nobody);
    let (clock, listener) = (vestibule::clock::SystemClock::default(), TcpListener::bind("127.0.0.1:0").unwrap());
    let url = format!("http://localhost:{}", listener.local_addr().unwrap().port());
    let redirect_uris = vec![format!("{url}/bff/callback")];
    let issuer = Issuer::start(Options { redirect_uris, ..Options::default() }).await.unwrap();
    let (back, outer) = (issuer.url().to_owned(), front.clone());
    issuer.script().edit(Document::Metadata, move |metadata| {
        for value in metadata.values_mut() {
            if let Some(text) = value.as_str() {
                *value = json!(text.replace(&back, &outer));
            }
        }
    });
    for document in [Document::IdToken, Document::AuthorizationResponse] {
        let outer = front.clone();
        issuer.script().edit(document, move |claims| drop(claims.insert("iss".to_owned(), json!(outer))));
    }
    plain_client();
    let ground = crate::support::site::Ground {
        listener,
        url: &url,
        issuer: &front,
        client_id: "spa-bff",
        client_secret: "canary-s3cret:%+& ü/=",
        api: "http://127.0.0.1:9",
        files: "dist",
        clock: Arc::new(clock),
    };
    let client = format!("backchannel_url = \"{}\"", issuer.url());
    let texts = crate::support::site::Texts { client: &client, ..crate::support::site::Texts::default() };
    let vestibule = ground.build(&texts).await;
    let browser = Browser::new();
    let away = browser.navigate(&format!("{url}/bff/login")).await.location().unwrap();
    assert!(away.as_str().starts_with(&format!("{front}/authorize?")), "{away}");
    // What stands between browsers and the issuer, played by hand.
    let through = away.as_str().replace(&front, issuer.url());
    let back = browser.navigate(&through).started_by(Initiator::CrossSite).await.location().unwrap();
    let page = browser.follow(back.as_str()).await;
    assert_eq!((page.status, page.url.as_str()), (200, format!("{url}/").as_str()), "{}", page.text());
    assert_eq!(issuer.script().calls(Endpoint::Token), 1);
    let user = browser.fetch(Method::GET, &format!("{url}/bff/user")).await;
    assert_eq!(user.status, 200);
    vestibule.stop().await;
}

/// What `vestibule check` says of a file with these lines in `[issuer]` and at the end: its code, and what it prints.
fn check(url: &str, issuer: &str, more: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("client_secret"), "secret").unwrap();
    let random = vestibule::server::random();
    let created = vestibule::clock::Clock::now(&vestibule::clock::SystemClock::default());
    let key = vestibule::session::keyring::KeyRing::generate_text(&*random, created);
    std::fs::write(folder.path().join("session.key"), key).unwrap();
    let text = format!(
        r#"
        [server]
        public_url = "https://app.example.com"
        [issuer]
        url = "{url}"
        client_id = "spa-bff"
        client_secret = {{ file = "client_secret" }}
        {issuer}
        [session]
        keys = [{{ file = "session.key" }}]
        [ledger]
        backend = "memory"
        [[route]]
        path = "/"
        upstream = "http://127.0.0.1:9000"
        auth = "api"
        {more}
        "#
    );
    std::fs::write(folder.path().join("vestibule.toml"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_vestibule"));
    let ran = command.arg("check").args(arguments).current_dir(folder.path()).env_remove("VESTIBULE_CONFIG").output();
    let ran = ran.unwrap();
    let said = String::from_utf8([ran.stdout, ran.stderr].concat()).unwrap();
    let about = ["issuer", "provider", "           ", "warning", "vestibule", "  because"];
    let lines = said.lines().filter(|line| about.iter().any(|start| line.starts_with(start)));
    let lines: Vec<_> = lines.filter(|line| !line.contains("ledger.backend")).collect();
    (ran.status.code(), lines.join("\n"))
}

#[test]
fn check_says_what_a_profile_sets_and_what_does_not_go_well_with_the_product() {
    let said = |url: &str, issuer: &str, more: &str| check(url, issuer, more, &[]).1;
    insta::assert_snapshot!(said("https://login.microsoftonline.com/organizations/v2.0", "", "[logout]\nfront_channel = \"on\""), @r#"
    issuer     https://login.microsoftonline.com/organizations/v2.0
    provider   Microsoft Entra ID (entra), by issuer.url
               issuer.offline_access = "always", from its profile
               issuer.consent = "never", from its profile
               logout.logout_hint = "login_hint", from its profile
               of its refresh tokens a used one stays good, as the product comes
    warning: issuer.tenants: with "organizations" in issuer.url people of any tenant of Microsoft Entra ID may sign in; list the ids of the tenants that may, or name the one tenant in issuer.url
    warning: issuer.scopes: no scope of an API is among them, so the access token is for Microsoft Graph and no API of yours can check it; add one of your API, such as "api://<application id>/<scope>"
    warning: logout.front_channel: "on" waits for iss, which Entra ID does not send, so it ends nothing; write "sid-only"
    "#);
    insta::assert_snapshot!(said("https://accounts.google.com", "scopes = [\"openid\", \"offline_access\"]\nextra_params = { access_type = \"online\" }", ""), @r#"
    issuer     https://accounts.google.com
    provider   Google (google), by issuer.url
               issuer.consent = "always", from its profile
               of its refresh tokens a used one stays good, as the product comes
               it has no logout: after a sign-out its own session goes on, and the next login may ask nobody
    warning: issuer.scopes: "offline_access" is asked for: Google refuses it as a scope; access_type = "offline" is its word for it; take it out of the list
    "#);
    insta::assert_snapshot!(said("https://acme.auth0.com", "", "[logout]\nstyle = \"standard\""), @r#"
    issuer     https://acme.auth0.com
    provider   Auth0 (auth0), by issuer.url
               issuer.offline_access = "always", from its profile
               issuer.consent = "never", from its profile
               of its refresh tokens a used one is refused at once; up to 60 s can be set there
    warning: issuer.url: has no slash at its end, and the issuers of Auth0 have one; write "https://acme.auth0.com/"
    warning: issuer.audience: is missing, and without it Auth0 issues an access token that no API of yours can check; write the identifier of your API at Auth0
    "#);
    insta::assert_snapshot!(said("https://sso.example.com/realms/acme", "provider = \"none\"", ""), @r#"
    issuer     https://sso.example.com/realms/acme
    provider   none that is known, as issuer.provider says
    "#);
    insta::assert_snapshot!(said("https://login.example.com", "", ""), @r#"
    issuer     https://login.example.com
    provider   none that is known, by issuer.url; its metadata may tell
    "#);
    // Only the metadata can tell of these: the addresses may be anybody's.
    for url in ["https://id.example.com/oidc", "https://id.example.com/am/oauth2/realms/root/realms/alpha"] {
        let expected = format!("issuer     {url}\nprovider   none that is known, by issuer.url; its metadata may tell");
        assert_eq!(said(url, "", "[logout]\norder = \"before\""), expected);
    }
    insta::assert_snapshot!(said("https://login.example.com", "provider = \"zitadel\"", ""), @r#"
    issuer     https://login.example.com
    provider   Zitadel (zitadel), as issuer.provider says
               issuer.offline_access = "always", from its profile
               issuer.consent = "never", from its profile
               of its refresh tokens a used one is refused at once
    "#);
}

#[test]
fn a_provider_or_a_tenant_that_cannot_be_meant_is_refused() {
    let said = |url: &str, issuer: &str| {
        let (code, said) = check(url, issuer, "", &[]);
        assert_eq!(code, Some(64));
        said
    };
    insta::assert_snapshot!(said("https://login.example.com", "provider = \"entraid\"\noffline_access = \"yes\"\nconsent = \"no\"\nbackchannel_url = \"http://keycloak:8080\""), @r#"
    vestibule: vestibule.toml cannot be used:
    issuer.provider: "entraid" is not known; write "auto" or "none" or "keycloak" or "auth0" or "entra" or "okta" or "google" or "cognito" or "zitadel" or "authentik" or "hydra" or "logto" or "curity" or "pingone" or "pingfederate"
    issuer.offline_access: "yes" is not known; write "auto" or "always" or "never"
    issuer.consent: "no" is not known; write "auto" or "offline" or "always" or "never"
    issuer.backchannel_url: "http://keycloak:8080" is plain http, and not on this machine; write an https URL, or set insecure.plain_http_issuer
    "#);
    insta::assert_snapshot!(said("https://login.microsoftonline.com/common/v2.0", "tenants = [\"acme.example\"]"), @r#"
    vestibule: vestibule.toml cannot be used:
    issuer.tenants: "acme.example" is not a UUID; write the tenant's id, such as "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
    "#);
    insta::assert_snapshot!(said("https://login.microsoftonline.com/{tenantid}/v2.0", ""), @r#"
    vestibule: vestibule.toml cannot be used:
    issuer.url: "https://login.microsoftonline.com/{tenantid}/v2.0" holds a place that is to be filled in; write what belongs in its place, such as the tenant's id
    "#);
    insta::assert_snapshot!(said("https://login.microsoftonline.com/11111111-1111-4111-8111-111111111111/v2.0", "tenants = [\"11111111-1111-4111-8111-111111111111\"]"), @r#"
    vestibule: vestibule.toml cannot be used:
    issuer.tenants: issuer.url leaves no tenant open, so this list holds nobody off; take it out, or write for example "https://login.microsoftonline.com/organizations/v2.0" there
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_asks_the_issuer_where_it_is_told_to() {
    let announce = Announce { end_session: false, revocation: false, ..Announce::default() };
    let issuer = Issuer::start(Options { announce, ..Options::default() }).await.unwrap();
    let said = |issuer: &Issuer| {
        let (code, said) = check(issuer.url(), "", "", &["--online"]);
        (code, said.replace(issuer.url(), "http://issuer"))
    };
    let (code, found) = said(&issuer);
    assert_eq!(code, Some(0));
    insta::assert_snapshot!(found, @r#"
    issuer     http://issuer
    provider   none that is known, by its metadata
    warning: logout.revoke: the issuer's metadata lists no revocation_endpoint: after a sign-out the tokens of a session live there until they expire; let them be short-lived there, or write false to say that this is known
    warning: logout.style: the issuer's metadata lists no end_session_endpoint: after a sign-out its own session goes on, and the next login may ask nobody; turn RP-initiated logout on there if it has it, or name the style that it understands
    "#);
    let slash = format!("{}/", issuer.url());
    issuer.script().edit(Document::Metadata, move |metadata| drop(metadata.insert("issuer".to_owned(), json!(slash))));
    let (code, found) = said(&issuer);
    assert_eq!(code, Some(1));
    insta::assert_snapshot!(found, @r#"
    vestibule: issuer.url: the issuer's metadata cannot be used
      because: the authorization server misbehaves: metadata: issuer is not, letter by letter, the issuer that was asked: it is "http://issuer/" and issuer.url is "http://issuer", which differ by the slash at the end: write issuer.url as the metadata has it
    "#);
}
