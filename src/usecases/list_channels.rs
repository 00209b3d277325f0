//! Which channels a session has.

use crate::access::names_of;
use crate::{ChannelTarget, Core};
use continuo_domain::channel::{ChannelKey, Direction};
use continuo_domain::principal::Principal;
use continuo_domain::session::{Session, SessionRef};
use continuo_domain::{Error, Result, Violation};
use continuo_ports::{WrittenChannel, WrittenPage};

/// Most channels of a page.
pub const CHANNELS_PAGE_MAX: u32 = 1_000;

/// A page that is asked for.
#[derive(Clone, Debug)]
pub struct ListChannels {
    /// Whose.
    pub session: SessionRef,
    /// 1 to [`CHANNELS_PAGE_MAX`].
    pub page_size: u32,
    /// The last one of the page before.
    pub after: Option<ChannelKey>,
}

/// A page: the reserved pair, then the named channels by name and side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelPage {
    /// The channels.
    pub channels: Vec<WrittenChannel>,
    /// The last of them, if there are more.
    pub next: Option<ChannelKey>,
}

impl Core {
    /// The channels of a session that were written and that the caller may read. Who may read none whatever there is, is
    /// told neither whether there are some nor whether there is the session.
    pub async fn list_channels(&self, caller: &Principal, request: ListChannels) -> Result<ChannelPage> {
        let row = self.find_session(caller, &request.session).await?;
        if !may_read_some(caller, &request.session, row.as_ref()) {
            return Err(Error::PermissionDenied);
        }
        let session = row.ok_or(Error::SessionNotFound)?;
        if request.after.as_ref().is_some_and(|after| after.session != session.id) {
            return Err(Violation::new("page_token", "is not a token this list has given out").into());
        }
        let names = names_of(&request.session, Some(&session));
        let may_read = |channel: &ChannelKey| {
            Self::check_read_of(caller, &names, channel.name.as_ref(), channel.direction, Some(&session)).is_ok()
        };
        let size = request.page_size.clamp(1, CHANNELS_PAGE_MAX) as usize;
        // One more tells whether there are more.
        let page = WrittenPage { after: request.after.as_ref(), limit: size + 1, wanted: &may_read };
        let mut channels = self.ports.channels.written(&session.id, page).await?;
        let has_more = channels.len() > size;
        channels.truncate(size);
        let next = channels.last().filter(|_| has_more).map(|last| last.channel.clone());
        Ok(ChannelPage { channels, next })
    }
}

/// Is there a channel of the session that the caller could read, were it written? Besides the reserved pair only those come
/// into question that the credential names: one that opens any other opens the reserved `.out`.
fn may_read_some(caller: &Principal, asked: &SessionRef, row: Option<&Session>) -> bool {
    let named = caller.named_channels().into_iter().map(Some);
    named.chain([None]).any(|name| {
        [Direction::In, Direction::Out].into_iter().any(|direction| {
            let target = ChannelTarget { session: asked.clone(), name: name.clone(), direction };
            Core::check_read(caller, &target, row).is_ok()
        })
    })
}
