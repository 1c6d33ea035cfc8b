//! The description of the API, made from the table of routes and what is said of each.

mod parameters;
mod said;

use std::collections::BTreeSet;

use http::StatusCode;
use inlet_core::accept::KEYED;
use inlet_core::auth::{Scope, TOKEN_STREAMS_MAX};
use inlet_core::limits::Limits;
use inlet_core::ports::PARTS_MAX;
use inlet_server::EDGE_CODES;
use inlet_server::error_class;
use serde_json::{Map, Value, json};

pub(super) use self::said::{Said, parameter_text, said};
use crate::problem::Problem;
use crate::routes::{BodyLimit, Endpoint, ROUTES, Route};

/// The whole description, OpenAPI 3.1.
pub(super) fn document(version: &str, limits: &Limits) -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path.replace("*}", "}")).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = operation(route, limits);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Inlet",
            "version": version,
            "summary": "Takes JSON over HTTPS, and answers once it is safe.",
            "description": "Query parameters that are not listed are refused, so that one that is \
                misspelt is not taken for none. All answers carry X-Request-Id and X-Instance-Id.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"},
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "The token is the password; the user may be anything",
                },
            },
            "schemas": {"Problem": problem_schema(limits), "Receipt": receipt_schema()},
        },
    })
}

fn operation(route: &Route, limits: &Limits) -> Value {
    let Said { description, answers, headers } = said(route.endpoint);
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.summary,
        "description": description,
        "parameters": parameters(route, headers),
        "responses": responses(route, answers),
    });
    if let Some(body) = request_body(route, limits) {
        operation["requestBody"] = body;
    }
    if let Some(scope) = route.scope {
        operation["security"] = json!([{"token": []}, {"bearer": []}, {"basic": []}]);
        operation["x-scope"] = json!(scope.as_str());
        if let Some((name, scope)) = route.scope_with {
            operation["x-scope-with"] = json!({name: scope.as_str()});
        }
    } else {
        operation["security"] = json!([]);
    }
    operation
}

/// The name of the endpoint with a small letter first: `saveBatch`.
fn operation_id(route: &Route) -> String {
    let name = format!("{:?}", route.endpoint);
    name[..1].to_ascii_lowercase() + &name[1..]
}

fn parameters(route: &Route, headers: &[&str]) -> Vec<Value> {
    let in_path = route
        .path
        .find('{')
        .map(|at| route.path[at + 1..].trim_end_matches('}').trim_end_matches('*'));
    let parameter = |name: &str, place: &str| {
        json!({
            "name": name,
            "in": place,
            "required": place == "path",
            "description": parameter_text(name),
            "schema": parameters::schema(name, route.endpoint),
        })
    };
    let path = in_path.into_iter().map(|name| parameter(name, "path"));
    let query = route.query.iter().map(|name| parameter(name, "query"));
    let headers = headers.iter().map(|name| parameter(name, "header"));
    path.chain(query).chain(headers).collect()
}

fn request_body(route: &Route, limits: &Limits) -> Option<Value> {
    let limit = route.body.bytes_max(limits);
    let content = match route.body {
        BodyLimit::None => return None,
        BodyLimit::Document => json!({"application/json": {"schema": {
            "description": format!(
                "Any JSON value, nested at most {} deep, without a member name twice",
                limits.depth_max,
            ),
        }}}),
        BodyLimit::Batch => json!({
            "application/json": {"schema": {
                "type": "array",
                "minItems": 1,
                "maxItems": limits.batch_documents_max,
                "items": {},
            }},
            "application/x-ndjson": {"schema": {
                "type": "string",
                "minLength": 1,
                "maxLength": limit,
                "description": format!(
                    "A JSON value to a line, at most {} of them; lines of whitespace are left out",
                    limits.batch_documents_max,
                ),
            }},
            KEYED: {"schema": {
                "type": "string",
                "minLength": 1,
                "maxLength": limit,
                "description": format!(
                    "A line {{\"key\": KEY, \"document\": VALUE}} to a document, at most {} of them",
                    limits.batch_documents_max,
                ),
            }},
        }),
        BodyLimit::File => json!({"*/*": {"schema": {"type": "string", "format": "binary"}}}),
        BodyLimit::Settings if route.endpoint == Endpoint::FilePost => {
            json!({"application/json": {"schema": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "parts": {
                        "type": "array",
                        "minItems": 1,
                        "maxItems": PARTS_MAX,
                        "uniqueItems": true,
                        "items": {"type": "integer", "minimum": 1, "maximum": PARTS_MAX},
                        "description":
                            "The numbers of the parts, which stand in the file in their order; \
                             all that were put where it is not given",
                    },
                },
            }}})
        }
        BodyLimit::Settings if route.endpoint == Endpoint::TokenAdd => {
            let scopes: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
            json!({"application/json": {"schema": {
                "type": "object",
                "required": ["name", "scopes"],
                "additionalProperties": false,
                "properties": {
                    "name": parameters::schema("name", route.endpoint),
                    "scopes": {
                        "type": "array",
                        "minItems": 1,
                        "items": {"type": "string", "enum": scopes},
                    },
                    "streams": {
                        "type": ["array", "null"],
                        "minItems": 1,
                        "maxItems": TOKEN_STREAMS_MAX,
                        "items": parameters::schema("stream", route.endpoint),
                        "description": "The streams it is limited to; all where it is not given",
                    },
                    "expires": {
                        "type": ["string", "null"],
                        "format": "date-time",
                        "pattern": parameters::moment(),
                        "description": "From when on it is refused; never where it is not given",
                    },
                },
            }}})
        }
        BodyLimit::Settings => json!({"application/json": {"schema": {
            "type": "object",
            "required": ["where"],
            "additionalProperties": false,
            "properties": {
                "where": parameters::schema("where", route.endpoint),
                "dry_run": {"type": "boolean", "default": false},
            },
        }}}),
    };
    let description = format!("At most {limit} bytes.");
    let required = !matches!(route.endpoint, Endpoint::FilePost);
    Some(json!({"required": required, "description": description, "content": content}))
}

fn responses(route: &Route, answers: &[(u16, &str)]) -> Value {
    let mut responses = Map::new();
    for (status, text) in answers {
        let mut response = json!({"description": text});
        if *status == 202 && route.body == BodyLimit::Document {
            let schema = json!({"$ref": "#/components/schemas/Receipt"});
            response["content"] = json!({"application/json": {"schema": schema}});
        }
        responses.insert(status.to_string(), response);
    }
    let schema = json!({"$ref": "#/components/schemas/Problem"});
    let content = json!({"application/problem+json": {"schema": schema}});
    responses.insert(
        "default".to_owned(),
        json!({"description": "What went wrong", "content": content}),
    );
    Value::Object(responses)
}

fn receipt_schema() -> Value {
    json!({
        "type": "object",
        "required": ["ResponseMetadata", "MD5OfMessageBody", "MessageId", "body"],
        "properties": {
            "ResponseMetadata": {
                "type": "object",
                "properties": {"RequestId": {"type": "string"}},
            },
            "MD5OfMessageBody": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
            "MessageId": {"type": "string", "format": "uuid"},
            "body": {"type": "string", "description": "The document as it was sent, as text"},
        },
    })
}

fn problem_schema(limits: &Limits) -> Value {
    let problems = Problem::all(limits);
    let codes = problems.iter().map(|problem| problem.code).chain(EDGE_CODES);
    let codes: Vec<&str> = codes.collect();
    let edge = [StatusCode::BAD_GATEWAY, StatusCode::GATEWAY_TIMEOUT];
    let statuses = problems.iter().map(|problem| problem.status).chain(edge);
    let classes: BTreeSet<&str> = statuses.map(error_class).collect();
    json!({
        "type": "object",
        "description": "RFC 9457, with four more members",
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "instance": {"type": "string"},
            "errorType": {"type": "string", "enum": classes, "description": "The class"},
            "code": {"type": "string", "enum": codes},
            "httpStatus": {"type": "integer"},
            "requestId": {"type": "string"},
            "line": {"type": "integer", "description": "Of a fault in JSON, from 1"},
            "column": {"type": "integer", "description": "Of a fault in JSON, from 1"},
            "limit": {"type": "integer"},
        },
    })
}
