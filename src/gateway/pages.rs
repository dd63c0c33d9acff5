//! The pages that people see when something is in the way: readable, without script, each with a way onward.

use std::time::Duration;

use sha2::{Digest, Sha256};

/// One page.
#[derive(Clone, Debug)]
pub(super) struct Page {
    /// The heading.
    pub(super) title: &'static str,
    /// What happened and what can be done, as plain text.
    pub(super) text: String,
    /// The ways onward: address and label. The first is the recommended one.
    pub(super) links: Vec<(String, String)>,
    /// After how long the page goes on by itself: to an address, or to itself again.
    pub(super) refresh: Option<(Duration, Option<String>)>,
    /// What runs in it, if anything. Ours, word for word: the page's policy names its hash.
    pub(super) script: Option<&'static str>,
}

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c1d22;--dim:#5d6068;--paper:#f6f5f2;--card:#fff;--line:#e2e0da;--go:#1f5f4a}\
@media(prefers-color-scheme:dark){:root{--ink:#eceae4;--dim:#a2a4ab;--paper:#131417;--card:#1c1e22;--line:#2d3036;--go:#6fc3a2}}\
body{margin:0;min-height:100vh;display:grid;place-items:center;background:var(--paper);color:var(--ink);\
font:1.05rem/1.6 system-ui,sans-serif}\
main{max-width:32rem;margin:1.5rem;padding:2rem 2.25rem;background:var(--card);border:1px solid var(--line);border-radius:12px}\
h1{margin:0 0 .75rem;font-size:1.35rem;line-height:1.3}p{margin:0 0 1.5rem;color:var(--dim)}\
nav{display:flex;flex-wrap:wrap;gap:.75rem 1.25rem}a{color:var(--go);text-underline-offset:.2em}\
a:first-child{font-weight:600}";

impl Page {
    /// The HTML.
    pub(super) fn render(&self) -> String {
        let links: String =
            self.links.iter().map(|(to, label)| format!("<a href=\"{}\">{}</a>", escape(to), escape(label))).collect();
        let refresh = self.refresh.as_ref().map_or_else(String::new, |(after, target)| {
            let target = target.as_ref().map_or_else(String::new, |target| format!(";url={}", escape(target)));
            format!("<meta http-equiv=\"refresh\" content=\"{}{target}\">", after.as_secs())
        });
        let script = self.script.map_or_else(String::new, |script| format!("<script>{script}</script>"));
        let (title, text) = (escape(self.title), escape(&self.text));
        format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\">{refresh}<title>{title}</title>\
             <style>{STYLE}</style></head><body><main><h1>{title}</h1><p>{text}</p><nav>{links}</nav></main>{script}</body></html>"
        )
    }
}

impl Page {
    /// The page's policy: nothing is loaded, only this style applies, and nothing runs but its own script.
    pub(super) fn content_security_policy(&self) -> String {
        let script = self.script.map_or_else(String::new, |script| format!(" script-src 'sha256-{}';", hash(script)));
        let style = hash(STYLE);
        format!(
            "default-src 'none'; style-src 'sha256-{style}';{script} frame-ancestors 'none'; base-uri 'none'; \
             form-action 'self'"
        )
    }
}

/// A page with one form, which it sends by itself.
#[derive(Clone, Debug)]
pub(super) struct Posting<'a> {
    /// The heading.
    pub(super) title: &'static str,
    /// What is going on, as plain text.
    pub(super) text: &'static str,
    /// Where the form goes.
    pub(super) address: &'a str,
    /// What is in it.
    pub(super) fields: &'a [(String, String)],
    /// What to press where scripts do not run.
    pub(super) button: &'static str,
}

/// The one script there is: it depends on nothing that anybody else wrote.
const SEND: &str = "document.forms[0].submit()";

impl Posting<'_> {
    /// The HTML.
    pub(super) fn render(&self) -> String {
        let field = |(name, value): &(String, String)| {
            format!("<input type=\"hidden\" name=\"{}\" value=\"{}\">", escape(name), escape(value))
        };
        let fields: String = self.fields.iter().map(field).collect();
        let (title, text, address) = (escape(self.title), escape(self.text), escape(self.address));
        format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head>\
             <body><main><h1>{title}</h1><p>{text}</p><form method=\"post\" action=\"{address}\">{fields}\
             <button>{button}</button></form></main><script>{SEND}</script></body></html>",
            button = escape(self.button),
        )
    }

    /// The policy for this page: its style, its script, and forms to `origin` that may be sent back here.
    pub(super) fn content_security_policy(origin: &str) -> String {
        format!(
            "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; frame-ancestors 'none'; base-uri 'none'; \
             form-action {origin} 'self'",
            hash(STYLE),
            hash(SEND)
        )
    }
}

fn hash(text: &str) -> String {
    base64_simd::STANDARD.encode_to_string(Sha256::digest(text.as_bytes()))
}

/// Text as HTML, in elements and in quoted attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_stays_text() {
        let page = Page {
            title: "Title",
            text: "<script>alert('x')</script>\u{0}".to_owned(),
            links: vec![("/?a=\"><script>".to_owned(), "Go".to_owned())],
            refresh: None,
            script: None,
        };
        let html = page.render();
        assert!(!html.contains("<script"), "{html}");
        assert!(html.contains("&lt;script&gt;alert(&#39;x&#39;)"), "{html}");
    }

    #[test]
    fn what_is_in_a_form_stays_in_its_fields() {
        let fields = [("a\"b".to_owned(), "\"><script>alert(1)</script>".to_owned())];
        let address = "https://as.test/?a=\"><form>";
        let posting = Posting { title: "Title", text: "Text", address, fields: &fields, button: "Go" };
        let html = posting.render();
        assert_eq!((html.matches("<script").count(), html.matches("<form").count()), (1, 1), "{html}");
        assert!(html.contains("name=\"a&quot;b\" value=\"&quot;&gt;&lt;script&gt;"), "{html}");
    }
}
