//! `continuo tokens`: scoped tokens for browsers and other services.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Subcommand;
use continuo_proto::v1::{AuthenticateRequest, CreatePublicTokenRequest, CredentialKind};
use prost_types::Timestamp;
use serde_json::{Value, json};
use tonic::Code;

use super::client::{ClientArgs, ServerAddress};
use super::failure::{Usage, explain_status};
use super::output::Output;
use super::{duration, json};

/// Tokens for browsers and other services.
#[derive(Debug, Subcommand)]
pub(super) enum TokensCommand {
    /// Make a token that may do what its scopes say, and print it.
    Create {
        /// `action[:type[:id]]`, for example `write:sessions:chat-1`. Repeat for more.
        #[arg(long = "scope", required = true, value_name = "SCOPE")]
        scopes: Vec<String>,
        /// How long it is good for: a number with s, m, h or d; at most 30d.
        #[arg(long, default_value = "15m", value_parser = duration::parse, value_name = "DURATION")]
        ttl: Duration,
        /// It is used up by its first trigger.
        #[arg(long)]
        one_time: bool,
        /// Bind it to this session, by id or external id: what it says of sessions counts for this one only, whatever its
        /// name is later, and revoking the session's tokens ends it.
        #[arg(long)]
        session: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show what is in a token. Nothing is verified here; --verify asks the server.
    Inspect {
        /// The token.
        token: String,
        /// Ask the server whether it accepts the token. No other key is needed.
        #[arg(long)]
        verify: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        server: ServerAddress,
    },
}

pub(super) async fn execute(command: TokensCommand, output: Output) -> anyhow::Result<()> {
    match command {
        TokensCommand::Create { scopes, ttl, one_time, session, json, client } => {
            let expires_at = Timestamp::from(SystemTime::now() + ttl);
            let request = CreatePublicTokenRequest {
                scopes,
                expires_at: Some(expires_at),
                one_time_use: one_time,
                realtime_json: None,
                session,
            };
            let token = client.connect()?.tokens().create_public_token(request).await?.into_inner().token;
            match json {
                true => output.json(&json!({"token": token, "expires_at": json::time(Some(expires_at))})),
                false => output.line(&token),
            }
        }
        TokensCommand::Inspect { token, verify, json, server } => {
            let claims = claims(&token);
            if claims.is_none() && !verify {
                let text = "this is not a public token; with --verify the server says what it is";
                return Err(Usage(text.to_owned()).into());
            }
            let accepted = match verify {
                true => Some(authenticate(&server, &token).await?),
                false => None,
            };
            print(claims, accepted, json, output)
        }
    }
}

/// The payload of a JWT, not verified.
fn claims(token: &str) -> Option<Value> {
    let [_, payload, _] = token.split('.').collect::<Vec<_>>().try_into().ok()?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// What the server makes of the token: who it is, or why it is refused.
async fn authenticate(server: &ServerAddress, token: &str) -> anyhow::Result<Result<Value, String>> {
    match server.connect(token)?.tokens().authenticate(AuthenticateRequest {}).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            Ok(Ok(json!({
                "kind": kind_name(answer.kind()),
                "environment_id": answer.environment_id,
                "scopes": answer.scopes,
                "run_id": answer.run_id,
                "session_id": answer.session_id,
            })))
        }
        Err(status) if status.code() == Code::Unauthenticated => Ok(Err(status.message().to_owned())),
        Err(status) => Err(anyhow::anyhow!(explain_status(&status))),
    }
}

fn print(
    claims: Option<Value>,
    accepted: Option<Result<Value, String>>,
    as_json: bool,
    output: Output,
) -> anyhow::Result<()> {
    if as_json {
        let refusal = accepted.as_ref().and_then(|answer| answer.as_ref().err());
        return output.json(&json!({
            "claims": claims,
            "accepted": accepted.as_ref().map(Result::is_ok),
            "refusal": refusal,
            "principal": accepted.as_ref().and_then(|answer| answer.as_ref().ok()),
        }));
    }
    if let Some(claims) = claims {
        output.line(&serde_json::to_string_pretty(&claims)?)?;
        output.pairs([("expires", expiry(&claims, SystemTime::now()))])?;
    }
    let verdict = accepted.map(|answer| match answer {
        Ok(principal) => format!("accepted as {}", principal["kind"].as_str().unwrap_or_default()),
        Err(why) => format!("refused: {why}"),
    });
    output.pairs([("server", verdict)])
}

fn expiry(claims: &Value, now: SystemTime) -> Option<String> {
    let expires_at = UNIX_EPOCH.checked_add(Duration::from_secs(claims["exp"].as_u64()?))?;
    let when = Timestamp::from(expires_at);
    Some(match expires_at.duration_since(now) {
        Ok(left) => format!("{when}, in {} s", left.as_secs()),
        Err(_) => format!("{when}, which is past"),
    })
}

fn kind_name(kind: CredentialKind) -> &'static str {
    match kind {
        CredentialKind::Unspecified => "unknown",
        CredentialKind::RootKey => "root key",
        CredentialKind::AdditionalKey => "additional key",
        CredentialKind::PublicToken => "public token",
        CredentialKind::RunToken => "run token",
        CredentialKind::StreamToken => "stream token",
        CredentialKind::WaitpointToken => "waitpoint token",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_without_its_signature() {
        let payload = URL_SAFE_NO_PAD.encode(r#"{"sub":"env_1","exp":60}"#);
        let claims = claims(&format!("e30.{payload}.nonsense")).unwrap();
        assert_eq!(claims["sub"], "env_1");
        assert_eq!(expiry(&claims, UNIX_EPOCH).unwrap(), "1970-01-01T00:01:00Z, in 60 s");
        assert!(expiry(&claims, SystemTime::now()).unwrap().ends_with("past"));
    }

    #[test]
    fn a_key_is_no_token() {
        assert!(claims("tr_dev_abc").is_none() && claims("a.b.c").is_none());
    }
}
