//! Messages of `pgoutput`, Postgres' own plugin for logical decoding, in version 1 of its protocol, with texts for values.
//! Format: the chapter "Logical Replication Message Formats" of the PostgreSQL documentation.
//!
//! Values share the memory of the message they came in.

use bytes::{Buf, Bytes};

/// A message that belongs to the contents of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A transaction begins. Whole transactions come, in the order of their commits.
    Begin {
        /// Where its commit record is.
        final_lsn: u64,
        /// Microseconds since 2000-01-01.
        committed_at: i64,
        /// The low 32 bits of its number.
        transaction_id: u32,
    },
    /// It ends.
    Commit {
        /// Where the commit record is.
        commit_lsn: u64,
        /// What follows it: everything before this position has been seen.
        end_lsn: u64,
        /// Microseconds since 2000-01-01.
        committed_at: i64,
    },
    /// What a table looks like from here on. It comes before the first change of the table, and again when that has changed.
    Relation(Relation),
    /// A new row.
    Insert {
        /// Of this table.
        relation: u32,
        /// The row.
        new: Tuple,
    },
    /// A changed row.
    Update {
        /// Of this table.
        relation: u32,
        /// The row before; whole, if the replica identity is FULL.
        old: Option<Tuple>,
        /// The row after.
        new: Tuple,
    },
    /// A row that is gone.
    Delete {
        /// Of this table.
        relation: u32,
        /// The row as it was; whole, if the replica identity is FULL.
        old: Tuple,
    },
    /// Tables whose rows are all gone.
    Truncate {
        /// The tables.
        relations: Vec<u32>,
    },
    /// A type, an origin, a message of an application, or what a later server says: nothing that changes rows.
    Other,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// What changes call it.
    pub id: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `f` for FULL, as in `pg_class.relreplident`.
    pub replica_identity: u8,
    /// Its columns, in the order of the values.
    pub columns: Vec<RelationColumn>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationColumn {
    /// Its name.
    pub name: String,
    /// Number of its type.
    pub type_id: u32,
}

/// The values of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuple(pub Vec<Column>);

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    /// NULL.
    Null,
    /// A large value that an update left as it was, and the server did not send.
    Unchanged,
    /// The value, as the type prints it.
    Text(Bytes),
}

/// Not a message of this protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of logical replication is malformed: {0}")]
pub struct Malformed(&'static str);

/// Reads a message.
pub fn decode(message: Bytes) -> Result<Message, Malformed> {
    let mut rest = Rest(message);
    let message = match rest.byte()? {
        b'B' => Message::Begin {
            final_lsn: rest.u64()?,
            committed_at: rest.u64()?.cast_signed(),
            transaction_id: rest.u32()?,
        },
        b'C' => {
            let _flags = rest.byte()?;
            Message::Commit { commit_lsn: rest.u64()?, end_lsn: rest.u64()?, committed_at: rest.u64()?.cast_signed() }
        }
        b'R' => Message::Relation(rest.relation()?),
        b'I' => {
            let relation = rest.u32()?;
            rest.expect(b'N')?;
            Message::Insert { relation, new: rest.tuple()? }
        }
        b'U' => {
            let relation = rest.u32()?;
            let old = match rest.byte()? {
                b'N' => None,
                b'K' | b'O' => {
                    let old = rest.tuple()?;
                    rest.expect(b'N')?;
                    Some(old)
                }
                _ => return Err(Malformed("an update has neither an old row nor a new one")),
            };
            Message::Update { relation, old, new: rest.tuple()? }
        }
        b'D' => {
            let relation = rest.u32()?;
            match rest.byte()? {
                b'K' | b'O' => Message::Delete { relation, old: rest.tuple()? },
                _ => return Err(Malformed("a delete has no old row")),
            }
        }
        b'T' => {
            let count = rest.u32()?;
            let _options = rest.byte()?;
            let relations = (0..count).map(|_| rest.u32()).collect::<Result<_, _>>()?;
            Message::Truncate { relations }
        }
        _ => return Ok(Message::Other),
    };
    if rest.0.is_empty() { Ok(message) } else { Err(Malformed("there is more than the message")) }
}

struct Rest(Bytes);

impl Rest {
    fn byte(&mut self) -> Result<u8, Malformed> {
        self.0.try_get_u8().map_err(|_| SHORT)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.0.try_get_u16().map_err(|_| SHORT)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.0.try_get_u32().map_err(|_| SHORT)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.0.try_get_u64().map_err(|_| SHORT)
    }

    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.byte()? == byte { Ok(()) } else { Err(Malformed("a new row was to follow")) }
    }

    fn bytes(&mut self, len: u32) -> Result<Bytes, Malformed> {
        let len = usize::try_from(len).map_err(|_| SHORT)?;
        if self.0.len() < len { Err(SHORT) } else { Ok(self.0.split_to(len)) }
    }

    fn name(&mut self) -> Result<String, Malformed> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(SHORT)?;
        let name = self.0.split_to(end);
        self.0.advance(1);
        String::from_utf8(name.into()).map_err(|_| Malformed("a name is not UTF-8"))
    }

    fn relation(&mut self) -> Result<Relation, Malformed> {
        let (id, schema, name, replica_identity) = (self.u32()?, self.name()?, self.name()?, self.byte()?);
        let count = self.u16()?;
        let columns = (0..count).map(|_| self.relation_column()).collect::<Result<_, _>>()?;
        Ok(Relation { id, schema, name, replica_identity, columns })
    }

    fn relation_column(&mut self) -> Result<RelationColumn, Malformed> {
        let _is_key = self.byte()?;
        let (name, type_id, _modifier) = (self.name()?, self.u32()?, self.u32()?);
        Ok(RelationColumn { name, type_id })
    }

    fn tuple(&mut self) -> Result<Tuple, Malformed> {
        let count = self.u16()?;
        (0..count).map(|_| self.column()).collect::<Result<_, _>>().map(Tuple)
    }

    fn column(&mut self) -> Result<Column, Malformed> {
        match self.byte()? {
            b'n' => Ok(Column::Null),
            b'u' => Ok(Column::Unchanged),
            b't' => {
                let len = self.u32()?;
                self.bytes(len).map(Column::Text)
            }
            _ => Err(Malformed("a value is of no known kind")),
        }
    }
}

const SHORT: Malformed = Malformed("it ends too early");

#[cfg(test)]
mod tests;
