//! Signed URLs: who holds one may do what it says, and nothing else.

use continuo_domain::Result;
use continuo_domain::blob::BlobGrant;

/// Signs grants with a secret of the server, and reads them back.
pub trait UrlSigner: Send + Sync + 'static {
    /// The token of a URL: letters, digits, `_`, `-` and `.` only. Worth nothing as any other credential.
    fn sign(&self, grant: &BlobGrant) -> String;

    /// What a token grants. `Unauthenticated(InvalidUrl)` if it is no such token, is forged, or is past its time.
    fn verify(&self, token: &str) -> Result<BlobGrant>;
}
