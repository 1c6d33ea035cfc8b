//! What instances answer, as the edge is told: their own table of routes.

use inlet_core::accept::KEYED;
use inlet_core::limits::Limits;
use inlet_edge::firewall::Route;
use inlet_http::routes::{self, BodyLimit, Endpoint, ROUTES};

/// What may be asked for, and nothing else.
pub(super) fn routes(limits: &Limits) -> Vec<Route> {
    ROUTES.iter().map(|route| of(route, limits)).collect()
}

fn of(route: &routes::Route, limits: &Limits) -> Route {
    Route {
        method: route.method.clone(),
        path: route.path.to_owned(),
        content_types: content_types(route.body),
        body_bytes_max: route.body.bytes_max(limits) as u64,
        is_keyed: route.endpoint == Endpoint::Save,
    }
}

/// What an instance takes as the type of such a body, where it looks at it.
fn content_types(body: BodyLimit) -> Vec<String> {
    let types: &[&str] = match body {
        BodyLimit::None | BodyLimit::Settings | BodyLimit::File => &[],
        BodyLimit::Document => &["application/json", "text/json", "application/*+json"],
        BodyLimit::Batch => &[
            "application/json",
            "text/json",
            "application/*+json",
            "application/x-ndjson",
            "application/jsonl",
            KEYED,
        ],
    };
    types.iter().map(|kind| (*kind).to_owned()).collect()
}
