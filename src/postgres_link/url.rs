//! The URL of a database, as the database's own adapter reads it: the same parameters, the same meaning.

use crate::encryption::{Encryption, Verify};
use continuo_domain::{Error, Result};
use percent_encoding::percent_decode_str;
use std::path::PathBuf;
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

/// Parameters both clients know by the same name.
const COMMON: [&str; 8] = ["host", "hostaddr", "port", "dbname", "user", "password", "application_name", "options"];

/// How to connect, and how to encrypt. Parameters of no concern here are passed over.
pub(crate) fn parse(url: &str) -> Result<(Config, Encryption)> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(Error::internal("the URL of the database must start with postgres://"));
    }
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut common, mut mode, mut encryption) = (Vec::new(), SslMode::Prefer, Encryption::default());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decode_str(value).decode_utf8().map_err(Error::internal)?;
        match name {
            "sslmode" | "ssl-mode" => (mode, encryption.verify) = ssl_mode(&value)?,
            "sslrootcert" | "ssl-root-cert" | "ssl-ca" => encryption.root = Some(PathBuf::from(&*value)),
            "sslcert" | "ssl-cert" => encryption.certificate = Some(PathBuf::from(&*value)),
            "sslkey" | "ssl-key" => encryption.key = Some(PathBuf::from(&*value)),
            name if COMMON.contains(&name) => common.push(pair),
            _ => {}
        }
    }
    let mut config: Config = format!("{base}?{}", common.join("&")).parse().map_err(Error::internal)?;
    config.ssl_mode(mode);
    Ok((config, encryption))
}

fn ssl_mode(value: &str) -> Result<(SslMode, Verify)> {
    match value.to_ascii_lowercase().as_str() {
        "disable" => Ok((SslMode::Disable, Verify::Nothing)),
        "allow" | "prefer" => Ok((SslMode::Prefer, Verify::Nothing)),
        "require" => Ok((SslMode::Require, Verify::Nothing)),
        "verify-ca" => Ok((SslMode::Require, Verify::Issuer)),
        "verify-full" => Ok((SslMode::Require, Verify::IssuerAndName)),
        _ => Err(Error::internal(format!("sslmode knows no {value}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_clients_know_is_kept_and_what_concerns_encryption_is_taken_out() {
        let url = "postgresql://u:p%40@db:5433/name?sslmode=verify-full&sslrootcert=/a%20b/ca.pem&statement-cache-capacity=9\
                   &application_name=x&sslcert=c&sslkey=k";
        let (config, encryption) = parse(url).unwrap();
        assert_eq!((config.get_user(), config.get_password()), (Some("u"), Some(&b"p@"[..])));
        assert_eq!((config.get_ports(), config.get_dbname()), (&[5433][..], Some("name")));
        assert_eq!((config.get_application_name(), config.get_ssl_mode()), (Some("x"), SslMode::Require));
        let path = |text: &str| Some(PathBuf::from(text));
        let Encryption { verify, root, certificate, key } = encryption;
        assert_eq!((verify, root), (Verify::IssuerAndName, path("/a b/ca.pem")));
        assert_eq!((certificate, key), (path("c"), path("k")));
    }

    #[test]
    fn modes_mean_what_they_say() {
        let mode = |query: &str| parse(&format!("postgres://h{query}")).map(|(c, e)| (c.get_ssl_mode(), e.verify));
        assert_eq!(mode("").unwrap(), (SslMode::Prefer, Verify::Nothing));
        assert_eq!(mode("?sslmode=disable").unwrap(), (SslMode::Disable, Verify::Nothing));
        assert_eq!(mode("?sslmode=require").unwrap(), (SslMode::Require, Verify::Nothing));
        assert_eq!(mode("?sslmode=verify-ca").unwrap(), (SslMode::Require, Verify::Issuer));
        assert!(mode("?sslmode=often").is_err());
        assert!(parse("host=h user=u").is_err() && parse("sqlite://h").is_err());
    }
}
