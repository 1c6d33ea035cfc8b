//! The description of the API, made from the table of routes.

use serde_json::{Value, json};

use crate::app::App;

/// The whole description, OpenAPI 3.1.
pub(super) fn document(app: &App) -> Value {
    json!({"openapi": "3.1.0", "info": {"title": "Inlet", "version": app.instance.version()}})
}
