mod accidents;
mod database;
mod documents;
mod open;
mod pgbouncer;
mod schema;

use database::Database;

inlet_testkit::store_contract!(Database::new().await);
