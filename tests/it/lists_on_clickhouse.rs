//! Lists from ClickHouse, by processes: what is refused, what is served while it is away, and the way from the first start to
//! a whole copy and back.

use crate::support::clickhouse::{ClickHouseDatabase, clickhouse_url};
use crate::support::postgres::PostgresDatabase;
use crate::support::process::{Ended, ServerProcess, run};
use crate::support::rest::{Answer, Rest};
use crate::support::s3_server::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};
use crate::support::{ADMIN_KEY, Client, KEY, TestNode, redis_url, s2_endpoint};
use continuo::config::Mode;
use continuo_domain::IndexPosition;
use continuo_proto::v1::ListSessionsRequest;
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const MASTER_KEY: &str = "aGVyZSBhcmUgdGhpcnR5LXR3byBieXRlcyBvZiBrZXk=";
/// Nobody listens there.
const NOWHERE: &str = "http://u:hush@127.0.0.1:9";
/// A first copy, or another leader, is there within this.
const PATIENCE: Duration = Duration::from_secs(60);

/// A Postgres, and a ClickHouse beside it.
struct Stack {
    postgres: PostgresDatabase,
    clickhouse: ClickHouseDatabase,
    url: String,
}

impl Stack {
    async fn new() -> Self {
        Self::at(clickhouse_url()).await
    }

    async fn at(url: String) -> Self {
        Self { postgres: PostgresDatabase::migrated().await, clickhouse: ClickHouseDatabase::new(), url }
    }

    /// The settings of a process on it, and more.
    fn settings<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let clickhouse = [
            ("CONTINUO_CLICKHOUSE_URL", self.url.as_str()),
            ("CONTINUO_CLICKHOUSE_DATABASE", &self.clickhouse.name),
            ("CONTINUO_REPLICATION_SLOT_NAME", &self.clickhouse.name),
        ];
        [&self.on_postgres(&clickhouse)[..], more].concat()
    }

    fn on_postgres<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let given = [
            ("CONTINUO_DATABASE_URL", self.postgres.url.as_str()),
            ("CONTINUO_MASTER_KEY", MASTER_KEY),
            ("CONTINUO_ADMIN_KEY", ADMIN_KEY),
        ];
        [&given[..], more].concat()
    }

    async fn run(&self, args: &[&str]) -> Ended {
        run(args, &self.settings(&[])).await
    }

    /// Does something in Postgres behind everyone's back.
    async fn execute(&self, sql: &str) {
        let connection = sea_orm::Database::connect(&self.postgres.url).await.unwrap();
        connection.execute_unprepared(sql).await.unwrap();
        connection.close().await.unwrap();
    }

    /// As the first copy leaves it.
    async fn note_complete(&self) {
        let slot = &self.clickhouse.name;
        let row = format!("INSERT INTO session_replication VALUES ('{slot}', 'here', 1, 1, TRUE, NULL)");
        self.execute(&format!("{row} ON CONFLICT (slot_name) DO UPDATE SET is_complete = TRUE")).await;
    }

    /// Waits until `migrate status` says this.
    async fn status(&self, line: &str) {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let ended = self.run(&["migrate", "status"]).await;
            if ended.code == 0 && ended.stdout.contains(line) {
                return;
            }
            assert!(Instant::now() < give_up, "{line:?} is not said: {ended:?}");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

fn assert_refused(ended: &Ended, code: i32, sentence: &str) {
    assert_eq!(ended.code, code, "{ended:?}");
    assert!(ended.stderr.contains(sentence) && !ended.stderr.contains("hush"), "{ended:?}");
}

async fn create(rest: &Rest, name: &str) {
    let body = json!({ "type": "chat.agent", "externalId": name, "taskIdentifier": "t", "triggerConfig": { "basePayload": {} } });
    assert_eq!(rest.status("POST", "/api/v1/sessions", body.to_string()).await, 201);
}

fn names(page: &Answer) -> Vec<String> {
    let name = |item: &Value| item["externalId"].as_str().unwrap().to_owned();
    page.json()["data"].as_array().unwrap_or_else(|| panic!("{}", page.text())).iter().map(name).collect()
}

#[tokio::test]
async fn a_schema_in_clickhouse_is_never_served_missing_or_ahead() {
    let stack = Stack::new().await;
    let serve = ["serve"];
    assert_refused(
        &stack.run(&serve).await,
        2,
        "the schema in ClickHouse is older than this release: run `continuo migrate up`",
    );
    let status = ["migrate", "status"];
    assert_refused(&stack.run(&status).await, 1, "there is no schema in ClickHouse yet: run `continuo migrate up`");
    let (one, two) = tokio::join!(stack.run(&["migrate", "up"]), stack.run(&["migrate", "up"]));
    assert_eq!((one.code, two.code), (0, 0), "{one:?} {two:?}");
    stack.status("current\nClickHouse: current\nlists: from the database, until ClickHouse has a whole copy\n").await;

    stack.clickhouse.ask("INSERT INTO {database}.schema_migrations (name) VALUES ('c9999_later')").await;
    for command in [&serve[..], &["migrate", "up"]] {
        let ended = stack.run(command).await;
        assert_refused(&ended, 2, "this release is older than the schema in ClickHouse, which has c9999_later");
    }
    let ahead = stack.run(&status).await;
    assert_refused(&ahead, 1, "c9999_later\nerror: the schema in ClickHouse is ahead of this release");
}

#[tokio::test]
async fn a_clickhouse_that_was_emptied_begins_a_copy_anew() {
    let stack = Stack::new().await;
    stack.note_complete().await;
    let wanting = "there is no schema in ClickHouse yet";
    assert_refused(&stack.run(&["migrate", "status"]).await, 1, wanting);
    assert_eq!(stack.run(&["migrate", "up"]).await.code, 0);
    stack.status("lists: from the database, until ClickHouse has a whole copy").await;

    stack.note_complete().await;
    let up = stack.run(&["migrate", "up"]).await;
    assert!(up.stdout.contains("the schema was up to date\nthe database's index for lists is dropped"), "{up:?}");
    stack.clickhouse.ask("DROP DATABASE {database} SYNC").await;
    let up = stack.run(&["migrate", "up"]).await;
    assert!(up.stdout.contains("the schema is up to date\nthe database has its index for lists again"), "{up:?}");
}

#[tokio::test]
async fn dev_migrates_clickhouse_by_itself() {
    let stack = Stack::new().await;
    let secret = |text: &str| Some(text.to_owned().into());
    let mut node = TestNode::start_with(|config| {
        config.mode = Mode::Dev;
        config.database.url = Some(stack.postgres.url.clone().into());
        config.clickhouse.url = Some(stack.url.clone().into());
        config.clickhouse.database = stack.clickhouse.name.clone();
        config.replication.slot_name = stack.clickhouse.name.clone();
        (config.keys.master_key, config.keys.admin_key) = (secret(MASTER_KEY), secret(ADMIN_KEY));
    })
    .await;
    stack.status("lists: from ClickHouse").await;
    create(&node.rest(), "chat-1").await;
    let page = node.rest().get("/api/v1/sessions").await;
    assert!(names(&page) == ["chat-1"] && page.header("continuo-as-of").is_some(), "{}", page.text());
    // A slot that is read keeps its database.
    node.node.take().unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn an_account_that_clickhouse_does_not_let_in_is_refused() {
    let url = clickhouse_url().replacen("://", "://nobody:hush@", 1);
    let stack = Stack::at(url).await;
    for command in [&["serve"][..], &["migrate", "up"], &["migrate", "status"]] {
        let ended = stack.run(command).await;
        assert_refused(&ended, 2, "clickhouse.url: names a user or a password that ClickHouse does not accept");
    }
}

#[tokio::test]
async fn a_clickhouse_that_is_away_takes_lists_with_it_and_nothing_else() {
    let stack = Stack::at(NOWHERE.to_owned()).await;
    assert_refused(&stack.run(&["migrate", "up"]).await, 1, "cannot reach ClickHouse at http://(hidden)@127.0.0.1:9");
    let server = ServerProcess::start_with(&stack.settings(&[])).await;
    let rest = Rest::new(&server.url, Some(KEY));
    assert_eq!(rest.status("GET", "/readyz", "").await, 200);
    create(&rest, "chat-1").await;
    let page = rest.get("/api/v1/sessions").await;
    assert_eq!(names(&page), ["chat-1"], "the database lists until there is a copy");
    assert_eq!(page.header("continuo-as-of"), None);

    stack.note_complete().await;
    create(&rest, "chat-2").await;
    let away = rest.get("/api/v1/sessions").await;
    assert_eq!((away.status, away.header("retry-after")), (503, Some("1")), "{}", away.text());
    assert!(!away.text().contains("127.0.0.1"), "{}", away.text());
    let one = rest.get("/api/v1/sessions/chat-2").await;
    assert_eq!((one.status, rest.status("GET", "/readyz", "").await), (200, 200));
    assert!(server.log().contains("lists are unavailable until ClickHouse is back") && !server.log().contains("hush"));
    server.stop().await;
}

#[tokio::test]
async fn what_is_written_through_one_replica_is_listed_by_every_one_at_once() {
    let (stack, s2, redis, bucket) = (Stack::new().await, s2_endpoint(), redis_url(), S3Server::start().await);
    let shared = stack.settings(&[
        ("CONTINUO_REPLICAS", "2"),
        ("CONTINUO_S2_ENDPOINT", &s2),
        ("CONTINUO_S2_BASIN_PREFIX", "lists-many"),
        ("CONTINUO_REDIS_URL", &redis),
        ("CONTINUO_REDIS_PREFIX", &stack.clickhouse.name),
        ("CONTINUO_BLOBS_S3_ENDPOINT", &bucket.endpoint),
        ("CONTINUO_BLOBS_S3_BUCKET", BUCKET),
        ("CONTINUO_BLOBS_S3_ACCESS_KEY", ACCESS_KEY),
        ("CONTINUO_BLOBS_S3_SECRET_KEY", SECRET_KEY),
    ]);
    let idle = [&shared[..], &[("SESSION_REPLICATION_ENABLED", "0")]].concat();
    assert_eq!(stack.run(&["migrate", "up"]).await.code, 0);
    let (one, two) = tokio::join!(ServerProcess::start_with(&shared), ServerProcess::start_with(&idle));
    let (first, second) = (Rest::new(&one.url, Some(KEY)), Rest::new(&two.url, Some(KEY)));
    create(&first, "before").await;

    stack.status("lists: from ClickHouse; the database's index for them is not needed any more").await;
    let up = stack.run(&["migrate", "up"]).await;
    assert!(up.stdout.contains("the database's index for lists is dropped: ClickHouse serves them"), "{up:?}");
    stack.status("lists: from ClickHouse\n").await;

    // No write waits for the copy, and no list either: each is in the very next list, wherever that is asked for.
    for (n, (writer, reader)) in [(&first, &second), (&second, &first)].into_iter().enumerate() {
        let name = format!("chat-{n}");
        create(writer, &name).await;
        let page = reader.get(&format!("/api/v1/sessions?filter[externalId]={name}")).await;
        assert_eq!(names(&page), [name.as_str()]);
        assert!(page.header("continuo-as-of").unwrap().parse::<IndexPosition>().is_ok());
        assert_eq!(writer.status("POST", &format!("/api/v1/sessions/{name}/close"), "{}").await, 200);
        let closed = reader.get(&format!("/api/v1/sessions?filter[status]=CLOSED&filter[externalId]={name}")).await;
        assert_eq!(names(&closed), [name.as_str()]);
    }

    // Whoever waits for now finds all of it in ClickHouse itself; on the replica that does not copy as well.
    let now = second.call("GET", "/api/v1/sessions", &[("continuo-wait-as-of", "now")], "").await;
    assert_eq!(names(&now), ["chat-1", "chat-0", "before"]);
    let copied = "SELECT external_id, closed_at IS NULL FROM {database}.sessions_v1 FINAL ORDER BY created_at";
    assert_eq!(stack.clickhouse.ask(copied).await, "before\t1\nchat-0\t0\nchat-1\t0");
    let as_of = now.header("continuo-as-of").unwrap().to_owned();
    let list = ListSessionsRequest { wait_as_of: as_of.clone(), ..Default::default() };
    let page = Client::connect(&one.url, KEY).await.sessions.list_sessions(list).await.unwrap().into_inner();
    let position = |text: &str| text.parse::<IndexPosition>().unwrap();
    assert!(page.sessions.len() == 3 && position(&page.as_of) >= position(&as_of), "{} {as_of}", page.as_of);
    let wrong = first.call("GET", "/api/v1/sessions", &[("continuo-wait-as-of", "then")], "").await;
    assert_eq!((wrong.status, &wrong.json()["error"]), (400, &json!("Headers Error")), "{}", wrong.text());

    let metrics = async |server: &ServerProcess| Rest::new(&server.url, Some(ADMIN_KEY)).get("/metrics").await.text();
    let leads = metrics(&one).await;
    assert!(leads.contains("\nsessions_replication_leader 1\n"), "{leads}");
    assert!(!metrics(&two).await.contains("sessions_replication_"), "it does not copy");

    for server in [one, two] {
        server.stop().await;
    }
    let without = stack.on_postgres(&[]);
    let status = run(&["migrate", "status"], &without).await;
    assert_refused(&status, 1, "lists come from the database, which has no index for them: run `continuo migrate up`");
    let up = run(&["migrate", "up"], &without).await;
    assert!(up.stdout.contains("the database has its index for lists again"), "{up:?}");
    assert_eq!(run(&["migrate", "status"], &without).await.stdout, "current\n");
}
