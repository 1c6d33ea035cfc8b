//! The model: what there is, and nothing else.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};

use crate::problem::Problem;

/// Something that may be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The method; `GET` stands for `HEAD` too.
    pub method: Method,
    /// The path: literal segments, `{name}` for one segment, and `{name*}` at the end for one or
    /// more.
    pub path: String,
    /// The content types a body may have, without parameters, such as `application/json`;
    /// `application/*+json` stands for all with that suffix. With none any is taken. A request
    /// that names none passes: whether one is needed is the instance's to say.
    pub content_types: Vec<String>,
    /// The largest body, in bytes, before content decoding; 0 where there is none.
    pub body_bytes_max: u64,
    /// Whether a second request with the same `Idempotency-Key` does the same as the first, so
    /// that one with a key may be sent again.
    pub is_keyed: bool,
}

/// Why a route can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// The path is not of the form that [`Route::path`] has.
    #[error("the route `{0}` needs a path of literal segments, {{name}}, and {{name*}} at its end")]
    Path(String),
}

/// What a request may do that fits the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Permit {
    pub(crate) body_bytes_max: u64,
    pub(crate) is_keyed: bool,
}

/// All routes.
#[derive(Debug, Default)]
pub(crate) struct Model {
    routes: Vec<(Vec<Segment>, Route)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Any,
    Rest,
}

impl Model {
    pub(crate) fn new(routes: Vec<Route>) -> Result<Self, RouteError> {
        let routes = routes.into_iter().map(|route| {
            let segments = segments(&route.path).ok_or(RouteError::Path(route.path.clone()))?;
            Ok((segments, route))
        });
        Ok(Self { routes: routes.collect::<Result<_, _>>()? })
    }

    /// What may be done with a request, or the answer that says why nothing. `body_bytes` is the
    /// announced length of its body, if it has one.
    pub(crate) fn permit(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        body_bytes: Option<u64>,
    ) -> Result<Permit, Problem> {
        if self.routes.is_empty() {
            return Ok(Permit { body_bytes_max: u64::MAX, is_keyed: false });
        }
        let mut fits_path = false;
        for (segments, route) in &self.routes {
            if !fits(segments, path) {
                continue;
            }
            fits_path = true;
            if route.method == *method || (route.method == Method::GET && *method == Method::HEAD) {
                return route.permit(headers, body_bytes);
            }
        }
        if fits_path {
            return Err(Problem::method_not_allowed(self.allow(path)));
        }
        Err(Problem::not_found())
    }

    fn allow(&self, path: &str) -> String {
        let mut methods: Vec<&str> = Vec::new();
        for (segments, route) in &self.routes {
            if fits(segments, path) {
                methods.push(route.method.as_str());
                if route.method == Method::GET {
                    methods.push("HEAD");
                }
            }
        }
        methods.sort_unstable();
        methods.dedup();
        methods.join(", ")
    }
}

impl Route {
    fn permit(&self, headers: &HeaderMap, body_bytes: Option<u64>) -> Result<Permit, Problem> {
        if body_bytes.unwrap_or(0) > self.body_bytes_max {
            return Err(Problem::body_too_large(self.body_bytes_max));
        }
        if !self.content_types.is_empty() && body_bytes != Some(0) && !self.takes_type(headers) {
            return Err(Problem::media_type());
        }
        Ok(Permit { body_bytes_max: self.body_bytes_max, is_keyed: self.is_keyed })
    }

    fn takes_type(&self, headers: &HeaderMap) -> bool {
        let Some(value) = headers.get(CONTENT_TYPE) else { return true };
        let Ok(text) = value.to_str() else { return false };
        let essence = text.split(';').next().unwrap_or_default().trim();
        self.content_types.iter().any(|taken| match taken.split_once('*') {
            None => essence.eq_ignore_ascii_case(taken),
            Some((start, end)) => {
                let essence = essence.to_ascii_lowercase();
                essence.len() > start.len() + end.len()
                    && essence.starts_with(start)
                    && essence.ends_with(end)
            }
        })
    }
}

fn segments(path: &str) -> Option<Vec<Segment>> {
    let mut parsed = Vec::new();
    let mut segments = path.strip_prefix('/')?.split('/').peekable();
    while let Some(segment) = segments.next() {
        let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        parsed.push(match name {
            Some(name) if name.ends_with('*') && segments.peek().is_none() => Segment::Rest,
            Some(name) if !name.is_empty() && !name.ends_with('*') => Segment::Any,
            None if !segment.contains(['{', '}']) => Segment::Literal(segment.to_owned()),
            _ => return None,
        });
    }
    Some(parsed)
}

fn fits(segments: &[Segment], path: &str) -> bool {
    let mut parts = path[1..].split('/');
    for segment in segments {
        let Some(part) = parts.next() else { return false };
        match segment {
            Segment::Literal(literal) if literal == part => {}
            Segment::Any if !part.is_empty() => {}
            Segment::Rest if !part.is_empty() => return true,
            _ => return false,
        }
    }
    parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn model() -> Model {
        let route = |method, path: &str, types: &[&str], body_bytes_max| Route {
            method,
            path: path.to_owned(),
            content_types: types.iter().map(|&kind| kind.to_owned()).collect(),
            body_bytes_max,
            is_keyed: false,
        };
        Model::new(vec![
            route(Method::GET, "/", &[], 0),
            route(Method::POST, "/api/save", &["application/json", "application/*+json"], 1024),
            route(Method::GET, "/api/documents/{id}", &[], 0),
            route(Method::DELETE, "/api/documents/{id}", &[], 0),
            route(Method::PUT, "/api/files/{key*}", &[], 1 << 30),
        ])
        .unwrap()
    }

    fn status(method: Method, path: &str, kind: Option<&'static str>, bytes: Option<u64>) -> u16 {
        let mut headers = HeaderMap::new();
        if let Some(kind) = kind {
            headers.insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
        }
        let permit = model().permit(&method, path, &headers, bytes);
        permit.map_or_else(|problem| problem.status, |_| StatusCode::OK).as_u16()
    }

    #[test]
    fn what_is_in_the_model_passes_and_nothing_else() {
        let table = [
            (Method::GET, "/", 200),
            (Method::HEAD, "/", 200),
            (Method::GET, "/api/documents/7", 200),
            (Method::DELETE, "/api/documents/7", 200),
            (Method::PUT, "/api/files/a/b/c", 200),
            (Method::GET, "/api/documents/", 404),
            (Method::GET, "/api/documents/7/x", 404),
            (Method::GET, "/admin", 404),
            (Method::PUT, "/api/files/", 404),
            (Method::PUT, "/api/save", 405),
            (Method::TRACE, "/", 405),
            (Method::CONNECT, "/", 405),
        ];
        for (method, path, expected) in table {
            assert_eq!(status(method.clone(), path, None, Some(0)), expected, "{method} {path}");
        }
    }

    #[test]
    fn content_types_and_sizes_are_held_to() {
        let post = |kind, bytes| status(Method::POST, "/api/save", kind, bytes);
        assert_eq!(post(Some("application/json; charset=utf-8"), Some(9)), 200);
        assert_eq!(post(Some("Application/Problem+JSON"), Some(9)), 200);
        assert_eq!(post(None, Some(9)), 200);
        assert_eq!(post(Some("text/plain"), Some(9)), 415);
        assert_eq!(post(Some("text/plain"), None), 415, "a chunked body is a body");
        assert_eq!(post(Some("application/json"), Some(1025)), 413);
        assert_eq!(status(Method::GET, "/", None, Some(1)), 413, "no body is taken there");
    }

    #[test]
    fn a_405_names_what_the_path_takes() {
        let problem =
            model().permit(&Method::PUT, "/api/documents/7", &HeaderMap::new(), None).unwrap_err();
        assert_eq!(problem.allow.unwrap(), "DELETE, GET, HEAD");
    }

    #[test]
    fn a_route_of_another_form_is_refused() {
        for path in ["", "x", "/{}", "/{a*}/b", "/a{b}"] {
            let route = Route {
                method: Method::GET,
                path: path.to_owned(),
                content_types: Vec::new(),
                body_bytes_max: 0,
                is_keyed: false,
            };
            assert!(Model::new(vec![route]).is_err(), "{path}");
        }
    }
}
