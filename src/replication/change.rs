//! A row of the table `session`, as the log prints it, as a row of the index.

use crate::pgoutput::{Column, Relation, Tuple};
use continuo_clickhouse::SessionRow;
use serde_json::Value;

/// The log and the index do not fit together. Says which column, and never what is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongRow {
    /// The table has no such column.
    #[error("the table session has no column {0}")]
    NoColumn(&'static str),
    /// The log does not carry old rows whole.
    #[error("the replica identity of the table session is not FULL")]
    NotFull,
    /// The value is missing, or is none of the type.
    #[error("the column {0} of the table session has a value that cannot be read")]
    Unreadable(&'static str),
}

/// What the index has of a session, in the order of [`At`].
const COLUMNS: [&str; 15] = [
    "environment_id",
    "organization_id",
    "project_id",
    "id",
    "environment_type",
    "external_id",
    "session_type",
    "task_identifier",
    "tags",
    "metadata",
    "closed_at_ms",
    "closed_reason",
    "expires_at_ms",
    "created_at_ms",
    "updated_at_ms",
];
const IS_TEST: &str = "is_test";

/// Reads the rows of one relation: it knows where in a tuple each column of the index is.
#[derive(Clone, Debug)]
pub struct Changes {
    /// The place of each of [`COLUMNS`].
    places: [usize; COLUMNS.len()],
    is_test: usize,
}

/// One change: the session as it is after it, or as it was when it was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The row, without a version yet.
    pub row: SessionRow,
}

impl Changes {
    /// Finds the columns. Refuses a relation whose log would leave gaps.
    pub fn of(relation: &Relation) -> Result<Self, WrongRow> {
        if relation.replica_identity != b'f' {
            return Err(WrongRow::NotFull);
        }
        let place = |name: &'static str| {
            relation.columns.iter().position(|column| column.name == name).ok_or(WrongRow::NoColumn(name))
        };
        let mut places = [0; COLUMNS.len()];
        for (found, name) in places.iter_mut().zip(COLUMNS) {
            *found = place(name)?;
        }
        Ok(Self { places, is_test: place(IS_TEST)? })
    }

    /// The session after an insert or an update; `old` fills in what an update left as it was.
    pub fn put(&self, new: &Tuple, old: Option<&Tuple>) -> Result<Change, WrongRow> {
        self.row(new, old).map(|row| Change { row })
    }

    /// The session that a delete took away.
    pub fn delete(&self, old: &Tuple) -> Result<Change, WrongRow> {
        let row = self.row(old, None)?;
        Ok(Change { row: SessionRow { _is_deleted: 1, ..row } })
    }

    /// Would the index show the same before and after? Most updates of a session are of its runs.
    pub fn is_same(&self, old: &Tuple, new: &Tuple) -> bool {
        self.places.iter().chain([&self.is_test]).all(|place| match new.0.get(*place) {
            Some(Column::Unchanged) => true,
            value => value == old.0.get(*place),
        })
    }

    fn row(&self, new: &Tuple, old: Option<&Tuple>) -> Result<SessionRow, WrongRow> {
        let values = Values { new, old };
        let [environment, organization, project, id, kind, name, session_type, task, tags, metadata, ref times @ ..] =
            self.places;
        let [closed_at, closed_reason, expires_at, created_at, updated_at] = *times;
        let session_id = values.text(id, "id")?.to_owned();
        Ok(SessionRow {
            environment_id: values.text(environment, "environment_id")?.to_owned(),
            organization_id: values.text(organization, "organization_id")?.to_owned(),
            project_id: values.text(project, "project_id")?.to_owned(),
            friendly_id: session_id.clone(),
            session_id,
            environment_type: values.text(kind, "environment_type")?.to_owned(),
            external_id: values.optional(name, "external_id")?.unwrap_or_default().to_owned(),
            r#type: values.text(session_type, "session_type")?.to_owned(),
            task_identifier: values.text(task, "task_identifier")?.to_owned(),
            tags: serde_json::from_str(values.text(tags, "tags")?).map_err(|_| WrongRow::Unreadable("tags"))?,
            metadata: index_metadata(values.optional(metadata, "metadata")?),
            closed_at: values.time(closed_at, "closed_at_ms")?,
            closed_reason: values.optional(closed_reason, "closed_reason")?.unwrap_or_default().to_owned(),
            expires_at: values.time(expires_at, "expires_at_ms")?,
            created_at: values.time(created_at, "created_at_ms")?.ok_or(WrongRow::Unreadable("created_at_ms"))?,
            updated_at: values.time(updated_at, "updated_at_ms")?.ok_or(WrongRow::Unreadable("updated_at_ms"))?,
            _version: 0,
            _is_deleted: 0,
            is_test: u8::from(values.text(self.is_test, IS_TEST)? == "t"),
        })
    }
}

/// Metadata as the index takes it. JSON that a client may write and the index would refuse (a number beyond a double, half a
/// surrogate pair, nesting without end) is stored as the text that it is: one session's metadata holds up nobody else.
pub(crate) fn index_metadata(text: Option<&str>) -> String {
    let text = text.unwrap_or("null");
    match serde_json::from_str::<Value>(text) {
        Ok(_) => format!(r#"{{"data":{text}}}"#),
        Err(_) => format!(r#"{{"data":{}}}"#, Value::from(text)),
    }
}

struct Values<'a> {
    new: &'a Tuple,
    old: Option<&'a Tuple>,
}

impl<'a> Values<'a> {
    fn optional(&self, place: usize, name: &'static str) -> Result<Option<&'a str>, WrongRow> {
        let text = match self.new.0.get(place) {
            Some(Column::Unchanged) => match self.old.and_then(|old| old.0.get(place)) {
                Some(Column::Unchanged) | None => return Err(WrongRow::NotFull),
                Some(value) => value,
            },
            Some(value) => value,
            None => return Err(WrongRow::NoColumn(name)),
        };
        match text {
            Column::Text(text) => std::str::from_utf8(text).map(Some).map_err(|_| WrongRow::Unreadable(name)),
            Column::Null | Column::Unchanged => Ok(None),
        }
    }

    fn text(&self, place: usize, name: &'static str) -> Result<&'a str, WrongRow> {
        self.optional(place, name)?.ok_or(WrongRow::Unreadable(name))
    }

    fn time(&self, place: usize, name: &'static str) -> Result<Option<i64>, WrongRow> {
        let text = self.optional(place, name)?;
        text.map(|text| text.parse().map_err(|_| WrongRow::Unreadable(name))).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pgoutput::RelationColumn;

    fn relation() -> Relation {
        let names = ["base_payload", IS_TEST].into_iter().chain(COLUMNS);
        let columns = names.map(|name| RelationColumn { name: name.to_owned(), type_id: 25 }).collect();
        Relation { id: 1, schema: "public".into(), name: "session".into(), replica_identity: b'f', columns }
    }

    fn text(text: &'static str) -> Column {
        Column::Text(text.into())
    }

    fn tuple() -> Tuple {
        Tuple(vec![
            text("{}"),
            text("t"),
            text("env_a"),
            text("org_a"),
            text("proj_a"),
            text("session_a"),
            text("PRODUCTION"),
            Column::Null,
            text("chat.agent"),
            text("agent"),
            text(r#"["ü", "it's"]"#),
            text(r#"{"n": 1.50}"#),
            Column::Null,
            Column::Null,
            text("1790000000009"),
            text("1790000000000"),
            text("1790000000001"),
        ])
    }

    #[test]
    fn a_row_is_read_by_the_names_of_its_columns() {
        let row = Changes::of(&relation()).unwrap().put(&tuple(), None).unwrap().row;
        assert_eq!((row.session_id.as_str(), row.friendly_id.as_str()), ("session_a", "session_a"));
        assert_eq!((row.external_id.as_str(), row.closed_reason.as_str(), row.closed_at), ("", "", None));
        assert_eq!(row.tags, ["ü", "it's"]);
        assert_eq!(row.metadata, r#"{"data":{"n": 1.50}}"#);
        assert_eq!(
            (row.expires_at, row.created_at, row.updated_at),
            (Some(1790000000009), 1790000000000, 1790000000001)
        );
        assert_eq!((row.is_test, row._is_deleted), (1, 0));
    }

    #[test]
    fn metadata_that_the_index_would_refuse_is_stored_as_text() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for text in [r#"{"n":1e400}"#, r#"{"s":"\ud800"}"#, deep.as_str()] {
            let stored: Value = serde_json::from_str(&index_metadata(Some(text))).unwrap();
            assert_eq!(stored, serde_json::json!({ "data": text }));
        }
        assert_eq!(index_metadata(None), r#"{"data":null}"#);
    }

    #[test]
    fn what_an_update_left_as_it_was_comes_from_the_old_row() {
        let changes = Changes::of(&relation()).unwrap();
        let mut new = tuple();
        new.0[11] = Column::Unchanged;
        assert_eq!(changes.put(&new, Some(&tuple())).unwrap(), changes.put(&tuple(), None).unwrap());
        assert_eq!(changes.put(&new, None), Err(WrongRow::NotFull), "never written empty");
        assert!(changes.is_same(&tuple(), &new));
        new.0[0] = text(r#"{"other":1}"#);
        assert!(changes.is_same(&tuple(), &new), "the index does not have it");
        new.0[12] = text("1790000000002");
        assert!(!changes.is_same(&tuple(), &new));
    }

    #[test]
    fn a_delete_carries_the_whole_row() {
        let changes = Changes::of(&relation()).unwrap();
        let put = changes.put(&tuple(), None).unwrap().row;
        assert_eq!(changes.delete(&tuple()).unwrap().row, SessionRow { _is_deleted: 1, ..put });
    }

    #[test]
    fn a_log_with_gaps_is_refused() {
        let keys_only = Relation { replica_identity: b'd', ..relation() };
        assert_eq!(Changes::of(&keys_only).unwrap_err(), WrongRow::NotFull);
        let mut older = relation();
        older.columns.retain(|column| column.name != "tags");
        assert_eq!(Changes::of(&older).unwrap_err(), WrongRow::NoColumn("tags"));
    }

    #[test]
    fn a_value_that_is_none_of_its_type_is_refused_and_not_shown() {
        let changes = Changes::of(&relation()).unwrap();
        for (place, name) in [(10, "tags"), (15, "created_at_ms"), (2, "environment_id")] {
            let mut wrong = tuple();
            wrong.0[place] = Column::Text(vec![0xff, b'!'].into());
            assert_eq!(changes.put(&wrong, None), Err(WrongRow::Unreadable(name)));
        }
        let mut short = tuple();
        short.0.truncate(4);
        assert!(changes.put(&short, None).is_err());
    }
}
