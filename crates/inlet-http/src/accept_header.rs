//! What a client would rather have, by its `Accept` header.

use http::HeaderMap;
use http::header::ACCEPT;

/// Whether the client names HTML, and does not like JSON better. A wildcard names nothing: tools
/// that send `*/*` get JSON.
pub(crate) fn prefers_html(headers: &HeaderMap) -> bool {
    let mut html = 0;
    let mut json = 0;
    for value in headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()) {
        for range in value.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts.find_map(weight).unwrap_or(1000);
            match kind.as_str() {
                "text/html" | "application/xhtml+xml" => html = html.max(weight),
                "application/json" | "application/problem+json" => json = json.max(weight),
                _ => {}
            }
        }
    }
    html > 0 && html >= json
}

/// A `q` parameter in thousandths.
fn weight(parameter: &str) -> Option<u32> {
    let value = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="))?;
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let fraction: u32 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    match whole {
        "0" => Some(fraction),
        "1" => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_get_html_and_tools_get_json() {
        let table = [
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true),
            ("*/*", false),
            ("application/json", false),
            ("application/json;q=0.5, text/html;q=0.4", false),
            ("application/json;q=0.4, text/html;q=0.5", true),
            ("text/html;q=0", false),
            ("", false),
        ];
        for (accept, html) in table {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            assert_eq!(prefers_html(&headers), html, "{accept}");
        }
        assert!(!prefers_html(&HeaderMap::new()));
    }
}
