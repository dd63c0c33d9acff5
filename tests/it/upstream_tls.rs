//! Upstreams that ask for a certificate, and tokens that are good only with the one that they were got with.

use std::time::Duration;

use http::Method;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::issuer::options::Announce;
use crate::issuer::{CERTIFICATE, Document, Endpoint, Options, Proof};
use crate::support::PATIENCE;
use crate::support::authority::{Authority, Issued, der};
use crate::support::browser::Browser;
use crate::support::gate::{Admits, Gate};
use crate::support::log::Log;
use crate::support::site::{Plan, Site, TOKEN_SECONDS};

/// A site whose issuer and API both stand behind gates.
struct Bound {
    site: Site,
    issuer_gate: Gate,
    api_gate: Gate,
}

const OTHER: &str = "{ certificate = \"other.pem\", key = { file = \"other.key\" } }";

impl Bound {
    /// `routes` are those to the API's gate: path, and what is shown there, if anything.
    async fn start(authority: &Authority, client: &Issued, other: &Issued, routes: &[(&str, Option<&str>)]) -> Self {
        let issuer_gate = Gate::open(authority, Admits::Known).await;
        let api_gate = Gate::open(authority, Admits::Anybody).await;
        let routes = routes.iter().map(|(path, shown)| {
            let shown = shown.map(|shown| format!("mtls = {shown}\n")).unwrap_or_default();
            let url = api_gate.url();
            format!("[[route]]\npath = \"{path}\"\nupstream = \"{url}\"\nauth = \"api\"\nca_file = \"ca.pem\"\n{shown}")
        });
        let beside = [
            ("client.pem", &client.certificate),
            ("client.key", &client.key),
            ("other.pem", &other.certificate),
            ("other.key", &other.key),
            ("ca.pem", &authority.certificate),
        ];
        let plan = Plan {
            issuer: Options {
                proof: Proof::Certificate,
                announce: Announce { bound_tokens: true, ..Announce::default() },
                ..Options::default()
            },
            credentials: "client_auth = \"tls_client_auth\"\n\
                          mtls = { certificate = \"client.pem\", key = { file = \"client.key\" } }\n\
                          ca_file = \"ca.pem\""
                .to_owned(),
            beside: beside.map(|(name, text)| (name.to_owned(), text.clone())).into(),
            more: routes.collect(),
            ..Plan::default()
        };
        let base = issuer_gate.url();
        let site = Site::prepared(plan, async |issuer| {
            issuer_gate.lead_to(issuer.url());
            issuer.script().edit(Document::Metadata, move |metadata| {
                let aliases = json!({ "token_endpoint": format!("{base}/token") });
                metadata.insert("mtls_endpoint_aliases".to_owned(), aliases);
            });
        })
        .await;
        api_gate.lead_to(&site.api.url());
        Self { site, issuer_gate, api_gate }
    }

    async fn get(&self, browser: &Browser, path: &str) -> u16 {
        browser.fetch(Method::GET, &self.site.at(path)).await.status
    }

    /// Which certificate the API was shown with its last request.
    fn last_shown(&self) -> Vec<String> {
        self.site.api.requests().pop().unwrap().values(CERTIFICATE)
    }

    /// What the last request's token is bound to.
    fn last_bound(&self) -> Option<String> {
        let request = self.site.api.requests().pop().unwrap();
        self.site.issuer.introspection().bound_to(request.bearer().unwrap())
    }

    /// Puts files in the place of others.
    fn put(&self, files: &[(&str, &str)]) {
        for (name, text) in files {
            std::fs::write(self.site.vestibule.folder().join(name), text).unwrap();
        }
    }

    /// Calls until the API is shown this.
    async fn until_shown(&self, browser: &Browser, path: &str, thumbprint: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert_eq!(self.get(browser, path).await, 200);
            if self.last_shown() == [thumbprint] {
                return;
            }
            assert!(Instant::now() < deadline, "the renewed certificate is not shown");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn a_token_is_good_at_the_api_only_with_the_certificate_that_it_was_got_with() {
    // MTLS-3-01, BCP-4.10-01, BBA-6.1-34
    let authority = Authority::new();
    let (client, other) = (authority.issue("spa-bff"), authority.issue("another"));
    let routes = [("/bound/", Some("\"issuer\"")), ("/other/", Some(OTHER)), ("/bare/", None)];
    let bound = Bound::start(&authority, &client, &other, &routes).await;
    let browser = bound.site.signed_in().await;

    assert_eq!(bound.get(&browser, "/bound/orders").await, 200);
    assert_eq!(bound.last_bound(), Some(client.thumbprint()));
    assert_eq!(bound.last_shown(), [client.thumbprint()]);
    // The same token, with another certificate and with none.
    assert_eq!(bound.get(&browser, "/other/orders").await, 401);
    assert_eq!(bound.last_shown(), [other.thumbprint()]);
    assert_eq!(bound.get(&browser, "/bare/orders").await, 401);
    assert_eq!(bound.last_shown(), Vec::<String>::new());

    // Also once it has been refreshed.
    bound.site.pass(TOKEN_SECONDS + 10);
    assert_eq!(bound.get(&browser, "/bound/orders").await, 200);
    assert_eq!(bound.last_bound(), Some(client.thumbprint()));
    assert_eq!(bound.issuer_gate.shown(), vec![Some(der(&client.certificate)); 2], "the code and the refresh");
}

#[tokio::test]
async fn a_browser_cannot_claim_a_certificate() {
    // MTLS-R-02
    let authority = Authority::new();
    let (client, other) = (authority.issue("spa-bff"), authority.issue("another"));
    let bound = Bound::start(&authority, &client, &other, &[]).await;
    let browser = bound.site.signed_in().await;
    // This route leads to the API itself, around its gate: nobody there takes the field off.
    let claimed = browser.fetch(Method::GET, &bound.site.at("/api/orders")).header(CERTIFICATE, &client.thumbprint());
    assert_eq!(claimed.await.status, 401);
    assert_eq!(bound.last_shown(), Vec::<String>::new());
}

#[tokio::test]
async fn connections_are_not_shared_between_certificates() {
    // MTLS-R-01. Two authorities that do not know of each other may number their certificates alike.
    let authority = Authority::new();
    let (client, other) = (authority.issue_numbered("spa-bff", 7), authority.issue_numbered("another", 7));
    let routes = [("/bound/", Some("\"issuer\"")), ("/other/", Some(OTHER)), ("/bare/", None)];
    let bound = Bound::start(&authority, &client, &other, &routes).await;
    let browser = bound.site.signed_in().await;
    let expected = [vec![client.thumbprint()], vec![other.thumbprint()], vec![]];
    for _ in 0..8 {
        for ((path, _), expected) in routes.iter().zip(&expected) {
            bound.get(&browser, &format!("{path}orders")).await;
            assert_eq!(&bound.last_shown(), expected, "{path}");
        }
    }
    let connections = bound.api_gate.shown().len();
    assert!(connections < 24, "no connection was used twice, so nothing is shown here: {connections}");
}

#[tokio::test]
async fn an_upstream_is_trusted_by_its_own_roots_alone() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let gates = [Gate::open(&authority, Admits::Anybody).await, Gate::open(&stranger, Admits::Anybody).await];
    let route = |path: &str, gate: &Gate, ca: &str| {
        format!("[[route]]\npath = \"{path}\"\nupstream = \"{}\"\nauth = \"none\"\n{ca}\n", gate.url())
    };
    let ca = "ca_file = \"ca.pem\"";
    let more = [
        route("/own/", &gates[0], ca),
        route("/strange/", &gates[1], ca),
        // The same upstream, and nobody has said that it is to be trusted: no connection of the first may serve here.
        route("/system/", &gates[0], ""),
    ];
    let beside = vec![("ca.pem".to_owned(), authority.certificate.clone())];
    let site = Site::planned(Plan { more: more.concat(), beside, ..Plan::default() }).await;
    for gate in &gates {
        gate.lead_to(&site.api.url());
    }
    let browser = Browser::new();
    for (path, status) in [("/own/a", 401), ("/strange/a", 502), ("/system/a", 502), ("/own/b", 401)] {
        // 401 is the API's own answer: it was reached, without a token.
        assert_eq!(browser.fetch(Method::GET, &site.at(path)).await.status, status, "{path}");
    }
    assert_eq!(site.api.calls(), 2);
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_both_sides_and_signs_nobody_out() {
    // MTLS-6.3-01
    let authority = Authority::new();
    let (client, other) = (authority.issue("spa-bff"), authority.issue("another"));
    let bound = Bound::start(&authority, &client, &other, &[("/bound/", Some("\"issuer\""))]).await;
    let browser = bound.site.signed_in().await;
    assert_eq!(bound.get(&browser, "/bound/orders").await, 200);

    let renewed = authority.issue("spa-bff");
    bound.put(&[("client.pem", &renewed.certificate), ("client.key", &renewed.key)]);
    // Every call is answered: the one that is the first to show the new certificate has fetched a token for it before.
    bound.until_shown(&browser, "/bound/orders", &renewed.thumbprint()).await;
    assert_eq!(bound.last_bound(), Some(renewed.thumbprint()));
    let script = bound.site.issuer.script();
    assert_eq!(script.calls(Endpoint::Token), 2, "the code, and one refresh");
    assert_eq!(bound.issuer_gate.shown().pop().unwrap(), Some(der(&renewed.certificate)));
    assert_eq!((bound.site.issuer.refreshes(), bound.site.issuer.reuses()), (1, 0));
    // Once is enough.
    assert_eq!(bound.get(&browser, "/bound/orders").await, 200);
    assert_eq!(script.calls(Endpoint::Token), 2);
}

#[test]
fn a_renewal_that_is_no_good_changes_nothing_and_says_so_once() {
    // MTLS-6.3-01
    let log = Log::default();
    log.hears(async {
        let authority = Authority::new();
        let (client, other) = (authority.issue("spa-bff"), authority.issue("another"));
        let bound = Bound::start(&authority, &client, &other, &[("/bound/", Some(OTHER))]).await;
        let browser = bound.site.signed_in().await;
        let told = async |what: &str| {
            let deadline = Instant::now() + PATIENCE;
            while !log.text().contains(what) {
                assert!(Instant::now() < deadline, "{what} is not in the log:\n{}", log.text());
                sleep(Duration::from_millis(20)).await;
            }
        };
        let new = authority.issue("another");
        // The key of one, the certificate of the other.
        bound.put(&[("other.key", &new.key)]);
        told("other.key is not the key of the certificate; name the key that the certificate is for").await;
        bound.put(&[("other.pem", "none")]);
        told("other.pem holds no certificate that can be read; name a file in PEM form").await;
        std::fs::remove_file(bound.site.vestibule.folder().join("other.pem")).unwrap();
        told("other.pem cannot be read").await;
        bound.get(&browser, "/bound/orders").await;
        assert_eq!(bound.last_shown(), [other.thumbprint()]);

        bound.put(&[("other.pem", &new.certificate)]);
        told(&format!("thumbprint=\"{}\"", new.thumbprint())).await;
        bound.get(&browser, "/bound/orders").await;
        assert_eq!(bound.last_shown(), [new.thumbprint()]);
        let text = log.text();
        let warnings: Vec<&str> = text.lines().filter(|line| line.contains("route[\"/bound/\"].mtls: ")).collect();
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings.iter().all(|line| line.ends_with("; the earlier certificate is shown on")), "{warnings:?}");
        assert!(!text.contains("PRIVATE KEY") && !text.contains(new.key.lines().nth(1).unwrap()));
    });
}
