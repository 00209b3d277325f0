//! A snapshot of version 1: `{"version":1,"messages":[…],"lastOutEventId"?,"lastInEventId"?}`.

use super::{Transcript, event_id, message_id, window};
use continuo_domain::{Error, Result};
use serde::Deserialize;
use serde_json::value::RawValue;

const VERSION: u32 = 1;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Snapshot<'a> {
    version: u32,
    #[serde(borrow)]
    messages: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    last_out_event_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    last_in_event_id: Option<&'a RawValue>,
}

pub(super) fn page(snapshot: &[u8], limit: u32, before: Option<&str>) -> Result<Transcript> {
    let snapshot: Snapshot<'_> =
        serde_json::from_slice(snapshot).map_err(|_| Error::TranscriptUnreadable("its snapshot has another form"))?;
    if snapshot.version != VERSION {
        return Err(Error::TranscriptUnreadable("its snapshot has another version"));
    }
    let messages: Vec<_> = snapshot.messages.into_iter().filter_map(|m| Some((message_id(m)?, m))).collect();
    let lengths: Vec<_> = messages.iter().map(|(_, message)| message.get().len() as u64).collect();
    let shown = window(&lengths, limit, before.map(|asked| messages.iter().position(|(id, _)| id == asked)));
    let next_cursor = messages.get(shown.start).filter(|_| shown.start > 0).map(|(id, _)| id.to_string());
    Ok(Transcript {
        messages: messages[shown].iter().map(|(_, message)| message.get().to_owned()).collect(),
        last_out_event_id: snapshot.last_out_event_id.and_then(event_id),
        last_in_event_id: snapshot.last_in_event_id.and_then(event_id),
        next_cursor,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn snapshot(messages: &[&str]) -> Vec<u8> {
        let messages = messages.join(" ,\n");
        format!(r#"{{"version":1,"savedAt":5,"messages":[{messages}],"lastOutEventId":"7","lastInEventId":3}}"#).into()
    }

    fn ids(page: &Transcript) -> Vec<String> {
        page.messages.iter().map(|m| message_id(&RawValue::from_string(m.clone()).unwrap()).unwrap().into()).collect()
    }

    fn numbered(count: usize) -> Vec<u8> {
        let messages: Vec<String> = (0..count).map(|i| format!(r#"{{"id":"m{i}","n":{i}.0}}"#)).collect();
        snapshot(&messages.iter().map(String::as_str).collect::<Vec<_>>())
    }

    #[test]
    fn pages_walk_back_to_the_beginning() {
        let bytes = numbered(5);
        let newest = page(&bytes, 2, None).unwrap();
        assert_eq!(newest.messages, [r#"{"id":"m3","n":3.0}"#, r#"{"id":"m4","n":4.0}"#], "verbatim");
        assert_eq!((newest.last_out_event_id.as_deref(), newest.last_in_event_id.as_deref()), (Some("7"), Some("3")));
        assert_eq!(newest.next_cursor.as_deref(), Some("m3"));
        let middle = page(&bytes, 2, newest.next_cursor.as_deref()).unwrap();
        assert_eq!((ids(&middle), middle.next_cursor.as_deref()), (vec!["m1".into(), "m2".into()], Some("m1")));
        let oldest = page(&bytes, 2, middle.next_cursor.as_deref()).unwrap();
        assert_eq!((ids(&oldest), oldest.next_cursor), (vec!["m0".into()], None));
        assert_eq!(page(&bytes, 5, None).unwrap().next_cursor, None, "all of it");
        for nothing in ["m0", "m9"] {
            let none = page(&bytes, 5, Some(nothing)).unwrap();
            assert!(none.messages.is_empty() && none.next_cursor.is_none(), "{nothing}");
        }
        assert!(page(&snapshot(&[]), 5, None).unwrap().messages.is_empty());
    }

    #[test]
    fn a_page_ends_at_its_size_and_is_never_empty() {
        let large = |id: &str| format!(r#"{{"id":"{id}","text":"{}"}}"#, "x".repeat(2 << 20));
        let (a, b, huge) = (large("a"), large("b"), format!(r#"{{"id":"h","t":"{}"}}"#, "x".repeat(4 << 20)));
        let bytes = snapshot(&[&a, &b, &huge]);
        let mut before = None;
        for expected in ["h", "b", "a"] {
            let page = page(&bytes, 100, before.as_deref()).unwrap();
            assert_eq!(ids(&page), [expected]);
            before = page.next_cursor;
        }
        assert_eq!(before, None);
    }

    #[test]
    fn repeated_ids_do_not_loop() {
        let bytes = snapshot(&[r#"{"id":"x"}"#, r#"{"id":"a"}"#, r#"{"id":"a"}"#]);
        assert_eq!(page(&bytes, 1, None).unwrap().next_cursor.as_deref(), Some("a"));
        let before_both = page(&bytes, 1, Some("a")).unwrap();
        assert_eq!((ids(&before_both), before_both.next_cursor), (vec!["x".into()], None));
    }

    #[test]
    fn what_no_client_would_show_is_left_out() {
        let odd = [
            "1",
            "null",
            r#"{"id":5}"#,
            r#"{"ID":"x"}"#,
            r#"["x"]"#,
            r#"{"id":""}"#,
            r#"{"id":"\u0061","t":"\ud800"}"#,
        ];
        let page = page(&snapshot(&odd), 1, None).unwrap();
        assert_eq!((ids(&page), page.next_cursor), (vec!["a".into()], None));
    }

    #[test]
    fn what_is_no_snapshot_is_unreadable() {
        for bad in
            ["", "x", "[]", "{}", r#"{"version":2,"messages":[]}"#, r#"{"version":1,"messages":{}}"#, "{\"v\":2}\n{}"]
        {
            assert!(matches!(page(bad.as_bytes(), 1, None), Err(Error::TranscriptUnreadable(_))), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_a_cut_is_unreadable(bytes: Vec<u8>, cut in 0_usize..1_000, before: Option<String>) {
            let _ = page(&bytes, 3, before.as_deref());
            let whole = numbered(9);
            let cut = &whole[..cut % whole.len()];
            prop_assert!(matches!(page(cut, 3, before.as_deref()), Err(Error::TranscriptUnreadable(_))));
        }
    }
}
