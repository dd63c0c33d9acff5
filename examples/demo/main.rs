//! The demo: an identity provider, an API and a single-page app, with Vestibule between them.
//!
//! `cargo run --example demo`, or `examples/demo/run` on a machine without a C compiler. Everything listens on loopback
//! and forgets everything when it stops.

#[expect(dead_code, reason = "the demo plays no tricks on its API; the tests do")]
mod api;
#[expect(dead_code, reason = "the demo plays no tricks on its identity provider; the tests do")]
mod issuer;

use std::error::Error;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Duration;

use vestibule::clock::{Clock, SystemClock};
use vestibule::config::Config;
use vestibule::secret::Secret;
use vestibule::server::{self, Server};
use vestibule::session::keyring::KeyRing;

use self::api::{Api, Guard};
use self::issuer::{Issuer, Login, Options};

const CLIENT_ID: &str = "demo-spa";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Fails only if there is one already, and then that one serves.
    rustls::crypto::ring::default_provider().install_default().unwrap_or_default();

    // It is deleted at the end, with the secrets in it.
    let folder = tempfile::Builder::new().prefix("vestibule-demo-").tempdir()?;
    let client_secret = write_secrets(folder.path())?;

    // The app is `localhost` and the identity provider `127.0.0.1`, so that to the browser they are two sites, as they
    // would be in real life. On one host they would even share their cookies.
    let port = free_port(8080)?;
    let app = format!("http://localhost:{port}");
    let issuer = Issuer::start(Options {
        port: free_port(9400)?,
        client_id: CLIENT_ID.to_owned(),
        client_secret,
        redirect_uris: vec![format!("{app}/bff/callback")],
        post_logout_redirect_uris: vec![format!("{app}/bff/logout/return")],
        // Short, so that one can watch a refresh happen.
        access_token_ttl: Duration::from_secs(30),
        login: Login::Page,
        ..Options::default()
    })
    .await?;
    issuer.register_backchannel_logout(&format!("{app}/bff/backchannel-logout"));
    let api = Api::start(free_port(9000)?, Guard::Bearer(issuer.introspection())).await?;

    let file = folder.path().join("vestibule.toml");
    let text = configuration(port, issuer.url(), &api.url());
    fs::write(&file, &text)?;
    let config = Config::from_toml(&text, folder.path(), |name| std::env::var(name).ok())?;
    let running = Server::build(config).start().await?;

    println!("{}", welcome(&app, issuer.url(), &api.url(), &file));
    tokio::signal::ctrl_c().await?;

    println!("\nStopping.");
    running.stop().await;
    api.stop().await;
    issuer.stop().await;
    Ok(())
}

/// Writes the two files that the configuration names: the client's secret, which the issuer has to know too, and the key
/// that seals the sessions.
fn write_secrets(folder: &Path) -> io::Result<Secret<String>> {
    let random = server::random();
    let client_secret = Secret::new(random.token());
    fs::write(folder.join("client_secret"), client_secret.expose())?;
    fs::write(folder.join("session.key"), KeyRing::generate_text(&*random, SystemClock::default().now()))?;
    Ok(client_secret)
}

/// The wanted port, or another one if it is taken.
///
/// Vestibule's own port has to be known before it listens, because its address is registered with the issuer; so ports
/// are tried here and bound a moment later.
fn free_port(wanted: u16) -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted));
    let listener = listener.or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    Ok(listener.local_addr()?.port())
}

fn configuration(port: u16, issuer: &str, api: &str) -> String {
    let spa = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/demo/spa");
    let spa = toml::Value::from(&*spa.to_string_lossy());
    format!(
        r#"# The demo's configuration. In production: https, a ledger that survives a restart, secrets kept elsewhere.
[server]
listen = "127.0.0.1:{port}"
public_url = "http://localhost:{port}"

[issuer]
url = "{issuer}"
client_id = "{CLIENT_ID}"
client_secret = {{ file = "client_secret" }}

[session]
keys = [{{ file = "session.key" }}]

[ledger]
backend = "memory"

[[route]]
path = "/api/"
upstream = "{api}"
auth = "api"

[[route]]
path = "/"
files = {spa}
auth = "none"
"#
    )
}

fn welcome(app: &str, issuer: &str, api: &str, file: &Path) -> String {
    format!(
        "
  Vestibule demo

    {app}    the app: open this one
    {issuer}    the identity provider
    {api}    the API; it accepts nobody without a token

  Try
    · Sign in, then look for a token: in the page's storage, in document.cookie, in the network panel.
    · Keep calling the API for a minute. Tokens live for 30 seconds, and you will not notice.
    · Open a second tab and sign out there.

  Configuration: {file}
  Ctrl-C stops everything.",
        file = file.display()
    )
}
