//! One file per table. Types that SQLite and Postgres both take; see the README of `continuo-migrations`.
#![allow(unreachable_pub, reason = "the derive macros of sea-orm want what they derive on to be pub")]

pub(crate) mod api_key;
pub(crate) mod append_claim;
pub(crate) mod attempt;
pub(crate) mod environment;
pub(crate) mod home;
pub(crate) mod organization;
pub(crate) mod project;
pub(crate) mod registration;
pub(crate) mod rotated_key;
pub(crate) mod run;
pub(crate) mod run_payload;
pub(crate) mod session;
pub(crate) mod session_change;
pub(crate) mod session_channel;
pub(crate) mod session_run;
pub(crate) mod spent_token;
pub(crate) mod waitpoint;
pub(crate) mod worker;
pub(crate) mod worker_task;

use sea_orm::FromJsonQueryResult;
use serde::{Deserialize, Serialize};

/// A list of texts as a JSON column: tags, scopes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Texts(pub Vec<String>);

/// A session's trigger config as a JSON column, without the base payload, which travels verbatim. What a row does not have
/// takes its default, so that a field can be added without touching rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(default)]
pub struct TriggerOptions {
    pub machine: Option<String>,
    pub queue: Option<String>,
    pub concurrency: Vec<String>,
    pub concurrency_key: Option<String>,
    pub tags: Vec<String>,
    pub max_attempts: Option<u32>,
    pub max_duration_s: Option<u32>,
    pub lock_to_version: Option<String>,
    pub external_deployment_id: Option<String>,
    pub region: Option<String>,
    pub idle_timeout_s: Option<u32>,
    pub ttl: Option<String>,
}
