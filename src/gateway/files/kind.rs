//! What the name of a file says: its media type, and how long browsers may keep it unasked.

/// The media type of a file, as `Content-Type` states it.
pub(super) fn media_type(name: &str) -> String {
    match name.rsplit_once('.') {
        // RFC 9239 section 6 made the older types for scripts obsolete.
        Some((_, "js" | "mjs")) => return "text/javascript; charset=utf-8".to_owned(),
        Some((_, "map")) => return "application/json".to_owned(),
        Some(_) | None => {}
    }
    let guess = mime_guess::from_path(name).first_or_octet_stream();
    if guess.type_() == mime_guess::mime::TEXT { format!("{guess}; charset=utf-8") } else { guess.to_string() }
}

/// How long a file may be kept: for ever if a changed file gets another name, else only if it is asked for each time.
pub(super) fn cache_control(name: &str) -> &'static str {
    let name = name.rsplit('/').next().unwrap_or_default();
    if carries_hash(name) { "public, max-age=31536000, immutable" } else { "no-cache" }
}

/// What bundlers write with a hash in its name. A document that is called `report-B3kd92Lx.pdf` is none of it.
const BUNDLED: [&str; 22] = [
    "js", "mjs", "css", "map", "wasm", "woff", "woff2", "ttf", "otf", "eot", "svg", "png", "jpg", "jpeg", "gif",
    "webp", "avif", "ico", "mp4", "webm", "mp3", "ogg",
];

/// Whether a name carries a hash of the file's content, as bundlers write them: `index-B3kd92Lx.js`,
/// `main.3f2a1c9e.chunk.css.map`.
///
/// A wrong yes leaves an old file in browsers for a year, a wrong no costs a question per visit: doubt means no.
fn carries_hash(name: &str) -> bool {
    let Some((mut stem, extension)) = name.rsplit_once('.') else { return false };
    if !BUNDLED.contains(&extension) {
        return false;
    }
    for ending in [".js", ".mjs", ".css", ".chunk", ".bundle", ".min"] {
        stem = stem.strip_suffix(ending).unwrap_or(stem);
    }
    let last_part = stem.rsplit_once(['-', '.']).is_some_and(|(name, part)| !name.is_empty() && is_hexadecimal(part));
    // A hash in base64url may contain the dash that sets it off, so its length decides where it begins.
    let at_end = stem.len().checked_sub(SHORT_HASH + 1).and_then(|start| stem.split_at_checked(start));
    let set_off = at_end.and_then(|(name, rest)| Some(rest.strip_prefix(['-', '.'])?).filter(|_| !name.is_empty()));
    last_part || set_off.is_some_and(|part| is_base64(part) || is_base32(part))
}

/// The length of a hash by Rollup, Vite and esbuild.
const SHORT_HASH: usize = 8;

/// webpack, Parcel: lower-case hexadecimal, cut at a usual length. A date has no letters, a word no digits.
fn is_hexadecimal(part: &str) -> bool {
    matches!(part.len(), 8 | 10 | 12 | 16 | 20 | 32 | 40 | 64)
        && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && part.bytes().any(|byte| byte.is_ascii_digit())
        && part.bytes().any(|byte| byte.is_ascii_lowercase())
}

/// Rollup, Vite: base64url. Words in camel case are made of fewer pieces (`DropDown` of two).
fn is_base64(part: &str) -> bool {
    part.len() == SHORT_HASH
        && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        && part.bytes().any(|byte| byte.is_ascii_uppercase())
        && part.bytes().any(|byte| byte.is_ascii_lowercase())
        && pieces(part) >= 4
}

/// esbuild: base32, which lacks four digits that years and counters have.
fn is_base32(part: &str) -> bool {
    part.len() == SHORT_HASH && part.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7')) && pieces(part) >= 3
}

/// How many words and numbers a name is made of; a capital begins a word, or goes on with one of capitals.
fn pieces(part: &str) -> usize {
    let class = |byte: u8| (byte.is_ascii_lowercase(), byte.is_ascii_uppercase(), byte.is_ascii_digit());
    let goes_on = |(before, after): &(u8, u8)| {
        class(*before) == class(*after) || (before.is_ascii_uppercase() && after.is_ascii_lowercase())
    };
    let boundaries = part.bytes().zip(part.bytes().skip(1)).filter(|pair| !goes_on(pair)).count();
    boundaries + usize::from(!part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_bundlers_give_are_kept_for_a_year() {
        for name in [
            "index-B3kd92Lx.js",
            "main.3f2a1c9e.css",
            "index-D_x-9aB2.js",
            "vendor-DHk2PaVz.mjs",
            "app-5XJUQ2KZ.js",
            "main.3f2a1c9e.chunk.js",
            "main.3f2a1c9e.js.map",
            "main.3f2a1c9e.chunk.css.map",
            "logo-CkR0hd1s.svg",
            "runtime.4f2a1c9e8b7d6e5f4a3b.js",
            "a-1234567890abcdef.js",
            "font.8a7b6c5d.woff2",
            "start.CkR0hd1s.js",
            "my-page-one-B3kd92Lx.css",
            "index-B3kd92Lx.min.js",
        ] {
            assert!(carries_hash(name), "{name}");
        }
        assert_eq!(cache_control("/assets/index-B3kd92Lx.js"), "public, max-age=31536000, immutable");
    }

    #[test]
    fn names_that_people_give_are_asked_for_each_time() {
        for name in [
            "index.html",
            "app.js",
            "sw.js",
            "manifest.webmanifest",
            "favicon.ico",
            "jquery-3.7.1.min.js",
            "bootstrap-5.3.0-beta1.css",
            "photo-20240115.png",
            "photo-20240115a.png",
            "report-B3kd92Lx.pdf",
            "page-3f2a1c9e.html",
            "menu-DropDown.js",
            "logo-MyBigApp.svg",
            "lib-version12.js",
            "three-r152build.js",
            "IMG-DSC01234.jpg",
            "scan-REPORT24.png",
            "chart-Q3FY2024.png",
            "a-JavaScript.js",
            "x-deadbeef.js",
            "-B3kd92Lx.js",
            ".3f2a1c9e.js",
            "3f2a1c9e.js",
            "B3kd92Lx.js",
            "messages-one-two2.js",
            "polyfills.js",
            "",
            ".",
            "..",
            "-",
            ".js",
            "ä-ööööö.js",
            "service-worker.js",
            "icon-512x512.png",
            "icon-maskable.png",
            "IPhone-1284x2778.png",
            "config-production.js",
        ] {
            assert!(!carries_hash(name), "{name}");
        }
        // A folder may be called what it likes.
        assert_eq!(cache_control("/main.3f2a1c9e.js/app.js"), "no-cache");
    }

    #[test]
    fn media_types_follow_the_extension_and_text_is_utf_8() {
        for (name, expected) in [
            ("/index.html", "text/html; charset=utf-8"),
            ("/a/app.js", "text/javascript; charset=utf-8"),
            ("/app.mjs", "text/javascript; charset=utf-8"),
            ("/app.css", "text/css; charset=utf-8"),
            ("/a.json", "application/json"),
            ("/app.js.map", "application/json"),
            ("/app.webmanifest", "application/manifest+json"),
            ("/a.svg", "image/svg+xml"),
            ("/a.wasm", "application/wasm"),
            ("/a.woff2", "font/woff2"),
            ("/LICENSE", "application/octet-stream"),
        ] {
            assert_eq!(media_type(name), expected, "{name}");
        }
    }
}
