//! `POST …/records`: one append, as JSON or as protobuf, or a session of them.

use axum::{
    extract::{Request, State},
    response::Response,
};
use continuo_proto::{
    Api,
    v1::{AppendRequest, ChannelAppend},
};
use http::{HeaderMap, StatusCode, header};
use prost::Message;

use super::{
    FRAMES, JSON, PROTOBUF, Stream,
    encoding::{Encoding, Undecodable},
    is_protobuf,
    json::{self, Format},
    media_type,
    message::{AppendAck, AppendInput},
    protobuf,
    refusal::Refusal,
    session,
};
use crate::{Gateway, body};

/// Longest body: 1 MiB of records, where JSON may need six bytes for one.
const BODY_BYTES_MAX: usize = 8 << 20;

pub(super) async fn append<A: Api>(
    State(gateway): State<Gateway<A>>,
    stream: Stream,
    request: Request,
) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let sent = media_type(&parts.headers, header::CONTENT_TYPE);
    if sent == FRAMES {
        return session::session(&gateway, stream, parts.version, body).await;
    }
    let Some(encoding) = Encoding::of_body(&parts.headers) else {
        return Err(unsupported("Content-Encoding may be gzip or zstd, or be left out"));
    };
    let body = body::capped(&parts.headers, body, BODY_BYTES_MAX).await?;
    let body = encoding.decode(body, BODY_BYTES_MAX).map_err(|problem| match problem {
        Undecodable::TooLarge => Refusal::too_large(),
        Undecodable::Broken => Refusal::bad("bad_header", "The body is not what Content-Encoding says"),
    })?;
    let append: ChannelAppend = match sent.as_str() {
        "" | JSON => json::parse(&body, Format::of(&parts.headers)?)?,
        media_type if is_protobuf(media_type) => {
            AppendInput::decode(body).map_err(|_| Refusal::bad("bad_proto", "The body is no AppendInput"))?.into()
        }
        _ => return Err(unsupported(&format!("Content-Type may be {JSON}, {PROTOBUF} or {FRAMES}"))),
    };
    let ack = make(&gateway, &stream, append).await?;
    Ok(print(&parts.headers, ack))
}

async fn make<A: Api>(gateway: &Gateway<A>, stream: &Stream, append: ChannelAppend) -> Result<AppendAck, Refusal> {
    let request = AppendRequest {
        channel: Some(stream.channel.clone()),
        records: append.records,
        match_seq_num: append.match_seq_num,
        fencing_token: append.fencing_token,
        ..Default::default()
    };
    let answer = gateway.api.append(stream.caller.request(request)).await;
    Ok(answer.map_err(|status| Refusal::of(&status))?.into_inner().into())
}

fn print(asked: &HeaderMap, ack: AppendAck) -> Response {
    if is_protobuf(&media_type(asked, header::ACCEPT)) {
        return protobuf(&ack);
    }
    crate::json::bytes_response(StatusCode::OK, json::print_ack(&ack))
}

fn unsupported(text: &str) -> Refusal {
    Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_header", text)
}
