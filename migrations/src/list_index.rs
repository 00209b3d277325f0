//! The index that lists of sessions walk on Postgres. It is made with the table, goes where an index beside the database serves
//! lists, since every write pays for it, and comes back where none does. None of this keeps anybody from reading or writing.

/// Its name.
pub const LIST_INDEX: &str = "session_list";

/// Makes it. Outside a transaction; one that was broken off leaves an index behind that is not valid.
pub const MAKE_LIST_INDEX: &str =
    "CREATE INDEX CONCURRENTLY session_list ON session (environment_id, created_at_ms DESC, id DESC)";

/// Drops it, valid or not. Outside a transaction.
pub const DROP_LIST_INDEX: &str = "DROP INDEX CONCURRENTLY IF EXISTS session_list";
