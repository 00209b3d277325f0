//! Thousands of records, read from every start: each of them once, in order, in batches of at most 1 000 and about 1 MiB.

use crate::support::http::Request;
use crate::support::routes::World;
use crate::support::{KEY, TestNode};
use serde_json::{Value, json};

const BATCH_RECORDS_MAX: usize = 1_000;
const BATCH_METERED_BYTES_MAX: usize = 1_048_576;

/// Ends a turn, so that a reader who asks for it need not wait.
const TURN_COMPLETE: &str = r#"{"type":"trigger:turn-complete"}"#;

/// Writes these texts onto `.out`, as many as go into an append at a time.
async fn write(world: &World, texts: &[String]) {
    let path = format!("/v1/streams/{}%2Fout/records", world.session_id);
    for some in texts.chunks(BATCH_RECORDS_MAX) {
        let record = |text: &String| json!({ "body": json!({ "data": text, "id": "" }).to_string() });
        let records: Vec<Value> = some.iter().map(record).collect();
        world.json("POST", &path, &json!({ "records": records }).to_string()).await;
    }
}

/// Every record of a subscription with these headers, and how they were batched.
async fn subscribe(world: &World, headers: &[(&str, &str)]) -> Vec<(u64, String)> {
    let path = format!("/realtime/v1/sessions/{}/out", world.session);
    let request = Request::new("GET", &path).bearer(KEY).header("X-Peek-Settled", "1");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(name, *value));
    let answer = request.send(&world.url).await;
    assert_eq!((answer.status, answer.header("x-session-settled")), (200, Some("true")), "{headers:?}");
    let text = answer.text();
    assert!(text.ends_with("data: [DONE]\n\n"), "{headers:?}");
    let (mut found, mut counted) = (Vec::new(), 0);
    for event in text.split("\n\n").filter(|event| event.starts_with("event: batch")) {
        let data = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
        let batch: Value = serde_json::from_str(data).unwrap();
        let records = batch["records"].as_array().unwrap();
        let sizes = records.iter().map(|record| 8 + record["body"].as_str().unwrap_or_default().len());
        let bytes: usize = sizes.sum();
        assert!(records.len() <= BATCH_RECORDS_MAX, "{} records in a batch", records.len());
        assert!(bytes <= BATCH_METERED_BYTES_MAX || records.len() == 1, "{bytes} bytes in a batch");
        counted += records.len();
        let id = event.lines().find_map(|line| line.strip_prefix("id: ")).unwrap();
        let last = &records.last().unwrap()["seq_num"];
        assert!(id.starts_with(&format!("{last},{counted},")), "the id line counts: {id}");
        found.extend(records.iter().filter_map(data_record));
    }
    found
}

/// Number and text; none for a command, which has a number and no text.
fn data_record(record: &Value) -> Option<(u64, String)> {
    if record["headers"][0][0] == "" {
        return None;
    }
    let envelope: Value = serde_json::from_str(record["body"].as_str()?).unwrap();
    Some((record["seq_num"].as_u64()?, envelope["data"].as_str()?.to_owned()))
}

async fn drain(world: &World, query: &str) -> Vec<(u64, String)> {
    let path = format!("/realtime/v1/sessions/{}/out/records{query}", world.session);
    let answer = Request::new("GET", &path).bearer(KEY).send(&world.url).await;
    assert_eq!((answer.status, answer.cut), (200, false), "{query}");
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"), "a large answer is sent as it is read");
    let body = answer.json();
    let pair = |record: &Value| (record["seqNum"].as_u64().unwrap(), record["data"].as_str().unwrap().to_owned());
    body["records"].as_array().unwrap().iter().map(pair).collect()
}

/// All of it, page by page, through the stream API.
async fn page_through(world: &World) -> Vec<(u64, String)> {
    let (mut found, mut next) = (Vec::new(), 0);
    loop {
        let path = format!("/v1/streams/{}%2Fout/records?seq_num={next}", world.session_id);
        let answer = Request::new("GET", &path).bearer(KEY).send(&world.url).await;
        if answer.status == 416 {
            return found;
        }
        let page = answer.json();
        let records = page["records"].as_array().unwrap();
        assert!((1..=BATCH_RECORDS_MAX).contains(&records.len()));
        next = records.last().unwrap()["seq_num"].as_u64().unwrap() + 1;
        found.extend(records.iter().filter_map(data_record));
    }
}

/// Small ones by the thousand, and large ones between them.
fn texts() -> Vec<String> {
    let large = |n: usize| n % 701 == 7;
    let text = |n: usize| if large(n) { format!("{n}:{}", "é😀\"".repeat(60_000)) } else { format!("{n}") };
    (0..3_300).map(text).chain([TURN_COMPLETE.to_owned()]).collect()
}

#[tokio::test]
async fn every_start_reads_each_record_once() {
    let node = TestNode::start().await;
    let world = World::build(&node.url, KEY, "reads").await;
    let mut all = drain(&world, "").await;
    let texts = texts();
    let tail = all.last().unwrap().0 + 1;
    write(&world, &texts).await;
    all.extend((tail..).zip(texts));
    let last = all.last().unwrap().0;
    let same = |what: &str, read: Vec<(u64, String)>, from: u64| {
        let expected: Vec<_> = all.iter().filter(|(seq, _)| *seq >= from).collect();
        let numbers = |records: &[&(u64, String)]| records.iter().map(|(seq, _)| *seq).collect::<Vec<_>>();
        let read: Vec<_> = read.iter().collect();
        assert_eq!(numbers(&read), numbers(&expected), "{what}");
        assert!(read == expected, "{what}: every text as it was");
    };

    same("from the start", subscribe(&world, &[]).await, 0);
    for (id, from) in [
        ("0", 1),
        ("999", 1_000),
        ("1000", 1_001),
        ("1001,1002,99999", 1_002),
        ("2500-0", 2_501),
        (" 3 ", 4),
        ("007", 8),
        ("99999999999999999999999", last + 1),
        // What is no number starts from the beginning.
        ("", 0),
        ("-1", 0),
        ("abc", 0),
    ] {
        same(&format!("Last-Event-ID {id:?}"), subscribe(&world, &[("Last-Event-ID", id)]).await, from);
    }
    same("the latest", subscribe(&world, &[("X-Trigger-Stream-Start", "Latest")]).await, last);
    let both = [("X-Trigger-Stream-Start", "latest"), ("Last-Event-ID", "1500")];
    same("a cursor before the latest", subscribe(&world, &both).await, 1_501);
    same("an unknown start", subscribe(&world, &[("X-Trigger-Stream-Start", "earliest")]).await, 0);

    for (query, from) in [
        ("", 0),
        ("?afterEventId=0", 1),
        ("?afterEventId=1234", 1_235),
        ("?afterEventId=99999999999999999999", last + 1),
    ] {
        same(query, drain(&world, query).await, from);
    }
    same("page by page", page_through(&world).await, 0);
}
