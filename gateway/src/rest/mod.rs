//! The JSON routes.

pub(crate) mod metadata;
pub(crate) mod personal;
pub(crate) mod presign;
pub(crate) mod replay;
pub(crate) mod run_json;
pub(crate) mod runs;
pub(crate) mod session_json;
pub(crate) mod sessions;
pub(crate) mod tokens;
pub(crate) mod transcript;
pub(crate) mod trigger;
pub(crate) mod waitpoints;
pub(crate) mod waits;

use http::{HeaderName, HeaderValue, StatusCode};
use serde::Serialize;

use crate::{auth::Caller, error::Failure, json, validate::Object};

/// A page of a list.
#[derive(Serialize)]
struct List<T> {
    data: Vec<T>,
    pagination: Pagination,
}

#[derive(Serialize)]
struct Pagination {
    #[serde(skip_serializing_if = "String::is_empty")]
    next: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    previous: String,
}

/// What lets the SDK hand out a token for what was just made: the token itself, and the claims to sign one with.
fn token_headers(caller: &Caller, token: &str, scopes: &[String]) -> Vec<(HeaderName, HeaderValue)> {
    let claims = serde_json::json!({ "sub": caller.environment_id, "pub": true, "scopes": scopes }).to_string();
    let pairs = [("x-trigger-jwt-claims", claims.as_str()), ("x-trigger-jwt", token)];
    let given = pairs.into_iter().filter(|(_, value)| !value.is_empty());
    given
        .filter_map(|(name, value)| Some((HeaderName::from_static(name), HeaderValue::from_str(value).ok()?)))
        .collect()
}

/// Anything that is not a name of 1 to 128 characters counts as not given: CI systems set this in many odd ways.
fn deployment_id(object: &Object<'_>) -> Option<String> {
    let text = json::string(object.raw("externalDeploymentId")?)?;
    let name = text.trim();
    (!name.is_empty() && name.chars().count() <= 128).then(|| name.to_owned())
}

const TAGS_MAX: usize = 10;

/// The limit is the services'; only today's sentence about it is made here.
fn waitpoint_tags(tags: Vec<String>) -> Result<Vec<String>, Failure> {
    if tags.len() <= TAGS_MAX {
        return Ok(tags);
    }
    let text = format!("Waitpoints can only have {TAGS_MAX} tags, you're trying to set {}.", tags.len());
    Err(Failure::error(StatusCode::UNPROCESSABLE_ENTITY, text))
}
