//! Files that are put in parts, over days if need be.

use http::StatusCode;
use http::header::{ETAG, HeaderValue};
use inlet_core::ports::{
    BucketKey, Finished, PART_BYTES_MAX, PART_BYTES_MIN, PARTS_MAX, Part, PartNumber, UploadId,
};
use inlet_core::rejection::Rejection;
use inlet_server::Body;
use serde::Deserialize;
use serde_json::{Value, json};

use super::conditions::Demand;
use super::incoming::IncomingFile;
use super::{content_type, created, name, too_large};
use crate::answer::{self, Handled};
use crate::call::{Call, content_length};

/// What a client may say of the parts that it wants in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    parts: Option<Vec<u16>>,
}

/// Begins an upload.
pub(super) async fn begin(call: &Call<'_>, key: &BucketKey, body: Body) -> Handled {
    call.body(body).await?;
    let content_type = content_type(&call.head.headers)?;
    Demand::of(call, key).await?;
    let upload = call.app.bucket.begin_upload(key, &content_type).await?;
    let begun = json!({
        "key": name(key),
        "uploadId": upload.as_str(),
        "partBytesMin": PART_BYTES_MIN,
        "partBytesMax": PART_BYTES_MAX,
        "partsMax": PARTS_MAX,
    });
    Ok(answer::json(StatusCode::OK, &begun))
}

/// Puts a part.
pub(super) async fn put_part(
    call: &Call<'_>,
    key: &BucketKey,
    upload: &str,
    number: &str,
    body: Body,
) -> Handled {
    let upload = UploadId::new(upload)?;
    let expected = "a number from 1 to 10,000";
    let number = number
        .parse()
        .map_err(|_| Rejection::ParameterInvalid { name: "partNumber", expected })
        .and_then(PartNumber::new)?;
    let length = content_length(&call.head.headers).ok_or(Rejection::LengthRequired)?;
    if length > PART_BYTES_MAX {
        return Err(too_large(PART_BYTES_MAX).into());
    }
    let mut part = IncomingFile::new(call, body, PART_BYTES_MAX)?;
    let put = call.app.bucket.put_part(key, &upload, number, &mut part).await;
    let put = put.map_err(|failure| part.blame(failure))?.ok_or(Rejection::UploadUnknown)?;
    let mut answer = answer::json(StatusCode::OK, &described(&put));
    if !put.sha256.is_empty()
        && let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", put.sha256))
    {
        answer.headers_mut().insert(ETAG, tag);
    }
    Ok(answer)
}

/// Tells which parts were put.
pub(super) async fn parts(call: &Call<'_>, key: &BucketKey, upload: &str) -> Handled {
    let upload = UploadId::new(upload)?;
    let parts = call.app.bucket.parts(key, &upload).await?.ok_or(Rejection::UploadUnknown)?;
    let parts: Vec<Value> = parts.iter().map(described).collect();
    let told = json!({"key": name(key), "uploadId": upload.as_str(), "parts": parts});
    Ok(answer::json(StatusCode::OK, &told))
}

/// Makes a file of the parts that the body names, or of all.
pub(super) async fn finish(call: &Call<'_>, key: &BucketKey, upload: &str, body: Body) -> Handled {
    let upload = UploadId::new(upload)?;
    let body = call.body(body).await?;
    let expected = "JSON as in {\"parts\":[1,2,3]}, no number twice, or no body for all parts";
    let invalid = Rejection::ParameterInvalid { name: "parts", expected };
    let wish: Wish = match body.is_empty() {
        true => Wish::default(),
        false => serde_json::from_slice(&body).map_err(|_| invalid.clone())?,
    };
    let bucket = &call.app.bucket;
    let put = bucket.parts(key, &upload).await?.ok_or(Rejection::UploadUnknown)?;
    let mut wanted: Vec<PartNumber> = match wish.parts {
        None => put.iter().map(|part| part.number).collect(),
        Some(numbers) => numbers.into_iter().map(PartNumber::new).collect::<Result<_, _>>()?,
    };
    wanted.sort_unstable();
    if wanted.is_empty() || !wanted.is_sorted_by(|one, next| one < next) {
        return Err(invalid.into());
    }
    check_sizes(&wanted, &put, call.app.intake.limits().file_bytes_max)?;
    let demand = Demand::of(call, key).await?;
    match bucket.finish_upload(key, &upload, &wanted, &demand.precondition).await? {
        Finished::Object(meta) => Ok(created(&meta)),
        Finished::PreconditionFailed => Err(demand.rejection.into()),
        Finished::UploadUnknown => Err(Rejection::UploadUnknown.into()),
    }
}

/// Removes what was put.
pub(super) async fn abandon(call: &Call<'_>, key: &BucketKey, upload: &str) -> Handled {
    call.app.bucket.abandon_upload(key, &UploadId::new(upload)?).await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

/// Checks that all wanted parts were put, and have sizes of which a file can be made.
fn check_sizes(wanted: &[PartNumber], put: &[Part], bytes_max: u64) -> Result<(), Rejection> {
    let mut bytes = 0;
    for (index, number) in wanted.iter().enumerate() {
        let part = put
            .iter()
            .find(|part| part.number == *number)
            .ok_or(Rejection::PartMissing(number.get()))?;
        if part.bytes < PART_BYTES_MIN && index + 1 < wanted.len() {
            let number = number.get();
            return Err(Rejection::PartTooSmall { number, bytes_min: PART_BYTES_MIN });
        }
        bytes += part.bytes;
    }
    if bytes > bytes_max { Err(too_large(bytes_max)) } else { Ok(()) }
}

fn described(part: &Part) -> Value {
    json!({"partNumber": part.number.get(), "bytes": part.bytes, "sha256": part.sha256})
}
