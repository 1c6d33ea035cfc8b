//! `/openapi.json` and `/docs`.

use std::fmt::Write;

use http::StatusCode;
use inlet_server::error_class;

use super::openapi::{self, Said, parameter_text, said};
use crate::answer::{Answer, JSON, answer, page as page_answer};
use crate::call::Call;
use crate::escape::{html, html_with_code};
use crate::pages::framed;
use crate::problem::Problem;
use crate::routes::{ROUTES, Route};

const INTRODUCTION: &str = include_str!("../pages/docs.html");

/// The description.
pub(crate) fn openapi(call: &Call<'_>) -> Answer {
    let version = call.app.instance.version();
    let document = openapi::document(version, call.app.intake.limits());
    answer(StatusCode::OK, JSON, document.to_string())
}

/// The description as a page.
pub(crate) fn page(call: &Call<'_>) -> Answer {
    let mut content = String::with_capacity(32 << 10);
    content.push_str(INTRODUCTION);
    content.push_str("<ul class=\"toc\">\n");
    for route in ROUTES {
        let (anchor, method, path) = (anchor(route), &route.method, route.path);
        push(
            &mut content,
            format_args!(
                "<li><span class=\"method\">{method}</span> <a href=\"#{anchor}\">{path}</a></li>\n"
            ),
        );
    }
    content.push_str("</ul>\n<h2>Routes</h2>\n");
    for route in ROUTES {
        push_route(&mut content, route);
    }
    content.push_str(
        "<h2>Errors</h2>\n<p>A code never changes its meaning. It is the member <code>code</code> of \
         a problem, and the end of its <code>type</code>; <code>errorType</code> is its class, one for \
         each status.</p>\n<table>\n<thead><tr><th scope=\"col\">Code</th>\
         <th scope=\"col\" class=\"n\">Status</th><th scope=\"col\">Class</th>\
         <th scope=\"col\">Meaning</th></tr></thead>\n<tbody>\n",
    );
    for problem in Problem::all(call.app.intake.limits()) {
        let (code, status, title) = (problem.code, problem.status.as_u16(), html(problem.title));
        let class = error_class(problem.status);
        push(
            &mut content,
            format_args!(
                "<tr id=\"{code}\"><th scope=\"row\"><code>{code}</code></th>\
                 <td class=\"n\">{status}</td><td><code>{class}</code></td><td>{title}</td></tr>\n"
            ),
        );
    }
    content.push_str("</tbody>\n</table>\n");
    page_answer(StatusCode::OK, framed("API · Inlet", &content))
}

fn push_route(content: &mut String, route: &Route) {
    let Said { description, answers, headers } = said(route.endpoint);
    let scope = match (route.scope, route.scope_with) {
        (Some(scope), Some((name, other))) => format!("scope {scope}; {other} with {name}"),
        (Some(scope), None) => format!("scope {scope}"),
        (None, _) => "no token".to_owned(),
    };
    let (anchor, method, path) = (anchor(route), &route.method, route.path);
    push(
        content,
        format_args!(
            "<section class=\"route\" id=\"{anchor}\">\n<span class=\"scope\">{scope}</span>\n\
             <h3><span class=\"method\">{method}</span> {path}</h3>\n<p>{}</p>\n<table><tbody>\n",
            html_with_code(description)
        ),
    );
    let in_path = route.path.find('{').map(|at| route.path[at + 1..].trim_end_matches('}'));
    for name in in_path.iter().chain(route.query).chain(headers) {
        push_row(content, name, parameter_text(name));
    }
    for (status, text) in answers {
        push_row(content, &status.to_string(), text);
    }
    content.push_str("</tbody></table>\n</section>\n");
}

fn push_row(content: &mut String, name: &str, text: &str) {
    let text = html_with_code(text);
    push(
        content,
        format_args!("<tr><th scope=\"row\"><code>{name}</code></th><td>{text}</td></tr>\n"),
    );
}

/// `post-api-save`.
fn anchor(route: &Route) -> String {
    let path = route.path.replace(['{', '}'], "").replace('/', "-");
    format!("{}{}", route.method.as_str().to_ascii_lowercase(), path.trim_end_matches('-'))
}

fn push(content: &mut String, text: std::fmt::Arguments<'_>) {
    content.write_fmt(text).expect("a string takes all");
}
