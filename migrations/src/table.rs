//! Short words for tables whose types SQLite and Postgres both take.

use sea_orm_migration::prelude::*;

pub(crate) fn table(name: &'static str) -> TableCreateStatement {
    Table::create().table(name).to_owned()
}

pub(crate) fn text(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).text().not_null().to_owned()
}

pub(crate) fn text_null(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).text().null().to_owned()
}

/// The primary key of most tables.
pub(crate) fn id(name: &'static str) -> ColumnDef {
    text(name).primary_key().to_owned()
}

pub(crate) fn big(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().not_null().to_owned()
}

pub(crate) fn big_null(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().null().to_owned()
}

pub(crate) fn int(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).integer().not_null().to_owned()
}

pub(crate) fn flag(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).boolean().not_null().to_owned()
}

pub(crate) fn json(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).json_binary().not_null().to_owned()
}

pub(crate) fn bytes(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).binary().not_null().to_owned()
}

/// A row that goes with the row it belongs to.
pub(crate) fn belongs_to(column: &'static str, table: &'static str, of: &'static str) -> ForeignKeyCreateStatement {
    let name = format!("{of}_{column}_fkey");
    let mut key = ForeignKey::create();
    key.name(name).from(of, column).to(table, "id").on_delete(ForeignKeyAction::Cascade);
    key
}

pub(crate) fn index(name: &'static str, table: &'static str, columns: &[&'static str]) -> IndexCreateStatement {
    let mut index = Index::create();
    index.name(name).table(table);
    for column in columns {
        index.col(*column);
    }
    index
}

/// An index of the rows that have the column at all: the few that are alive among the many that were.
pub(crate) fn index_where_set(
    name: &'static str,
    table: &'static str,
    columns: &[&'static str],
    set: &'static str,
) -> IndexCreateStatement {
    index(name, table, columns).and_where(Expr::col(set).is_not_null()).to_owned()
}

pub(crate) fn unique(name: &'static str, table: &'static str, columns: &[&'static str]) -> IndexCreateStatement {
    index(name, table, columns).unique().to_owned()
}

pub(crate) async fn create(
    manager: &SchemaManager<'_>,
    tables: impl IntoIterator<Item = TableCreateStatement>,
    indexes: impl IntoIterator<Item = IndexCreateStatement>,
) -> Result<(), DbErr> {
    for table in tables {
        let name = table.get_table_name().cloned();
        let columns = table.get_columns().clone();
        manager.create_table(table).await?;
        if let Some(name) = name {
            compare_bytewise(manager, name, &columns).await?;
        }
    }
    for index in indexes {
        manager.create_index(index).await?;
    }
    Ok(())
}

pub(crate) async fn add_columns(
    manager: &SchemaManager<'_>,
    table: &'static str,
    columns: impl IntoIterator<Item = ColumnDef>,
) -> Result<(), DbErr> {
    let columns: Vec<_> = columns.into_iter().collect();
    for column in &columns {
        manager.alter_table(Table::alter().table(table).add_column(column.clone()).to_owned()).await?;
    }
    compare_bytewise(manager, table.into_table_ref(), &columns).await
}

/// Texts compare byte by byte, as on SQLite, whatever the locale of the Postgres database: pages are ranges of an index by
/// id, and every replica must agree with its own sort order.
async fn compare_bytewise(manager: &SchemaManager<'_>, table: TableRef, columns: &[ColumnDef]) -> Result<(), DbErr> {
    if manager.get_database_backend() != sea_orm_migration::sea_orm::DbBackend::Postgres {
        return Ok(());
    }
    let mut alter = Table::alter();
    alter.table(table);
    let mut has_text = false;
    for column in columns.iter().filter(|column| matches!(column.get_column_type(), Some(ColumnType::Text))) {
        let bytewise = ColumnType::custom(r#"text COLLATE "C""#);
        alter.modify_column(ColumnDef::new_with_type(column.get_column_name(), bytewise));
        has_text = true;
    }
    if has_text { manager.alter_table(alter).await } else { Ok(()) }
}
