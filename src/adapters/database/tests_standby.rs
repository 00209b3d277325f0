//! Lists from a standby: a primary and a standby of this test's own, whose replay is held up and let go.

use crate::contract::rows::*;
use crate::contract::rows_of;
use crate::{Database, PostgresOptions};
use continuo_domain::session::{ListFilter, PageFrom};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A primary by `tests/services`, and a standby copied from it.
struct Cluster {
    directory: TempDir,
    primary: String,
    standby: String,
}

impl Cluster {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let printed = services(directory.path(), "up");
        let primary = printed.trim().rsplit_once("URL=").unwrap().1.to_owned();
        let port = primary.rsplit_once(':').unwrap().1.split('/').next().unwrap().to_owned();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let standby = primary.replace(&format!(":{port}/"), &format!(":{free}/"));
        let cluster = Self { directory, primary, standby };
        let data = cluster.standby_data();
        let data = data.display();
        assert!(cluster.as_postgres(&format!(
            "$BIN/pg_basebackup -h 127.0.0.1 -p {port} -U postgres -D {data} -R -X stream -c fast --no-sync && \
             echo port={free} >>{data}/postgresql.conf && \
             $BIN/pg_ctl -D {data} -l {data}.log -w start </dev/null >/dev/null 2>&1"
        )));
        cluster
    }

    fn standby_data(&self) -> PathBuf {
        self.directory.path().join("postgres/standby")
    }

    /// As the owner of the primary's files, with `$BIN` for where its programs are.
    fn as_postgres(&self, script: &str) -> bool {
        let pid = std::fs::read_to_string(self.directory.path().join("postgres/data/postmaster.pid")).unwrap();
        let process = Path::new("/proc").join(pid.lines().next().unwrap());
        let programs = std::fs::read_link(process.join("exe")).unwrap().parent().unwrap().to_owned();
        let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&process).unwrap());
        let mut command = Command::new("bash");
        command.arg("-c").arg(script).env("BIN", programs).current_dir("/");
        std::os::unix::process::CommandExt::uid(&mut command, owner);
        command.status().unwrap().success()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.as_postgres(&format!("$BIN/pg_ctl -D {} -m immediate stop >/dev/null", self.standby_data().display()));
        services(self.directory.path(), "down");
    }
}

fn services(directory: &Path, verb: &str) -> String {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let services = here.ancestors().map(|folder| folder.join("tests/services")).find(|path| path.is_file()).unwrap();
    let mut command = Command::new(services);
    command.arg(verb).env("CONTINUO_SERVICES_DIR", directory).env("CONTINUO_SERVICES", "postgres");
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

async fn is_from_standby(handle: &Database) -> bool {
    let snapshot = handle.list_snapshot().await.unwrap();
    let ask = Statement::from_string(DbBackend::Postgres, "SELECT pg_is_in_recovery() AS answer");
    snapshot.query_one_raw(ask).await.unwrap().unwrap().try_get("", "answer").unwrap()
}

async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_come_from_a_standby_that_has_everything_and_from_no_other() {
    let cluster = tokio::task::spawn_blocking(Cluster::start).await.unwrap();
    let read_replica_url = Some(cluster.standby.clone());
    let options = PostgresOptions { read_replica_url, pool_max: 4, ..PostgresOptions::new(&cluster.primary) };
    let handle = Database::connect(options).await.unwrap();
    handle.migrate().await.unwrap();
    let rows = rows_of(handle.clone());
    let direct = Database::connect(PostgresOptions::new(&cluster.standby)).await.unwrap();
    let list = async || {
        let page = rows.index.list(&env(), &ListFilter::default(), &PageFrom::Start, 9, T0).await.unwrap();
        let count = rows.index.count(&env(), &ListFilter::default(), T0).await.unwrap();
        assert_eq!(page.sessions.len() as u64, count);
        count
    };
    for made in 1..=3 {
        rows.session(&format!("s{made}"), None).await;
        assert_eq!(list().await, made, "wherever from, it sees what was acknowledged");
    }
    until("the standby catches up and is used", async || is_from_standby(&handle).await).await;
    assert_eq!(list().await, 3);
    direct.readers().execute_unprepared("SELECT pg_wal_replay_pause()").await.unwrap();
    let paused = "SELECT 1 AS n WHERE pg_get_wal_replay_pause_state() = 'paused'";
    let paused = Statement::from_string(DbBackend::Postgres, paused);
    until("replay stops", async || !direct.readers().query_all_raw(paused.clone()).await.unwrap().is_empty()).await;
    rows.session("s4", None).await;
    assert!(!is_from_standby(&handle).await, "it lags");
    assert_eq!(list().await, 4);
    direct.readers().execute_unprepared("SELECT pg_wal_replay_resume()").await.unwrap();
    until("the standby is used again", async || is_from_standby(&handle).await).await;
    assert_eq!(list().await, 4);
    let stop = format!("$BIN/pg_ctl -D {} -m immediate stop >/dev/null", cluster.standby_data().display());
    assert!(cluster.as_postgres(&stop));
    assert_eq!(list().await, 4, "one that is away is no fault");
    let start =
        format!("$BIN/pg_ctl -D {0} -l {0}.log -w start </dev/null >/dev/null 2>&1", cluster.standby_data().display());
    assert!(cluster.as_postgres(&start));
    until("it is asked again after a while", async || is_from_standby(&handle).await).await;
}
