//! Who may reach what: names are resolved to rows and checked against the caller, scopes before existence.

use crate::Core;
use continuo_domain::channel::{ChannelKey, ChannelName, Direction};
use continuo_domain::principal::{Action, Principal, SessionNames};
use continuo_domain::session::{Session, SessionRef};
use continuo_domain::{Error, Result};

/// A channel as a request names it.
#[derive(Clone, Debug)]
pub struct ChannelTarget {
    /// Whose.
    pub session: SessionRef,
    /// `None` is the reserved pair.
    pub name: Option<ChannelName>,
    /// Which side.
    pub direction: Direction,
}

impl ChannelTarget {
    pub(crate) fn key(&self, session: &Session) -> ChannelKey {
        ChannelKey { session: session.id.clone(), name: self.name.clone(), direction: self.direction }
    }
}

/// The names a request's session goes by: what the request says, and what the row says.
pub(crate) fn names_of(asked: &SessionRef, row: Option<&Session>) -> SessionNames {
    let mut others = vec![asked.as_str().to_owned()];
    let external_id = row.and_then(|r| r.external_id.as_ref()).map(|e| e.as_str().to_owned());
    others.extend(external_id.filter(|e| e != asked.as_str()));
    SessionNames { session: row.map(|r| r.id.clone()), others }
}

impl Core {
    /// The row a request names, if there is one. Says nothing about rights.
    pub(crate) async fn find_session(&self, caller: &Principal, asked: &SessionRef) -> Result<Option<Session>> {
        self.ports.sessions.get(&caller.environment, asked).await
    }

    /// The row, for a caller who may do this to it. Missing and forbidden look the same to one who may not.
    pub(crate) async fn session_for(&self, caller: &Principal, action: Action, asked: &SessionRef) -> Result<Session> {
        let row = self.find_session(caller, asked).await?;
        if !caller.may_session(action, &names_of(asked, row.as_ref())) {
            return Err(Error::PermissionDenied);
        }
        row.ok_or(Error::SessionNotFound)
    }

    /// As `session_for`, for a call that only a key may make at all.
    pub(crate) async fn session_for_key(
        &self,
        caller: &Principal,
        action: Action,
        asked: &SessionRef,
    ) -> Result<Session> {
        if !caller.has_secret_key() {
            return Err(Error::PermissionDenied);
        }
        self.session_for(caller, action, asked).await
    }

    /// May the caller read this channel? `.in` of the reserved pair is for keys and the session's own run.
    pub(crate) fn check_read(caller: &Principal, target: &ChannelTarget, row: Option<&Session>) -> Result<()> {
        let names = names_of(&target.session, row);
        Self::check_read_of(caller, &names, target.name.as_ref(), target.direction, row)
    }

    /// As `check_read`, for many channels of one session.
    pub(crate) fn check_read_of(
        caller: &Principal,
        names: &SessionNames,
        name: Option<&ChannelName>,
        direction: Direction,
        row: Option<&Session>,
    ) -> Result<()> {
        if !caller.may_channel(Action::Read, names, name, direction) {
            return Err(Error::PermissionDenied);
        }
        let is_reserved_in = name.is_none() && direction == Direction::In;
        if is_reserved_in && !is_secret_for(caller, row) {
            return Err(Error::InNeedsSecretKey);
        }
        Ok(())
    }

    /// May the caller write this channel? `.out` is for keys and the session's own run.
    pub(crate) fn check_write(caller: &Principal, target: &ChannelTarget, row: Option<&Session>) -> Result<()> {
        let names = names_of(&target.session, row);
        if !caller.may_channel(Action::Write, &names, target.name.as_ref(), target.direction) {
            return Err(Error::PermissionDenied);
        }
        if target.direction == Direction::Out && !is_secret_for(caller, row) {
            return Err(Error::OutNeedsSecretKey);
        }
        Ok(())
    }
}

pub(crate) fn is_secret_for(caller: &Principal, row: Option<&Session>) -> bool {
    match row {
        Some(row) => caller.is_secret_for(&row.id),
        None => caller.has_secret_key(),
    }
}
