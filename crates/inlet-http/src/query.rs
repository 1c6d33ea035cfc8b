//! The query of a request, read strictly.

use std::borrow::Cow;

use inlet_core::rejection::Rejection;

/// The longest cursor that is taken, in bytes; those of all stores are far shorter.
pub(crate) const CURSOR_BYTES_MAX: usize = 1_024;

/// The parameters of a query. What is not known, stands twice or is not well encoded is refused:
/// a parameter that is misspelt must not silently be none.
#[derive(Debug, Default)]
pub(crate) struct Query<'a> {
    parameters: Vec<(&'static str, Cow<'a, str>)>,
}

impl<'a> Query<'a> {
    /// Reads `text`, which is what follows the `?`, against the names that are known.
    pub(crate) fn read(
        text: Option<&'a str>,
        known: &'static [&'static str],
    ) -> Result<Self, Rejection> {
        let mut query = Self::default();
        for pair in text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name)?;
            let Some(name) = known.iter().find(|known| **known == name) else {
                return Err(unknown(known));
            };
            if query.parameters.iter().any(|(other, _)| other == name) {
                return Err(Rejection::ParameterInvalid { name, expected: "at most once" });
            }
            query.parameters.push((name, decode(value)?));
        }
        Ok(query)
    }

    /// The value under `name`, if it was given.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| *known == name).map(|(_, value)| &**value)
    }

    /// The end of the page before, if that was given.
    pub(crate) fn cursor(&self) -> Result<Option<String>, Rejection> {
        let expected = "the member `next` of the page before, as it was";
        let fits = |text: &str| {
            (1..=CURSOR_BYTES_MAX).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        match self.get("cursor") {
            Some(text) if !fits(text) => {
                Err(Rejection::ParameterInvalid { name: "cursor", expected })
            }
            text => Ok(text.map(str::to_owned)),
        }
    }

    /// The names that were given.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.parameters.iter().map(|(name, _)| *name)
    }

    /// The value under `name` as a number from 1, or `default`; at most `max`, however large the
    /// number is.
    pub(crate) fn limit(
        &self,
        name: &'static str,
        default: usize,
        max: usize,
    ) -> Result<usize, Rejection> {
        let Some(value) = self.get(name) else { return Ok(default.min(max)) };
        let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        match value.parse::<usize>() {
            Ok(0) => {}
            Ok(number) if is_number => return Ok(number.min(max)),
            Ok(_) => {}
            Err(_) if is_number => return Ok(max),
            Err(_) => {}
        }
        Err(Rejection::ParameterInvalid { name, expected: "a whole number from 1" })
    }
}

/// `text` with its percent-encoded bytes decoded; `None` where they are not well encoded or no
/// UTF-8. In a query `+` is a space, as in forms.
pub(crate) fn percent_decoded(text: &str, plus_is_space: bool) -> Option<Cow<'_, str>> {
    if !text.bytes().any(|b| b == b'%' || (plus_is_space && b == b'+')) {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'+' if plus_is_space => bytes.push(b' '),
            b'%' => {
                let &[high, low, ref tail @ ..] = rest else { return None };
                let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
                bytes.push((digit(high)? << 4) | digit(low)?);
                rest = tail;
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// `path` with all bytes encoded that have a meaning of their own in a URL, but `/`.
pub(crate) fn percent_encoded_path(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

fn unknown(known: &'static [&'static str]) -> Rejection {
    let expected = match known {
        [] => "no parameters are known here",
        ["stream"] => "the one parameter known here is stream",
        ["view"] => "the one parameter known here is view",
        _ => "a parameter that is not known here; see /docs",
    };
    Rejection::ParameterInvalid { name: "query", expected }
}

fn decode(text: &str) -> Result<Cow<'_, str>, Rejection> {
    let expected = "UTF-8, percent-encoded";
    percent_decoded(text, true).ok_or(Rejection::ParameterInvalid { name: "query", expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["stream", "limit"];

    #[test]
    fn values_are_decoded() {
        let query = Query::read(Some("stream=a%2Fb+c%C3%A4&limit=7"), KNOWN).unwrap();
        assert_eq!(query.get("stream"), Some("a/b cä"));
        assert_eq!(query.limit("limit", 100, 1000).unwrap(), 7);
        assert_eq!(Query::read(None, KNOWN).unwrap().limit("limit", 100, 50).unwrap(), 50);
    }

    #[test]
    fn what_is_unknown_doubled_or_badly_encoded_is_refused() {
        for text in ["streem=a", "stream=a&stream=b", "stream=%", "stream=%f", "stream=%ff", "x"] {
            assert!(Query::read(Some(text), KNOWN).is_err(), "{text}");
        }
        let huge = Query::read(Some("limit=99999999999999999999999"), KNOWN).unwrap();
        assert_eq!(huge.limit("limit", 100, 1000).unwrap(), 1000);
        for text in ["limit=0", "limit=-1", "limit=x", "limit=", "limit=%2B5"] {
            let query = Query::read(Some(text), KNOWN).unwrap();
            assert!(query.limit("limit", 100, 1000).is_err(), "{text}");
        }
    }
}
