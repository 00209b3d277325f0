//! The channels of a session.

pub(crate) mod append;
pub(crate) mod initialize;
pub(crate) mod read;
pub(crate) mod records;

use continuo_proto::v1::{ChannelRef, Direction};

use crate::error::Route;

fn is_reserved(channel: &ChannelRef, direction: Direction) -> bool {
    channel.name.is_empty() && channel.direction() == direction
}

fn append_route(channel: &ChannelRef) -> Route {
    if is_reserved(channel, Direction::In) { Route::AppendIn } else { Route::AppendOther }
}
