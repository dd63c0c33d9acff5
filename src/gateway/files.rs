//! The files of the app, read once into memory and answered from there.
//!
//! [`Files`] is the folder as a route knows it, [`FileTree`] what it held when it was last read. What a folder may
//! contain is decided in `folder`, how long browsers may keep a file in `kind`, which form of it a request gets in
//! `conditional`. Nothing here writes a status code: [`Served`] says what was found, and the reply says how.

mod conditional;
mod folder;
mod kind;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, LAST_MODIFIED, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};

use self::conditional::{Coding, Validators, Wanted};
pub use self::folder::{FilesError, Fingerprint, fingerprint};
use super::cross_origin::{is_sub_resource, wants_page};
use super::route::CanonicalPath;

/// A folder of files, as it was when it was last read well.
#[derive(Debug)]
pub struct Files {
    folder: PathBuf,
    max_bytes: u64,
    tree: ArcSwap<FileTree>,
}

/// What came of a [`Files::refresh`].
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// The folder is as it was.
    Unchanged,
    /// The folder has changed, and from now on its new files are served.
    Reloaded,
    /// The folder changed while it was read. The files from before are served on, until a later refresh finds it at rest.
    Moving,
}

impl Files {
    /// Reads `folder`, which may hold up to `max_bytes` bytes.
    ///
    /// # Errors
    /// As [`FileTree::load`].
    pub async fn open(folder: impl Into<PathBuf>, max_bytes: u64) -> Result<Self, FilesError> {
        let folder = folder.into();
        let tree = ArcSwap::from_pointee(FileTree::load(&folder, max_bytes).await?);
        Ok(Self { folder, max_bytes, tree })
    }

    /// The files as they were last read. A request answers from one tree, whatever happens to the folder meanwhile.
    pub fn current(&self) -> Arc<FileTree> {
        self.tree.load_full()
    }

    /// Reads the folder again if it has changed.
    ///
    /// # Errors
    /// As [`FileTree::load`]; the files from before are served on.
    pub async fn refresh(&self) -> Result<Refreshed, FilesError> {
        if fingerprint(&self.folder).await? == self.tree.load().fingerprint {
            return Ok(Refreshed::Unchanged);
        }
        let tree = FileTree::load(&self.folder, self.max_bytes).await?;
        Ok(self.adopt(tree, fingerprint(&self.folder).await?))
    }

    /// Serves `tree` from now on, unless the folder has moved on since: half a deployment is none.
    fn adopt(&self, tree: FileTree, after: Fingerprint) -> Refreshed {
        if tree.fingerprint != after {
            return Refreshed::Moving;
        }
        self.tree.store(Arc::new(tree));
        Refreshed::Reloaded
    }
}

/// The files of a folder at one moment.
pub struct FileTree {
    /// By their path below the folder, with a slash in front and nothing encoded.
    files: BTreeMap<String, File>,
    fingerprint: Fingerprint,
}

/// What a path leads to. The fields of each answer are complete but for `Content-Length` and `Date`.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Served {
    /// A whole file, in the form that the request prefers.
    Whole {
        /// Its fields.
        headers: HeaderMap,
        /// Its bytes.
        body: Bytes,
    },
    /// The range that the request asks for (RFC 9110 section 14).
    Part {
        /// The fields, with `Content-Range`.
        headers: HeaderMap,
        /// The bytes of the range.
        body: Bytes,
    },
    /// What the browser already has is still good (RFC 9110 section 13).
    NotModified {
        /// The fields that renew what it has.
        headers: HeaderMap,
    },
    /// The range lies beyond the end of the file.
    Unsatisfiable {
        /// The fields; `Content-Range` tells the length.
        headers: HeaderMap,
    },
    /// There is no such file, and the app's page is no answer to this request.
    Missing,
}

impl FileTree {
    /// Reads everything below `folder`, up to `max_bytes` bytes.
    ///
    /// Names that begin with a dot are left out, `.well-known` excepted.
    ///
    /// # Errors
    /// If something in it cannot be read, if a link leads out of it or in a circle, or if it is too large.
    pub async fn load(folder: &Path, max_bytes: u64) -> Result<Self, FilesError> {
        let contents = folder::read(folder, max_bytes).await?;
        let files = contents.files.iter().map(|(name, plain)| {
            let coded = Coding::ALL.into_iter().filter_map(|coding| {
                let beside = contents.files.get(&format!("{name}{}", coding.suffix()))?;
                Some((coding, Form::new(&beside.bytes, Some(coding))))
            });
            (name.clone(), File::new(name, Form::new(&plain.bytes, None), coded.collect(), plain.modified))
        });
        Ok(Self { files: files.collect(), fingerprint: contents.fingerprint })
    }

    /// What `path` leads to for a `GET` or `HEAD` request.
    pub fn find(&self, path: &CanonicalPath, request: &Parts) -> Served {
        self.locate(path, request).map_or(Served::Missing, |file| file.answer(request))
    }

    fn locate(&self, path: &CanonicalPath, request: &Parts) -> Option<&File> {
        let path = percent_decode_str(path.as_str()).decode_utf8().ok()?;
        let file = if path.ends_with('/') {
            self.files.get(&format!("{path}index.html"))
        } else {
            self.files.get(path.as_ref())
        };
        file.or_else(|| self.files.get("/index.html").filter(|_| is_place_in_the_app(&path, request)))
    }
}

impl fmt::Debug for FileTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileTree").field("files", &self.files.len()).finish_non_exhaustive()
    }
}

/// Whether a path without a file is a place inside the app, which its script finds, rather than a file that is missing.
fn is_place_in_the_app(path: &str, request: &Parts) -> bool {
    // Whoever asks for a well-known resource (RFC 8615) must hear that there is none.
    if path.contains("/.") {
        return false;
    }
    let looks_like_file = path.rsplit('/').next().is_some_and(|name| name.contains('.'));
    wants_page(request) || (!looks_like_file && !is_sub_resource(request))
}

/// One file, with all that can be known before a request comes.
struct File {
    /// The fields that every form of it has.
    headers: HeaderMap,
    plain: Form,
    /// The compressed forms that lie beside it.
    coded: Vec<(Coding, Form)>,
    /// Whole seconds, as HTTP states them; none if HTTP cannot.
    modified: Option<SystemTime>,
}

/// The bytes of a file in one content coding.
struct Form {
    bytes: Bytes,
    etag: HeaderValue,
}

impl File {
    fn new(name: &str, plain: Form, coded: Vec<(Coding, Form)>, modified: SystemTime) -> Self {
        let media_type = kind::media_type(name);
        let modified = whole_seconds(modified);
        let mut headers = HeaderMap::new();
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(kind::cache_control(name)));
        if media_type.starts_with("text/html") {
            // The rest of the policy is the app's own business; that no other site frames it is ours (ASVS 3.4.6).
            headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("frame-ancestors 'self'"));
        }
        headers.insert(CONTENT_TYPE, ascii(media_type));
        if let Some(modified) = modified {
            headers.insert(LAST_MODIFIED, ascii(httpdate::fmt_http_date(modified)));
        }
        if !coded.is_empty() {
            headers.insert(VARY, HeaderValue::from(ACCEPT_ENCODING));
        }
        Self { headers, plain, coded, modified }
    }

    fn answer(&self, request: &Parts) -> Served {
        let wanted = conditional::wanted(request, &self.validators(&self.plain), self.plain.bytes.len());
        let (coding, form) = match wanted {
            Wanted::Whole => self.preferred(request),
            Wanted::Part(_) | Wanted::Unsatisfiable => (None, &self.plain),
        };
        if conditional::is_fresh(&request.headers, &self.validators(form)) {
            return Served::NotModified { headers: self.renewal(form) };
        }
        let mut headers = self.headers.clone();
        headers.insert(ETAG, form.etag.clone());
        match coding {
            Some(coding) => headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name())),
            None => headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        };
        let len = form.bytes.len();
        match wanted {
            Wanted::Whole => Served::Whole { headers, body: form.bytes.clone() },
            Wanted::Part(range) => {
                let (first, last) = (range.start(), range.end());
                headers.insert(CONTENT_RANGE, ascii(format!("bytes {first}-{last}/{len}")));
                Served::Part { headers, body: form.bytes.slice(range) }
            }
            Wanted::Unsatisfiable => {
                let mut headers = self.renewal(form);
                headers.insert(CONTENT_RANGE, ascii(format!("bytes */{len}")));
                Served::Unsatisfiable { headers }
            }
        }
    }

    /// The form that suits `Accept-Encoding` best.
    fn preferred(&self, request: &Parts) -> (Option<Coding>, &Form) {
        let available = self.coded.iter().map(|(coding, _)| *coding);
        let chosen = conditional::negotiate(&request.headers, available);
        let form = self.coded.iter().find(|(coding, _)| Some(*coding) == chosen).map(|(_, form)| form);
        form.map_or((None, &self.plain), |form| (chosen, form))
    }

    const fn validators<'a>(&self, form: &'a Form) -> Validators<'a> {
        Validators { etag: &form.etag, modified: self.modified }
    }

    /// The fields of an answer without the file, which must not describe its content (RFC 9110 section 15.4.5).
    fn renewal(&self, form: &Form) -> HeaderMap {
        let kept = [X_CONTENT_TYPE_OPTIONS, CACHE_CONTROL, VARY];
        let mut headers: HeaderMap =
            kept.into_iter().filter_map(|name| self.headers.get(&name).cloned().map(|value| (name, value))).collect();
        headers.insert(ETAG, form.etag.clone());
        headers
    }
}

impl Form {
    fn new(bytes: &Bytes, coding: Option<Coding>) -> Self {
        // The coding is part of the tag: two forms are never the same representation, even if their bytes are.
        let coding = coding.map(|it| format!("-{}", it.name())).unwrap_or_default();
        let hash: String = Sha256::digest(bytes).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Self { bytes: bytes.clone(), etag: ascii(format!("\"{hash}{coding}\"")) }
    }
}

/// The moment as an HTTP date can state it: whole seconds, from 1970 to 9999.
fn whole_seconds(moment: SystemTime) -> Option<SystemTime> {
    const YEAR_10000: u64 = 253_402_300_800;
    let seconds = moment.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    (seconds < YEAR_10000).then(|| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// A field value of text that is printable ASCII by the way it is made; the empty value cannot be reached.
fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const PAGE: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
    const SCRIPT: [(&str, &str); 2] = [("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "script")];
    const NAVIGATION: [(&str, &str); 2] = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    const FETCH: [(&str, &str); 2] = [("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")];
    const FRAME: [(&str, &str); 2] = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")];

    fn folder() -> TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in [
            ("index.html", "<!doctype html>app"),
            ("index.html.gz", "gz:page"),
            ("about.html", "<!doctype html>about"),
            ("docs/index.html", "<!doctype html>docs"),
            ("café menu.txt", "menu"),
            ("100%.txt", "all"),
            ("assets/app-B3kd92Lx.js", "0123456789"),
            ("assets/app-B3kd92Lx.js.br", "br:0123"),
            ("assets/app-B3kd92Lx.js.gz", "gz:0123"),
            ("assets/app-B3kd92Lx.js.zst", "zst:0123"),
            ("assets/site.css", "body {}"),
            ("assets/lone.js.br", "no plain file"),
            ("empty.txt", ""),
            ("twin.txt", "same"),
            ("twin.txt.gz", "same"),
        ] {
            write(&folder, name, text);
        }
        folder
    }

    fn write(folder: &TempDir, name: &str, text: &str) {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        std::fs::write(&path, text).expect("a file");
        let modified = SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_900);
        std::fs::File::options().write(true).open(path).and_then(|it| it.set_modified(modified)).expect("sets");
    }

    async fn tree() -> FileTree {
        FileTree::load(folder().path(), 10_000).await.expect("loads")
    }

    fn find(tree: &FileTree, path: &str, fields: &[(&str, &str)]) -> Served {
        let mut builder = http::Request::builder();
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        let request = builder.body(()).expect("a request").into_parts().0;
        tree.find(&CanonicalPath::parse(path).expect("a path"), &request)
    }

    fn whole(served: Served) -> (HeaderMap, String) {
        match served {
            Served::Whole { headers, body } => (headers, String::from_utf8(body.into()).expect("text")),
            Served::Part { .. } | Served::NotModified { .. } | Served::Unsatisfiable { .. } | Served::Missing => {
                panic!("{served:?} instead of a whole file")
            }
        }
    }

    fn body(served: Served) -> String {
        whole(served).1
    }

    fn field<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
        headers.get(name).map(|value| value.to_str().expect("text"))
    }

    #[tokio::test]
    async fn a_file_is_found_by_its_path_decoded_once() {
        let tree = tree().await;
        assert_eq!(body(find(&tree, "/about.html", &[])), "<!doctype html>about");
        assert_eq!(body(find(&tree, "/caf%c3%a9%20menu.txt", &[])), "menu");
        assert_eq!(body(find(&tree, "/100%25.txt", &[])), "all");
        assert_eq!(body(find(&tree, "/empty.txt", &[])), "");
        for path in ["/caf%25c3%25a9%2520menu.txt", "/About.html", "/about.html/", "/about.html;x", "/%ff.txt"] {
            assert_eq!(find(&tree, path, &SCRIPT), Served::Missing, "{path}");
        }
    }

    #[tokio::test]
    async fn a_folder_answers_with_its_own_page_or_the_apps() {
        let tree = tree().await;
        assert_eq!(body(find(&tree, "/", &FETCH)), "<!doctype html>app");
        assert_eq!(body(find(&tree, "/docs/", &FETCH)), "<!doctype html>docs");
        assert_eq!(body(find(&tree, "/docs", &NAVIGATION)), "<!doctype html>app");
        assert_eq!(body(find(&tree, "/assets/", &NAVIGATION)), "<!doctype html>app");
        assert_eq!(find(&tree, "/assets/", &FETCH), Served::Missing);
    }

    #[tokio::test]
    async fn places_in_the_app_get_its_page_and_missing_files_do_not() {
        let tree = tree().await;
        let app = "<!doctype html>app";
        assert_eq!(body(find(&tree, "/orders/7", &NAVIGATION)), app);
        assert_eq!(body(find(&tree, "/orders/7", &[PAGE])), app);
        // A program that says nothing about itself, such as a health check.
        assert_eq!(body(find(&tree, "/orders/7", &[("accept", "*/*")])), app);
        // A place in the app may contain a dot.
        assert_eq!(body(find(&tree, "/users/jo.doe", &NAVIGATION)), app);
        for (path, fields) in [
            ("/assets/gone.js", &SCRIPT[..]),
            ("/assets/gone.js", &[]),
            ("/assets/gone.js", &[("accept", "*/*")]),
            ("/assets/gone", &SCRIPT),
            ("/orders/7", &FETCH),
            ("/orders/7", &FRAME),
        ] {
            assert_eq!(find(&tree, path, fields), Served::Missing, "{path} {fields:?}");
        }
        // Who probes for these takes any page for a yes.
        for path in ["/.well-known/change-password", "/.git/config", "/.env", "/docs/.hidden"] {
            assert_eq!(find(&tree, path, &NAVIGATION), Served::Missing, "{path}");
        }
    }

    #[tokio::test]
    async fn a_folder_without_a_page_falls_back_to_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        write(&folder, "a.js", "");
        let tree = FileTree::load(folder.path(), 10).await.expect("loads");
        assert_eq!(find(&tree, "/", &NAVIGATION), Served::Missing);
    }

    #[tokio::test]
    async fn pages_are_asked_for_each_time_and_only_we_may_frame_them() {
        // ASVS-3.4.3 to 3.4.6
        let (headers, _) = whole(find(&tree().await, "/orders", &NAVIGATION));
        for (name, expected) in [
            ("content-type", "text/html; charset=utf-8"),
            ("cache-control", "no-cache"),
            ("content-security-policy", "frame-ancestors 'self'"),
            ("x-content-type-options", "nosniff"),
            ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("vary", "accept-encoding"),
            ("accept-ranges", "bytes"),
        ] {
            assert_eq!(field(&headers, name), Some(expected), "{name}");
        }
        let (headers, _) = whole(find(&tree().await, "/assets/site.css", &SCRIPT));
        assert_eq!(field(&headers, "content-type"), Some("text/css; charset=utf-8"));
        assert_eq!(field(&headers, "x-content-type-options"), Some("nosniff"));
        assert_eq!(field(&headers, "cache-control"), Some("no-cache"));
        assert_eq!(field(&headers, "content-security-policy"), None);
        assert_eq!(field(&headers, "vary"), None);
        let (headers, _) = whole(find(&tree().await, "/assets/app-B3kd92Lx.js", &SCRIPT));
        assert_eq!(field(&headers, "cache-control"), Some("public, max-age=31536000, immutable"));
    }

    #[tokio::test]
    async fn each_form_of_a_file_has_its_own_tag() {
        let tree = tree().await;
        let form = |path: &str, coding: &str| {
            let (headers, body) = whole(find(&tree, path, &[("accept-encoding", coding)]));
            let text = |name: &str| field(&headers, name).map(str::to_owned);
            (text("content-encoding"), text("etag"), text("accept-ranges"), text("content-type"), body)
        };
        let mut tags = Vec::new();
        for (coding, name, bytes) in [
            ("gzip, br, zstd", Some("br"), "br:0123"),
            ("gzip, zstd", Some("zstd"), "zst:0123"),
            ("gzip", Some("gzip"), "gz:0123"),
            ("deflate", None, "0123456789"),
        ] {
            let (encoding, tag, ranges, media_type, body) = form("/assets/app-B3kd92Lx.js", coding);
            assert_eq!((encoding.as_deref(), body.as_str()), (name, bytes));
            assert_eq!(ranges.is_some(), name.is_none());
            assert_eq!(media_type.as_deref(), Some("text/javascript; charset=utf-8"));
            tags.push(tag.expect("a tag"));
        }
        tags.push(form("/twin.txt", "gzip").1.expect("a tag"));
        tags.push(form("/twin.txt", "").1.expect("a tag"));
        for (index, tag) in tags.iter().enumerate() {
            assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() >= 34, "{tag}");
            assert!(!tags[..index].contains(tag), "{tag} is used twice");
        }
        // A compressed file is a file too; without its plain file it is nothing else.
        assert_eq!(form("/assets/app-B3kd92Lx.js.gz", "gzip").4, "gz:0123");
        assert_eq!(find(&tree, "/assets/lone.js", &SCRIPT), Served::Missing);
    }

    #[tokio::test]
    async fn a_browser_that_has_the_form_it_would_get_is_told_so() {
        let tree = tree().await;
        let path = "/assets/app-B3kd92Lx.js";
        let (headers, _) = whole(find(&tree, path, &[("accept-encoding", "br")]));
        let tag = field(&headers, "etag").expect("a tag");
        let known = find(&tree, path, &[("accept-encoding", "br"), ("if-none-match", tag)]);
        let Served::NotModified { headers } = known else { panic!("{known:?}") };
        assert_eq!(field(&headers, "etag"), Some(tag));
        assert_eq!(field(&headers, "vary"), Some("accept-encoding"));
        assert_eq!(field(&headers, "cache-control"), Some("public, max-age=31536000, immutable"));
        assert_eq!(field(&headers, "x-content-type-options"), Some("nosniff"));
        for absent in ["content-type", "content-encoding", "content-length", "last-modified"] {
            assert_eq!(field(&headers, absent), None, "{absent}");
        }
        assert_eq!(body(find(&tree, path, &[("accept-encoding", "gzip"), ("if-none-match", tag)])), "gz:0123");
        let since = find(&tree, path, &[("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT")]);
        assert!(matches!(since, Served::NotModified { .. }), "{since:?}");
    }

    #[tokio::test]
    async fn ranges_are_of_the_plain_form() {
        let tree = tree().await;
        let path = "/assets/app-B3kd92Lx.js";
        let part = find(&tree, path, &[("range", "bytes=2-4"), ("accept-encoding", "br")]);
        let Served::Part { headers, body: bytes } = part else { panic!("{part:?}") };
        assert_eq!(bytes, "234");
        assert_eq!(field(&headers, "content-range"), Some("bytes 2-4/10"));
        assert_eq!(field(&headers, "content-encoding"), None);
        let tag = field(&headers, "etag").expect("a tag").to_owned();

        let rest = [("range", "bytes=2-"), ("accept-encoding", "br"), ("if-range", tag.as_str())];
        assert!(matches!(find(&tree, path, &rest), Served::Part { .. }));
        let (headers, _) = whole(find(&tree, path, &[("accept-encoding", "br")]));
        let coded = field(&headers, "etag").expect("a tag");
        let rest = [("range", "bytes=2-"), ("accept-encoding", "br"), ("if-range", coded)];
        assert_eq!(body(find(&tree, path, &rest)), "br:0123");

        let beyond = find(&tree, path, &[("range", "bytes=10-")]);
        let Served::Unsatisfiable { headers } = beyond else { panic!("{beyond:?}") };
        assert_eq!(field(&headers, "content-range"), Some("bytes */10"));
        // Whether anything has changed is asked first.
        let known = find(&tree, path, &[("range", "bytes=2-4"), ("if-none-match", tag.as_str())]);
        assert!(matches!(known, Served::NotModified { .. }), "{known:?}");
    }

    #[tokio::test]
    async fn a_time_that_http_cannot_state_is_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        write(&folder, "a.txt", "a");
        let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
        let file = std::fs::File::options().write(true).open(folder.path().join("a.txt")).expect("opens");
        file.set_modified(before).expect("sets");
        let tree = FileTree::load(folder.path(), 10).await.expect("loads");
        let (headers, _) = whole(find(&tree, "/a.txt", &[("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT")]));
        assert_eq!(field(&headers, "last-modified"), None);
    }

    #[tokio::test]
    async fn a_changed_folder_is_read_again_and_a_broken_one_changes_nothing() {
        let folder = folder();
        let files = Files::open(folder.path(), 10_000).await.expect("opens");
        let before = files.current();
        assert_eq!(files.refresh().await.expect("reads"), Refreshed::Unchanged);
        assert!(Arc::ptr_eq(&before, &files.current()));

        write(&folder, "new.txt", "new");
        assert_eq!(files.refresh().await.expect("reads"), Refreshed::Reloaded);
        assert_eq!(body(find(&files.current(), "/new.txt", &[])), "new");
        assert_eq!(find(&before, "/new.txt", &[]), Served::Missing);

        write(&folder, "large.txt", &"x".repeat(10_000));
        assert!(matches!(files.refresh().await, Err(FilesError::TooLarge { .. })));
        drop(folder);
        assert!(matches!(files.refresh().await, Err(FilesError::Unreadable { .. })));
        assert_eq!(body(find(&files.current(), "/new.txt", &[])), "new");
    }

    #[tokio::test]
    async fn half_a_deployment_is_not_served() {
        let folder = folder();
        let files = Files::open(folder.path(), 10_000).await.expect("opens");
        std::fs::remove_file(folder.path().join("about.html")).expect("removes");
        let half = FileTree::load(folder.path(), 10_000).await.expect("loads");
        write(&folder, "about.html", "<!doctype html>new");
        let after = fingerprint(folder.path()).await.expect("reads");
        assert_eq!(files.adopt(half, after), Refreshed::Moving);
        assert_eq!(body(find(&files.current(), "/about.html", &[])), "<!doctype html>about");
        assert_eq!(files.refresh().await.expect("reads"), Refreshed::Reloaded);
        assert_eq!(body(find(&files.current(), "/about.html", &[])), "<!doctype html>new");
    }
}
