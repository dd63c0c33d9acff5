//! A real authorization server, `oidc-provider`, with the faults of the field on demand.

use std::path::{Path, PathBuf};

use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::process::Command;

use super::process::Process;
use super::{PATIENCE, plain_client};

/// What the server is told before it starts.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Options {
    /// The one client's id.
    pub(crate) client_id: String,
    /// Its secret.
    pub(crate) client_secret: String,
    /// The one way that the client may authenticate by; every other is refused.
    pub(crate) client_authentication: &'static str,
    /// The one algorithm that the client may sign its assertions by; any that the server knows by default.
    pub(crate) client_signs_by: Option<&'static str>,
    /// Where the client's keys are; https, but asked over http where it is this machine.
    pub(crate) jwks_uri: Option<String>,
    /// The client's certificate in PEM form, for `self_signed_tls_client_auth`.
    pub(crate) client_certificate: Option<String>,
    /// The name in the client's certificate, for `tls_client_auth`.
    pub(crate) client_certificate_name: Option<String>,
    /// With it the server also listens with TLS, and checks certificates there.
    pub(crate) tls: Option<ServerTls>,
    /// Whether logins have to be lodged beforehand.
    pub(crate) require_pushed: bool,
    /// Whether it is held to FAPI 2.0: it signs by ES256, and access tokens are bound to the client's certificate.
    pub(crate) fapi: bool,
    /// Whether logins have to be signed.
    pub(crate) require_signed: bool,
    /// Whether the client's tokens are bound to keys, by proofs that need a nonce.
    pub(crate) dpop: bool,
    /// Where a login may end.
    pub(crate) redirect_uris: Vec<String>,
    /// Where a logout may end.
    pub(crate) post_logout_redirect_uris: Vec<String>,
    /// Where logout tokens are sent; nowhere by default.
    pub(crate) backchannel_logout_uri: Option<String>,
    /// Whether the person who is asked whether to sign out there says no.
    pub(crate) decline_logout: bool,
    /// How long an access token lives, to the second.
    pub(crate) access_token_seconds: u64,
    /// How long a refresh token lives.
    pub(crate) refresh_token_seconds: u64,
    /// Whether a refresh token is good once or always.
    pub(crate) rotation: Rotation,
    /// Who gets a refresh token.
    pub(crate) refresh_tokens: RefreshTokens,
    /// The form of the access tokens.
    pub(crate) access_tokens: AccessTokens,
    /// The audience of JWT access tokens for which no resource was asked.
    pub(crate) audience: String,
}

/// What the server shows in TLS and whom it trusts there, in PEM form.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ServerTls {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) ca: String,
}

/// What a refresh does to the refresh token.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Rotation {
    /// Each is good once; using one again kills the grant with all its tokens, at once and without grace.
    Always,
    /// The same one stays good.
    Never,
}

/// What it takes to get a refresh token.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RefreshTokens {
    /// Nothing.
    Always,
    /// The scope `offline_access`, which this server grants with `prompt=consent` only.
    OfflineAccess,
    /// There are none.
    Never,
}

/// The form of access tokens.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AccessTokens {
    /// 43 random characters.
    Opaque,
    /// Signed by RS256; this server then has no userinfo endpoint.
    Jwt,
}

impl Options {
    /// The strictest server for a Vestibule at `public_url`: rotation, reuse detection, tokens that live five seconds.
    pub(crate) fn new(public_url: &str) -> Self {
        Self {
            client_id: "vestibule".to_owned(),
            client_secret: "a secret with + and / and : and % in it".to_owned(),
            client_authentication: "client_secret_basic",
            client_signs_by: None,
            jwks_uri: None,
            client_certificate: None,
            client_certificate_name: None,
            tls: None,
            require_pushed: false,
            fapi: false,
            require_signed: false,
            dpop: false,
            redirect_uris: vec![format!("{public_url}/bff/callback")],
            post_logout_redirect_uris: vec![format!("{public_url}/bff/logout/return")],
            backchannel_logout_uri: None,
            decline_logout: false,
            access_token_seconds: 5,
            refresh_token_seconds: 24 * 60 * 60,
            rotation: Rotation::Always,
            refresh_tokens: RefreshTokens::Always,
            access_tokens: AccessTokens::Opaque,
            audience: "urn:vestibule:test-api".to_owned(),
        }
    }
}

/// What the server has seen since it started.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Stats {
    /// Requests at the token endpoint, whatever came of them.
    pub(crate) token_requests: u32,
    /// Codes that were issued.
    pub(crate) codes: u32,
    /// Codes that were redeemed.
    pub(crate) code_grants_ok: u32,
    /// Codes that were refused.
    pub(crate) code_grants_failed: u32,
    /// Refreshes that were granted, also those whose answers were cut.
    pub(crate) refresh_grants_ok: u32,
    /// Refreshes that were refused.
    pub(crate) refresh_grants_failed: u32,
    /// Refresh tokens that came a second time. After that the grant is gone, and a third time counts as refused only.
    pub(crate) reuse_detected: u32,
    /// Grants that were revoked, for reuse, by the client or by a logout.
    pub(crate) grants_revoked: u32,
    /// Logout tokens that were taken.
    pub(crate) backchannel_ok: u32,
    /// Logout tokens that were refused or could not be delivered.
    pub(crate) backchannel_failed: u32,
    /// Every refusal in the server's own words, for the message of an assertion.
    pub(crate) refusals: Vec<String>,
}

/// A running `oidc-provider` with one client and one user, `ada`, who signs in and agrees by redirects alone.
pub(crate) struct OidcProvider {
    issuer: String,
    control: String,
    client: reqwest::Client,
    _process: Process,
}

#[derive(Deserialize)]
struct Ready {
    issuer: String,
    control: String,
}

impl OidcProvider {
    /// Starts the server on a free port of 127.0.0.1.
    pub(crate) async fn start(options: &Options) -> Self {
        let project = project();
        assert!(project.join("node_modules").is_dir(), "oidc-provider is not installed: run ./tests/run, which does");
        let mut command = Command::new("node");
        command.arg(project.join("server.mjs")).arg(serde_json::to_string(options).unwrap());
        let mut process = Process::start(command);
        let Ready { issuer, control } = process.line(PATIENCE, |line| serde_json::from_str(line).ok()).await;
        Self { issuer, control, client: plain_client(), _process: process }
    }

    /// The issuer identifier, which is also the base of all its addresses.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// What it has seen.
    pub(crate) async fn stats(&self) -> Stats {
        serde_json::from_value(self.order(Method::GET, "/stats", None).await).unwrap()
    }

    /// Every access, refresh and ID token that it has ever made: what a browser must never receive.
    pub(crate) async fn issued(&self) -> Vec<String> {
        serde_json::from_value(self.order(Method::GET, "/issued", None).await).unwrap()
    }

    /// Whether a resource server should take this access token now.
    pub(crate) async fn is_active(&self, access_token: &str) -> bool {
        self.introspect(access_token).await["active"].as_bool().unwrap()
    }

    /// The thumbprint of the key that this access token is bound to, if it is.
    pub(crate) async fn key_of(&self, access_token: &str) -> Option<String> {
        self.introspect(access_token).await["jkt"].as_str().map(str::to_owned)
    }

    async fn introspect(&self, access_token: &str) -> Value {
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("token", access_token).finish();
        self.order(Method::GET, &format!("/introspect?{query}"), None).await
    }

    /// The thumbprint of the certificate that an access token is bound to (RFC 8705 section 3.1), if it is to one.
    pub(crate) async fn bound_to(&self, access_token: &str) -> Option<String> {
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("token", access_token).finish();
        let answer = self.order(Method::GET, &format!("/bound?{query}"), None).await;
        answer["to"].as_str().map(str::to_owned)
    }

    /// From now on waits so many milliseconds before and after it processes a token request. A request is read whole
    /// before the first wait, so a client that leaves meanwhile does not stop it.
    pub(crate) async fn delay(&self, before: u64, after: u64) {
        self.order(Method::POST, "/delay", Some(json!({ "before": before, "after": after }))).await;
    }

    /// Processes the next `n` token requests, but closes their connections instead of answering.
    pub(crate) async fn cut(&self, n: u32) {
        self.order(Method::POST, "/cut", Some(json!({ "n": n }))).await;
    }

    /// Refuses connections from now on, keeping everything it knows.
    pub(crate) async fn down(&self) {
        self.order(Method::POST, "/down", None).await;
    }

    /// Is there again, on the same port.
    pub(crate) async fn up(&self) {
        self.order(Method::POST, "/up", None).await;
    }

    async fn order(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let body = body.map_or_else(String::new, |body| body.to_string());
        let response = self.client.request(method, format!("{}{path}", self.control)).body(body).send().await.unwrap();
        let (ok, text) = (response.status().is_success(), response.text().await.unwrap());
        assert!(ok, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }
}

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/real/op")
}

mod tests {
    use super::{AccessTokens, OidcProvider, Options, RefreshTokens, Rotation};
    use crate::support::browser::Browser;
    use crate::support::plain_client;
    use serde_json::Value;
    use url::Url;

    /// RFC 7636 appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    /// A client by hand: what a test needs to see of the server itself.
    struct Client<'a> {
        provider: &'a OidcProvider,
        options: &'a Options,
    }

    impl Client<'_> {
        /// Signs in and returns the code. The redirect URI is the server's own 404 page, so that it can be followed.
        async fn code(&self, scope: &str) -> String {
            let mut url = Url::parse(&format!("{}/auth", self.provider.issuer())).unwrap();
            url.query_pairs_mut()
                .append_pair("client_id", &self.options.client_id)
                .append_pair("response_type", "code")
                .append_pair("redirect_uri", &self.options.redirect_uris[0])
                .append_pair("scope", scope)
                .append_pair("nonce", "a nonce")
                .append_pair("code_challenge", CHALLENGE)
                .append_pair("code_challenge_method", "S256");
            let browser = Browser::new();
            let mut page = browser.navigate(url.as_str()).await;
            loop {
                let next = page.location().unwrap_or_else(|| panic!("{}: {}", page.url, page.text()));
                if next.as_str().starts_with(&self.options.redirect_uris[0]) {
                    return next.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();
                }
                page = browser.navigate(next.as_str()).await;
            }
        }

        async fn redeem(&self, code: &str) -> (u16, Value) {
            let redirect_uri = self.options.redirect_uris[0].as_str();
            let grant = [("grant_type", "authorization_code"), ("code", code)];
            self.token(&[&grant[..], &[("redirect_uri", redirect_uri), ("code_verifier", VERIFIER)]].concat())
                .await
                .unwrap()
        }

        async fn refresh(&self, refresh_token: &Value) -> Result<(u16, Value), reqwest::Error> {
            let refresh_token = refresh_token.as_str().unwrap();
            self.token(&[("grant_type", "refresh_token"), ("refresh_token", refresh_token)]).await
        }

        async fn token(&self, fields: &[(&str, &str)]) -> Result<(u16, Value), reqwest::Error> {
            let encoded = |fields: &[(&str, &str)]| {
                url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
            };
            let part = |text: &str| encoded(&[("", text)])[1..].to_owned();
            // RFC 6749 section 2.3.1: form-encoded first, base64 then.
            let pair = format!("{}:{}", part(&self.options.client_id), part(&self.options.client_secret));
            let response = plain_client()
                .post(format!("{}/token", self.provider.issuer()))
                .header("authorization", format!("Basic {}", base64_simd::STANDARD.encode_to_string(pair)))
                .header("content-type", "application/x-www-form-urlencoded")
                .body(encoded(fields))
                .send()
                .await?;
            let status = response.status().as_u16();
            Ok((status, serde_json::from_str(&response.text().await?).unwrap()))
        }
    }

    fn options() -> Options {
        Options::new("http://localhost:4000")
    }

    // RFC 9700 section 4.14.2: the behaviour that everything about refreshing is built for.
    #[tokio::test]
    #[ignore = "needs node and oidc-provider: run ./tests/run"]
    async fn a_used_refresh_token_kills_the_grant_and_every_token_of_it() {
        let options = options();
        let provider = OidcProvider::start(&options).await;
        let client = Client { provider: &provider, options: &options };
        let (status, first) = client.redeem(&client.code("openid profile email").await).await;
        assert_eq!(status, 200, "{first}");
        let (_, second) = client.refresh(&first["refresh_token"]).await.unwrap();
        let access_token = second["access_token"].as_str().unwrap();
        assert!(provider.is_active(access_token).await);

        let (status, answer) = client.refresh(&first["refresh_token"]).await.unwrap();
        assert_eq!((status, &answer["error"]), (400, &Value::from("invalid_grant")));
        assert!(!provider.is_active(access_token).await);
        let (status, _) = client.refresh(&second["refresh_token"]).await.unwrap();
        assert_eq!(status, 400);

        let stats = provider.stats().await;
        assert_eq!((stats.codes, stats.code_grants_ok, stats.code_grants_failed), (1, 1, 0), "{stats:?}");
        assert_eq!((stats.refresh_grants_ok, stats.refresh_grants_failed), (1, 2), "{stats:?}");
        assert_eq!((stats.token_requests, stats.reuse_detected, stats.grants_revoked), (4, 1, 1), "{stats:?}");
        assert_eq!((stats.backchannel_ok, stats.backchannel_failed), (0, 0), "{stats:?}");
        assert_eq!(stats.refusals.len(), 2, "{stats:?}");
    }

    #[tokio::test]
    #[ignore = "needs node and oidc-provider: run ./tests/run"]
    async fn two_refreshes_at_once_are_a_success_and_a_reuse() {
        let options = options();
        let provider = OidcProvider::start(&options).await;
        let client = Client { provider: &provider, options: &options };
        let (_, tokens) = client.redeem(&client.code("openid").await).await;
        let token = &tokens["refresh_token"];
        let (one, other) = tokio::join!(client.refresh(token), client.refresh(token));
        let mut statuses = [one.unwrap().0, other.unwrap().0];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 400]);
        assert_eq!(provider.stats().await.reuse_detected, 1);
    }

    #[tokio::test]
    #[ignore = "needs node and oidc-provider: run ./tests/run"]
    async fn a_cut_or_abandoned_refresh_has_happened_all_the_same() {
        let options = options();
        let provider = OidcProvider::start(&options).await;
        let client = Client { provider: &provider, options: &options };
        let (_, tokens) = client.redeem(&client.code("openid").await).await;
        provider.cut(1).await;
        assert!(client.refresh(&tokens["refresh_token"]).await.is_err());
        assert_eq!(provider.stats().await.refresh_grants_ok, 1);

        let newest = provider.issued().await.into_iter().rfind(|token| token.len() == 43).unwrap();
        provider.delay(100, 600_000).await;
        let newest = Value::from(newest);
        let abandoned = client.refresh(&newest);
        let processed = async {
            while provider.stats().await.refresh_grants_ok < 2 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            biased;
            () = processed => {}
            _ = abandoned => panic!("the answer is ten minutes away"),
        }
    }

    #[tokio::test]
    #[ignore = "needs node and oidc-provider: run ./tests/run"]
    async fn an_outage_refuses_connections_and_forgets_nothing() {
        let options = Options { rotation: Rotation::Never, client_authentication: "client_secret_basic", ..options() };
        let provider = OidcProvider::start(&options).await;
        let client = Client { provider: &provider, options: &options };
        let (_, tokens) = client.redeem(&client.code("openid").await).await;
        provider.down().await;
        assert!(client.refresh(&tokens["refresh_token"]).await.unwrap_err().is_connect());
        provider.up().await;
        for _ in 0..2 {
            let (status, again) = client.refresh(&tokens["refresh_token"]).await.unwrap();
            assert_eq!((status, &again["refresh_token"]), (200, &tokens["refresh_token"]));
        }
    }

    #[tokio::test]
    #[ignore = "needs node and oidc-provider: run ./tests/run"]
    async fn access_tokens_are_jwts_and_refresh_tokens_absent_where_asked_for() {
        let options = Options {
            access_tokens: AccessTokens::Jwt,
            refresh_tokens: RefreshTokens::OfflineAccess,
            access_token_seconds: 1,
            ..options()
        };
        let provider = OidcProvider::start(&options).await;
        let client = Client { provider: &provider, options: &options };
        let (_, tokens) = client.redeem(&client.code("openid api").await).await;
        assert_eq!(tokens["refresh_token"], Value::Null, "offline_access was not asked for");
        let access_token = tokens["access_token"].as_str().unwrap();
        assert_eq!(access_token.split('.').count(), 3);
        assert!(provider.is_active(access_token).await);
        let expired = async {
            while provider.is_active(access_token).await {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(crate::support::PATIENCE, expired).await.unwrap();

        let never = Options { refresh_tokens: RefreshTokens::Never, ..self::options() };
        let provider = OidcProvider::start(&never).await;
        let client = Client { provider: &provider, options: &never };
        let (_, tokens) = client.redeem(&client.code("openid").await).await;
        assert_eq!(tokens["refresh_token"], Value::Null);
        assert!(!provider.is_active("no such token").await);
    }
}
