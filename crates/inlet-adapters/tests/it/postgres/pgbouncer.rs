use super::database::Database;

inlet_testkit::store_contract!(Database::pooled().await);
