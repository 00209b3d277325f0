//! How a section of settings is written down, and laid over what is below it.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};

use super::{LogFormat, Secret, SecretUrl};

/// Settings of one part, where each may be left out.
pub(super) trait Section {
    /// The part.
    type Of;
    /// Sets what is given.
    fn lay_over(self, below: &mut Self::Of);
    /// Is nothing given?
    fn is_silent(&self) -> bool;
}

/// Writes a section: the struct that clap and serde fill, and how it is laid over its part. Each line has the field, its type,
/// the flag, the variable, and what the value is called in the manual.
macro_rules! section {
    ($layer:ident for $part:ident in $section:literal,
     $($(#[$help:meta])* $field:ident: $type:ty = $flag:literal, $env:literal, $value:literal $(, $extra:ident = $given:expr)*;)*
    ) => {
        #[doc = concat!("Section `[", $section, "]`.")]
        #[derive(Debug, Clone, Default, Args, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $layer {$(
            $(#[$help])*
            #[arg(
                id = concat!($section, ".", stringify!($field)),
                long = $flag,
                env = $env,
                value_name = $value
                $(, $extra = $given)*
            )]
            pub $field: Option<$type>,
        )*}

        impl Section for $layer {
            type Of = $part;

            fn lay_over(self, below: &mut $part) {
                $(below.$field.set(self.$field);)*
            }

            fn is_silent(&self) -> bool {
                true $(&& !self.$field.as_ref().is_some_and(|value| !$crate::config::section::Value::is_empty(value)))*
            }
        }
    };
}
pub(super) use section;

/// A place for a value of type `T`.
pub(super) trait Setting<T> {
    /// Puts the value there, if there is one. An empty one is one that was not given.
    fn set(&mut self, value: Option<T>);
}

impl<T: Value> Setting<T> for T {
    fn set(&mut self, value: Option<T>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            *self = value;
        }
    }
}

impl<T: Value> Setting<T> for Option<T> {
    fn set(&mut self, value: Option<T>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            *self = Some(value);
        }
    }
}

/// What a setting can be.
pub(super) trait Value {
    /// Is this how a variable without a text reads?
    fn is_empty(&self) -> bool {
        false
    }
}

impl Value for bool {}
impl Value for u32 {}
impl Value for u64 {}
impl Value for LogFormat {}
impl Value for SocketAddr {}

impl Value for String {
    fn is_empty(&self) -> bool {
        self.is_empty()
    }
}

impl Value for Secret {
    fn is_empty(&self) -> bool {
        self.expose().is_empty()
    }
}

impl Value for SecretUrl {
    fn is_empty(&self) -> bool {
        self.expose().is_empty()
    }
}

impl Value for PathBuf {
    fn is_empty(&self) -> bool {
        self.as_os_str().is_empty()
    }
}

/// Paths, also the empty one, which clap's own parser refuses.
pub(crate) fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// An empty variable is one that was not set.
pub(crate) fn not_empty_path(path: Option<PathBuf>) -> Option<PathBuf> {
    path.filter(|path| !path.is_empty())
}
