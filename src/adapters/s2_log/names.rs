//! Names of basins.

use continuo_domain::id::OrganizationId;
use s2_sdk::types::BasinName;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// So much of the organization's id is left readable.
const SLUG_BYTES_MAX: usize = 10;
const HASH_BYTES: usize = 8;

/// `<prefix>-<what is left of the id>-<hash>`. Only the hash tells organizations apart: 64 bits of the SHA-256 of the whole
/// id, for names are lower-case and at most 48 bytes, and ids are neither. Two of a million organizations share one with a
/// chance of one to 36 million; they would share a basin, never a stream, for streams are named by session.
pub(crate) fn basin(prefix: &str, organization: &OrganizationId) -> String {
    let id = organization.as_str();
    let body = id.strip_prefix(OrganizationId::PREFIX).unwrap_or(id);
    let slug = body.bytes().filter(u8::is_ascii_alphanumeric).take(SLUG_BYTES_MAX);
    let mut name = format!("{prefix}-");
    name.extend(slug.map(|b| char::from(b.to_ascii_lowercase())));
    name.push('-');
    push_hex(&mut name, &Sha256::digest(id.as_bytes())[..HASH_BYTES]);
    name
}

pub(crate) fn parse(name: &str) -> Option<BasinName> {
    name.parse().ok()
}

pub(crate) fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{BASIN_PREFIX_BYTES_MAX, Endpoint, Options};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_basin_name_is_valid_and_its_own(
            prefix in "[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?", a in "[A-Za-z0-9]{1,57}", b in "[A-Za-z0-9]{1,57}",
        ) {
            let name = |body: &str| basin(&prefix, &OrganizationId::from_body(body));
            prop_assert!(parse(&name(&a)).is_some(), "{}", name(&a));
            prop_assert_eq!(name(&a) == name(&b), a == b);
            prop_assert_ne!(name(&format!("{a}x")), name(&format!("{a}X")));
        }
    }

    #[test]
    fn a_prefix_that_makes_no_name_is_refused() {
        let open = |prefix: &str| Options::new(Endpoint::Cloud, prefix).check();
        assert!(open(&"p".repeat(BASIN_PREFIX_BYTES_MAX)).is_ok() && open("a-b").is_ok());
        for wrong in ["", "-a", "a-", "A", "a_b", &"p".repeat(BASIN_PREFIX_BYTES_MAX + 1)] {
            assert!(open(wrong).is_err(), "{wrong}");
        }
    }
}
