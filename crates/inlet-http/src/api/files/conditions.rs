//! What a request makes its condition, and which bytes it wants (RFC 9110, 13 and 14).

use http::header::{
    HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, RANGE,
};
use inlet_core::auth::Scope;
use inlet_core::document::Timestamp;
use inlet_core::error::Error;
use inlet_core::ports::{BucketKey, ByteRange, ObjectMeta, Precondition};
use inlet_core::rejection::Rejection;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::call::Call;

/// What of a file is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Nothing: the client has it.
    Nothing,
    /// All of it.
    Whole,
    /// These of its bytes, all of which it has.
    Range(ByteRange),
}

/// The conditions of a request.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    if_match: Vec<String>,
    if_none_match: Vec<String>,
}

impl Conditions {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self { if_match: tags(headers, &IF_MATCH), if_none_match: tags(headers, &IF_NONE_MATCH) }
    }

    /// Checks them against the file that is to be replaced.
    fn check(&self, there: Option<&ObjectMeta>) -> Result<(), Rejection> {
        let fits = |tags: &[String]| there.is_some_and(|meta| matches(tags, meta, false));
        if !self.if_match.is_empty() && !fits(&self.if_match) {
            return Err(Rejection::PreconditionFailed(
                "the file is not, or no longer, the one that If-Match names",
            ));
        }
        if !self.if_none_match.is_empty() && fits(&self.if_none_match) {
            return Err(Rejection::PreconditionFailed(
                "there is a file under this key already, which If-None-Match excludes",
            ));
        }
        Ok(())
    }

    /// What of the file there is to be given.
    pub(super) fn wanted(
        &self,
        meta: &ObjectMeta,
        headers: &HeaderMap,
    ) -> Result<Wanted, Rejection> {
        let changed_since = |name: &HeaderName| {
            let since = httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()?;
            Some(whole_seconds(meta.modified) > since)
        };
        let fails = match self.if_match.is_empty() {
            false => !matches(&self.if_match, meta, false),
            true => changed_since(&IF_UNMODIFIED_SINCE) == Some(true),
        };
        if fails {
            return Err(Rejection::PreconditionFailed(
                "the file is not, or no longer, the one that the request names",
            ));
        }
        let has_it = match self.if_none_match.is_empty() {
            false => matches(&self.if_none_match, meta, true),
            true => changed_since(&IF_MODIFIED_SINCE) == Some(false),
        };
        if has_it {
            return Ok(Wanted::Nothing);
        }
        let range = headers.get(RANGE).and_then(|range| range.to_str().ok());
        match range.filter(|_| is_still_ranged(meta, headers)) {
            Some(range) => bytes_of(range, meta.bytes),
            None => Ok(Wanted::Whole),
        }
    }
}

/// The state that a key must be in for a request to put a file there.
#[derive(Debug)]
pub(super) struct Demand {
    /// The state, for the bucket to check once all bytes have come.
    pub(super) precondition: Precondition,
    /// The answer where it does not hold then.
    pub(super) rejection: Rejection,
}

impl Demand {
    /// Checks the request's conditions and its token against the file that is there now, before
    /// its body is read, and demands that nothing changes until it has come.
    pub(super) async fn of(call: &Call<'_>, key: &BucketKey) -> Result<Self, Error> {
        let conditions = Conditions::of(&call.head.headers);
        let may_replace = call.may(Scope::Admin);
        let has_conditions =
            !conditions.if_match.is_empty() || !conditions.if_none_match.is_empty();
        if may_replace && !has_conditions {
            let rejection = Rejection::PreconditionFailed("the file was changed meanwhile");
            return Ok(Self { precondition: Precondition::None, rejection });
        }
        let there = call.app.bucket.head(key).await?;
        conditions.check(there.as_ref())?;
        let rejection = match may_replace {
            true => Rejection::PreconditionFailed(
                "the file was put or changed by another request while this one came",
            ),
            false => Rejection::ScopeMissing(Scope::Admin),
        };
        match there {
            Some(_) if !may_replace => Err(rejection.into()),
            Some(meta) => Ok(Self { precondition: Precondition::Unchanged(meta), rejection }),
            None => Ok(Self { precondition: Precondition::Absent, rejection }),
        }
    }
}

/// The tag of a file: strong where its checksum is known.
pub(super) fn entity_tag(meta: &ObjectMeta) -> HeaderValue {
    let tag = tag_text(meta);
    HeaderValue::from_str(&tag).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

/// The moment, in the form of HTTP.
pub(super) fn http_date(moment: Timestamp) -> HeaderValue {
    let text = httpdate::fmt_http_date(whole_seconds(moment));
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn tag_text(meta: &ObjectMeta) -> String {
    match &*meta.sha256 {
        "" => format!("W/\"{}-{}\"", meta.modified.as_micros(), meta.bytes),
        sha256 => format!("\"{sha256}\""),
    }
}

fn whole_seconds(moment: Timestamp) -> SystemTime {
    let seconds = u64::try_from(moment.as_micros() / 1_000_000).unwrap_or(0);
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn tags(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(|tag| tag.trim().to_owned()).collect()
}

/// Whether one of `tags` is the file's. A weak one is taken only where that is enough.
fn matches(tags: &[String], meta: &ObjectMeta, weakly: bool) -> bool {
    let its_own = tag_text(meta);
    let opaque = its_own.trim_start_matches("W/");
    tags.iter().any(|tag| match tag.strip_prefix("W/") {
        None => tag == "*" || *tag == its_own,
        Some(tag) => weakly && tag == opaque,
    })
}

/// Whether the file is the one whose range is wanted: without `If-Range` it is.
fn is_still_ranged(meta: &ObjectMeta, headers: &HeaderMap) -> bool {
    let Some(given) = headers.get(IF_RANGE) else { return true };
    let Ok(text) = given.to_str() else { return false };
    if text.starts_with('"') {
        return text == tag_text(meta);
    }
    httpdate::parse_http_date(text).is_ok_and(|date| date == whole_seconds(meta.modified))
}

/// The bytes that a `Range` names. What is no single range of bytes is as if it were not there.
fn bytes_of(range: &str, bytes: u64) -> Result<Wanted, Rejection> {
    let Some((unit, set)) = range.split_once('=') else { return Ok(Wanted::Whole) };
    let Some((first, last)) = set.trim().split_once('-') else { return Ok(Wanted::Whole) };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Ok(Wanted::Whole);
    }
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<u64>().ok(),
        false => None,
    };
    let (first, last) = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => (first, last),
        (Some(first), None) if last.is_empty() => (first, u64::MAX),
        (None, Some(length)) if first.is_empty() => match length {
            0 => return Err(Rejection::RangeInvalid { bytes }),
            length => (bytes.saturating_sub(length), u64::MAX),
        },
        _ => return Ok(Wanted::Whole),
    };
    match first < bytes {
        true => Ok(Wanted::Range(ByteRange { first, last: last.min(bytes - 1) })),
        false => Err(Rejection::RangeInvalid { bytes }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_at_the_end_and_one_that_is_none_is_as_if_it_were_not_there() {
        let range = |first, last| Ok(Wanted::Range(ByteRange { first, last }));
        let table = [
            ("bytes=0-0", range(0, 0)),
            ("bytes=2-4", range(2, 4)),
            ("bytes=2-99", range(2, 9)),
            ("bytes=9-", range(9, 9)),
            ("bytes=-3", range(7, 9)),
            ("bytes=-99", range(0, 9)),
            ("Bytes = 1-2", range(1, 2)),
            ("bytes=10-", Err(Rejection::RangeInvalid { bytes: 10 })),
            ("bytes=-0", Err(Rejection::RangeInvalid { bytes: 10 })),
            ("bytes=4-2", Ok(Wanted::Whole)),
            ("bytes=0-1,3-4", Ok(Wanted::Whole)),
            ("bytes=a-b", Ok(Wanted::Whole)),
            ("bytes=+1-2", Ok(Wanted::Whole)),
            ("lines=1-2", Ok(Wanted::Whole)),
            ("bytes", Ok(Wanted::Whole)),
            ("bytes=99999999999999999999-", Ok(Wanted::Whole)),
        ];
        for (text, expected) in table {
            assert_eq!(bytes_of(text, 10), expected, "{text}");
        }
        assert_eq!(bytes_of("bytes=-5", 0), Err(Rejection::RangeInvalid { bytes: 0 }));
    }
}
