//! What the database does for an index that follows its log: every transaction notes which sessions it changed, in itself.
//!
//! The note makes lists right although the index is behind: whoever lists reads the notes first and the index second. A change
//! that was committed before is then in the notes, or its note is gone, and a note goes only after the index has stored the
//! transaction. Notes are keyed by transaction, so nobody who writes sessions ever waits for whoever removes notes.

/// Makes the trigger, and the log complete enough for an index. To be run in one transaction, by one process at a time. What is
/// there already stays: a change of the replica identity would wait for every writer.
pub const INSTALL: &str = r#"
CREATE OR REPLACE FUNCTION session_note_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed session%ROWTYPE;
BEGIN
    IF TG_OP = 'DELETE' THEN changed := OLD; ELSE changed := NEW; END IF;
    INSERT INTO session_change (transaction_id, session_id, environment_id, created_at_ms)
    VALUES (CAST(CAST(pg_current_xact_id() AS text) AS bigint), changed.id, changed.environment_id, changed.created_at_ms)
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
DO $$ BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = CAST('session' AS regclass) AND tgname = 'session_note_change') THEN
        CREATE TRIGGER session_note_change AFTER INSERT OR DELETE ON session
            FOR EACH ROW EXECUTE FUNCTION session_note_change();
    END IF;
    -- Only what a list can ask for: a run that begins or ends moves no session in any list.
    IF NOT EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = CAST('session' AS regclass) AND tgname = 'session_note_update') THEN
        CREATE TRIGGER session_note_update AFTER UPDATE ON session FOR EACH ROW
            WHEN ((OLD.external_id, OLD.session_type, OLD.task_identifier, OLD.environment_id, OLD.tags, OLD.closed_at_ms,
                   OLD.expires_at_ms, OLD.created_at_ms)
                IS DISTINCT FROM (NEW.external_id, NEW.session_type, NEW.task_identifier, NEW.environment_id, NEW.tags,
                   NEW.closed_at_ms, NEW.expires_at_ms, NEW.created_at_ms))
            EXECUTE FUNCTION session_note_change();
    END IF;
    IF EXISTS (SELECT 1 FROM pg_class WHERE oid = CAST('session' AS regclass) AND relreplident <> 'f') THEN
        ALTER TABLE session REPLICA IDENTITY FULL;
    END IF;
END $$;
"#;

/// Takes back what [`INSTALL`] made, with every note. For a database whose lists no index serves any more.
pub const REMOVE: &str = r#"
DROP TRIGGER IF EXISTS session_note_update ON session;
DROP TRIGGER IF EXISTS session_note_change ON session;
DROP FUNCTION IF EXISTS session_note_change();
ALTER TABLE session REPLICA IDENTITY DEFAULT;
DELETE FROM session_change;
DELETE FROM session_parked;
DELETE FROM session_replication;
"#;
