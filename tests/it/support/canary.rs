//! Whether a text that must stay hidden was received, in any of the forms in which it would still be readable.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// RFC 3986 section 2.3: what a percent-encoder leaves alone.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The name of the form in which `needle` occurs in `haystack`, if it does: plain, percent-encoded with either case of
/// the digits, or within a longer text that was encoded as base64 or base64url.
///
/// The needle must be at least eight bytes long: anything shorter is found in random bytes sooner or later.
pub(crate) fn form_found(haystack: &[u8], needle: &str) -> Option<&'static str> {
    assert!(needle.len() >= 8, "{needle:?} is too short to search for");
    forms(needle).into_iter().find(|(_, text)| contains(haystack, text.as_bytes())).map(|(form, _)| form)
}

fn forms(needle: &str) -> Vec<(&'static str, String)> {
    let percent_encoded = percent_encode(needle.as_bytes(), RESERVED).to_string();
    let mut forms = vec![
        ("plain", needle.to_owned()),
        ("percent-encoded", lower_case_digits(&percent_encoded)),
        ("percent-encoded", percent_encoded),
    ];
    for offset in 0..3 {
        forms.push(("base64", embedded(base64_simd::STANDARD_NO_PAD, offset, needle)));
        forms.push(("base64url", embedded(base64_simd::URL_SAFE_NO_PAD, offset, needle)));
    }
    forms
}

/// The characters that depend on the needle alone, when it is encoded behind a multiple of three bytes and `offset` more.
fn embedded(encoding: base64_simd::Base64, offset: usize, needle: &str) -> String {
    let bytes = [&[0; 3][..offset], needle.as_bytes()].concat();
    let text = encoding.encode_to_string(&bytes);
    text[(offset * 8).div_ceil(6)..bytes.len() * 8 / 6].to_owned()
}

fn lower_case_digits(percent_encoded: &str) -> String {
    let mut parts = percent_encoded.split('%');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + "%" + &part[..2].to_ascii_lowercase() + &part[2..])
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

mod tests {
    use super::form_found;

    const TOKEN: &str = "secret+token/of=Ada";

    #[test]
    fn a_token_is_found_in_every_form() {
        assert_eq!(form_found(b"x secret+token/of=Ada y", TOKEN), Some("plain"));
        assert_eq!(form_found(b"?t=secret%2Btoken%2Fof%3DAda", TOKEN), Some("percent-encoded"));
        assert_eq!(form_found(b"?t=secret%2btoken%2fof%3dAda", TOKEN), Some("percent-encoded"));
        for before in ["", "1", "12", "123", "1234"] {
            let text = format!("{before}{TOKEN}and more");
            let standard = base64_simd::STANDARD.encode_to_string(&text);
            assert_eq!(form_found(standard.as_bytes(), TOKEN), Some("base64"), "behind {before:?}");
            let url_safe = base64_simd::URL_SAFE_NO_PAD.encode_to_string(format!("{before}\u{3ff}{TOKEN}"));
            assert!(form_found(url_safe.as_bytes(), TOKEN).is_some(), "behind {before:?}");
        }
    }

    #[test]
    fn other_texts_are_not_taken_for_the_token() {
        assert_eq!(form_found(b"secret+token/of=Eve, and c2VjcmV0", TOKEN), None);
        assert_eq!(form_found(b"", TOKEN), None);
    }
}
