//! The direction of dependency, kept by reading the manifests: crates are the borders, and these are their gates.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What the core may never name.
const TRANSPORT_AND_STORAGE: [&str; 12] = [
    "axum",
    "clickhouse",
    "fjall",
    "http",
    "hyper",
    "prost",
    "redis",
    "rusqlite",
    "sea-orm",
    "sqlx",
    "tokio-postgres",
    "tonic",
];

fn dependencies(manifest: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(manifest).join("Cargo.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let manifest: toml::Table = text.parse().unwrap();
    manifest["dependencies"].as_table().unwrap().keys().cloned().collect()
}

fn ours(manifest: &str) -> BTreeSet<String> {
    dependencies(manifest).into_iter().filter(|d| d.starts_with("continuo")).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|n| n.to_string()).collect()
}

#[test]
fn the_core_names_no_transport_and_no_storage() {
    for layer in ["src/domain", "src/ports", "src/usecases"] {
        let found: Vec<_> = dependencies(layer).into_iter().filter(|d| TRANSPORT_AND_STORAGE.contains(&&**d)).collect();
        assert!(found.is_empty(), "{layer} depends on {found:?}");
    }
    assert!(!dependencies("src/domain").contains("tokio"), "the domain waits for nothing");
}

#[test]
fn each_layer_sees_only_what_lies_below() {
    for (layer, allowed) in [
        ("src/domain", set(&[])),
        ("src/ports", set(&["continuo-domain"])),
        ("src/usecases", set(&["continuo-domain", "continuo-ports"])),
        ("src/grpc", set(&["continuo-domain", "continuo-ports", "continuo-proto", "continuo-usecases"])),
        // No adapter, for it serves no port: what adapters over Postgres stand on.
        ("src/postgres_link", set(&["continuo-domain"])),
        // No adapter either: between two databases, and what it does is of both.
        (
            "src/replication",
            set(&[
                "continuo-clickhouse",
                "continuo-domain",
                "continuo-migrations",
                "continuo-ports",
                "continuo-postgres-link",
            ]),
        ),
        ("gateway", set(&["continuo-proto"])),
        ("proto", set(&[])),
        ("migrations", set(&[])),
    ] {
        let found = ours(layer);
        assert!(found.is_subset(&allowed), "{layer} may see {allowed:?} and sees {found:?}");
    }
}

#[test]
fn adapters_know_their_port_and_one_technology_and_never_each_other() {
    let allowed = set(&["continuo-domain", "continuo-migrations", "continuo-ports", "continuo-postgres-link"]);
    let adapters = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/adapters");
    for adapter in fs::read_dir(adapters).unwrap() {
        let name = adapter.unwrap().file_name().into_string().unwrap();
        let found = ours(&format!("src/adapters/{name}"));
        assert!(found.is_subset(&allowed), "{name} may see {allowed:?} and sees {found:?}");
    }
}

#[test]
fn only_the_composition_root_joins_ports_and_adapters() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let adapters = [
        "continuo_blob_files",
        "continuo_blob_s3",
        "continuo_clickhouse",
        "continuo_credentials",
        "continuo_database",
        "continuo_embedded_log",
        "continuo_in_process",
        "continuo_postgres_hints",
        "continuo_redis",
        "continuo_s2_log",
    ];
    for file in ["server.rs", "tasks.rs", "telemetry.rs", "config.rs", "demo_agent.rs", "cli.rs"] {
        let text = fs::read_to_string(source.join(file)).unwrap();
        for adapter in adapters {
            assert!(!text.contains(adapter), "{file} names {adapter}");
        }
    }
}
