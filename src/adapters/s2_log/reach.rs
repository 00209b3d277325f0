//! Whether S2 answers.

use crate::S2Log;
use crate::refusal::{code, unavailable};
use continuo_domain::Result;
use s2_sdk::error::ErrorCode;
use s2_sdk::types::ListBasinsInput;

impl S2Log {
    /// Asks S2 something that changes nothing. A token that may not list basins is answered too: it need not. `Unavailable`
    /// where no answer comes, or the token is not known.
    pub async fn reach(&self) -> Result<()> {
        match self.inner.common.s2.list_basins(ListBasinsInput::new().with_limit(1)).await {
            Err(error) if code(&error) != Some(ErrorCode::PermissionDenied) => Err(unavailable(error)),
            _ => Ok(()),
        }
    }
}
