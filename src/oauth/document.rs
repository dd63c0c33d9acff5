//! JSON objects from outside, read member by member; whatever does not fit is named.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::error::{Misbehaviour, presentable};
use crate::clock::Timestamp;

/// A JSON object whose members are unique (RFC 7519 section 4, RFC 6749 section 5.1).
///
/// A member that is null counts as absent, as servers that print every member have it.
#[derive(Debug)]
pub(super) struct Document {
    name: &'static str,
    members: Map<String, Value>,
}

impl Document {
    /// Reads the object; `name` is what faults call it.
    pub(super) fn read(name: &'static str, bytes: &[u8]) -> Result<Self, Misbehaviour> {
        // The parser's own messages quote the text, which may be a token.
        match serde_json::from_slice(bytes) {
            Ok(Members::Unique(members)) => Ok(Self { name, members }),
            Ok(Members::Repeated(member)) => {
                Err(format!("{name}: {} occurs more than once", presentable(&member)).into())
            }
            Err(_) => Err(format!("{name}: not a JSON object").into()),
        }
    }

    /// The fault that `member` is something that it must not be.
    pub(super) fn fault(&self, member: &str, what: &str) -> Misbehaviour {
        format!("{}: {member} {what}", self.name).into()
    }

    /// The member as it is.
    pub(super) fn value(&self, member: &str) -> Option<&Value> {
        self.members.get(member).filter(|value| !value.is_null())
    }

    /// A text; none if it is absent or empty.
    pub(super) fn text(&self, member: &str) -> Result<Option<&str>, Misbehaviour> {
        match self.value(member) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) | Value::Null) => {
                Err(self.fault(member, "is not a string"))
            }
        }
    }

    /// A text that has to be there.
    pub(super) fn required_text(&self, member: &str) -> Result<&str, Misbehaviour> {
        self.text(member)?.ok_or_else(|| self.fault(member, "is absent"))
    }

    /// A list of texts; a single text is a list of one.
    pub(super) fn texts(&self, member: &str) -> Result<Option<Vec<String>>, Misbehaviour> {
        match self.value(member) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(vec![text.clone()])),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .map(Some)
                .ok_or_else(|| self.fault(member, "holds something that is not a string")),
            Some(Value::Bool(_) | Value::Number(_) | Value::Object(_) | Value::Null) => {
                Err(self.fault(member, "is not a list of strings"))
            }
        }
    }

    /// Yes or no; absent is no.
    pub(super) fn flag(&self, member: &str) -> Result<bool, Misbehaviour> {
        match self.value(member) {
            None => Ok(false),
            Some(value) => value.as_bool().ok_or_else(|| self.fault(member, "is not true or false")),
        }
    }

    /// An object within this one, called `name` in faults.
    pub(super) fn object(&self, member: &str, name: &'static str) -> Result<Option<Self>, Misbehaviour> {
        match self.value(member) {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(Some(Self { name, members: members.clone() })),
            Some(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Null) => {
                Err(self.fault(member, "is not an object"))
            }
        }
    }

    /// A moment, in seconds since the epoch (RFC 7519 section 2, NumericDate).
    pub(super) fn moment(&self, member: &str) -> Result<Option<Timestamp>, Misbehaviour> {
        self.value(member)
            .map(|value| seconds(value).map(Timestamp::from_secs).ok_or_else(|| self.fault(member, "is not a time")))
            .transpose()
    }

    /// A moment that has to be there.
    pub(super) fn required_moment(&self, member: &str) -> Result<Timestamp, Misbehaviour> {
        self.moment(member)?.ok_or_else(|| self.fault(member, "is absent"))
    }

    /// All members.
    pub(super) fn into_members(self) -> Map<String, Value> {
        self.members
    }
}

/// A JSON number as whole seconds, not negative; fractions are cut off, and what is too large saturates.
pub(super) fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().filter(|it| *it >= 0.0).map(|it| it as u64))
}

enum Members {
    Unique(Map<String, Value>),
    Repeated(String),
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let (mut members, mut repeated) = (Map::new(), None);
        while let Some((name, value)) = access.next_entry::<String, Value>()? {
            if members.contains_key(&name) {
                repeated.get_or_insert(name);
            } else {
                members.insert(name, value);
            }
        }
        Ok(repeated.map_or(Members::Unique(members), Members::Repeated))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault<T: fmt::Debug>(result: Result<T, Misbehaviour>) -> String {
        result.expect_err("is a fault").to_string()
    }

    #[test]
    fn what_does_not_fit_is_named_and_never_quoted() {
        let document = Document::read("metadata", br#"{"a":1,"b":["x",2],"c":"","d":null,"e":-1}"#).expect("reads");
        assert_eq!(fault(document.text("a")), "metadata: a is not a string");
        assert_eq!(fault(document.texts("b")), "metadata: b holds something that is not a string");
        assert_eq!(fault(document.required_text("c")), "metadata: c is absent");
        assert_eq!(fault(document.required_text("d")), "metadata: d is absent");
        assert_eq!(fault(document.moment("e")), "metadata: e is not a time");
        assert_eq!(fault(document.flag("a")), "metadata: a is not true or false");
        assert_eq!(fault(Document::read("token", br#""a-secret""#)), "token: not a JSON object");
        assert_eq!(fault(Document::read("token", br#"{"a":"a-secret"#)), "token: not a JSON object");
        assert_eq!(fault(Document::read("token", b"{} {}")), "token: not a JSON object");
    }

    #[test]
    fn a_member_that_occurs_twice_is_named() {
        // OIDC-2-02
        let text = br#"{"aud":"a","iss":"i","aud":"b"}"#;
        assert_eq!(fault(Document::read("ID token", text)), "ID token: aud occurs more than once");
        let escaped = br#"{"aud":"a","\u0061ud":"b"}"#;
        assert_eq!(fault(Document::read("ID token", escaped)), "ID token: aud occurs more than once");
    }

    #[test]
    fn times_may_have_fractions_but_no_sign() {
        assert_eq!(seconds(&1.9.into()), Some(1));
        assert_eq!(seconds(&1e300.into()), Some(u64::MAX));
        assert_eq!(seconds(&(-1).into()), None);
        assert_eq!(seconds(&"1".into()), None);
    }
}
