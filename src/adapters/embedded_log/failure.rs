//! How trouble with files and the index becomes one of the domain's errors. The text is for the log.

use continuo_domain::Error;
use continuo_domain::error::Cause;
use std::path::Path;

/// Something on disk is not what was written there.
pub(crate) fn damaged(what: impl Into<String>) -> Error {
    Error::Damaged(Cause::new(what.into()))
}

/// The file could not be used; nothing was done.
pub(crate) fn file<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Error + 'a {
    move |e| Error::Unavailable(Cause::new(format!("{doing} {}: {e}", path.display())))
}

/// The index could not be used; nothing was done.
pub(crate) fn index(e: fjall::Error) -> Error {
    Error::Unavailable(Cause::new(format!("index: {e}")))
}

/// Anything else that makes the store unable; nothing was done.
pub(crate) fn unavailable(what: impl Into<String>) -> Error {
    Error::Unavailable(Cause::new(what.into()))
}
