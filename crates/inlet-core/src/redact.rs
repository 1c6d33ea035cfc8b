//! URLs as they may be shown.

/// Schemes of places that are reached without a password in the URL; what is in their paths may
/// have an `@`.
const WITHOUT_PASSWORD: &[&str] =
    &["aws-secrets-manager", "dynamodb", "file", "s3", "sqlite", "sqs"];

/// The URL without what is or may be a password, also where it is none: a password with characters
/// that should have been percent-encoded is hidden whole. A user's name is shown.
///
/// ```
/// assert_eq!(inlet_core::redact::url("postgres://u:ge/he@im@h/d"), "postgres://u:***@h/d");
/// ```
pub fn url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    if WITHOUT_PASSWORD.contains(&scheme) {
        return text.to_owned();
    }
    // A password may hold any of these characters, so the last `@` goes first.
    let (credentials, place) = match rest.rsplit_once('@') {
        Some((credentials, place)) => (Some(credentials), place),
        None => (None, rest),
    };
    if credentials.is_some_and(|text| text.contains('?') && names_password(text)) {
        return format!("{scheme}://***");
    }
    let behind = place.find(['?', '#']).unwrap_or(place.len());
    let (place, query) = place.split_at(behind);
    let query = match query.chars().next() {
        Some(mark) if names_password(query) => format!("{mark}***"),
        _ => query.to_owned(),
    };
    let user = credentials.map(|text| match text.split_once(':') {
        Some((user, _)) if !user.contains(['/', '?', '#', '@']) => format!("{user}:***@"),
        _ => "***@".to_owned(),
    });
    format!("{scheme}://{}{place}{query}", user.unwrap_or_default())
}

/// Returns true if a parameter may be a password: `password`, `sslpassword`, `pass`.
fn names_password(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["pass", "pwd", "secret", "token"].iter().any(|name| text.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_of_any_printable_characters_is_shown() {
        for character in (' '..='~').chain(['ä', '\u{a0}']) {
            let password = format!("geh{character}eim");
            let encoded: String = password.bytes().map(|byte| format!("%{byte:02x}")).collect();
            for shape in [
                "postgres://u:P@h/d",
                "postgres://u:P@h:5432,g:5433/d?sslmode=require",
                "postgres://:P@h",
                "postgres://u:P@",
                "postgres://u@h/d?password=P",
                "postgres://u@h/d?password=P&sslmode=require",
                "postgres://u@h/d?sslmode=require&sslpassword=P#x",
                "redis://:P@h:6379/0",
                "rediss://u:P@h?ca=/ca.pem",
                "https://u:P@h/x?y=1",
                "mongodb://u:P@h",
            ] {
                for text in [shape.replace('P', &password), shape.replace('P', &encoded)] {
                    let shown = url(&text);
                    let is_shown =
                        ["geh", "eim", &encoded].iter().any(|part| shown.contains(*part));
                    assert!(!is_shown, "{text}: {shown}");
                }
            }
        }
    }

    #[test]
    fn everything_else_is_shown() {
        for text in [
            "sqlite:",
            "file:/var/lib/a@b",
            "s3://bucket/a@b?c",
            "redis://cache:6379/1",
            "postgres://h/d?sslmode=require",
            "https://sqs.eu-west-1.amazonaws.com/1/q",
        ] {
            assert_eq!(url(text), text);
        }
        assert_eq!(url("postgres://a:b@h/db?x=1"), "postgres://a:***@h/db?x=1");
        assert_eq!(url("redis://b@h/1"), "redis://***@h/1");
    }
}
