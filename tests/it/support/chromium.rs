//! A real browser: headless Chromium, driven over WebDriver.

use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tokio::process::Command;

use super::PATIENCE;
use super::process::Process;

/// Ends the driver and every Chromium that it started as soon as our end of its standard input closes, and that happens
/// even if we are killed ourselves. The shell, the driver and its browsers are one process group. The home is the
/// process's own folder, so that no browser meets another's settings.
const DRIVER: &str = "HOME=$PWD chromedriver --port=0 & cat >/dev/null; kill -s KILL 0";

/// Nothing here may speak to anything but this machine, and nothing needs to.
const FLAGS: [&str; 9] = [
    "--headless=new",
    // The sandbox needs what containers seldom have, and only our own pages are opened.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// A Chromium with an empty profile. Dropping it ends it; nothing of the profile stays.
pub(crate) struct Chromium {
    client: Client,
    _driver: Process,
}

impl Chromium {
    /// Starts a driver and a browser.
    pub(crate) async fn start() -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", DRIVER]);
        let mut driver = Process::start(command);
        let port: u16 = driver.line(PATIENCE, port_in).await;

        let profile = driver.folder().join("profile");
        let flags = FLAGS.into_iter().map(str::to_owned).chain([format!("--user-data-dir={}", profile.display())]);
        let options = json!({ "args": flags.collect::<Vec<_>>() });
        let mut builder = ClientBuilder::new(HttpConnector::new());
        // The certificates of these tests are nobody's; their servers are all on this machine.
        let capabilities = [("goog:chromeOptions", options), ("acceptInsecureCerts", json!(true))];
        builder.capabilities(capabilities.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
        let session = tokio::time::timeout(PATIENCE, builder.connect(&format!("http://127.0.0.1:{port}"))).await;
        let client = match session {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => panic!("no Chromium session: {error}\n{}", driver.output()),
            Err(_) => panic!("no Chromium session within {PATIENCE:?}\n{}", driver.output()),
        };
        Self { client, _driver: driver }
    }

    /// The WebDriver session: pages, elements, cookies, windows.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Opens `url` and waits until it has loaded, after all redirects.
    pub(crate) async fn goto(&self, url: &str) {
        self.client.goto(url).await.unwrap();
    }

    /// What `script`, the body of an async function, returns. Panics with the message if it throws.
    pub(crate) async fn script(&self, script: &str) -> Value {
        let wrapped = format!(
            "const done = arguments[arguments.length - 1];
             (async () => {{ {script} }})().then((value) => done({{ value }}), (error) => done({{ error: String(error) }}));"
        );
        let result = self.client.execute_async(&wrapped, Vec::new()).await.unwrap();
        assert!(result.get("error").is_none(), "{script}: {}", result["error"]);
        result.get("value").cloned().unwrap_or(Value::Null)
    }
}

/// `ChromeDriver was started successfully on port 12345.`
fn port_in(line: &str) -> Option<u16> {
    line.split_once("started successfully on port ")?.1.trim_end_matches('.').parse().ok()
}

mod tests {
    use axum::Router;
    use axum::response::Html;
    use axum::routing::get;
    use serde_json::json;
    use tokio::net::TcpListener;

    use super::Chromium;

    #[tokio::test]
    #[ignore = "needs chromium and chromedriver: run ./tests/run"]
    async fn a_page_is_opened_and_asked() {
        let page = get(|| async { ([("set-cookie", "seen=1; HttpOnly")], Html("<title>A page</title>")) });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
        let mut server = tokio::task::JoinSet::new();
        server.spawn(async move { axum::serve(listener, Router::new().route("/", page)).await.unwrap() });

        let chromium = Chromium::start().await;
        chromium.goto(&address).await;
        assert_eq!(chromium.client().title().await.unwrap(), "A page");
        assert_eq!(chromium.script("return [document.cookie, (await fetch('/')).status]").await, json!(["", 200]));
        let cookie = chromium.client().get_named_cookie("seen").await.unwrap();
        assert_eq!(cookie.value(), "1");
    }

    #[test]
    fn the_port_is_read_from_what_the_driver_says() {
        assert_eq!(super::port_in("ChromeDriver was started successfully on port 40123."), Some(40123));
        assert_eq!(super::port_in("Starting ChromeDriver 1.2.3 on port 0"), None);
    }
}
