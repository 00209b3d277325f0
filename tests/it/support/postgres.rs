//! A Postgres database of its own for a test: a copy of a migrated template, dropped when the test is over.
//!
//! A file without a crate: included by `#[path]`, in crates that have `continuo-database` and `sea-orm` at hand.

use continuo_database::{Database, PostgresOptions};
use sea_orm::sqlx::{ConnectOptions, Executor, PgConnection, postgres::PgConnectOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

/// The lock under which the template is made; any number that nobody else takes.
const TEMPLATE_LOCK: i64 = 0x7e_57_da_7a;

/// Drops the database with whatever is still connected to it.
pub(crate) struct PostgresDatabase {
    name: String,
    /// Of this database.
    pub(crate) url: String,
}

impl PostgresDatabase {
    /// A fresh database with the current schema and nothing in it.
    pub(crate) async fn migrated() -> Self {
        let mut server = server().await;
        let template = template(&mut server).await;
        Self::copy_of(&mut server, &template).await
    }

    async fn copy_of(server: &mut PgConnection, template: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("continuo_test_{}_{count}", std::process::id());
        run(server, format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await;
        run(server, format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        Self { url: url_of(&name), name }
    }

    /// Another handle on it, as another replica has one.
    pub(crate) async fn connect(&self) -> Database {
        Database::connect(PostgresOptions { pool_max: 8, ..PostgresOptions::new(&self.url) }).await.unwrap()
    }
}

impl Drop for PostgresDatabase {
    /// On a thread of its own: the test's runtime may be the one that drops it.
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { run(&mut server().await, drop).await });
        });
        // A panic here would hide the one that ended the test.
        let _ = dropping.join();
    }
}

fn server_url() -> String {
    std::env::var("CONTINUO_TEST_POSTGRES_URL")
        .expect("no Postgres to test on; start one with: eval \"$(tests/services up)\"")
}

async fn server() -> PgConnection {
    PgConnectOptions::from_str(&server_url()).unwrap().disable_statement_logging().connect().await.unwrap()
}

fn url_of(database: &str) -> String {
    PgConnectOptions::from_str(&server_url()).unwrap().database(database).to_url_lossy().to_string()
}

async fn run(server: &mut PgConnection, sql: String) {
    server.execute(sea_orm::sqlx::AssertSqlSafe(sql)).await.unwrap();
}

/// Made once for a state of the migrations. It is renamed to its name when it is whole, so a name that is there will do.
/// Its locale sorts otherwise than bytes do: what forgets to ask for bytes fails on every machine.
async fn template(server: &mut PgConnection) -> String {
    let name = format!("continuo_template_{:016x}", migrations());
    run(server, format!("SELECT pg_advisory_lock({TEMPLATE_LOCK})")).await;
    let exists = format!("SELECT 1 FROM pg_database WHERE datname = '{name}'");
    let exists = server.fetch_optional(sea_orm::sqlx::AssertSqlSafe(exists)).await.unwrap();
    if exists.is_none() {
        let draft = format!("{name}_draft");
        run(server, format!("DROP DATABASE IF EXISTS {draft} WITH (FORCE)")).await;
        let locale = "LOCALE_PROVIDER icu ICU_LOCALE 'en-US' ENCODING UTF8";
        run(server, format!("CREATE DATABASE {draft} TEMPLATE template0 {locale}")).await;
        let database = Database::connect(PostgresOptions::new(url_of(&draft))).await.unwrap();
        database.migrate().await.unwrap();
        database.close().await;
        run(server, format!("ALTER DATABASE {draft} RENAME TO {name}")).await;
    }
    run(server, format!("SELECT pg_advisory_unlock({TEMPLATE_LOCK})")).await;
    name
}

/// A number for the migrations' sources: a template made of others is another one.
fn migrations() -> u64 {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = here.ancestors().map(|folder| folder.join("migrations/src")).find(|folder| folder.is_dir()).unwrap();
    let mut files: Vec<_> = std::fs::read_dir(sources).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut hasher = DefaultHasher::new();
    files.iter().for_each(|file| std::fs::read(file).unwrap().hash(&mut hasher));
    hasher.finish()
}
