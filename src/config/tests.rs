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
        let is_secret = ["key", "token", "database.url", "database.read_url", "redis.url", "clickhouse"];
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
        (vec!["--clickhouse-url", "http://u:hush@h"], "unset CONTINUO_CLICKHOUSE_URL"),
    ] {
        let refusal = refusal(&args);
        assert!(refusal.contains(remedy) && !refusal.contains("hush"), "{refusal}");
    }
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
