//! Whose snapshot it is: the session's newest run's, and nobody's once the session is gone.

use crate::support::*;
use bytes::Bytes;
use continuo_domain::blob::{BlobGrant, BlobKey, BlobKind, BlobMethod, ContentType, PacketPath, STORED_TYPE};
use continuo_domain::principal::Principal;
use continuo_domain::run::{NewRun, RunReason};
use continuo_domain::{Error, Result, SessionId, Timestamp};
use continuo_ports::{BlobBody, BlobStore};
use continuo_usecases::{BlobTarget, Blobs, EndAndContinue, RunValue, Settings, Upload};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::oneshot;

fn blobs(world: &World) -> Blobs {
    Blobs::new(world.core.clone(), world.credentials.clone())
}

async fn granted(world: &World, caller: &Principal, target: BlobTarget) -> BlobGrant {
    let url = blobs(world).presign(caller, BlobMethod::Put, target).await.unwrap();
    blobs(world).granted(&url.token, BlobMethod::Put).await.unwrap()
}

async fn put(world: &World, grant: &BlobGrant, body: BlobBody) -> Result<()> {
    let content_type = ContentType::parse("text/plain").unwrap();
    blobs(world).put(grant.clone(), Upload { content_type, size_bytes: None, body }).await
}

fn text(text: &'static str) -> BlobBody {
    stream::iter([Ok(Bytes::from_static(text.as_bytes()))]).boxed()
}

/// A body whose end waits for a word.
fn held_back(bytes: &'static str) -> (BlobBody, oneshot::Sender<()>) {
    let (go, wait) = oneshot::channel::<()>();
    let end = stream::once(async move { wait.await.map(|()| Bytes::new()).map_err(Error::internal) });
    (text(bytes).chain(end).boxed(), go)
}

async fn stored(world: &World, session: &SessionId) -> Option<String> {
    let key = BlobKey { environment: world.key.environment.clone(), kind: BlobKind::Snapshot(session.clone()) };
    let blob = world.blobs.get(&key).await.unwrap()?;
    let chunks: Vec<Bytes> = blob.body.try_collect().await.unwrap();
    Some(String::from_utf8(chunks.concat()).unwrap())
}

async fn hand_over(world: &World, run: &RunningRun) {
    let request = EndAndContinue {
        session: run.session(),
        calling_run: run.id(),
        reason: RunReason::Upgrade,
        external_deployment_id: None,
    };
    assert!(world.core.end_and_continue(&run.caller, request).await.unwrap().swapped);
}

#[tokio::test]
async fn a_superseded_runs_url_replaces_no_snapshot() {
    let world = World::new().await;
    let session = world.create("a").await.session.id;
    let old = world.start_run().await;
    let target = || BlobTarget::Snapshot(named("a"));
    let olds = granted(&world, &old.caller, target()).await;
    put(&world, &olds, text("first")).await.unwrap();
    put(&world, &olds, text("second")).await.unwrap();
    hand_over(&world, &old).await;
    let late = put(&world, &olds, text("late")).await;
    assert!(matches!(late, Err(Error::Fenced { .. })), "{late:?}");
    let new = world.start_run().await;
    put(&world, &granted(&world, &new.caller, target()).await, text("mine")).await.unwrap();
    assert!(put(&world, &olds, text("late")).await.is_err());
    assert_eq!(stored(&world, &session).await.as_deref(), Some("mine"));
    let of_key = granted(&world, &world.key, target()).await;
    put(&world, &of_key, text("a key's")).await.unwrap();
}

#[tokio::test]
async fn an_upload_that_was_under_way_when_its_run_was_superseded_stores_nothing() {
    let world = World::new().await;
    let session = world.create("a").await.session.id;
    let run = world.start_run().await;
    let grant = granted(&world, &run.caller, BlobTarget::Snapshot(named("a"))).await;
    put(&world, &grant, text("kept")).await.unwrap();
    let (body, go) = held_back("late");
    let (late, ()) = tokio::join!(put(&world, &grant, body), async {
        world.core.cancel_run(&world.key, &run.id()).await.unwrap();
        go.send(()).unwrap();
    });
    assert!(matches!(late, Err(Error::Fenced { .. })), "{late:?}");
    assert_eq!(stored(&world, &session).await.as_deref(), Some("kept"));
}

#[tokio::test]
async fn a_deleted_session_keeps_no_snapshot_also_of_an_upload_under_way() {
    let world = World::new().await;
    let session = world.create("a").await.session.id;
    let grant = granted(&world, &world.key, BlobTarget::Snapshot(named("a"))).await;
    put(&world, &grant, text("x")).await.unwrap();
    let (body, go) = held_back("late");
    let (late, ()) = tokio::join!(put(&world, &grant, body), async {
        world.core.delete_session(&world.key, &named("a")).await.unwrap();
        assert_eq!(stored(&world, &session).await, None);
        go.send(()).unwrap();
    });
    assert!(matches!(late, Err(Error::SessionNotFound)), "{late:?}");
    assert_eq!(stored(&world, &session).await, None);
}

#[tokio::test]
async fn who_may_read_a_run_may_fetch_its_payload_and_no_other_packet() {
    let world = World::new().await;
    let stored_in = |path: &str| {
        let mut run = NewRun::of_task(world.core.new_run_id(), world.key.environment.clone(), "t", path.into());
        run.payload_type = STORED_TYPE.into();
        run
    };
    let run = world.core.trigger_run(&world.key, stored_in("x/payload.json"), None).await.unwrap().0.row.spec.id;
    let fetch = async |caller: &Principal, value| {
        blobs(&world).presign(caller, BlobMethod::Get, BlobTarget::OfRun(run.clone(), value)).await
    };
    let reader = world.token(&[&format!("read:runs:{run}")]);
    let url = fetch(&reader, RunValue::Payload).await.unwrap();
    assert_eq!(url.packet, Some(PacketPath::parse("x/payload.json").unwrap()));
    assert!(matches!(fetch(&reader, RunValue::Output).await, Err(Error::BlobNotFound)));
    assert!(matches!(fetch(&world.token(&["read:runs:run_x"]), RunValue::Payload).await, Err(Error::PermissionDenied)));
    let to_put = BlobTarget::OfRun(run.clone(), RunValue::Payload);
    assert!(matches!(blobs(&world).presign(&world.key, BlobMethod::Put, to_put).await, Err(Error::InvalidArgument(_))));
    // Else a token that may trigger could read every packet whose path it knows.
    let browser = world.token(&["trigger:tasks:t"]);
    let named = world.core.trigger_run(&browser, stored_in("another/payload.json"), None).await;
    assert!(matches!(named, Err(Error::InvalidArgument(v)) if v[0].field == "payload_type"));
}

#[tokio::test]
async fn packets_are_kept_for_as_long_as_the_settings_say() {
    for (kept_ms, removed) in [(None, 0), (Some(1_000), 1)] {
        let world = World::with(Settings { packets_kept_ms: kept_ms, ..Settings::default() }).await;
        let target = BlobTarget::Packet(PacketPath::parse("a").unwrap());
        put(&world, &granted(&world, &world.key, target).await, text("x")).await.unwrap();
        // The age is by the store's clock, which is the machine's.
        assert_eq!(world.core.sweep_packets(Timestamp(0)).await.unwrap(), 0);
        assert_eq!(world.core.sweep_packets(Timestamp(i64::MAX)).await.unwrap(), removed, "{kept_ms:?}");
    }
}
