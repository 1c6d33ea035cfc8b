//! The database: one function alone changes its schema, and makes the user of the others.

use std::sync::LazyLock;

use inlet_testkit::server::{Server, ServerKind};
use serde_json::{Value, json};

use crate::events::get;
use crate::flow::Place;
use crate::runtime::Function;

static POSTGRES: LazyLock<Server> = LazyLock::new(|| Server::start(ServerKind::Postgres));

/// A place whose store is the database.
struct Database {
    place: Place,
}

impl Database {
    fn new() -> Self {
        let place = Place::new();
        // As Amazon RDS keeps the owner's, and the template makes the other's.
        place.secret("CreateSecret", "owner", r#"{"username": "inlet", "password": "inlet"}"#);
        place.secret(
            "CreateSecret",
            "app",
            r#"{"username": "inlet_app", "password": "it's 1 \\ first"}"#,
        );
        Self { place }
    }

    /// The function that plays a part as that user, with these secrets.
    fn function(&self, handler: &str, user: &str, secrets: &str) -> Function {
        let mut variables = self.place.variables();
        variables.retain(|(name, _)| name != "INLET_STORE");
        let port = POSTGRES.port();
        let name = &self.place.name;
        variables.push((
            "INLET_STORE".into(),
            format!("postgres://{user}@127.0.0.1:{port}/postgres?sslmode=require"),
        ));
        let secrets = secrets.replace("NAME", name);
        variables.push(("INLET_SECRETS".into(), format!("aws-secrets-manager://?{secrets}")));
        Function::start(handler, &variables)
    }

    fn migrate(&self) -> Value {
        let mut migrate = self.function("migrate", "inlet", "database=NAME-owner&app=NAME-app");
        migrate.invoke(&json!({})).unwrap()
    }

    fn app(&self, handler: &str) -> Function {
        self.function(handler, "inlet_app", "database=NAME-app")
    }
}

#[test]
fn the_schema_is_made_once_and_its_user_stores_and_follows_a_new_password() {
    let database = Database::new();
    let batch = |id: &str| {
        let body = format!(r#"{{"from":"{id}"}}"#);
        json!({ "Records": [database.place.record(id, &body)] })
    };
    let error = database.app("persist").invoke(&batch("m-1")).unwrap_err();
    assert!(error["errorMessage"].as_str().unwrap().contains("hint: "), "{error}");
    assert!(!error.to_string().contains("first"), "{error}");

    assert_eq!(database.migrate()["applied"][0], "0001_documents");
    assert_eq!(database.migrate(), json!({ "applied": [] }));
    let none = json!({ "batchItemFailures": [] });
    assert_eq!(database.app("persist").invoke(&batch("m-1")).unwrap(), none);

    // A new password is in force once the next release has migrated.
    database.place.secret(
        "PutSecretValue",
        "app",
        r#"{"username": "inlet_app", "password": "second"}"#,
    );
    let error = database.app("persist").invoke(&batch("m-2")).unwrap_err();
    assert!(error["errorMessage"].as_str().unwrap().contains("INLET_STORE"), "{error}");
    database.migrate();
    assert_eq!(database.app("persist").invoke(&batch("m-2")).unwrap(), none);
    let documents = database.app("read").invoke(&get("/api/documents")).unwrap();
    let documents: Value = serde_json::from_str(documents["body"].as_str().unwrap()).unwrap();
    assert_eq!(documents["documents"].as_array().unwrap().len(), 2, "{documents}");
}

#[test]
fn only_a_database_is_migrated() {
    let place = Place::new();
    let error = place.function("migrate").invoke(&json!({})).unwrap_err();
    let said = error["errorMessage"].as_str().unwrap();
    assert!(said.contains("this function migrates postgres://"), "{error}");
}
