//! Against an encoder written from the same chapter.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn encode(message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    match message {
        Message::Begin { final_lsn, committed_at, transaction_id } => {
            out.push(b'B');
            out.extend(final_lsn.to_be_bytes());
            out.extend(committed_at.to_be_bytes());
            out.extend(transaction_id.to_be_bytes());
        }
        Message::Commit { commit_lsn, end_lsn, committed_at } => {
            out.extend([b'C', 0]);
            out.extend(commit_lsn.to_be_bytes());
            out.extend(end_lsn.to_be_bytes());
            out.extend(committed_at.to_be_bytes());
        }
        Message::Relation(relation) => {
            out.push(b'R');
            out.extend(relation.id.to_be_bytes());
            [&relation.schema, &relation.name].iter().for_each(|text| name(&mut out, text));
            out.push(relation.replica_identity);
            out.extend(u16::try_from(relation.columns.len()).unwrap().to_be_bytes());
            for column in &relation.columns {
                out.push(1);
                name(&mut out, &column.name);
                out.extend(column.type_id.to_be_bytes());
                out.extend((-1_i32).to_be_bytes());
            }
        }
        Message::Insert { relation, new } => {
            out.push(b'I');
            out.extend(relation.to_be_bytes());
            tuple(&mut out, b'N', new);
        }
        Message::Update { relation, old, new } => {
            out.push(b'U');
            out.extend(relation.to_be_bytes());
            old.iter().for_each(|old| tuple(&mut out, b'O', old));
            tuple(&mut out, b'N', new);
        }
        Message::Delete { relation, old } => {
            out.push(b'D');
            out.extend(relation.to_be_bytes());
            tuple(&mut out, b'O', old);
        }
        Message::Truncate { relations } => {
            out.push(b'T');
            out.extend(u32::try_from(relations.len()).unwrap().to_be_bytes());
            out.push(0);
            relations.iter().for_each(|relation| out.extend(relation.to_be_bytes()));
        }
        Message::Other => out.extend(*b"Yrest"),
    }
    out
}

fn name(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes());
    out.push(0);
}

fn tuple(out: &mut Vec<u8>, kind: u8, Tuple(columns): &Tuple) {
    out.push(kind);
    out.extend(u16::try_from(columns.len()).unwrap().to_be_bytes());
    for column in columns {
        match column {
            Column::Null => out.push(b'n'),
            Column::Unchanged => out.push(b'u'),
            Column::Text(text) => {
                out.push(b't');
                out.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
                out.extend(text);
            }
        }
    }
}

fn any_tuple() -> impl Strategy<Value = Tuple> {
    let text = vec(any::<u8>(), 0..20).prop_map(|text| Column::Text(text.into()));
    vec(prop_oneof![Just(Column::Null), Just(Column::Unchanged), text], 0..8).prop_map(Tuple)
}

fn any_relation() -> impl Strategy<Value = Relation> {
    let name = "[^\\x00]{0,12}";
    let column = (name, any::<u32>()).prop_map(|(name, type_id)| RelationColumn { name, type_id });
    let parts = (any::<u32>(), name, name, any::<u8>(), vec(column, 0..6));
    parts.prop_map(|(id, schema, name, replica_identity, columns)| Relation {
        id,
        schema,
        name,
        replica_identity,
        columns,
    })
}

fn any_message() -> impl Strategy<Value = Message> {
    let id = any::<u32>;
    prop_oneof![
        (any::<u64>(), any::<i64>(), id()).prop_map(|(final_lsn, committed_at, transaction_id)| Message::Begin {
            final_lsn,
            committed_at,
            transaction_id
        }),
        (any::<u64>(), any::<u64>(), any::<i64>()).prop_map(|(commit_lsn, end_lsn, committed_at)| Message::Commit {
            commit_lsn,
            end_lsn,
            committed_at
        }),
        any_relation().prop_map(Message::Relation),
        (id(), any_tuple()).prop_map(|(relation, new)| Message::Insert { relation, new }),
        (id(), proptest::option::of(any_tuple()), any_tuple()).prop_map(|(relation, old, new)| Message::Update {
            relation,
            old,
            new
        }),
        (id(), any_tuple()).prop_map(|(relation, old)| Message::Delete { relation, old }),
        vec(id(), 0..4).prop_map(|relations| Message::Truncate { relations }),
        Just(Message::Other),
    ]
}

proptest! {
    #[test]
    fn messages_read_back(message in any_message()) {
        prop_assert_eq!(decode(encode(&message).into()), Ok(message));
    }

    #[test]
    fn a_message_that_was_cut_or_has_more_is_refused(message in any_message(), at in any::<prop::sample::Index>()) {
        prop_assume!(message != Message::Other);
        let whole = encode(&message);
        let cut = whole[..at.index(whole.len())].to_vec();
        prop_assert!(decode(cut.into()).is_err());
        let more = [&whole[..], b"n"].concat();
        prop_assert!(decode(more.into()).is_err());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        let _ = decode(bytes.into());
    }
}

/// A count from outside must not reserve memory that the message does not have.
#[test]
fn a_count_beyond_the_message_is_refused() {
    let truncate = [b"T".as_slice(), &u32::MAX.to_be_bytes(), &[0]].concat();
    assert_eq!(decode(truncate.into()), Err(SHORT));
}
