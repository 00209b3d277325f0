//! Changes of a run's metadata. A client inside a run sends what it did (`set`, `append`, `increment` …), so that many can
//! change one object without losing each other's work.

use crate::json::Entries;
use crate::session::{JSON_BYTES_MAX, Json};
use crate::{Result, Violation};
use serde_json::{Value, json};

/// What is done to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataVerb {
    /// Gives it this value.
    Set,
    /// Takes it out.
    Delete,
    /// Adds the value at the end of a list; what is no list becomes one.
    Append,
    /// Takes every value equal to this out of a list.
    Remove,
    /// Adds a number to a number; what is none counts as 0.
    Increment,
    /// Replaces the whole object.
    Update,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataOperation {
    /// What is done.
    pub verb: MetadataVerb,
    /// To which key: a name, or a path `$.a.b`. Not read by an update.
    pub key: String,
    /// JSON text. A deletion has none.
    pub value: Option<String>,
}

/// Changes of a run and of those above it, made together. A run without a parent is its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataUpdate {
    /// What the metadata is before the operations; as it stands if not given.
    pub replace: Option<Option<Json>>,
    /// On the run itself.
    pub own: Vec<MetadataOperation>,
    /// On its parent.
    pub parent: Vec<MetadataOperation>,
    /// On the run at the top.
    pub root: Vec<MetadataOperation>,
}

impl MetadataOperation {
    /// The metadata after these operations, in order. What does not apply is passed over, as clients do that keep a copy.
    pub fn apply_all(before: Option<Json>, operations: &[Self]) -> Result<Option<Json>> {
        if operations.is_empty() {
            return Ok(before);
        }
        let mut text = before.map_or_else(|| "{}".to_owned(), |json| json.as_str().to_owned());
        for operation in operations {
            text = operation.apply(text);
        }
        if text.len() > JSON_BYTES_MAX {
            return Err(Violation::new("operations", "would make the metadata longer than 512 KiB").into());
        }
        Ok(Some(Json::trusted(text)))
    }

    fn apply(&self, text: String) -> String {
        if self.verb == MetadataVerb::Update {
            return self.value.clone().filter(|value| Entries::parse(value).is_some()).unwrap_or(text);
        }
        let Some(mut object) = Entries::parse(&text).filter(|_| is_safe(&self.key)) else { return text };
        match (self.verb, &self.value) {
            (MetadataVerb::Delete, _) => {
                object.remove(&self.key);
            }
            (MetadataVerb::Set, Some(value)) if !self.key.starts_with("$.") => object.set(&self.key, value.clone()),
            (verb, Some(value)) => {
                let Some((top, whole)) = self.changed(&object, verb, value) else { return text };
                object.set(&top, whole.to_string());
            }
            (_, None) => return text,
        }
        object.to_string()
    }

    /// The top key and its whole new value.
    fn changed(&self, object: &Entries<'_>, verb: MetadataVerb, value: &str) -> Option<(String, Value)> {
        let (top, path) = match self.key.strip_prefix("$.") {
            Some(path) => path.split_once('.').unwrap_or((path, "")),
            None => (self.key.as_str(), ""),
        };
        let value = serde_json::from_str(value).ok()?;
        let mut whole = object.get(top).and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null);
        change(at(&mut whole, path)?, verb, value)?;
        Some((top.to_owned(), whole))
    }
}

/// Names that mean something to JavaScript objects are nobody's data, and a path must name something.
fn is_safe(key: &str) -> bool {
    match key.strip_prefix("$.") {
        None => key != "__proto__",
        Some(path) => {
            let mut steps = path.split('.').filter(|step| !step.is_empty()).peekable();
            steps.peek().is_some() && !steps.any(|step| matches!(step, "__proto__" | "prototype" | "constructor"))
        }
    }
}

/// The place a dotted path names, made if it is not there.
fn at<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').filter(|step| !step.is_empty()).try_fold(value, |value, step| {
        if value.is_null() {
            *value = json!({});
        }
        match value {
            Value::Object(object) => Some(object.entry(step).or_insert(Value::Null)),
            Value::Array(array) => array.get_mut(step.parse::<usize>().ok()?),
            _ => None,
        }
    })
}

/// `None` if the change does not fit what is there.
fn change(place: &mut Value, verb: MetadataVerb, value: Value) -> Option<()> {
    match (verb, &mut *place) {
        (MetadataVerb::Set, _) => *place = value,
        (MetadataVerb::Append, Value::Array(array)) => array.push(value),
        (MetadataVerb::Append, Value::Null) => *place = Value::Array(vec![value]),
        (MetadataVerb::Append, _) => *place = Value::Array(vec![place.take(), value]),
        (MetadataVerb::Remove, Value::Array(array)) => array.retain(|item| *item != value),
        (MetadataVerb::Increment, current) => {
            let whole = (current.as_i64().or((!current.is_number()).then_some(0)), value.as_i64());
            *place = match whole {
                (Some(a), Some(b)) => json!(a.checked_add(b)?),
                _ => json!(current.as_f64().unwrap_or(0.0) + value.as_f64()?),
            };
        }
        (MetadataVerb::Remove | MetadataVerb::Delete | MetadataVerb::Update, _) => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use MetadataVerb::*;

    fn after(before: &str, operations: &[(MetadataVerb, &str, Option<&str>)]) -> String {
        let operation = |(verb, key, value): &(MetadataVerb, &str, Option<&str>)| MetadataOperation {
            verb: *verb,
            key: (*key).to_owned(),
            value: value.map(str::to_owned),
        };
        let operations: Vec<_> = operations.iter().map(operation).collect();
        let before = Some(Json::trusted(before.to_owned()));
        MetadataOperation::apply_all(before, &operations).unwrap().unwrap().as_str().to_owned()
    }

    #[test]
    fn changes_are_made_in_order_and_the_rest_stays_as_it_is() {
        let operations = [
            (Set, "a", Some(r#"{"z":1,"b":1.50}"#)),
            (Append, "list", Some("1")),
            (Append, "list", Some("2")),
            (Remove, "list", Some("1")),
            (Increment, "n", Some("2")),
            (Increment, "n", Some("0.5")),
            (Set, "$.deep.er", Some("true")),
            (Delete, "gone", None),
            (Remove, "n", Some("1")),
            (Set, "nothing", None),
        ];
        assert_eq!(
            after(r#"{"kept":1.0,"gone":1}"#, &operations),
            r#"{"kept":1.0,"a":{"z":1,"b":1.50},"list":[2],"n":2.5,"deep":{"er":true}}"#
        );
    }

    #[test]
    fn an_update_replaces_with_an_object_only() {
        assert_eq!(after(r#"{"a":1}"#, &[(Update, "", Some(r#"{"x":1}"#))]), r#"{"x":1}"#);
        assert_eq!(after(r#"{"a":1}"#, &[(Update, "", Some("[1]"))]), r#"{"a":1}"#);
    }

    #[test]
    fn names_that_mean_something_to_objects_are_passed_over() {
        let unsafe_keys = ["__proto__", "$.a.__proto__.b", "$.constructor", "$..", "$."];
        let operations = unsafe_keys.map(|key| (Set, key, Some("1")));
        assert_eq!(after(r#"{"a":{}}"#, &operations), r#"{"a":{}}"#);
    }

    #[test]
    fn metadata_stays_within_its_limit() {
        let long = format!("\"{}\"", "x".repeat(JSON_BYTES_MAX));
        let set = MetadataOperation { verb: Set, key: "a".into(), value: Some(long) };
        assert!(MetadataOperation::apply_all(None, &[set]).is_err());
    }
}
