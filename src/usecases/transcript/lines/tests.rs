use super::*;
use proptest::prelude::*;

/// A blob with these lines, ids as given.
fn blob(entries: &[(String, String)]) -> Vec<u8> {
    let mut text = "{\"v\":2,\"savedAt\":1,\"state\":null}\n".to_owned();
    let mut offsets = vec![text.len()];
    for (_, line) in entries {
        text.push_str(line);
        text.push('\n');
        offsets.push(text.len());
    }
    let ids: Vec<_> = entries.iter().map(|(id, _)| id).collect();
    let footer = serde_json::json!({ "ids": ids, "offsets": offsets, "lastOutEventId": "7" }).to_string();
    format!("{text}{footer}\n#tt2:{:016}\n", footer.len()).into_bytes()
}

fn entry(id: &str, message: &str) -> (String, String) {
    (id.to_owned(), format!("{{\"id\":{},\"final\":true,\"message\":{message}}}", serde_json::json!(id)))
}

fn message_of(number: usize) -> String {
    format!("{{\"id\":\"ü{number}\",\"n\":{number}.0}}")
}

fn numbered(count: usize) -> Vec<u8> {
    blob(&(0..count).map(|i| entry(&format!("ü{i}"), &message_of(i))).collect::<Vec<_>>())
}

/// As the verb does it, on bytes that are all there. `None` if they are of another form.
fn page(blob: &[u8], limit: u32, before: Option<&str>) -> Result<Option<Transcript>> {
    let part = |range: &Range<u64>| &blob[to_usize(range.start)..to_usize(range.end)];
    let Some(at) = footer(blob, blob.len() as u64)? else { return Ok(None) };
    let plan = plan(part(&at), at.start, limit, before)?;
    let window = part(&plan.bytes);
    plan.page(window).map(Some)
}

fn is_unreadable<T>(outcome: &Result<T>) -> bool {
    matches!(outcome, Err(Error::TranscriptUnreadable(_)))
}

#[test]
fn pages_walk_back_to_the_beginning() {
    let bytes = numbered(5);
    let newest = page(&bytes, 2, None).unwrap().unwrap();
    assert_eq!(newest.messages, [r#"{"id":"ü3","n":3.0}"#, r#"{"id":"ü4","n":4.0}"#], "verbatim");
    assert_eq!((newest.last_out_event_id.as_deref(), newest.last_in_event_id.as_deref()), (Some("7"), None));
    let middle = page(&bytes, 2, newest.next_cursor.as_deref()).unwrap().unwrap();
    assert_eq!((middle.messages.len(), middle.next_cursor.as_deref()), (2, Some("ü1")));
    let oldest = page(&bytes, 2, Some("ü1")).unwrap().unwrap();
    assert_eq!((oldest.messages.len(), oldest.next_cursor), (1, None));
    for nothing in ["ü0", "ü9"] {
        assert!(page(&bytes, 5, Some(nothing)).unwrap().unwrap().messages.is_empty(), "{nothing}");
    }
    assert!(page(&blob(&[]), 5, None).unwrap().unwrap().messages.is_empty());
}

#[test]
fn a_page_reads_its_own_lines_only() {
    let bytes = numbered(1_000);
    let at = footer(&bytes, bytes.len() as u64).unwrap().unwrap();
    let plan = plan(&bytes[to_usize(at.start)..to_usize(at.end)], at.start, 2, None).unwrap();
    assert!(plan.bytes.end - plan.bytes.start < 200, "{plan:?}");
    let huge = entry("h", &format!("{{\"id\":\"h\",\"t\":\"{}\"}}", "x".repeat(4 << 20)));
    let newest = page(&blob(&[entry("s", "{\"id\":\"s\"}"), huge]), 9, None).unwrap().unwrap();
    assert_eq!((newest.messages.len(), newest.next_cursor.as_deref()), (1, Some("h")), "as much as a page may have");
}

#[test]
fn what_no_client_would_show_is_left_out_and_what_is_no_line_is_refused() {
    for odd in ["1", "null", "{}", "[\"a\"]", "{\"id\":5}", "{\"id\":\"b\"}"] {
        assert!(page(&blob(&[entry("a", odd)]), 1, None).unwrap().unwrap().messages.is_empty(), "{odd}");
    }
    for line in ["", "x", "{\"id\":\"a\"}", "{\"id\":\"a\",\"message\":{\"id\":\"a\"}"] {
        assert!(is_unreadable(&page(&blob(&[("a".into(), line.into())]), 1, None)), "{line}");
    }
}

#[test]
fn a_footer_that_does_not_fit_is_refused() {
    let whole = String::from_utf8(numbered(2)).unwrap();
    let at = whole.rfind("{\"ids\"").unwrap();
    let with = |footer: &str| format!("{}{footer}\n#tt2:{:016}\n", &whole[..at], footer.len());
    for bad in [
        "",
        "{}",
        "[]",
        r#"{"ids":[],"offsets":[]}"#,
        r#"{"ids":[1],"offsets":[1,2]}"#,
        r#"{"ids":["a"],"offsets":[-1,2]}"#,
        r#"{"ids":["a"],"offsets":[5,5]}"#,
        &format!(r#"{{"ids":["a","b"],"offsets":[9,9,{at}]}}"#),
        &format!(r#"{{"ids":["a","b"],"offsets":[90,9,{at}]}}"#),
        &format!(r#"{{"ids":["a"],"offsets":[9,{}]}}"#, at + 1),
        &format!(r#"{{"ids":["a"],"offsets":[{at},18446744073709551615]}}"#),
    ] {
        assert!(is_unreadable(&page(with(bad).as_bytes(), 9, None)), "{bad}");
    }
    for trailer in ["#tt2:9999999999999999\n", "#tt2:00000000000000x1\n"] {
        let text = format!("{}{trailer}", &whole[..whole.len() - trailer.len()]);
        assert!(is_unreadable(&page(text.as_bytes(), 9, None)), "{trailer}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, footer in ".{0,80}", length in 0_u64..200, before: Option<String>) {
        let _ = page(&bytes, 3, before.as_deref());
        let text = format!("{}{footer}\n#tt2:{length:016}\n", String::from_utf8_lossy(&bytes));
        let _ = page(text.as_bytes(), 3, before.as_deref());
        let _ = plan(footer.as_bytes(), length, 3, before.as_deref());
    }

    #[test]
    fn a_flipped_byte_never_panics(at in 0_usize..2_000, byte: u8, limit in 1_u32..9) {
        let mut bytes = numbered(9);
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = page(&bytes, limit, None);
    }

    #[test]
    fn a_cut_is_of_no_form(length in 0_usize..2_000) {
        let whole = numbered(9);
        let cut = &whole[..length % whole.len()];
        prop_assert!(page(cut, 3, None).unwrap().is_none());
        prop_assert!(is_unreadable(&crate::transcript::document::page(cut, 3, None)));
    }

    #[test]
    fn every_page_size_shows_every_message_once(count in 0_usize..40, limit in 1_u32..9) {
        let bytes = numbered(count);
        let (mut seen, mut before) = (Vec::new(), None::<String>);
        loop {
            let page = page(&bytes, limit, before.as_deref()).unwrap().unwrap();
            seen.splice(0..0, page.messages);
            before = page.next_cursor;
            if before.is_none() { break }
        }
        prop_assert_eq!(seen, (0..count).map(message_of).collect::<Vec<_>>());
    }
}
