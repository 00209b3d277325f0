use std::io::Write;

use clap::{CommandFactory, FromArgMatches, Parser};

use super::*;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    layer: Layer,
}

fn flags(args: &[&str]) -> Layer {
    let matches = Flags::command().get_matches_from([&["continuo"], args].concat());
    Flags::from_arg_matches(&matches).unwrap().layer
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn refusal(args: &[&str]) -> String {
    Config::load(Mode::Serve, flags(args), None).unwrap_err().to_string()
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let file = file("replicas = 1\n[worker]\nlease_ms = 30000\nstop_grace_ms = 7\n[log]\nformat = \"json\"\n");
    let config = Config::load(Mode::Serve, flags(&["--worker-lease-ms", "20000"]), Some(file.path())).unwrap();
    assert_eq!((config.worker.lease_ms, config.worker.stop_grace_ms), (20_000, 7));
    assert_eq!(config.worker.heartbeat_ms, Config::defaults(Mode::Serve).worker.heartbeat_ms);
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.public_url(), "http://127.0.0.1:8080");
}

#[test]
fn every_option_has_help_and_a_variable_of_ours() {
    let command = Flags::command();
    for arg in command.get_arguments().filter(|arg| arg.get_id() != "help") {
        assert!(arg.get_help().is_some(), "{}", arg.get_id());
        let env = arg.get_env().unwrap_or_else(|| panic!("{}", arg.get_id())).to_string_lossy().into_owned();
        assert!(env.starts_with("CONTINUO_"), "{env}");
        let is_secret = ["key", "token", "database.url", "database.read_url", "redis.url", "clickhouse.url"];
        let is_secret = is_secret.iter().any(|name| arg.get_id().as_str().contains(name)) && !env.ends_with("_MS");
        assert!(!is_secret || arg.is_hide_env_values_set() || arg.is_hide_set(), "{env} would be shown");
    }
}

#[test]
fn the_demo_agent_comes_with_dev_only() {
    assert!(Config::load(Mode::Dev, Layer::default(), None).unwrap().demo.enabled);
    assert!(!Config::load(Mode::Serve, Layer::default(), None).unwrap().demo.enabled);
    assert!(!Config::load(Mode::Dev, flags(&["--demo", "false"]), None).unwrap().demo.enabled);
}

#[test]
fn an_unknown_key_is_refused_by_name() {
    let file = file("[worker]\nlease = 5\n");
    let error = Config::load(Mode::Serve, Layer::default(), Some(file.path())).unwrap_err().to_string();
    assert!(error.contains("unknown field `lease`") && error.contains("lease_ms"), "{error}");
}

/// Every setting a replica of several needs.
const CLUSTER: [(&str, &str); 9] = [
    ("--replicas", "3"),
    ("--database-url", "postgres://u:hush@db:5432/continuo"),
    ("--s2-endpoint", "http://s2:8080"),
    ("--blobs-s3-endpoint", "http://minio:9000"),
    ("--blobs-s3-bucket", "b"),
    ("--blobs-s3-access-key", "who"),
    ("--blobs-s3-secret-key", "hush"),
    ("--master-key", "aGVyZSBhcmUgdGhpcnR5LXR3byBieXRlcyBvZiBrZXk="),
    ("--admin-key", "tr_pat_hush"),
];

/// All of them but those whose flag begins with `without`.
fn cluster_without(without: &str) -> Vec<&'static str> {
    CLUSTER.iter().filter(|(flag, _)| !flag.starts_with(without)).flat_map(|(flag, value)| [*flag, *value]).collect()
}

#[test]
fn several_replicas_need_engines_that_all_of_them_reach_and_keys_that_all_of_them_know() {
    assert!(Config::load(Mode::Serve, flags(&cluster_without("none")), None).is_ok());
    for (without, remedy) in [
        ("--database-url", "set CONTINUO_DATABASE_URL to one Postgres"),
        ("--s2-endpoint", "set CONTINUO_S2_ENDPOINT to one S2"),
        ("--blobs-s3", "set CONTINUO_BLOBS_S3_ENDPOINT and its siblings"),
        ("--master-key", "set CONTINUO_MASTER_KEY"),
        ("--admin-key", "set CONTINUO_ADMIN_KEY"),
    ] {
        let refusal = refusal(&cluster_without(without));
        assert!(refusal.contains(remedy) && !refusal.contains("hush"), "{refusal}");
    }
    assert!(refusal(&["--replicas", "0"]).contains("at least 1"));
}

#[test]
fn one_process_may_have_any_part_from_elsewhere() {
    for alone in [vec!["--redis-url", "rediss://h"], vec!["--s2-endpoint", "http://h"]] {
        assert!(Config::load(Mode::Serve, flags(&alone), None).is_ok(), "{alone:?}");
    }
    let postgres = ["--database-url", "postgres://u:hush@h/d"];
    assert!(refusal(&postgres).contains("set CONTINUO_MASTER_KEY"), "its secrets are not this machine's");
    let given: Vec<_> = CLUSTER[7..].iter().flat_map(|(flag, value)| [*flag, *value]).collect();
    assert!(Config::load(Mode::Serve, flags(&[&postgres[..], &given].concat()), None).is_ok());
    assert!(
        Config::load(Mode::Serve, flags(&["--database-url", "", "--redis-url", ""]), None).is_ok(),
        "empty is not set"
    );
}

#[test]
fn addresses_of_something_else_are_refused() {
    for (args, remedy) in [
        (vec!["--database-url", "mysql://u:hush@h/d"], "database.url must begin with postgres://"),
        (vec!["--database-pool-max", "1"], "at least 2"),
        (vec!["--database-read-url", "postgres://u:hush@h/d"], "set CONTINUO_DATABASE_URL to the primary"),
        (vec!["--redis-url", "http://u:hush@h"], "redis.url must begin with redis:// or rediss://"),
        (vec!["--redis-prefix", "a b"], "redis.prefix"),
        (vec!["--s2-endpoint", "h:80"], "or be the word cloud"),
        (vec!["--s2-endpoint", "http://u:hush@h"], "CONTINUO_S2_ACCESS_TOKEN"),
        (vec!["--s2-endpoint", "cloud"], "set CONTINUO_S2_ACCESS_TOKEN"),
        (vec!["--s2-endpoint", "http://h", "--s2-basin-prefix", "Big"], "s2.basin_prefix"),
        (vec!["--clickhouse-url", "tcp://u:hush@h:9000"], "clickhouse.url must begin with http:// or https://"),
    ] {
        let refusal = refusal(&args);
        assert!(refusal.contains(remedy) && !refusal.contains("hush"), "{refusal}");
    }
}

/// ClickHouse beside the Postgres of [`CLUSTER`].
fn clickhouse(more: &[&'static str]) -> Vec<&'static str> {
    [&cluster_without("none")[..], &["--clickhouse-url", "http://u:hush@ch:8123"], more].concat()
}

#[test]
fn lists_come_from_clickhouse_where_its_url_is_given() {
    let load = |args: &[&str]| Config::load(Mode::Serve, flags(args), None).unwrap();
    assert!(!load(&cluster_without("none")).replicates());
    let config = load(&clickhouse(&[]));
    assert!(config.replicates());
    let shown = format!("{config:?} {}", toml::to_string(&config).unwrap());
    assert!(!shown.contains("hush") && shown.contains("url = \"http://(hidden)@ch:8123\""), "{shown}");
    for off in ["false", "0"] {
        assert!(!load(&clickhouse(&["--replication", off])).replicates());
    }
    let alone = refusal(&["--clickhouse-url", "http://u:hush@ch:8123"]);
    assert!(alone.contains("SQLite") && alone.contains("set CONTINUO_DATABASE_URL to a Postgres"), "{alone}");
    assert!(!alone.contains("hush"));
    assert!(!load(&["--clickhouse-url", ""]).replicates(), "empty is not set");
}

#[test]
fn settings_of_the_replication_are_held_to_what_works() {
    for (flag, outside, inside) in [
        ("--clickhouse-database", ["a-b", "a`"], ["Trigger_dev", "d"]),
        ("--replication-slot-name", ["Slot", "a b"], ["slot_1", "s"]),
        ("--replication-publication-name", ["Pub", "a\"b"], ["pub_1", "p"]),
        ("--replication-flush-interval-ms", ["0", "10001"], ["1", "10000"]),
        ("--replication-batch-rows", ["0", "100001"], ["1", "100000"]),
        ("--replication-flights", ["0", "17"], ["1", "16"]),
    ] {
        let setting = flag[2..].replacen('-', ".", 1).replace('-', "_");
        for wrong in outside {
            let refusal = refusal(&clickhouse(&[flag, wrong]));
            assert!(refusal.starts_with(&setting), "{refusal}");
        }
        for right in inside {
            assert!(Config::load(Mode::Serve, flags(&clickhouse(&[flag, right])), None).is_ok(), "{flag} {right}");
        }
    }
    let name: &'static str = "s".repeat(64).leak();
    assert!(refusal(&clickhouse(&["--replication-slot-name", name])).contains("at most 63"));
    assert!(Config::load(Mode::Serve, flags(&clickhouse(&["--replication-slot-name", &name[1..]])), None).is_ok());
}

#[test]
fn names_that_others_use_are_read_where_ours_are_silent() {
    let theirs = |name: &str| {
        let text = match name {
            "SESSION_REPLICATION_CLICKHOUSE_URL" => "http://theirs:hush@h",
            "SESSION_REPLICATION_ENABLED" => "1",
            "SESSION_REPLICATION_SLOT_NAME" => "theirs",
            "SESSION_REPLICATION_PUBLICATION_NAME" => "",
            "SESSION_REPLICATION_FLUSH_INTERVAL_MS" => "1000",
            "SESSION_REPLICATION_FLUSH_BATCH_SIZE" => "100",
            "SESSION_REPLICATION_MAX_FLUSH_CONCURRENCY" => "3",
            _ => return None,
        };
        Some(text.to_owned())
    };
    let file = file("[clickhouse]\nurl = \"http://file\"\n[replication]\nenabled = false\nslot_name = \"file\"\n");
    let ours = [&cluster_without("none")[..], &["--replication-batch-rows", "7", "--clickhouse-url", ""]].concat();
    let layer = flags(&ours).or_aliases(theirs).unwrap();
    let config = Config::load(Mode::Serve, layer, Some(file.path())).unwrap();
    assert_eq!(config.clickhouse.url.as_ref().unwrap().expose(), "http://theirs:hush@h");
    let Replication { enabled, slot_name, publication_name, flush_interval_ms, batch_rows, flights } =
        config.replication;
    assert_eq!((enabled, slot_name.as_str(), flush_interval_ms, batch_rows, flights), (true, "theirs", 1_000, 7, 3));
    assert_eq!(publication_name, Replication::default().publication_name, "empty is not set");

    let refusal = |name: &'static str| {
        let wrong = move |asked: &str| (asked == name).then(|| "hush".to_owned());
        Layer::default().or_aliases(wrong).unwrap_err().to_string()
    };
    assert_eq!(refusal("SESSION_REPLICATION_ENABLED"), "SESSION_REPLICATION_ENABLED must be 1 or 0");
    let batch = refusal("SESSION_REPLICATION_FLUSH_BATCH_SIZE");
    assert_eq!(batch, "SESSION_REPLICATION_FLUSH_BATCH_SIZE must be a number");
}

#[test]
fn the_profile_says_which_engine_serves_what() {
    let words = |args: &[&str]| {
        let config = Config::load(Mode::Serve, flags(args), None).unwrap();
        config.profile().into_iter().map(|(part, engine)| format!("{part}: {engine}")).collect::<Vec<_>>().join("\n")
    };
    let alone = words(&[]);
    assert!(alone.contains("runs: SQLite") && alone.contains("leases: in this process"), "{alone}");
    let cluster = words(&cluster_without("none"));
    assert!(cluster.contains("runs: Postgres, postgres://(hidden)@db:5432/continuo"), "{cluster}");
    assert!(cluster.contains("S2, http://s2:8080") && cluster.contains("LISTEN/NOTIFY"), "{cluster}");
    assert!(cluster.contains("bucket b at http://minio:9000") && cluster.contains("time: the database's"), "{cluster}");
    assert!(cluster.contains("lists of sessions: the same database"), "{cluster}");
    let listed = words(&clickhouse(&[]));
    let filled =
        "ClickHouse, http://(hidden)@ch:8123, database trigger_dev, filled through slot sessions_to_clickhouse_v1";
    assert!(listed.contains(filled), "{listed}");
    assert!(words(&clickhouse(&["--replication", "false"])).contains("filled by other replicas"));
    assert!(words(&["--redis-url", "redis://:hush@h"]).contains("leases: Redis, redis://(hidden)@h"));
}

#[test]
fn what_cannot_work_is_refused() {
    assert!(refusal(&["--worker-heartbeat-ms", "9000"]).contains("half"));
    assert!(refusal(&["--master-key", "c2hvcnQ="]).contains("32 bytes"));
    assert!(refusal(&["--public-url", "example.com"]).contains("http"));
    assert!(refusal(&["--message-bytes-max", "1"]).contains("message_bytes_max"));
    assert!(refusal(&["--tls-cert", "c.pem"]).contains("set CONTINUO_TLS_KEY"));
    assert!(refusal(&["--tls-key", "k.pem"]).contains("set CONTINUO_TLS_CERT"));
}

#[test]
fn with_a_certificate_urls_say_https() {
    let file = file("[tls]\ncert = \"c.pem\"\nkey = \"k.pem\"\n");
    let config = Config::load(Mode::Serve, Layer::default(), Some(file.path())).unwrap();
    assert_eq!(config.public_url(), "https://127.0.0.1:8080");
    let empty = Config::load(Mode::Serve, flags(&["--tls-cert", "", "--tls-key", ""]), None).unwrap();
    assert!(!empty.tls.is_on(), "empty is not set");
}

#[test]
fn half_a_bucket_is_refused_with_what_is_missing() {
    let half = refusal(&["--blobs-s3-endpoint", "http://h:9000", "--blobs-s3-secret-key", "hush"]);
    assert!(half.contains("set CONTINUO_BLOBS_S3_BUCKET and CONTINUO_BLOBS_S3_ACCESS_KEY too"), "{half}");
    assert!(refusal(&["--blobs-s3-prefix", "a"]).contains("CONTINUO_BLOBS_S3_ENDPOINT"));
    let file = file("[blobs.s3]\nendpoint = \"http://h:9000\"\nbucket = \"b\"\nprefix = \"p\"\n");
    let keys = ["--blobs-s3-access-key", "who", "--blobs-s3-secret-key", "hush"];
    let config = Config::load(Mode::Serve, flags(&keys), Some(file.path())).unwrap();
    let shown = toml::to_string(&config).unwrap();
    assert!(!shown.contains("hush") && shown.contains("secret_key = \"(hidden)\""), "{shown}");
    let s3 = config.blobs.s3.unwrap();
    assert_eq!((s3.region.as_str(), s3.path_style, s3.secret_key.expose()), ("us-east-1", true, "hush"));
    let whole = |endpoint, prefix| {
        let rest = ["--blobs-s3-bucket", "b", "--blobs-s3-endpoint", endpoint, "--blobs-s3-prefix", prefix];
        refusal(&[&keys[..], &rest].concat())
    };
    assert!(whole("h:9000", "").contains("http://"));
    for prefix in ["a b", "../a", "a/.", "ü"] {
        assert!(whole("http://h", prefix).contains("blobs.s3.prefix"), "{prefix}");
    }
    assert!(Config::load(Mode::Serve, flags(&["--blobs-s3-endpoint", ""]), None).unwrap().blobs.s3.is_none());
}

#[test]
fn secrets_are_kept_and_never_shown() {
    let config = Config::load(Mode::Dev, flags(&["--admin-key", "hush", "--dev-secret-key", ""]), None).unwrap();
    assert_eq!(config.keys.admin_key.as_ref().unwrap().expose(), "hush");
    assert!(config.keys.dev_secret_key.is_none());
    let shown = format!("{config:?} {}", toml::to_string(&config).unwrap());
    assert!(!shown.contains("hush") && shown.contains("admin_key = \"(hidden)\""), "{shown}");
}

#[test]
fn what_is_printed_can_be_read_back() {
    let printed = toml::to_string(&Config::defaults(Mode::Dev)).unwrap();
    let file = file(&printed);
    let config = Config::load(Mode::Serve, Layer::default(), Some(file.path())).unwrap();
    assert_eq!(toml::to_string(&config).unwrap(), printed);
}
