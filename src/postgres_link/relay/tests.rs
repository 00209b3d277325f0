//! A Postgres of this test's own, that encrypts and takes nothing else, under the client that cannot.

use crate::Link;
use pgwire_replication::{ReplicationClient, ReplicationConfig, ReplicationEvent};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::timeout;

/// For what must happen, on a machine however busy.
const PATIENCE: Duration = Duration::from_secs(30);

struct Server {
    directory: TempDir,
    port: String,
}

impl Server {
    /// Accounts: `secret` with a password, `certified` with a certificate, `postgres` with nothing, all over TLS but the last.
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let printed = services(directory.path(), "up");
        let port = printed.rsplit_once(':').unwrap().1.split('/').next().unwrap().to_owned();
        let server = Self { directory, port };
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        for (name, host) in [("server", "localhost"), ("certified", "certified")] {
            let key = KeyPair::generate().unwrap();
            let mut certificate = CertificateParams::new(vec![host.into()]).unwrap();
            certificate.distinguished_name.push(DnType::CommonName, host);
            let certificate = certificate.signed_by(&key, &authority).unwrap();
            std::fs::write(server.file(&format!("{name}.crt")), certificate.pem()).unwrap();
            std::fs::write(server.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        std::fs::write(server.file("root.crt"), authority.pem()).unwrap();
        let access = "hostssl all secret 127.0.0.1/32 scram-sha-256\nhostssl all certified 127.0.0.1/32 cert\n\
                      host all postgres 127.0.0.1/32 trust\n";
        std::fs::write(server.file("access"), access).unwrap();
        let from = server.directory.path().display();
        let data = server.directory.path().join("postgres/data");
        // Copied by whoever may read both, and given to the owner of the server's files.
        let script = format!(
            "cp {from}/server.crt {from}/server.key {from}/root.crt {data} && cp {from}/access {data}/pg_hba.conf && \
             printf \"%s\\n\" 'ssl = on' \"ssl_ca_file = 'root.crt'\" >>{data}/postgresql.conf && chmod 0600 {data}/server.key && \
             chown --reference={data}/PG_VERSION {data}/server.crt {data}/server.key {data}/root.crt && \
             kill -HUP $(head -n1 {data}/postmaster.pid)",
            data = data.display()
        );
        assert!(Command::new("bash").arg("-c").arg(script).status().unwrap().success());
        server
    }

    fn file(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn url(&self, account: &str, query: &str) -> String {
        let query = query.replace("ROOT", &self.file("root.crt"));
        let query = query.replace("CRT", &self.file("certified.crt")).replace("KEY", &self.file("certified.key"));
        format!("postgres://{account}@localhost:{}/postgres?hostaddr=127.0.0.1&sslmode={query}", self.port)
    }

    async fn sql(&self, sql: &str) {
        let url = self.url("postgres", "disable");
        Link::parse(&url).unwrap().connect("test").await.unwrap().batch_execute(sql).await.unwrap();
    }

    /// The server reads its settings again in its own time.
    async fn encrypts(&self) {
        let link = Link::parse(&self.url("postgres", "require")).unwrap();
        while link.connect("test").await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
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

fn replication(link: &Link, way: &crate::Way) -> ReplicationConfig {
    let config = link.config();
    let password = String::from_utf8(config.get_password().unwrap_or_default().to_vec()).unwrap();
    let user = config.get_user().unwrap();
    ReplicationConfig::unix(way.host(), way.port(), user, password, "postgres", "slot", "published")
}

/// What the first transaction of the slot has in it, read by `url`.
async fn stream(url: &str) -> Result<Vec<u8>, String> {
    let link = Link::parse(url).unwrap();
    let way = link.way().await.map_err(|error| format!("{error:?}"))?;
    assert_eq!(std::fs::metadata(way.host()).unwrap().permissions().mode() & 0o777, 0o700, "nobody else's");
    let reading = async {
        let mut client =
            ReplicationClient::connect(replication(&link, &way)).await.map_err(|error| error.to_string())?;
        while let Some(event) = client.recv().await.map_err(|error| error.to_string())? {
            match event {
                ReplicationEvent::XLogData { data, .. } if data[0] == b'I' => {
                    client.shutdown().await.map_err(|error| error.to_string())?;
                    return Ok(data.to_vec());
                }
                _ => {}
            }
        }
        Err("it ended".to_owned())
    };
    timeout(PATIENCE, reading).await.expect("the stream hangs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_tls_reads_the_log_of_a_server_that_takes_nothing_else() {
    let server = tokio::task::spawn_blocking(Server::start).await.unwrap();
    timeout(PATIENCE, server.encrypts()).await.expect("the server never encrypts");
    server
        .sql(
            "CREATE ROLE secret LOGIN REPLICATION PASSWORD 'p@ ss'; CREATE ROLE certified LOGIN REPLICATION; \
             CREATE TABLE noted (word text); GRANT SELECT ON noted TO secret, certified; \
             CREATE PUBLICATION published FOR TABLE noted",
        )
        .await;
    server.sql("SELECT pg_create_logical_replication_slot('slot', 'pgoutput')").await;
    server.sql("INSERT INTO noted VALUES ('hello')").await;
    let passes = [
        ("secret:p%40%20ss", "require"),
        ("secret:p%40%20ss", "prefer"),
        ("secret:p%40%20ss", "verify-ca&sslrootcert=ROOT"),
        ("secret:p%40%20ss", "verify-full&sslrootcert=ROOT"),
        ("certified", "verify-full&sslrootcert=ROOT&sslcert=CRT&sslkey=KEY"),
    ];
    for (account, query) in passes {
        let seen = stream(&server.url(account, query)).await.unwrap_or_else(|error| panic!("{query}: {error}"));
        assert!(seen.windows(5).any(|word| word == b"hello"), "{query}");
    }
    let refused = [
        ("secret:p%40%20ss", "verify-full", "UnknownIssuer"),
        ("secret:wrong", "require", "password"),
        ("certified", "require", "certificate"),
    ];
    for (account, query, why) in refused {
        let error = stream(&server.url(account, query)).await.unwrap_err();
        assert!(error.contains(why), "{query}: {error}");
    }
    let other_name = server.url("secret:p%40%20ss", "verify-full&sslrootcert=ROOT").replace("localhost", "elsewhere");
    let error = stream(&other_name).await.unwrap_err();
    assert!(error.contains("not valid for name"), "{error}");
}

fn shared() -> String {
    std::env::var("CONTINUO_TEST_POSTGRES_URL")
        .expect("no Postgres to test on; start one with: eval \"$(tests/services up)\"")
}

#[tokio::test]
async fn a_server_that_does_not_encrypt_is_reached_where_the_mode_lets_it() {
    for (query, is_reached) in [("prefer", true), ("require", false)] {
        let link = Link::parse(&format!("{}?sslmode={query}", shared())).unwrap();
        let way = link.way().await.unwrap();
        let connected = ReplicationClient::connect_gated(replication(&link, &way)).await;
        let system = match connected {
            Ok(mut client) => client.identify_system().await.map(drop),
            Err(error) => Err(error),
        };
        match is_reached {
            true => system.unwrap(),
            false => {
                let error = system.unwrap_err().to_string();
                assert!(error.contains("does not encrypt"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn without_encryption_the_way_is_the_servers_own_and_a_relay_leaves_nothing_behind() {
    let link = Link::parse(&format!("{}?sslmode=disable", shared())).unwrap();
    let way = link.way().await.unwrap();
    assert_eq!(way.port(), link.config().get_ports()[0]);
    assert!(!way.host().starts_with('/'));
    let way = Link::parse(&shared()).unwrap().way().await.unwrap();
    let directory = way.host().to_owned();
    assert!(Path::new(&directory).exists());
    drop(way);
    assert!(!Path::new(&directory).exists());
}

#[tokio::test]
async fn who_cannot_be_reached_is_said_to_the_client() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let link = Link::parse(&format!("postgres://u@{nobody}/d")).unwrap();
    let way = link.way().await.unwrap();
    let failed = match ReplicationClient::connect_gated(replication(&link, &way)).await {
        Ok(mut client) => client.identify_system().await.map(drop).unwrap_err(),
        Err(error) => error,
    };
    assert!(failed.to_string().contains("refused"), "{failed}");
}
