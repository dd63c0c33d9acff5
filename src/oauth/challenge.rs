//! What a resource server asks for in its challenge: a stronger or fresher login (RFC 9470), or more scope (RFC 6750
//! section 3.1).

use http::{HeaderMap, StatusCode, header};

/// What is missing from the access token, and what the resource server says would do.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepUp {
    /// A login of another kind, or a more recent one (RFC 9470 section 3).
    Authentication {
        /// The authentication context classes that would do, separated by spaces.
        acr_values: Option<String>,
        /// How many seconds ago the person may have authenticated at most.
        max_age: Option<u64>,
    },
    /// More scope: the scope that would do, separated by spaces, if it is said.
    Scope(Option<String>),
}

/// Longer values are not passed on, in bytes.
const MAX_VALUE: usize = 512;

impl StepUp {
    /// Reads it from the head of an answer. Other challenges beside it, in any order and case, are passed over.
    pub fn read(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        if status != StatusCode::UNAUTHORIZED && status != StatusCode::FORBIDDEN {
            return None;
        }
        let texts = headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let mut challenges = texts.flat_map(|text| http_auth::ChallengeParser::new(text).map_while(Result::ok));
        challenges.find_map(|challenge| Self::of(&challenge))
    }

    fn of(challenge: &http_auth::ChallengeRef<'_>) -> Option<Self> {
        if !["Bearer", "DPoP"].iter().any(|scheme| challenge.scheme.eq_ignore_ascii_case(scheme)) {
            return None;
        }
        let parameter = |wanted: &str| {
            let found = challenge.params.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.to_unescaped()).filter(|value| is_presentable(value))
        };
        match parameter("error")?.as_str() {
            "insufficient_user_authentication" => Some(Self::Authentication {
                acr_values: parameter("acr_values"),
                max_age: parameter("max_age").and_then(|text| text.parse().ok()),
            }),
            "insufficient_scope" => Some(Self::Scope(parameter("scope"))),
            _ => None,
        }
    }
}

fn is_presentable(value: &str) -> bool {
    !value.is_empty() && value.len() <= MAX_VALUE && value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn read(status: u16, challenges: &[&str]) -> Option<StepUp> {
        let mut headers = HeaderMap::new();
        for challenge in challenges {
            headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_str(challenge).expect("is a value"));
        }
        StepUp::read(StatusCode::from_u16(status).expect("is a status"), &headers)
    }

    fn authentication(acr_values: Option<&str>, max_age: Option<u64>) -> Option<StepUp> {
        Some(StepUp::Authentication { acr_values: acr_values.map(str::to_owned), max_age })
    }

    #[test]
    fn a_stronger_login_is_asked_for_with_what_would_do() {
        // STEP-4-01, BT-3-01
        let plain = r#"Bearer error="insufficient_user_authentication", acr_values="gold silver", max_age="5""#;
        assert_eq!(read(401, &[plain]), authentication(Some("gold silver"), Some(5)));
        let mixed = r#"Basic realm="a, b", bEARER max_age=60, ERROR="insufficient_user_authentication""#;
        assert_eq!(read(401, &[mixed]), authentication(None, Some(60)));
        assert_eq!(read(401, &["Basic realm=x", plain]), authentication(Some("gold silver"), Some(5)));
        let bound = r#"DPoP algs="ES256", error="insufficient_user_authentication""#;
        assert_eq!(read(401, &[bound]), authentication(None, None));
    }

    #[test]
    fn more_scope_is_asked_for() {
        let text = r#"Bearer realm="r", error="insufficient_scope", scope="orders:write admin""#;
        assert_eq!(read(403, &[text]), Some(StepUp::Scope(Some("orders:write admin".to_owned()))));
        assert_eq!(read(403, &[r"Bearer error=insufficient_scope"]), Some(StepUp::Scope(None)));
    }

    #[test]
    fn other_answers_ask_for_nothing() {
        for (status, challenge) in [
            (200, r#"Bearer error="insufficient_scope""#),
            (401, r#"Bearer error="invalid_token""#),
            (401, "Bearer"),
            (401, r#"Basic error="insufficient_scope""#),
            (401, "\"\"\"=,,="),
        ] {
            assert_eq!(read(status, &[challenge]), None, "{challenge}");
        }
        assert_eq!(read(401, &[]), None);
    }

    #[test]
    fn absurd_values_are_left_out() {
        // STEP-R-01
        let long = "x".repeat(MAX_VALUE + 1);
        let text = format!(r#"Bearer error="insufficient_user_authentication", acr_values="{long}", max_age="-1""#);
        assert_eq!(read(401, &[&text]), authentication(None, None));
    }

    proptest! {
        #[test]
        fn no_challenge_makes_the_reader_panic(text in "[ -~]{0,200}") {
            drop(read(401, &[&text]));
        }
    }
}
