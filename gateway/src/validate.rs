//! Reads JSON objects field by field and collects what is wrong with them, in the words of the schema library that today's
//! servers use. Only types are judged here; limits belong to the services.

use std::cell::RefCell;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::{
    error::Failure,
    json::{self, Entries},
    time,
};

const IDEMPOTENCY_KEY_CHARS_MAX: usize = 2_048;

/// One problem.
#[derive(Debug, Serialize)]
pub(crate) struct Issue {
    code: &'static str,
    path: Vec<Step>,
    message: String,
}

/// One step of the path to a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

impl Step {
    pub(crate) fn key(name: impl Into<String>) -> Self {
        Self::Key(name.into())
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Key(name) => serializer.serialize_str(name),
            Self::Index(i) => serializer.serialize_u64(*i as u64),
        }
    }
}

impl Issue {
    pub(crate) fn new(code: &'static str, path: Vec<Step>, message: impl Into<String>) -> Self {
        Self { code, path, message: message.into() }
    }

    /// `<message> at "<field.path>"`.
    pub(crate) fn line(&self) -> String {
        if self.path.is_empty() {
            return self.message.clone();
        }
        let steps: Vec<String> = self
            .path
            .iter()
            .map(|step| match step {
                Step::Key(name) => name.clone(),
                Step::Index(i) => i.to_string(),
            })
            .collect();
        format!("{} at \"{}\"", self.message, steps.join("."))
    }
}

/// What was found so far.
#[derive(Default)]
pub(crate) struct Issues(RefCell<Vec<Issue>>);

impl Issues {
    /// The body, which must be an object.
    pub(crate) fn object<'a>(&'a self, body: &'a RawValue) -> Object<'a> {
        match Entries::parse(body.get()) {
            Some(entries) => Object { entries, ..self.empty_object() },
            None => {
                self.add("invalid_type", Vec::new(), format!("Expected object, received {}", type_name(body)));
                Object { not_there: true, ..self.empty_object() }
            }
        }
    }

    /// What stands for an object that was not given.
    pub(crate) fn empty_object(&self) -> Object<'_> {
        Object { issues: self, path: Vec::new(), entries: Entries(Vec::new()), not_there: false }
    }

    pub(crate) fn add(&self, code: &'static str, path: Vec<Step>, message: impl Into<String>) {
        self.0.borrow_mut().push(Issue::new(code, path, message));
    }

    /// Nothing may be wrong.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let issues = self.0.into_inner();
        if issues.is_empty() { Ok(()) } else { Err(Failure::validation(&issues)) }
    }
}

/// An object of the body. Fields that are not asked for are dropped.
pub(crate) struct Object<'a> {
    issues: &'a Issues,
    path: Vec<Step>,
    entries: Entries<'a>,
    /// It was no object, which is said already: its fields are not missed one by one.
    not_there: bool,
}

impl<'a> Object<'a> {
    /// The value as it stands; `None` if the key is absent.
    pub(crate) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.entries.get(name)
    }

    /// Notes a problem with a field.
    pub(crate) fn problem(&self, name: &str, message: impl Into<String>) {
        self.issues.add("custom", self.path_to(name), message);
    }

    pub(crate) fn string(&self, name: &str) -> Option<String> {
        let raw = self.raw(name)?;
        self.string_at(raw, || self.path_to(name))
    }

    pub(crate) fn required_string(&self, name: &str) -> String {
        self.required(name).and_then(|_| self.string(name)).unwrap_or_default()
    }

    pub(crate) fn boolean(&self, name: &str) -> Option<bool> {
        let raw = self.raw(name)?;
        match raw.get() {
            "true" => Some(true),
            "false" => Some(false),
            _ => self.wrong_type("boolean", raw, self.path_to(name)),
        }
    }

    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        let raw = self.raw(name)?;
        match number(raw) {
            Some(n) => Some(n),
            None => self.wrong_type("number", raw, self.path_to(name)),
        }
    }

    /// A whole number that the proto's unsigned field can hold.
    pub(crate) fn whole(&self, name: &str) -> Option<u32> {
        let n = self.number(name)?;
        if n.fract() != 0.0 {
            self.issues.add("invalid_type", self.path_to(name), "Expected integer, received float");
            return None;
        }
        if n < 0.0 || n > f64::from(u32::MAX) {
            let (code, bound) = if n < 0.0 {
                ("too_small", "greater than or equal to 0".to_owned())
            } else {
                ("too_big", format!("less than or equal to {}", u32::MAX))
            };
            self.issues.add(code, self.path_to(name), format!("Number must be {bound}"));
            return None;
        }
        Some(n as u32)
    }

    /// An array of strings.
    pub(crate) fn strings(&self, name: &str) -> Vec<String> {
        let Some(raw) = self.raw(name) else { return Vec::new() };
        let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(raw.get()) else {
            return self.wrong_type("array", raw, self.path_to(name)).unwrap_or_default();
        };
        let at = |i: usize| [self.path_to(name), vec![Step::Index(i)]].concat();
        items.into_iter().enumerate().filter_map(|(i, item)| self.string_at(item, || at(i))).collect()
    }

    /// A string, or an array of strings.
    pub(crate) fn string_or_strings(&self, name: &str) -> Vec<String> {
        match self.raw(name) {
            Some(raw) if type_name(raw) == "array" => self.strings(name),
            _ => self.string(name).into_iter().collect(),
        }
    }

    /// A string or a number; the number as it is spelled.
    pub(crate) fn string_or_number(&self, name: &str) -> Option<String> {
        let raw = self.raw(name)?;
        match type_name(raw) {
            "number" => Some(raw.get().to_owned()),
            "string" => self.string(name),
            _ => {
                self.issues.add("invalid_union", self.path_to(name), "Invalid input");
                None
            }
        }
    }

    /// An object, whose text is kept as it stands.
    pub(crate) fn object_text(&self, name: &str) -> Option<String> {
        let raw = self.raw(name)?;
        if type_name(raw) == "object" {
            return Some(raw.get().to_owned());
        }
        self.wrong_type("object", raw, self.path_to(name))
    }

    pub(crate) fn required_object_text(&self, name: &str) -> String {
        self.required(name).and_then(|_| self.object_text(name)).unwrap_or_default()
    }

    /// An object to read further.
    pub(crate) fn object(&self, name: &str) -> Option<Object<'a>> {
        let raw = self.raw(name)?;
        match Entries::parse(raw.get()) {
            Some(entries) => Some(Object { issues: self.issues, path: self.path_to(name), entries, not_there: false }),
            None => self.wrong_type("object", raw, self.path_to(name)),
        }
    }

    pub(crate) fn required_object(&self, name: &str) -> Option<Object<'a>> {
        self.required(name).and_then(|_| self.object(name))
    }

    /// A moment, as an ISO string or as milliseconds since the epoch.
    pub(crate) fn date_ms(&self, name: &str) -> Option<i64> {
        let raw = self.raw(name)?;
        let ms = match type_name(raw) {
            "number" => number(raw).map(|n| n as i64),
            "string" => json::string(raw).and_then(|text| time::parse_iso_ms(&text)),
            _ => None,
        };
        if ms.is_none() {
            self.issues.add("invalid_date", self.path_to(name), "Invalid date");
        }
        ms
    }

    /// One of a few words.
    pub(crate) fn one_of<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Option<T> {
        self.required(name)?;
        let given = self.string(name)?;
        let found = words.iter().find(|(word, _)| *word == given).map(|(_, value)| *value);
        if found.is_none() {
            let expected: Vec<String> = words.iter().map(|(word, _)| format!("'{word}'")).collect();
            self.issues.add("invalid_enum_value", self.path_to(name), unexpected(&expected.join(" | "), &given));
        }
        found
    }

    /// `idempotencyKey`. The limit is the services'; only today's sentence about it is made here.
    pub(crate) fn idempotency_key(&self) -> Option<String> {
        const NAME: &str = "idempotencyKey";
        let key = self.string(NAME)?;
        if key.chars().count() > IDEMPOTENCY_KEY_CHARS_MAX {
            let message = format!("{NAME} must be {IDEMPOTENCY_KEY_CHARS_MAX} characters or less");
            self.issues.add("too_big", self.path_to(NAME), message);
        }
        Some(key)
    }

    /// How long an idempotency key counts, `^\d+[smhd]$`, in milliseconds.
    pub(crate) fn key_ttl_ms(&self, name: &str) -> Option<u64> {
        let text = self.string(name)?;
        let ms = if time::is_key_ttl(&text) { time::parse_duration_ms(&text) } else { None };
        if ms.is_none() {
            self.issues.add("invalid_string", self.path_to(name), "Invalid");
        }
        ms
    }

    /// Notes if a field is missing.
    pub(crate) fn required(&self, name: &str) -> Option<()> {
        if self.not_there {
            return None;
        }
        if self.raw(name).is_none() {
            self.issues.add("invalid_type", self.path_to(name), "Required");
            return None;
        }
        Some(())
    }

    fn string_at(&self, raw: &RawValue, path: impl FnOnce() -> Vec<Step>) -> Option<String> {
        if type_name(raw) != "string" {
            return self.wrong_type("string", raw, path());
        }
        let text = json::string(raw);
        if text.is_none() {
            // An unpaired surrogate: legal JSON, but no text.
            self.issues.add("invalid_string", path(), "Not valid Unicode");
        }
        text
    }

    fn wrong_type<T>(&self, expected: &str, raw: &RawValue, path: Vec<Step>) -> Option<T> {
        self.issues.add("invalid_type", path, format!("Expected {expected}, received {}", type_name(raw)));
        None
    }

    fn path_to(&self, name: &str) -> Vec<Step> {
        self.path.iter().cloned().chain([Step::key(name)]).collect()
    }
}

fn number(raw: &RawValue) -> Option<f64> {
    raw.get().parse().ok().filter(|_| type_name(raw) == "number")
}

/// What is said of a word that is none of the expected ones. It is repeated only as far as shows what was meant.
pub(crate) fn unexpected(expected: &str, given: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 100;
    let shown = match given.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &given[..end]),
        None => given.to_owned(),
    };
    format!("Invalid enum value. Expected {expected}, received '{shown}'")
}

/// What JavaScript would call the value's type, with null and array told apart.
pub(crate) fn type_name(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ => "number",
    }
}
