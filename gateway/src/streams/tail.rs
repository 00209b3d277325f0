//! `GET …/records/tail`: the end of a stream.

use axum::{extract::State, response::Response};
use continuo_proto::{
    Api,
    v1::{CheckTailRequest, Position},
};
use http::StatusCode;
use tonic::Status;

use super::{Stream, json::push_position, refusal::Refusal};
use crate::{Gateway, json};

pub(super) async fn tail<A: Api>(State(gateway): State<Gateway<A>>, stream: Stream) -> Result<Response, Refusal> {
    let tail = position(&gateway, &stream).await.map_err(|status| Refusal::of(&status))?;
    let mut out = b"{\"tail\":".to_vec();
    push_position(&mut out, tail);
    out.push(b'}');
    Ok(json::bytes_response(StatusCode::OK, out))
}

/// The next number, and the time of the last record.
pub(super) async fn position<A: Api>(gateway: &Gateway<A>, stream: &Stream) -> Result<Position, Status> {
    let request = CheckTailRequest { channel: Some(stream.channel.clone()) };
    let answer = gateway.api.check_tail(stream.caller.request(request)).await?;
    Ok(answer.into_inner().tail.unwrap_or_default())
}
