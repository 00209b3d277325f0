//! Named channels keep their records so long as somebody said.

use crate::support::*;
use continuo_domain::channel::{ChannelKey, ChannelName, Direction, NewRecord, ReadFrom, Record};
use continuo_domain::{Error, SessionId};
use continuo_ports::ChannelStore;
use continuo_usecases::{CHANNEL_MAX_AGE_SECONDS_MAX, Settings};

const DAY_SECONDS: u64 = 86_400;
const DAY_MS: i64 = 86_400_000;

fn tools(session: &SessionId, direction: Direction) -> ChannelKey {
    ChannelKey { session: session.clone(), name: ChannelName::parse("tools").ok(), direction }
}

async fn kept(world: &World, channel: &ChannelKey) -> Vec<Record> {
    world.log.read(channel, ReadFrom::seq_num(0)).await.unwrap().0
}

async fn write(world: &World, direction: Direction, body: &str) {
    world.core.append(&world.key, text(channel(&named("a"), "tools", direction), body)).await.unwrap();
}

#[tokio::test]
async fn what_is_older_than_said_goes_on_both_sides_and_nothing_else() {
    let world = World::new().await;
    let created = world.create("a").await;
    for direction in [Direction::In, Direction::Out] {
        write(&world, direction, "old").await;
    }
    world.say("a", "stays").await.unwrap();
    assert_eq!(world.core.sweep_ages().await.unwrap(), 0, "nobody said anything yet");
    let target = channel(&named("a"), "tools", Direction::In);
    world.core.initialize_channel(&world.key, &target, Some(DAY_SECONDS)).await.unwrap();
    world.core.initialize_channel(&world.key, &target, None).await.unwrap();
    world.clock.advance_ms(DAY_MS);
    for direction in [Direction::In, Direction::Out] {
        write(&world, direction, "new").await;
    }
    assert_eq!(world.core.sweep_ages().await.unwrap(), 0, "exactly that old is kept");
    world.clock.advance_ms(1);
    assert_eq!(world.core.sweep_ages().await.unwrap(), 2);
    for direction in [Direction::In, Direction::Out] {
        assert_eq!(bodies(&kept(&world, &tools(&created.session.id, direction)).await), ["new"]);
    }
    assert_eq!(bodies(&world.records(&created.session.id, Direction::In).await).len(), 1);
    world.clock.advance_ms(2 * DAY_MS);
    assert_eq!(world.core.sweep_ages().await.unwrap(), 2);
    assert_eq!(world.core.sweep_ages().await.unwrap(), 0, "a trim of trims alone would never end");
    write(&world, Direction::In, "later").await;
    let numbers: Vec<_> = kept(&world, &tools(&created.session.id, Direction::In)).await;
    assert_eq!(numbers.last().unwrap().seq_num, 4, "numbers go on");
}

#[tokio::test]
async fn the_servers_default_holds_where_nobody_said() {
    let world = World::with(Settings { channel_max_age_seconds: Some(60), ..Settings::default() }).await;
    world.create("a").await;
    write(&world, Direction::Out, "old").await;
    world.clock.advance_ms(60_001);
    assert_eq!(world.core.sweep_ages().await.unwrap(), 1);
}

#[tokio::test]
async fn an_append_between_the_look_and_the_trim_is_kept() {
    let world = World::new().await;
    let created = world.create("a").await;
    let target = channel(&named("a"), "tools", Direction::In);
    world.core.initialize_channel(&world.key, &target, Some(1)).await.unwrap();
    write(&world, Direction::In, "old").await;
    world.clock.advance_ms(2_000);
    let mut gate = world.gates.pause_before("append", &["tools", "trim"]);
    let (swept, ()) = tokio::join!(world.core.sweep_ages(), async {
        gate.reached().await;
        write(&world, Direction::In, "between").await;
        gate.release();
    });
    assert_eq!(swept.unwrap(), 1);
    assert_eq!(bodies(&kept(&world, &tools(&created.session.id, Direction::In)).await), ["between"]);
}

#[tokio::test]
async fn a_trim_brings_no_deleted_channel_back() {
    let world = World::new().await;
    let created = world.create("a").await;
    let target = channel(&named("a"), "tools", Direction::In);
    world.core.initialize_channel(&world.key, &target, Some(1)).await.unwrap();
    write(&world, Direction::In, "old").await;
    world.clock.advance_ms(2_000);
    let mut gate = world.gates.pause_before("append", &["tools", "trim"]);
    let (swept, ()) = tokio::join!(world.core.sweep_ages(), async {
        gate.reached().await;
        world.core.delete_session(&world.key, &named("a")).await.unwrap();
        gate.release();
    });
    assert_eq!(swept.unwrap(), 0);
    let tail = world.log.tail(&tools(&created.session.id, Direction::In)).await.unwrap();
    assert_eq!(tail.position.seq_num, 0);
}

#[tokio::test]
async fn an_age_that_cannot_be_is_refused_and_changes_nothing() {
    let world = World::new().await;
    world.create("a").await;
    let target = channel(&named("a"), "tools", Direction::In);
    for seconds in [0, CHANNEL_MAX_AGE_SECONDS_MAX + 1, u64::MAX] {
        let refused = world.core.initialize_channel(&world.key, &target, Some(seconds)).await;
        assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{seconds} {refused:?}");
    }
    world.core.initialize_channel(&world.key, &target, Some(CHANNEL_MAX_AGE_SECONDS_MAX)).await.unwrap();
    let reserved = input(&named("a"));
    world.core.initialize_channel(&world.key, &reserved, Some(1)).await.unwrap();
    world.core.append(&world.key, append(reserved, NewRecord::data("x"))).await.unwrap();
    world.clock.advance_ms(DAY_MS);
    assert_eq!(world.core.sweep_ages().await.unwrap(), 0, "the reserved pair keeps its records");
}
