//! The server's own secret. It never leaves the process; what is used are keys derived from it, one per purpose, so that
//! nothing made for one purpose is worth anything for another.

use crate::random;
use base64::{Engine, engine::general_purpose::STANDARD};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce};
use continuo_domain::{Error, Result, Violation};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
/// First byte of everything sealed. A new cipher gets a new number, and old rows still open.
const SEAL_VERSION: u8 = 1;

/// 32 bytes that open every secret at rest. Whoever loses them loses the root keys.
#[derive(Clone)]
pub struct MasterKey([u8; KEY_BYTES]);

impl MasterKey {
    /// Reads the key from its file, or makes both. The file holds base64 text and is readable by its owner only.
    ///
    /// A key is returned only after it and its directory entry are on disk: nothing is ever sealed with a key that a power
    /// cut could take back. Of several processes that start at once, one makes the file and all use it.
    pub fn load_or_create(path: &Path) -> io::Result<Self> {
        if let Some(key) = Self::load(path)? {
            return Ok(key);
        }
        let made = Self(random::bytes().map_err(io::Error::other)?);
        made.store_new(path).map_err(|e| about(path, &e))?;
        // Not `made`: another process may have been first.
        Self::load(path)?.ok_or_else(|| about(path, &io::ErrorKind::NotFound.into()))
    }

    /// Reads a key as an operator hands it over: 32 bytes in base64.
    pub fn from_base64(text: &str) -> Result<Self> {
        let bytes = STANDARD.decode(text.trim()).ok().and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| Violation::new("master_key", "must be 32 bytes in base64").into())
    }

    /// Encrypts. What was sealed in one context opens in no other, so a row's secret cannot be moved to another row.
    pub fn seal(&self, plaintext: &[u8], context: &str) -> Result<Vec<u8>> {
        let nonce = random::bytes::<NONCE_BYTES>()?;
        let payload = Payload { msg: plaintext, aad: &associated_data(context) };
        let ciphertext = self
            .cipher()
            .encrypt(&Nonce::from(nonce), payload)
            .map_err(|_| Error::internal("a secret is too long to seal"))?;
        Ok([&[SEAL_VERSION][..], &nonce, &ciphertext].concat())
    }

    /// Decrypts. Fails as damaged data does: after a flipped bit, in another context, under another master key.
    pub fn open(&self, sealed: &[u8], context: &str) -> Result<Vec<u8>> {
        let (nonce, ciphertext) = split(sealed).ok_or_else(|| unopenable(context))?;
        let payload = Payload { msg: ciphertext, aad: &associated_data(context) };
        self.cipher().decrypt(&Nonce::from(nonce), payload).map_err(|_| unopenable(context))
    }

    /// A key for one purpose: HKDF's expand step for a single block, the master key being uniform already.
    pub(crate) fn derive(&self, purpose: &str) -> [u8; 32] {
        let mut mac = hmac_sha256(&self.0);
        mac.update(purpose.as_bytes());
        mac.update(&[1]);
        mac.finalize().into_bytes().into()
    }

    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new(&self.derive("continuo seal v1").into())
    }

    fn load(path: &Path) -> io::Result<Option<Self>> {
        match fs::read_to_string(path) {
            Ok(text) => Self::from_base64(&text).map(Some).map_err(|e| about(path, &io::Error::other(e))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(about(path, &e)),
        }
    }

    /// Whole or not at all: written and synced under another name first, then linked. A link, unlike a rename, never
    /// replaces the key another process made meanwhile.
    fn store_new(&self, path: &Path) -> io::Result<()> {
        let draft = draft_path(path)?;
        let written = self.write_new(&draft).and_then(|()| match fs::hard_link(&draft, path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
            _ => sync_directory(path),
        });
        // A draft that stays behind holds a key nobody uses.
        let _ = fs::remove_file(&draft);
        written
    }

    fn write_new(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        writeln!(file, "{}", STANDARD.encode(self.0))?;
        file.sync_all()
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

/// HMAC takes keys of every length; the error of its constructor is that of a trait it shares with ciphers.
pub(crate) fn hmac_sha256(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of every length"))
}

fn associated_data(context: &str) -> Vec<u8> {
    [&[SEAL_VERSION][..], context.as_bytes()].concat()
}

fn split(sealed: &[u8]) -> Option<([u8; NONCE_BYTES], &[u8])> {
    let (&version, rest) = sealed.split_first()?;
    let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_BYTES>()?;
    (version == SEAL_VERSION).then_some((*nonce, ciphertext))
}

fn unopenable(context: &str) -> Error {
    let cause = format!("the secret of {context} does not open: it is damaged, or the master key is another one");
    Error::Damaged(continuo_domain::error::Cause::new(cause))
}

fn draft_path(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::other("names no file"))?;
    let suffix = u64::from_le_bytes(random::bytes().map_err(io::Error::other)?);
    Ok(path.with_file_name(format!(".{}.{suffix:016x}", name.to_string_lossy())))
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

fn about(path: &Path, e: &io::Error) -> io::Error {
    io::Error::new(e.kind(), format!("master key {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt;

    fn key(byte: u8) -> MasterKey {
        MasterKey([byte; KEY_BYTES])
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens(plaintext: Vec<u8>, context: String) {
            let sealed = key(1).seal(&plaintext, &context).unwrap();
            prop_assert_eq!(key(1).open(&sealed, &context).unwrap(), plaintext);
        }

        #[test]
        fn anything_else_does_not_open(garbage: Vec<u8>) {
            prop_assert!(matches!(key(1).open(&garbage, "env_a"), Err(Error::Damaged(_))));
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let sealed = key(1).seal(b"tr_dev_secret", "env_a").unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(key(1).open(&flipped, "env_a").is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(key(1).open(&sealed[..length], "env_a").is_err(), "cut to {length}");
        }
    }

    #[test]
    fn a_secret_opens_in_its_place_only() {
        let sealed = key(1).seal(b"secret", "env_a").unwrap();
        assert!(key(1).open(&sealed, "env_b").is_err());
        assert!(key(2).open(&sealed, "env_a").is_err());
        assert_ne!(sealed, key(1).seal(b"secret", "env_a").unwrap(), "a fresh nonce every time");
    }

    #[test]
    fn the_file_is_made_once_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        let made = MasterKey::load_or_create(&path).unwrap();
        assert_eq!(MasterKey::load_or_create(&path).unwrap().0, made.0);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no draft stays behind");
    }

    #[test]
    fn processes_that_start_at_once_agree() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        let made: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| MasterKey::load_or_create(&path).unwrap().0)).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(made.iter().all(|key| *key == made[0]));
    }

    #[test]
    fn a_broken_file_is_an_error_and_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        fs::write(&path, "").unwrap();
        assert!(MasterKey::load_or_create(&path).unwrap_err().to_string().contains("must be 32 bytes in base64"));
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn nothing_prints_the_key() {
        let key = MasterKey::from_base64(&STANDARD.encode([7; 32])).unwrap();
        assert_eq!(format!("{key:?}"), "MasterKey(..)");
        assert!(MasterKey::from_base64("c2hvcnQ=").is_err());
    }
}
