//! What is wrong with a configuration, said so that it can be put right without reading the source.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// One thing that is wrong. It prints as `key: found; remedy`, and never shows a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key as the file has it: `session.idle`, `route["/api/"].auth`.
    pub key: String,
    /// What was found there.
    pub found: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, found, remedy } = self;
        write!(f, "{key}: {found}; {remedy}")
    }
}

/// Everything that is wrong with a configuration, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub(super) Vec<Problem>);

impl Problems {
    /// The problems, one by one.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    /// One problem a line, without an end of line after the last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Problems while they are being found, and where the file has what they name.
#[derive(Debug, Default)]
pub(super) struct Findings {
    problems: Vec<Problem>,
    places: BTreeMap<String, usize>,
}

impl Findings {
    /// None yet, in a file that has its keys at these places.
    pub(super) const fn new(places: BTreeMap<String, usize>) -> Self {
        Self { problems: Vec::new(), places }
    }

    pub(super) fn note(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Whether something is wrong with `key` already.
    pub(super) fn has(&self, key: &str) -> bool {
        self.problems.iter().any(|problem| problem.key == key)
    }

    /// The problems in the order of the file, what it lacks altogether last; none if there are none.
    pub(super) fn finish(self) -> Option<Problems> {
        let Self { mut problems, places } = self;
        problems.sort_by_key(|problem| place(&places, &problem.key));
        (!problems.is_empty()).then_some(Problems(problems))
    }
}

/// Where a key stands; one that is missing stands where its table begins.
fn place(places: &BTreeMap<String, usize>, key: &str) -> usize {
    match (places.get(key), key.rfind(['.', '['])) {
        (Some(place), _) => *place,
        (None, Some(end)) => place(places, key.get(..end).unwrap_or_default()),
        (None, None) => usize::MAX,
    }
}

/// What is wrong with a value, as long as nobody has said which key it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    found: String,
    remedy: String,
}

impl Flaw {
    pub(super) fn new(found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { found: found.into(), remedy: remedy.into() }
    }

    /// Takes over what another ring says as `found; remedy`.
    pub(super) fn from_words(words: &str, otherwise: &str) -> Self {
        let (found, remedy) = words.split_once("; ").unwrap_or((words, otherwise));
        Self::new(found, remedy)
    }

    pub(super) fn at(self, key: impl Into<String>) -> Problem {
        Problem { key: key.into(), found: self.found, remedy: self.remedy }
    }
}

/// Values are repeated up to this many characters.
const SHOWN: usize = 80;

/// A value as a report shows it: in quotes, on one line, not endless.
///
/// A text with `@` may be a URL with a password in it, and one that begins as our keys do is a key in the wrong place.
pub(super) fn quoted(value: &str) -> Cow<'static, str> {
    if value.contains('@') || value.contains("vestibule-key") {
        return Cow::Borrowed("a text that may hold a secret (not shown)");
    }
    match value.char_indices().nth(SHOWN) {
        Some((end, _)) => Cow::Owned(format!("{:?}…", value.get(..end).unwrap_or_default())),
        None => Cow::Owned(format!("{value:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_print_one_a_line() {
        let problems = Problems(vec![
            Flaw::new("there is none", "write one").at("server.public_url"),
            Flaw::from_words("too long; make it shorter", "").at("session.idle"),
            Flaw::from_words("too long", "see the reference").at("session.absolute"),
        ]);
        assert_eq!(
            problems.to_string(),
            "server.public_url: there is none; write one\n\
             session.idle: too long; make it shorter\n\
             session.absolute: too long; see the reference"
        );
    }

    #[test]
    fn values_are_shown_on_one_line_and_not_endlessly() {
        assert_eq!(quoted("a\n\u{1b}[31mb"), r#""a\n\u{1b}[31mb""#);
        assert_eq!(quoted(&"ä".repeat(500)).chars().count(), SHOWN + 3);
        // BCP-4.9-01
        assert!(!quoted("https://ada:hunter2@api.test").contains("hunter2"));
        assert!(!quoted("vestibule-key.1.0.hunter2").contains("hunter2"));
    }
}
