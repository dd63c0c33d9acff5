//! A model browser: one cookie jar for all tabs, in which the last `Set-Cookie` to arrive wins, however old it is.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use http::header::{COOKIE, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request};

#[derive(Clone, Default)]
pub(crate) struct Browser(Rc<RefCell<BTreeMap<String, String>>>);

impl Browser {
    /// Another jar with what is in this one now: a copy that somebody takes away.
    pub(crate) fn copied(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())))
    }

    /// A jar with the cookies of a request.
    pub(crate) fn presenting(headers: &HeaderMap) -> Self {
        let field = headers.get(COOKIE).and_then(|field| field.to_str().ok()).unwrap_or_default();
        let pairs = field.split("; ").filter_map(|pair| pair.split_once('='));
        Self(Rc::new(RefCell::new(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())))
    }

    /// A request of a script of our page, with the cookies of this moment.
    pub(crate) fn fetch(&self, method: &str, path: &str) -> Parts {
        self.request(method, path, &[("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors")])
    }

    /// A person going to a page.
    pub(crate) fn navigate(&self, path: &str) -> Parts {
        let fields = [("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
        self.request("GET", path, &fields)
    }

    /// What arrives is obeyed, in the order of arrival.
    pub(crate) fn obey(&self, headers: &HeaderMap) {
        for line in headers.get_all(SET_COOKIE) {
            let line = line.to_str().unwrap();
            let (pair, attributes) = line.split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if attributes.contains("Max-Age=0") {
                self.0.borrow_mut().remove(name);
            } else {
                self.0.borrow_mut().insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// The `Cookie` field of a request at this moment.
    pub(crate) fn cookies(&self) -> HeaderMap {
        let cookies: Vec<String> = self.0.borrow().iter().map(|(name, value)| format!("{name}={value}")).collect();
        let field = HeaderValue::try_from(cookies.join("; ")).unwrap();
        if cookies.is_empty() { HeaderMap::new() } else { HeaderMap::from_iter([(COOKIE, field)]) }
    }

    fn request(&self, method: &str, path: &str, fields: &[(&str, &str)]) -> Parts {
        let mut builder = Request::builder().method(method).uri(path).header("host", "app.test");
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        let mut parts = builder.body(()).unwrap().into_parts().0;
        parts.headers.extend(self.cookies());
        parts
    }
}
