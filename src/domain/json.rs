//! JSON objects that are changed in a place or two and otherwise stay as they were written.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The entries of a JSON object as they stand in its text. Keys stay raw too: `"\ud800"` is legal JSON that no Rust string can
/// hold, and a key may be spelled with escapes or stand there twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entries<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Entries<'a> {
    /// `None` unless the text is one JSON object.
    pub fn parse(text: &'a str) -> Option<Self> {
        let is_object = text.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{');
        is_object.then(|| serde_json::from_str(text).ok())?
    }

    /// The text of a key's value; of the last one if the key is repeated, as JavaScript reads it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| is_string(key, name)).map(|(_, value)| value.as_ref())
    }

    /// Is the key's value this string?
    pub fn is(&self, name: &str, text: &str) -> bool {
        self.get(name).is_some_and(|value| is_string(value, text))
    }

    /// Is this string a value of the key, in any of its repetitions?
    pub fn says(&self, name: &str, text: &str) -> bool {
        self.0.iter().any(|(key, value)| is_string(key, name) && is_string(value, text))
    }

    /// Gives a key this JSON text: where it stands, else at the end. Repetitions go.
    pub fn set(&mut self, name: &str, value: impl Into<Cow<'a, str>>) {
        let place = self.0.iter().position(|(key, _)| is_string(key, name)).unwrap_or(self.0.len());
        self.remove(name);
        let key = serde_json::Value::from(name).to_string();
        self.0.insert(place.min(self.0.len()), (key.into(), value.into()));
    }

    /// Takes a key out, every repetition of it. True if it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|(key, _)| !is_string(key, name));
        self.0.len() < before
    }
}

/// The object's text.
impl fmt::Display for Entries<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (key, value)) in self.0.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma}{key}:{value}")?;
        }
        f.write_str("}")
    }
}

/// Is this JSON text a string, and this one?
fn is_string(json: &str, text: &str) -> bool {
    json.starts_with('"') && serde_json::from_str::<Cow<'_, str>>(json).is_ok_and(|s| s == text)
}

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut entries = Vec::with_capacity(map.size_hint().unwrap_or(0));
                while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                    entries.push((Cow::Borrowed(key.get()), Cow::Borrowed(value.get())));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_touched_stays() {
        let text = r#"{"b":1.0,"\ud800":12345678901234567890,"a":[ 1 ],"\u0061":2}"#;
        let mut entries = Entries::parse(text).unwrap();
        assert_eq!(entries.to_string(), text);
        assert_eq!(entries.get("a"), Some("2"), "the last of two spellings of one key");
        entries.set("a", "3");
        entries.set("new\"", "null");
        assert_eq!(entries.to_string(), r#"{"b":1.0,"\ud800":12345678901234567890,"a":3,"new\"":null}"#);
        assert!(entries.remove("a") && !entries.remove("a"));
        assert!(Entries::parse(r#"{"k":"st\u006fp"}"#).unwrap().is("k", "stop"));
    }

    #[test]
    fn only_objects_are_objects() {
        for text in ["", "[]", "\"{}\"", "{", "{} x", "null", "[{}]"] {
            assert_eq!(Entries::parse(text), None, "{text}");
        }
        assert!(Entries::parse(" {}").is_some());
    }
}
