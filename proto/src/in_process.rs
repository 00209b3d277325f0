//! Calling the service itself, with no connection in between.

use prost::Message;
use tokio_stream::Stream;
use tonic::codec::{BufferSettings, EncodeBody, Streaming};
use tonic::{Code, Status};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// Messages as the server traits take a stream of them. The traits know only what comes over a connection, so the messages
/// are written and read again on the way, each as it is pulled: what is in memory is one message, whatever comes in all.
///
/// A `Some(Err)` ends the stream with that error: the service learns that it was cut.
pub fn streaming<T>(messages: impl Stream<Item = Result<T, Status>> + Send + 'static) -> Streaming<T>
where
    T: Message + Default + Send + 'static,
{
    let body = EncodeBody::new_client(ProstEncoder::new(BufferSettings::default()), messages, None, None);
    Streaming::new_request(ProstDecoder::new(BufferSettings::default()), body, None, None)
}

/// What a caller who goes away in mid-stream leaves behind. Not `Cancelled`, which a service would read as a clean end.
pub fn cut_off() -> Status {
    Status::new(Code::Aborted, "the caller went away")
}
