//! Texts that are never printed, or not as a whole.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

const HIDDEN: &str = "(hidden)";

/// A key or a password. Shows itself only when asked by name.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

/// A URL with whatever it may hold of names and passwords. Shows scheme, host and path only.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretUrl {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl FromStr for SecretUrl {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://") else { return f.write_str(HIDDEN) };
        let (head, query) = rest.find(['?', '#']).map_or((rest, ""), |at| rest.split_at(at));
        // A password that was not encoded may hold any of these signs: then nothing is sure to be the host.
        if query.contains('@') {
            return write!(f, "{scheme}://{HIDDEN}");
        }
        let host = head.rsplit_once('@').map_or(head, |(_, host)| host);
        let user = if host.len() < head.len() { "(hidden)@" } else { "" };
        let query = if query.is_empty() { "" } else { "?(hidden)" };
        write!(f, "{scheme}://{user}{host}{query}")
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for SecretUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_shows_where_and_never_who() {
        for (url, shown) in [
            ("postgres://u:hush@h:5432/d?sslmode=require", "postgres://(hidden)@h:5432/d?(hidden)"),
            ("postgres://h/d?password=hush", "postgres://h/d?(hidden)"),
            ("postgres://h/d?password=hu@sh", "postgres://(hidden)"),
            ("postgres://u:hu@sh@h/d", "postgres://(hidden)@h/d"),
            ("postgres://u:hu/sh@h/d", "postgres://(hidden)@h/d"),
            ("postgres://u:hu?sh@h/d", "postgres://(hidden)"),
            ("redis://:hush@h", "redis://(hidden)@h"),
            ("redis://h:6379/1", "redis://h:6379/1"),
            ("host=h password=hush", "(hidden)"),
        ] {
            assert_eq!(format!("{0} {0:?}", SecretUrl::from(url.to_owned())), format!("{shown} {shown}"));
        }
    }
}
