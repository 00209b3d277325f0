//! What belongs to a database and is not in it: its channel log, its blobs. Rows refer to records and blobs by numbers and
//! names that mean nothing in another log or store, so a process notes which ones it came with and looks before it serves.

use crate::Database;
use crate::convert::int;
use crate::entity::home::{self, Column};
use crate::error::failed;
use continuo_domain::Result;
use futures_util::FutureExt;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ColumnTrait, Condition, DatabaseTransaction, EntityTrait, QueryFilter};

/// Where a part has its home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// Tells this place from others; the words are the caller's.
    pub place: String,
    /// How far the part had come when that was last noted.
    pub position: Option<u64>,
}

impl Database {
    /// The home of a part. The first to ask makes `place` its home; everyone after that is told of it, on every replica.
    pub async fn home(&self, part: &'static str, place: &str) -> Result<Home> {
        let place = place.to_owned();
        let home = self.write(move |tx| settle(tx, part, place).boxed()).await?;
        let position = home.position.and_then(|position| u64::try_from(position).ok());
        Ok(Home { place: home.place, position })
    }

    /// Makes `place` the home of a part, whatever was noted before.
    pub async fn move_home(&self, part: &'static str, place: &str) -> Result<()> {
        let home = home::ActiveModel { part: Set(part.to_owned()), place: Set(place.to_owned()), position: Set(None) };
        self.write(move |tx| put(tx, home).boxed()).await
    }

    /// Notes how far a part has come; what is noted only grows. Nothing if its home is elsewhere.
    pub async fn note_position(&self, part: &'static str, place: &str, position: u64) -> Result<()> {
        let place = place.to_owned();
        self.write(move |tx| note(tx, part, place, int(position)).boxed()).await
    }
}

async fn settle(tx: &DatabaseTransaction, part: &'static str, place: String) -> Result<home::Model> {
    let fresh = home::Model { part: part.to_owned(), place, position: None };
    home::Entity::insert(home::ActiveModel::from(fresh.clone()))
        .on_conflict(OnConflict::column(Column::Part).do_nothing().to_owned())
        .exec_without_returning(tx)
        .await
        .map_err(failed)?;
    let found = home::Entity::find_by_id(part).one(tx).await.map_err(failed)?;
    Ok(found.unwrap_or(fresh))
}

async fn put(tx: &DatabaseTransaction, home: home::ActiveModel) -> Result<()> {
    let replace = OnConflict::column(Column::Part).update_columns([Column::Place, Column::Position]).to_owned();
    home::Entity::insert(home).on_conflict(replace).exec_without_returning(tx).await.map(drop).map_err(failed)
}

async fn note(tx: &DatabaseTransaction, part: &'static str, place: String, position: i64) -> Result<()> {
    let update = home::Entity::update_many()
        .col_expr(Column::Position, Expr::val(position))
        .filter(Column::Part.eq(part))
        .filter(Column::Place.eq(place))
        .filter(Condition::any().add(Column::Position.is_null()).add(Column::Position.lt(position)));
    update.exec(tx).await.map(drop).map_err(failed)
}
