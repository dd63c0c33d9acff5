//! JSON of other parties: objects only, no member twice, types checked with the member's name in the error.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::error::Error;

/// Reads an object whose members are all different (RFC 7519 section 4, RFC 8725 section 3.14).
pub(super) fn object(bytes: &[u8], what: &'static str) -> Result<Map<String, Value>, Error> {
    let Unique(object) = serde_json::from_slice(bytes)
        .map_err(|_| Error::misbehaved(format!("{what} is not a JSON object with distinct members")))?;
    Ok(object)
}

/// The text under `name`; none if there is no such member or it is null.
pub(super) fn text<'a>(object: &'a Map<String, Value>, name: &'static str) -> Result<Option<&'a str>, Error> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Error::misbehaved(format!("{name} is not a string"))),
    }
}

/// The seconds under `name`, written as a number or as its text. Absurd values are capped at ten years.
pub(super) fn seconds(object: &Map<String, Value>, name: &'static str) -> Result<Option<Duration>, Error> {
    const TEN_YEARS: f64 = 10.0 * 365.0 * 86_400.0;
    let number = match object.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => None,
    };
    match number {
        Some(seconds) if seconds.is_finite() => Ok(Some(Duration::from_secs_f64(seconds.clamp(0.0, TEN_YEARS)))),
        Some(_) | None => Err(Error::misbehaved(format!("{name} is not a number of seconds"))),
    }
}

/// The list of texts under `name`; none if there is no such member.
pub(super) fn texts(object: &Map<String, Value>, name: &'static str) -> Result<Option<Vec<String>>, Error> {
    let wrong = || Error::misbehaved(format!("{name} is not a list of strings"));
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let items = value.as_array().ok_or_else(wrong)?;
            let texts: Option<_> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
            texts.map(Some).ok_or_else(wrong)
        }
    }
}

struct Unique(Map<String, Value>);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Unique;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Unique, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(serde::de::Error::custom("a member twice"));
                    }
                }
                Ok(Unique(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}
