//! Time and identity, so that nothing in the core reads a hidden clock or rolls hidden dice.

use continuo_domain::Timestamp;

/// The time. Where replicas must agree it is the database's.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// Bodies of identifiers.
pub trait Ids: Send + Sync + 'static {
    /// A fresh body: letters and digits, unique, and greater than every body this source made before.
    fn next(&self) -> String;
    /// A short random text for records that name no part id: unguessable it need not be.
    fn part_id(&self) -> String;
}
