//! Checks of texts that come from outside.

use crate::{Result, Violation};

/// Does the text hold NUL or another control character?
pub fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// A text of at least one and at most `chars_max` characters, without control characters.
pub fn bounded(field: &str, text: &str, chars_max: usize) -> Result<String> {
    let problem = match text {
        "" => "is empty".to_owned(),
        t if t.chars().count() > chars_max => format!("is longer than {chars_max} characters"),
        t if has_control(t) => "holds control characters".to_owned(),
        t => return Ok(t.to_owned()),
    };
    Err(Violation::new(field, problem).into())
}
