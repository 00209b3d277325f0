//! Between the proto and the domain, one file per noun. What comes in is parsed here and complaints name the field as the
//! request spells it; what goes out is printed.

pub(crate) mod admin;
pub(crate) mod blob;
pub(crate) mod channel;
pub(crate) mod page_token;
pub(crate) mod run;
pub(crate) mod session;
pub(crate) mod time;
pub(crate) mod token;
pub(crate) mod transcript;
pub(crate) mod waitpoint;
pub(crate) mod worker;

use continuo_domain::session::{EXTERNAL_ID_CHARS_MAX, PAGE_SIZE_MAX};
use continuo_domain::text::bounded;
use continuo_domain::{Error, Result, Violation};

/// A page that does not say how long it should be.
pub(crate) const PAGE_SIZE_DEFAULT: u32 = 20;

/// Puts the name a request has for a field on what is wrong with it.
pub(crate) fn named<T>(field: &str, parsed: Result<T>) -> Result<T> {
    parsed.map_err(|error| match error {
        Error::InvalidArgument(found) => {
            Error::InvalidArgument(found.into_iter().map(|v| Violation::new(field, v.problem)).collect())
        }
        other => other,
    })
}

/// Reads what a request asks for by id. A text that no id looks like names nothing that was ever made: it is looked up all
/// the same, so that the answer is the one for what is missing, and for who may not ask the one for who may not ask.
pub(crate) fn looked_up<T>(
    field: &str,
    text: &str,
    prefix: &str,
    parse: fn(&str) -> Result<T>,
    from_body: fn(&str) -> T,
) -> Result<T> {
    parse(text).or_else(|_| {
        let text = bounded(field, text, EXTERNAL_ID_CHARS_MAX)?;
        // No body of an id holds a question mark, so what lacks the prefix does not become an id by being given it.
        Ok(text.strip_prefix(prefix).map_or_else(|| from_body(&format!("?{text}")), from_body))
    })
}

/// 1 to 100; 0 is the default.
pub(crate) fn page_size(asked: i32, default: u32) -> Result<u32> {
    match u32::try_from(asked) {
        Ok(0) => Ok(default),
        Ok(size) if size <= PAGE_SIZE_MAX => Ok(size),
        _ => Err(Violation::new("page_size", "must be 1 to 100, or 0 for the default").into()),
    }
}

/// A list that is read as a whole, more often by programs than by people.
const LIST_SIZE_DEFAULT: u32 = 100;

/// 1 to `most`; 0 is 100.
pub(crate) fn list_size(field: &str, asked: i32, most: u32) -> Result<u32> {
    match u32::try_from(asked) {
        Ok(0) => Ok(LIST_SIZE_DEFAULT),
        Ok(size) if size <= most => Ok(size),
        _ => Err(Violation::new(field, format!("must be 1 to {most}, or 0 for {LIST_SIZE_DEFAULT}")).into()),
    }
}

/// The text, or a default for an empty one.
pub(crate) fn or_json_type(content_type: String) -> String {
    if content_type.is_empty() { "application/json".to_owned() } else { content_type }
}
