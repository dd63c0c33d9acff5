//! A login whose answer comes in a form, its browser made by hand: TLS ends before Vestibule here, and a browser would send
//! Secure cookies by https alone.

use super::plain_client;
use super::site::Site;

/// The media type of forms.
pub(crate) const FORM: &str = "application/x-www-form-urlencoded";

/// A login on its way back: what the browser got when it began, and what the issuer's page posts.
pub(crate) struct Posted {
    pub(crate) site: Site,
    pub(crate) cookie: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Posted {
    /// Begins a login at a site that is [behind TLS](super::site::Plan::behind_tls), and signs in at its issuer.
    pub(crate) async fn begin(site: Site, query: &str) -> Self {
        let away = plain_client().get(site.at(&format!("/bff/login{query}"))).send().await.unwrap();
        let line = away.headers()["set-cookie"].to_str().unwrap().to_owned();
        assert!(line.contains("; SameSite=None; Secure; ") && line.contains("; HttpOnly"), "{line}");
        let page = plain_client().get(away.headers()["location"].to_str().unwrap()).send().await.unwrap();
        let page = page.text().await.unwrap();
        let fields = page.split("<input type=\"hidden\" name=\"").skip(1).map(|field| {
            let (name, rest) = field.split_once("\" value=\"").unwrap();
            (name.to_owned(), rest.split_once('"').unwrap().0.replace("&amp;", "&"))
        });
        let fields = fields.collect();
        Self { cookie: line.split(';').next().unwrap().to_owned(), site, fields }
    }

    pub(crate) fn form(&self) -> String {
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.fields).finish()
    }

    /// What a browser sends when the issuer's page posts its form.
    pub(crate) fn request(&self, path: &str) -> reqwest::RequestBuilder {
        plain_client()
            .post(self.site.at(path))
            .header("cookie", &self.cookie)
            .header("origin", self.site.issuer.url())
            .header("sec-fetch-site", "cross-site")
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-dest", "document")
            .header("accept", "text/html")
    }
}
