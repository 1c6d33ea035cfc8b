mod accidents;
pub(crate) mod database;
mod documents;
mod open;
mod schema;

use database::Database;

inlet_testkit::store_contract!(Database::new().await);
