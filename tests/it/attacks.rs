//! What somebody may try, each attempt by its name: against the login, the cookies, the routes, the API and the browser.

mod cookies;
mod cross_site;
mod downstream;
mod logins;
mod paths;
mod upstream;

use url::Url;

use crate::support::browser::{Browser, Initiator, Page};
use crate::support::jar::Reach;
use crate::support::raw::{self, Answer};
use crate::support::site::Site;

/// The header by which a script of the page proves itself.
const OURS: &str = "Sec-Fetch-Site: same-origin";

/// A login that the issuer has granted and nobody has finished: the address of its callback.
async fn granted(site: &Site, browser: &Browser) -> Url {
    let away = browser.navigate(&site.at("/bff/login")).await;
    let back = browser.navigate(away.location().unwrap().as_str()).await;
    back.location().unwrap()
}

/// Opens a callback, as the issuer's redirect does.
async fn finish(browser: &Browser, callback: &Url) -> Page {
    browser.navigate(callback.as_str()).started_by(Initiator::CrossSite).await
}

/// The value of a parameter.
fn parameter(url: &Url, name: &str) -> String {
    url.query_pairs().find(|(found, _)| found == name).unwrap().1.into_owned()
}

/// The same address with another value of one parameter, or without it.
fn with(url: &Url, name: &str, value: Option<&str>) -> Url {
    let mut pairs: Vec<(String, String)> = url.query_pairs().into_owned().filter(|(found, _)| found != name).collect();
    pairs.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    let mut changed = url.clone();
    changed.query_pairs_mut().clear().extend_pairs(pairs);
    changed
}

/// The `Cookie` header of a browser.
fn cookies_of(browser: &Browser) -> String {
    browser.cookies().header("localhost", Reach::SameSite).unwrap()
}

/// A request by hand: `line` is method and target, `fields` are whole lines.
async fn send(site: &Site, line: &str, fields: &[&str]) -> Answer {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let host = site.url.strip_prefix("http://").unwrap();
    let text = format!("{line} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
    raw::exchange(site.address, text.as_bytes()).await.unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// A call of the API by a script of the page, with these cookies.
async fn call_with(site: &Site, cookies: &str) -> Answer {
    send(site, "GET /api/orders", &[OURS, &format!("Cookie: {cookies}")]).await
}
