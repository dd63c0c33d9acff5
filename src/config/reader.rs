//! Reading tables into structs, so that everything that does not fit is found, and said what to do about it.

use std::collections::BTreeSet;

use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor, value};
use serde::forward_to_deserialize_any;
use toml::{Table, Value};

use super::problem::{Flaw, Problem};

/// Reads tables, and gathers what is wrong with them.
#[derive(Default)]
pub(super) struct Reader {
    known: BTreeSet<(&'static str, &'static str)>,
    problems: Vec<Problem>,
    unknown: Vec<Unknown>,
}

/// A key that no struct names: in which table, under which name in reports, and the key.
struct Unknown {
    table: &'static str,
    at: String,
    key: String,
}

impl Reader {
    /// Reads the table that is called `name`, and `at` in reports.
    ///
    /// It goes key by key, so that one that does not fit hides no other. What does not fit is left out.
    pub(super) fn table<T: Default + DeserializeOwned>(&mut self, name: &'static str, at: &str, table: Table) -> T {
        let keys = keys_of::<T>();
        self.known.extend(keys.iter().map(|key| (name, *key)));
        let mut fitting = Table::new();
        for (key, value) in table {
            if !keys.contains(&key.as_str()) {
                self.unknown.push(Unknown { table: name, at: at.to_owned(), key });
                continue;
            }
            let alone = Table::from_iter([(key.clone(), value.clone())]);
            match alone.try_into::<T>() {
                Ok(_) => drop(fitting.insert(key, value)),
                Err(error) => self.problems.push(misfit(&value, error.message()).at(path(at, &key))),
            }
        }
        fitting.try_into().unwrap_or_default()
    }

    /// Every key of every table that was read: the table's name, and the key.
    pub(super) const fn known(&self) -> &BTreeSet<(&'static str, &'static str)> {
        &self.known
    }

    /// All problems. Only now every known name is known.
    pub(super) fn finish(self) -> Vec<Problem> {
        let Self { known, mut problems, unknown } = self;
        problems.extend(unknown.into_iter().map(|it| {
            let flaw = Flaw::new("there is no such key", advice(&known, &it));
            flaw.at(path(&it.at, &it.key))
        }));
        problems
    }
}

/// Names are near when at least this share of their letters agrees.
const NEAR: f64 = 0.6;

/// What to do about an unknown key: the nearest name beside it, or the table that has this very name.
fn advice(known: &BTreeSet<(&'static str, &'static str)>, unknown: &Unknown) -> String {
    let Unknown { table, key, .. } = unknown;
    let beside: Vec<_> = known.iter().filter(|(other, _)| other == table).map(|(_, name)| *name).collect();
    let likeness = |name: &str| strsim::normalized_damerau_levenshtein(name, &key.to_lowercase());
    let nearest = beside.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    if let Some(nearest) = nearest.filter(|name| likeness(name) >= NEAR) {
        return format!("did you mean `{nearest}`?");
    }
    // The names of a route are too common to say that somebody meant one.
    match known.iter().find(|(home, name)| name == key && *home != "route") {
        Some(("", _)) => format!("write `{key}` at the top of the file, before the first table"),
        Some((home, _)) => format!("write `{key}` in [{home}]"),
        None => format!("remove it; known here: {}", beside.join(", ")),
    }
}

/// What is wrong with a value of the wrong kind. The value itself is not repeated: it may be a secret.
fn misfit(value: &Value, message: &str) -> Flaw {
    const LIST: &str = "a list, in square brackets";
    let expected = match message.rsplit_once("expected ").map_or(message, |(_, expected)| expected) {
        "a string" => "a text in quotes",
        "a sequence" => LIST,
        "a map" => "a table",
        "a boolean" => "true or false",
        other => other,
    };
    let found = match value {
        Value::String(_) => "a text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number with a fraction",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date or time",
        Value::Array(_) if expected != LIST => "this list, or an entry of it,",
        Value::Table(_) if expected != "a table" && expected != LIST => "this table, or an entry of it,",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    };
    Flaw::new(format!("{found} cannot stand here"), format!("write {expected}"))
}

/// A key as reports name it.
pub(super) fn path(table: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let key = if bare { key.to_owned() } else { format!("{key:?}") };
    if table.is_empty() { key } else { format!("{table}.{key}") }
}

/// The keys that a struct names, asked of its own `Deserialize`.
fn keys_of<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut keys: &'static [&'static str] = &[];
    drop(T::deserialize(KeyListener(&mut keys)));
    keys
}

/// Hears which keys a struct asks for, and gives it nothing.
struct KeyListener<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for KeyListener<'_> {
    type Error = value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(value::Error::custom("there is nothing to read"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
