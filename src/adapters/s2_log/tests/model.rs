//! Random appends with part ids through two replicas whose connections break at random moments, against a ledger of what
//! was acknowledged.

use super::proxy::Proxy;
use super::*;
use continuo_domain::channel::Position;
use proptest::prelude::*;
use proptest::test_runner::Config;
use std::collections::HashMap;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// At this replica, this part id.
    Append(usize, u8),
    /// What this replica asks is held back for a while, or what it is answered.
    HoldRequests(usize),
    HoldAnswers(usize),
    Release(usize),
    Cut(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..2usize, 0..6u8).prop_map(|(replica, part_id)| Step::Append(replica, part_id)),
        1 => (0..2usize).prop_map(Step::HoldRequests),
        1 => (0..2usize).prop_map(Step::HoldAnswers),
        1 => (0..2usize).prop_map(Step::Release),
        3 => (0..2usize).prop_map(Step::Cut),
    ]
}

proptest! {
    #![proptest_config(Config { cases: 12, max_shrink_iters: 20, failure_persistence: None, ..Config::default() })]

    #[test]
    fn every_part_id_has_one_record_whatever_breaks(steps in prop::collection::vec(step(), 10..60)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}

async fn run(steps: Vec<Step>) {
    let (rows, _dir) = own_rows().await;
    let mut replicas = Vec::new();
    for _ in 0..2 {
        let proxy = Proxy::start(&shared_s2()).await;
        let log = open_with(&proxy.endpoint, &rows, |o| {
            o.append_timeout = Duration::from_secs(2);
            o.repeat_patience = Duration::from_millis(50);
        });
        replicas.push((proxy, log));
    }
    let mut appends = Vec::new();
    for step in steps {
        match step {
            Step::Append(replica, part_id) => {
                let log = replicas[replica].1.clone();
                let append = with_part(&format!("body {part_id}"), &format!("{part_id}"));
                appends.push(tokio::spawn(async move { (part_id, log.append(&key("a"), append).await) }));
            }
            Step::HoldRequests(replica) => drop(replicas[replica].0.hold_requests()),
            Step::HoldAnswers(replica) => replicas[replica].0.hold_answers(),
            Step::Release(replica) => replicas[replica].0.release(),
            Step::Cut(replica) => replicas[replica].0.cut(),
        }
        // The appends of before go some way, however far.
        tokio::task::yield_now().await;
    }
    let mut ledger: HashMap<u8, Position> = HashMap::new();
    let mut fresh: HashMap<u8, u32> = HashMap::new();
    replicas.iter().for_each(|(proxy, _)| proxy.release());
    for append in appends {
        // What fails may be repeated, which the last round does for all.
        if let (part_id, Ok(appended)) = append.await.unwrap() {
            assert_eq!(*ledger.entry(part_id).or_insert(appended.start), appended.start, "part id {part_id}");
            *fresh.entry(part_id).or_default() += u32::from(!appended.repeated);
        }
    }
    assert!(fresh.values().all(|&count| count <= 1), "two writers of one record: {fresh:?}");
    for part_id in 0..6 {
        let append = with_part(&format!("body {part_id}"), &format!("{part_id}"));
        let again = until_some(async || replicas[0].1.append(&key("a"), append.clone()).await.ok()).await;
        assert_eq!(*ledger.entry(part_id).or_insert(again.start), again.start, "part id {part_id}");
    }
    let log = open(&shared_s2(), &rows);
    let records = read_all(&*log, &key("a")).await;
    assert!(records.iter().zip(0..).all(|(record, seq_num)| record.seq_num == seq_num));
    let data: Vec<_> = records.iter().filter(|record| !record.is_command()).collect();
    assert_eq!(data.len(), 6, "one record each");
    for (part_id, at) in ledger {
        let record = data.iter().find(|record| record.body == format!("body {part_id}").as_bytes());
        assert_eq!(record.map(|record| record.position()), Some(at));
    }
}
