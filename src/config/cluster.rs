//! The engines that replicas share. Each is switched by its URL alone.

use continuo_s2_log::BASIN_PREFIX_BYTES_MAX;
use serde::Serialize;

use super::{Config, ConfigError, Secret, SecretUrl};

/// Longest beginning of a Redis key.
pub const REDIS_PREFIX_CHARS_MAX: usize = 64;

/// Where sessions and runs are.
#[derive(Debug, Clone, Serialize)]
pub struct Database {
    /// Postgres; else SQLite in the data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<SecretUrl>,
    /// A read replica of it, for lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_url: Option<SecretUrl>,
    /// Connections to it.
    pub pool_max: u32,
}

/// What carries hints between replicas.
#[derive(Debug, Clone, Serialize)]
pub struct Redis {
    /// Redis; else Postgres carries them, or nothing has to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<SecretUrl>,
    /// What every key and channel begins with.
    pub prefix: String,
}

/// Where the records of channels are.
#[derive(Debug, Clone, Serialize)]
pub struct S2 {
    /// `cloud`, or the URL of a server that speaks the same; else the embedded log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Who asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_token: Option<Secret>,
    /// What the name of every basin begins with.
    pub basin_prefix: String,
}

impl Default for Database {
    fn default() -> Self {
        Self { url: None, read_url: None, pool_max: 16 }
    }
}

impl Default for Redis {
    fn default() -> Self {
        Self { url: None, prefix: "continuo".to_owned() }
    }
}

impl Default for S2 {
    fn default() -> Self {
        Self { endpoint: None, access_token: None, basin_prefix: "continuo".to_owned() }
    }
}

impl Config {
    /// Refuses parts that cannot serve several processes where there are, or may be, several.
    pub(super) fn check_replicas(&self) -> Result<(), ConfigError> {
        let replicas = self.replicas;
        let alone = |what: &str, remedy: &str| {
            let text = format!(
                "replicas is {replicas}, but {what}: set {remedy} on every replica, or CONTINUO_REPLICAS to 1 and start one \
                 process"
            );
            Err(ConfigError(text))
        };
        match replicas {
            0 => return Err(ConfigError("replicas must be at least 1".to_owned())),
            1 => {}
            _ if self.database.url.is_none() => {
                return alone("SQLite belongs to one process", "CONTINUO_DATABASE_URL to one Postgres");
            }
            _ if self.s2.endpoint.is_none() => {
                return alone("the embedded channel log belongs to one process", "CONTINUO_S2_ENDPOINT to one S2");
            }
            _ if self.blobs.s3.is_none() => {
                return alone(
                    "blobs are files of one machine",
                    "CONTINUO_BLOBS_S3_ENDPOINT and its siblings to one bucket",
                );
            }
            _ => {}
        }
        self.check_given_keys()
    }

    /// What is in Postgres outlives this machine, so what opens it may not be on this machine only.
    fn check_given_keys(&self) -> Result<(), ConfigError> {
        let missing = |setting: &str, variable: &str, make: &str| {
            Err(ConfigError(format!(
                "{setting} is not set, but with Postgres no key is kept in the data directory: set {variable} to one value on \
                 every replica, made once with `{make}`"
            )))
        };
        match &self.keys {
            _ if self.database.url.is_none() => Ok(()),
            keys if keys.master_key.is_none() => {
                missing("keys.master_key", "CONTINUO_MASTER_KEY", "openssl rand -base64 32")
            }
            keys if keys.admin_key.is_none() => {
                missing("keys.admin_key", "CONTINUO_ADMIN_KEY", "echo tr_pat_$(openssl rand -hex 20)")
            }
            _ => Ok(()),
        }
    }
}

impl Database {
    /// Refuses the URL of something else.
    pub fn check(&self) -> Result<(), ConfigError> {
        let schemes = ["postgres://", "postgresql://"];
        check_scheme("database.url", self.url.as_ref(), &schemes)?;
        check_scheme("database.read_url", self.read_url.as_ref(), &schemes)?;
        if self.read_url.is_some() && self.url.is_none() {
            let text = "database.read_url is set without database.url: set CONTINUO_DATABASE_URL to the primary of that Postgres";
            return Err(ConfigError(text.to_owned()));
        }
        if self.pool_max < 2 {
            return Err(ConfigError("database.pool_max must be at least 2".to_owned()));
        }
        Ok(())
    }
}

impl Redis {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        check_scheme("redis.url", self.url.as_ref(), &["redis://", "rediss://"])?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
        if self.prefix.len() > REDIS_PREFIX_CHARS_MAX || !self.prefix.chars().all(is_plain) {
            return Err(ConfigError(format!(
                "redis.prefix may hold letters, digits and _ - . : only, at most {REDIS_PREFIX_CHARS_MAX}"
            )));
        }
        Ok(())
    }
}

impl S2 {
    /// Is it the service at s2.dev?
    pub fn is_cloud(&self) -> bool {
        self.endpoint.as_deref() == Some("cloud")
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let refuse = |text: String| Err(ConfigError(text));
        let Some(endpoint) = &self.endpoint else { return Ok(()) };
        let is_http = endpoint.starts_with("http://") || endpoint.starts_with("https://");
        if !is_http && !self.is_cloud() {
            return refuse("s2.endpoint must begin with http:// or https://, or be the word cloud".to_owned());
        }
        if endpoint.contains('@') {
            return refuse("s2.endpoint may hold no password: CONTINUO_S2_ACCESS_TOKEN is for the token".to_owned());
        }
        if self.is_cloud() && self.access_token.is_none() {
            return refuse("s2.endpoint is cloud, which asks for a token: set CONTINUO_S2_ACCESS_TOKEN".to_owned());
        }
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.basin_prefix.len() > BASIN_PREFIX_BYTES_MAX
            || !self.basin_prefix.chars().all(is_plain)
            || self.basin_prefix.starts_with('-')
            || self.basin_prefix.ends_with('-')
        {
            return refuse(format!(
                "s2.basin_prefix may hold small letters, digits and inner - only, at most {BASIN_PREFIX_BYTES_MAX}"
            ));
        }
        Ok(())
    }
}

pub(super) fn check_scheme(name: &str, url: Option<&SecretUrl>, schemes: &[&str]) -> Result<(), ConfigError> {
    match url {
        Some(url) if !schemes.iter().any(|scheme| url.expose().starts_with(scheme)) => {
            Err(ConfigError(format!("{name} must begin with {}", schemes.join(" or "))))
        }
        _ => Ok(()),
    }
}
