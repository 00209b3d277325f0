//! Whose word a client takes for a server it reaches over TLS.

use std::path::PathBuf;

use clap::Args;

use super::failure::Usage;
use crate::config::{not_empty_path, path};

#[derive(Debug, Clone, Args)]
pub(super) struct Trust {
    /// PEM file with authorities that may have signed the certificate of an https server, beside those of the system; a
    /// certificate that signed itself is its own.
    #[arg(long, env = "CONTINUO_CA_FILE", value_name = "FILE", value_parser = path())]
    ca_file: Option<PathBuf>,
}

impl Trust {
    pub(super) fn read(&self) -> Result<Option<String>, Usage> {
        let Some(path) = not_empty_path(self.ca_file.clone()) else { return Ok(None) };
        let pem = std::fs::read_to_string(&path)
            .map_err(|error| Usage(format!("cannot read {}: {error}", path.display())))?;
        if !pem.contains("-----BEGIN CERTIFICATE-----") {
            let text =
                "holds no certificate in PEM: point --ca-file (CONTINUO_CA_FILE) at one with BEGIN CERTIFICATE in it";
            return Err(Usage(format!("{} {text}", path.display())));
        }
        Ok(Some(pem))
    }
}

/// Over https, and nobody who could vouch for the server.
pub(super) fn nobody() -> Usage {
    Usage(
        "no authority to trust: install the system's (ca-certificates), or name one with --ca-file or CONTINUO_CA_FILE"
            .to_owned(),
    )
}
