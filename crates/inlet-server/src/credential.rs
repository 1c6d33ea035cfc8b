//! The token of a request, wherever its client can put one.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::{AUTHORIZATION, HeaderMap, HeaderName};

const X_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// Clients disagree about the padding of Basic credentials.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A request carries two tokens that differ. Whoever judges it by one and whoever serves it by
/// the other would disagree about whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request carries two tokens that differ")]
pub struct TokensDiffer;

/// The token of a request: `X-Auth-Token`, `Authorization: Bearer`, or the password of
/// `Authorization: Basic`, which is all that many senders of webhooks can set. `None` where there
/// is none or it is empty; other schemes are no token of ours. The same token in several places
/// is one token.
///
/// Bytes that are no UTF-8 are replaced, so that such a token equals none that was ever given.
///
/// # Errors
/// [`TokensDiffer`] where two of them are not the same.
pub fn token_of(headers: &HeaderMap) -> Result<Option<Cow<'_, str>>, TokensDiffer> {
    let own = headers.get_all(X_AUTH_TOKEN).iter().map(|value| value.as_bytes());
    let own = own.map(String::from_utf8_lossy);
    let authorized = headers
        .get_all(AUTHORIZATION)
        .iter()
        .filter_map(|value| of_authorization(value.as_bytes()));
    let mut token: Option<Cow<'_, str>> = None;
    for given in own.chain(authorized).filter(|given| !given.is_empty()) {
        match &token {
            Some(known) if *known != given => return Err(TokensDiffer),
            Some(_) => {}
            None => token = Some(given),
        }
    }
    Ok(token)
}

fn of_authorization(value: &[u8]) -> Option<Cow<'_, str>> {
    let space = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, credentials) = (&value[..space], value[space..].trim_ascii());
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some(String::from_utf8_lossy(credentials));
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    // Credentials that do not decode are a token that is not known, rather than none.
    let decoded = BASE64.decode(credentials).unwrap_or_else(|_| credentials.to_vec());
    let colon = decoded.iter().position(|byte| *byte == b':').map_or(0, |colon| colon + 1);
    Some(Cow::Owned(String::from_utf8_lossy(&decoded[colon..]).into_owned()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn a_token_is_found_wherever_a_client_can_put_it() {
        let table: &[(&str, &str, Option<&str>)] = &[
            ("X-Auth-Token", "abc", Some("abc")),
            ("X-Auth-Token", "", None),
            ("Authorization", "Bearer abc", Some("abc")),
            ("Authorization", "bearer   abc", Some("abc")),
            ("Authorization", "Bearer", None),
            ("Authorization", "Bearer ", None),
            // user:abc, with and without padding
            ("Authorization", "Basic dXNlcjphYmM=", Some("abc")),
            ("Authorization", "basic dXNlcjphYmM", Some("abc")),
            // :abc, and user:a:b
            ("Authorization", "Basic OmFiYw==", Some("abc")),
            ("Authorization", "Basic dXNlcjphOmI=", Some("a:b")),
            // user:
            ("Authorization", "Basic dXNlcjo=", None),
            ("Authorization", "Basic ???", Some("???")),
            ("Authorization", "Negotiate abc", None),
            ("Authorization", "abc", None),
        ];
        for (name, value, token) in table {
            let headers = headers(&[(name, value)]);
            assert_eq!(token_of(&headers).unwrap().as_deref(), *token, "{name}: {value}");
        }
        assert_eq!(token_of(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn one_token_in_several_places_is_one_and_two_that_differ_are_refused() {
        let basic = ("Authorization", "Basic dXNlcjphYmM=");
        let (own, bearer) = (("X-Auth-Token", "abc"), ("Authorization", "Bearer abc"));
        for same in [[own, own], [own, bearer], [own, basic], [bearer, basic]] {
            assert_eq!(token_of(&headers(&same)).unwrap().as_deref(), Some("abc"), "{same:?}");
        }
        let negotiate = ("Authorization", "Negotiate xyz");
        assert_eq!(token_of(&headers(&[own, negotiate])).unwrap().as_deref(), Some("abc"));
        let (other, other_bearer) = (("X-Auth-Token", "abd"), ("Authorization", "Bearer abd"));
        for differ in [[own, other], [own, other_bearer], [basic, other], [other_bearer, bearer]] {
            assert_eq!(token_of(&headers(&differ)), Err(TokensDiffer), "{differ:?}");
        }
    }
}
