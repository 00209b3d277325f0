//! Randomness of the operating system, with an error the rest of the house knows.

use continuo_domain::{Error, Result};

/// Unpredictable bytes. Only fails where the operating system has none, which is no caller's fault.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| Error::internal(format!("no randomness: {e}")))?;
    Ok(bytes)
}
