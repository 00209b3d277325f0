//! Names of streams: `<session id>/<side>`, and `<session id>/channels/<name>/<side>` for a named channel.

use continuo_proto::v1::{ChannelRef, Direction};

const SESSION_PREFIX: &str = "session_";
const NAME_BYTES_MAX: usize = 128;

/// The channel behind a name; none if no stream can have this name. A session is named by its id alone: its external id
/// may hold slashes, and may move to another session.
pub(super) fn parse(stream: &str) -> Option<ChannelRef> {
    let segments: Vec<&str> = stream.split('/').collect();
    let (session, name, side) = match segments[..] {
        [session, side] => (session, "", side),
        [session, "channels", name, side] if is_channel_name(name) => (session, name, side),
        _ => return None,
    };
    let direction = match side {
        "in" => Direction::In,
        "out" => Direction::Out,
        _ => return None,
    };
    let channel = ChannelRef { session: session.to_owned(), name: name.to_owned(), direction: direction.into() };
    is_session_id(session).then_some(channel)
}

fn is_session_id(text: &str) -> bool {
    let body = text.strip_prefix(SESSION_PREFIX);
    body.is_some_and(|body| !body.is_empty() && body.bytes().all(|b| b.is_ascii_alphanumeric()))
}

fn is_channel_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn print(channel: &ChannelRef) -> String {
        let side = if channel.direction() == Direction::In { "in" } else { "out" };
        match channel.name.as_str() {
            "" => format!("{}/{side}", channel.session),
            name => format!("{}/channels/{name}/{side}", channel.session),
        }
    }

    proptest! {
        #[test]
        fn every_channel_has_one_name(
            session in "session_[A-Za-z0-9]{1,40}",
            name in "([A-Za-z0-9._-]{1,128})?",
            direction in prop_oneof![Just(Direction::In), Just(Direction::Out)],
        ) {
            let channel = ChannelRef { session, name, direction: direction.into() };
            prop_assert_eq!(parse(&print(&channel)), Some(channel));
        }

        #[test]
        fn what_is_read_is_printed_the_same(
            text in "(session_)?[a-z/.]{0,12}(/channels)?(/[a-zA-Z._ -]{0,4})?(/in|/out)?/?",
        ) {
            if let Some(channel) = parse(&text) {
                prop_assert_eq!(print(&channel), text);
            }
        }
    }

    #[test]
    fn what_is_no_stream() {
        for text in [
            "",
            "/",
            "session_a",
            "session_/out",
            "session_a/both",
            "session_a/out/",
            "/session_a/out",
            "session_a//out",
            "session_a/out/in",
            "chat-1/out",
            "session_a b/out",
            "session_a/channels/out",
            "session_a/channels//out",
            "session_a/channels/a b/out",
            "session_a/channels/a/b/out",
            "session_a/Channels/a/out",
            &format!("session_a/channels/{}/out", "n".repeat(129)),
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
