//! A browser without a window: cookies, fetch metadata, redirects, and a memory of every byte that came.

use std::future::IntoFuture;
use std::io::Write;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use http::header::{ACCEPT, CONTENT_TYPE, COOKIE, HeaderName, LOCATION, ORIGIN, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method};
use url::Url;

use super::canary;
use super::jar::{Jar, Reach};

/// After as many redirects in a row browsers give up.
const MOST_REDIRECTS: usize = 20;

/// Where another site's requests claim to come from.
const ELSEWHERE: &str = "https://elsewhere.example";

/// A cookie-keeping client. Clones share cookies and memory, as the tabs of one browser do.
#[derive(Clone)]
pub(crate) struct Browser {
    client: reqwest::Client,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    jar: Jar,
    received: Vec<u8>,
}

/// Who started a request, as `Sec-Fetch-Site` says it (W3C Fetch Metadata section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Initiator {
    /// The person: the address bar, a bookmark.
    Person,
    /// A page of the same origin.
    SameOrigin,
    /// A page of another origin of the same site.
    SameSite,
    /// A page of another site.
    CrossSite,
}

impl Browser {
    /// A browser that has never been anywhere.
    pub(crate) fn new() -> Self {
        Self { client: super::plain_client(), shared: Arc::default() }
    }

    /// A top-level navigation by `GET`, from the address bar unless [`Request::started_by`] says otherwise.
    pub(crate) fn navigate(&self, url: &str) -> Request {
        Request::new(self, Kind::Navigation, Method::GET, url, Initiator::Person)
    }

    /// A form of our own page, sent as a top-level navigation by `POST`.
    pub(crate) fn submit(&self, url: &str, fields: &[(&str, &str)]) -> Request {
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        Request::new(self, Kind::Navigation, Method::POST, url, Initiator::SameOrigin)
            .body("application/x-www-form-urlencoded", form)
    }

    /// What a script of our own page does with `fetch`.
    pub(crate) fn fetch(&self, method: Method, url: &str) -> Request {
        Request::new(self, Kind::Script, method, url, Initiator::SameOrigin)
    }

    /// Navigates from the address bar and follows every redirect, on whatever host, to the page at its end.
    pub(crate) async fn follow(&self, url: &str) -> Page {
        self.navigate(url).follow().await
    }

    /// A copy of all cookies as they are now.
    pub(crate) fn cookies(&self) -> Jar {
        self.lock().jar.clone()
    }

    /// Replaces all cookies, for instance by those that another browser had earlier.
    pub(crate) fn restore(&self, cookies: Jar) {
        self.lock().jar = cookies;
    }

    /// The form in which `needle` was ever received, in a head or a body; none if it never was.
    pub(crate) fn received_contains(&self, needle: &str) -> Option<&'static str> {
        canary::form_found(&self.lock().received, needle)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Navigation,
    Script,
}

/// A request that is about to be made: awaited for the whole [`Page`], [opened](Self::open) for its head alone.
#[must_use = "a request does nothing until it is awaited"]
pub(crate) struct Request {
    browser: Browser,
    kind: Kind,
    method: Method,
    url: Url,
    initiator: Initiator,
    headers: HeaderMap,
    body: Vec<u8>,
    withheld: Vec<HeaderName>,
}

impl Request {
    fn new(browser: &Browser, kind: Kind, method: Method, url: &str, initiator: Initiator) -> Self {
        Self {
            browser: browser.clone(),
            kind,
            method,
            url: Url::parse(url).unwrap(),
            initiator,
            headers: HeaderMap::new(),
            body: Vec::new(),
            withheld: Vec::new(),
        }
    }

    /// Says who started it.
    pub(crate) fn started_by(mut self, initiator: Initiator) -> Self {
        self.initiator = initiator;
        self
    }

    /// Sets a header, in place of what a browser would have sent under this name.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value).unwrap());
        self
    }

    /// Leaves a header out that a browser would have sent.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.withheld.push(HeaderName::try_from(name).unwrap());
        self
    }

    /// Sends a body.
    pub(crate) fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header(CONTENT_TYPE.as_str(), content_type)
    }

    /// Sends it with the cookies of this moment and returns when the response's head has come, its cookies obeyed.
    ///
    /// # Errors
    ///
    /// No head came: the connection was refused, cut, or the answer was no HTTP.
    pub(crate) async fn open(self) -> Result<Incoming, reqwest::Error> {
        let headers = self.all_headers();
        let Self { browser, method, url, body, .. } = self;
        let response = browser.client.request(method, url.clone()).headers(headers).body(body).send().await?;
        browser.lock().take_head(&url, &response);
        Ok(Incoming { browser, url, response })
    }

    /// Sends it, and follows redirects as a browser does: by `GET` unless the answer is 307 or 308.
    ///
    /// A chain that has once been on another site counts as cross-site from there on.
    pub(crate) async fn follow(mut self) -> Page {
        let mut visited = Vec::new();
        loop {
            let again = self.repeatable();
            let mut page = self.await;
            visited.push(page.url.clone());
            let Some(next) = page.redirect() else {
                page.visited = visited;
                return page;
            };
            assert!(visited.len() <= MOST_REDIRECTS, "too many redirects: {visited:#?}");
            self = again;
            if self.initiator != Initiator::Person && next.origin() != self.url.origin() {
                self.initiator = Initiator::CrossSite;
            }
            if !matches!(page.status, 307 | 308) {
                self.method = Method::GET;
                self.body.clear();
                self.headers.remove(CONTENT_TYPE);
            }
            self.url = next;
        }
    }

    fn repeatable(&self) -> Self {
        Self {
            browser: self.browser.clone(),
            kind: self.kind,
            method: self.method.clone(),
            url: self.url.clone(),
            initiator: self.initiator,
            headers: self.headers.clone(),
            body: self.body.clone(),
            withheld: self.withheld.clone(),
        }
    }

    fn all_headers(&self) -> HeaderMap {
        let (mode, destination, accept) = match self.kind {
            Kind::Navigation => ("navigate", "document", "text/html,application/xhtml+xml,*/*;q=0.8"),
            Kind::Script => ("cors", "empty", "*/*"),
        };
        let site = match self.initiator {
            Initiator::Person => "none",
            Initiator::SameOrigin => "same-origin",
            Initiator::SameSite => "same-site",
            Initiator::CrossSite => "cross-site",
        };
        let mut headers = HeaderMap::new();
        headers.insert("sec-fetch-mode", HeaderValue::from_static(mode));
        headers.insert("sec-fetch-dest", HeaderValue::from_static(destination));
        headers.insert("sec-fetch-site", HeaderValue::from_static(site));
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        if let Some(origin) = self.origin() {
            headers.insert(ORIGIN, HeaderValue::try_from(origin).unwrap());
        }
        let cookies = self.browser.lock().jar.header(host(&self.url), self.reach());
        if let Some(cookies) = cookies {
            headers.insert(COOKIE, HeaderValue::try_from(cookies).unwrap());
        }
        headers.extend(self.headers.clone());
        for name in &self.withheld {
            headers.remove(name);
        }
        headers
    }

    /// Fetch section 3.2: sent with unsafe methods, and with scripts' requests to another origin.
    fn origin(&self) -> Option<String> {
        let unsafe_method = !matches!(self.method, Method::GET | Method::HEAD);
        match self.initiator {
            Initiator::Person | Initiator::SameOrigin => unsafe_method.then(|| self.url.origin().ascii_serialization()),
            Initiator::SameSite | Initiator::CrossSite => {
                (unsafe_method || self.kind == Kind::Script).then(|| ELSEWHERE.to_owned())
            }
        }
    }

    fn reach(&self) -> Reach {
        match (self.initiator, self.kind) {
            (Initiator::CrossSite, Kind::Navigation) if self.method == Method::GET => Reach::CrossSiteNavigation,
            (Initiator::CrossSite, _) => Reach::CrossSite,
            (Initiator::Person | Initiator::SameOrigin | Initiator::SameSite, _) => Reach::SameSite,
        }
    }
}

impl IntoFuture for Request {
    type Output = Page;
    type IntoFuture = Pin<Box<dyn Future<Output = Page> + Send>>;

    /// The whole answer. Panics if none comes: a test that expects this [opens](Request::open) the request.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let (method, url) = (self.method.clone(), self.url.clone());
            let page = async { self.open().await?.page().await }.await;
            page.unwrap_or_else(|error| panic!("{method} {url}: {error:?}"))
        })
    }
}

/// A response whose head has come. Dropping it aborts the request, as closing a tab does.
#[must_use = "dropping it aborts the request"]
pub(crate) struct Incoming {
    browser: Browser,
    url: Url,
    response: reqwest::Response,
}

impl Incoming {
    /// The status code.
    pub(crate) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// The next piece of the body, none at its end.
    ///
    /// # Errors
    ///
    /// The connection broke before the body's end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Vec<u8>>, reqwest::Error> {
        let chunk = self.response.chunk().await?.map(Vec::from);
        self.browser.lock().received.extend(chunk.iter().flatten());
        Ok(chunk)
    }

    /// The rest of the body with the head.
    ///
    /// # Errors
    ///
    /// The connection broke before the body's end.
    pub(crate) async fn page(mut self) -> Result<Page, reqwest::Error> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            body.extend(chunk);
        }
        let (status, headers) = (self.status(), self.response.headers().clone());
        Ok(Page { visited: vec![self.url.clone()], url: self.url, status, headers, body })
    }
}

/// A response that has come to its end.
pub(crate) struct Page {
    /// Where it came from.
    pub(crate) url: Url,
    /// The status code.
    pub(crate) status: u16,
    /// All headers.
    pub(crate) headers: HeaderMap,
    /// The whole body.
    pub(crate) body: Vec<u8>,
    /// Every address on the way here, this one last.
    pub(crate) visited: Vec<Url>,
}

impl Page {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON. Panics with the text if it is none.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The first header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Where `Location` points to, as an absolute address.
    pub(crate) fn location(&self) -> Option<Url> {
        self.header(LOCATION.as_str()).map(|location| self.url.join(location).unwrap())
    }

    /// All `Set-Cookie` headers as they came.
    pub(crate) fn set_cookies(&self) -> Vec<&str> {
        self.headers.get_all(SET_COOKIE).iter().map(|value| value.to_str().unwrap()).collect()
    }

    fn redirect(&self) -> Option<Url> {
        self.location().filter(|_| matches!(self.status, 301 | 302 | 303 | 307 | 308))
    }
}

impl Shared {
    fn take_head(&mut self, url: &Url, response: &reqwest::Response) {
        write!(self.received, "{:?} {}\r\n", response.version(), response.status()).unwrap();
        for (name, value) in response.headers() {
            self.received.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
            if name == SET_COOKIE {
                self.jar.obey(host(url), value.to_str().unwrap());
            }
        }
        self.received.extend(b"\r\n");
    }
}

fn host(url: &Url) -> &str {
    url.host_str().unwrap()
}

mod tests {
    use std::sync::Arc;

    use axum::Router;
    use axum::extract::Request;
    use axum::response::{IntoResponse, Response};
    use axum::routing::{any, get};
    use tokio::net::TcpListener;
    use tokio::sync::Notify;
    use tokio::task::JoinSet;

    use super::{Browser, Initiator, Method};

    /// Serves `router` and returns its address under two host names: `localhost` and `127.0.0.1`.
    async fn serve(router: Router) -> (JoinSet<()>, String, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        (server, format!("http://localhost:{port}"), format!("http://127.0.0.1:{port}"))
    }

    /// Answers with the request's method and the headers that are of interest, one a line.
    async fn echo(request: Request) -> String {
        let names = ["sec-fetch-site", "sec-fetch-mode", "origin", "cookie", "x-csrf"];
        let lines = names.iter().filter_map(|name| {
            let value = request.headers().get(*name)?.to_str().unwrap();
            Some(format!("{name}: {value}\n"))
        });
        format!("{}\n{}", request.method(), lines.collect::<String>())
    }

    fn redirect(location: &str, set_cookie: &str) -> Response {
        (http::StatusCode::SEE_OTHER, [("location", location), ("set-cookie", set_cookie)]).into_response()
    }

    #[tokio::test]
    async fn requests_say_what_a_browser_would_say() {
        let (_server, here, _) = serve(Router::new().fallback(any(echo))).await;
        let browser = Browser::new();
        let port = here.rsplit(':').next().unwrap();

        let page = browser.navigate(&here).await;
        assert_eq!(page.text(), "GET\nsec-fetch-site: none\nsec-fetch-mode: navigate\n");
        let page = browser.fetch(Method::POST, &here).header("x-csrf", "1").await;
        let origin = format!("origin: http://localhost:{port}\n");
        assert_eq!(
            page.text(),
            format!("POST\nsec-fetch-site: same-origin\nsec-fetch-mode: cors\n{origin}x-csrf: 1\n")
        );
        let page = browser.fetch(Method::GET, &here).started_by(Initiator::SameSite).await;
        assert!(page.text().starts_with("GET\nsec-fetch-site: same-site\n"), "{}", page.text());
        let page = browser.fetch(Method::GET, &here).started_by(Initiator::CrossSite).without("sec-fetch-site").await;
        assert_eq!(page.text(), "GET\nsec-fetch-mode: cors\norigin: https://elsewhere.example\n");
    }

    #[tokio::test]
    async fn redirects_are_followed_over_hosts_with_each_hosts_own_cookies() {
        let listener_answers = Router::new()
            .route("/there", any(|| async { redirect("/landing", "issuer=1") }))
            .route("/landing", any(echo));
        let (_there, _, there) = serve(listener_answers).await;
        let to_there = format!("{there}/there");
        let start = any(move || async move { redirect(&to_there, "ours=2; SameSite=Strict") });
        let (_here, here, _) = serve(Router::new().route("/start", start).fallback(any(echo))).await;

        let browser = Browser::new();
        let page = browser.submit(&format!("{here}/start"), &[("a", "b")]).follow().await;
        assert_eq!(page.url.as_str(), format!("{there}/landing"));
        assert_eq!(page.visited.len(), 3);
        assert_eq!(page.text(), "GET\nsec-fetch-site: cross-site\nsec-fetch-mode: navigate\ncookie: issuer=1\n");
        assert_eq!(browser.cookies().names("localhost"), ["ours"]);
        assert!(browser.navigate(&here).await.text().contains("cookie: ours=2"));
        assert!(!browser.navigate(&here).started_by(Initiator::CrossSite).await.text().contains("cookie"));
    }

    #[tokio::test]
    async fn cookies_are_taken_at_the_start_and_obeyed_when_the_head_arrives() {
        let (arrived, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (arrival, held) = (Arc::clone(&arrived), Arc::clone(&gate));
        let slow = get(move |request: Request| async move {
            arrival.notify_one();
            held.notified().await;
            ([("set-cookie", "a=slow")], echo(request).await)
        });
        let quick = get(|| async { [("set-cookie", "a=quick")] });
        let (_server, here, _) = serve(Router::new().route("/slow", slow).route("/quick", quick)).await;

        let browser = Browser::new();
        let tab = browser.clone();
        let slow_url = format!("{here}/slow");
        let mut tabs = JoinSet::new();
        tabs.spawn(async move { tab.navigate(&slow_url).await.text() });
        arrived.notified().await;
        let page = browser.follow(&format!("{here}/quick")).await;
        assert_eq!(page.set_cookies(), ["a=quick"]);
        assert_eq!(browser.cookies().value("localhost", "a"), Some("quick"));
        gate.notify_one();
        let seen_by_slow = tabs.join_next().await.unwrap().unwrap();
        assert!(!seen_by_slow.contains("cookie"), "{seen_by_slow}");
        assert_eq!(browser.cookies().value("localhost", "a"), Some("slow"), "the later head wins");
    }

    #[tokio::test]
    async fn everything_that_came_can_be_searched_and_cookies_put_back() {
        let page = get(|| async { ([("set-cookie", "s=head-canary-1; Max-Age=60")], r#"["body-canary-2"]"#) });
        let (_server, here, _) = serve(Router::new().route("/", page)).await;
        let browser = Browser::new();
        let before = browser.cookies();
        assert_eq!(browser.navigate(&here).await.json()[0], "body-canary-2");
        assert_eq!(browser.received_contains("head-canary-1"), Some("plain"));
        assert_eq!(browser.received_contains("body-canary-2"), Some("plain"));
        assert_eq!(browser.received_contains("other-canary"), None);
        browser.restore(before);
        assert_eq!(browser.cookies().header("localhost", super::Reach::SameSite), None);
    }

    #[tokio::test]
    async fn a_refused_connection_is_an_error_and_no_panic_when_opened() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        assert!(Browser::new().navigate(&address).open().await.is_err());
    }
}
