//! `POST /api/save` and `POST /api/save/batch`.
//!
//! The first is what nearly every request is for: its receipt is written into one buffer that the
//! body and two headers share.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use http::{HeaderMap, Response, StatusCode};
use inlet_core::accept::{Receipt, SaveHead};
use inlet_core::budget::Share;
use inlet_core::error::Error;
use inlet_core::rejection::Rejection;
use inlet_server::Body;
use serde_json::{Map, json};

use crate::answer::{Answer, Content, Handled, Held, JSON, held};
use crate::body;
use crate::call::{Call, content_length};
use crate::escape;
use crate::problem::{PROBLEM, Problem};
use crate::query::Query;
use crate::request_id::{RequestId, X_REQUEST_ID};
use http_body_util::Full;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Set to `true` where the key was used before, with the same body, as far as could be seen.
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

const RECEIPTS: &[u8] = b"/api/receipts/";

/// Takes one document.
pub(crate) async fn save(call: &Call<'_>, body: Body) -> Handled {
    let intake = &call.app.intake;
    let query = call.query()?;
    let admission = intake.admit(call.caller(), &head(call, &query)?).await?;
    let mut share = intake.budget().share();
    let body = body::read(body, admission.body_bytes_max(), &mut share).await?;
    let (examined, mut share) = if admission.is_light(body.len()) {
        (admission.examine(body, &mut share)?, share)
    } else {
        beside(call, share, move |share| admission.examine(body, share)).await?
    };
    // The answer repeats the body, at most twice as long for its escapes. Once the document is
    // safe, nothing may refuse it any more, so the room is taken before.
    share.grow(examined.body_bytes() * 2)?;
    let receipt = intake.accept(examined).await?;
    call.app.metrics.accepted(1, receipt.body.len());
    Ok(accepted(receipt, call.id, share))
}

/// Takes many documents.
///
/// `202` where all were accepted, `207` where some were, `400` where none was. Each result is a
/// receipt like that of a single document without its body and with the member `status`, or the
/// problem it would have been answered with.
pub(crate) async fn save_batch(call: &Call<'_>, body: Body) -> Handled {
    let intake = &call.app.intake;
    let query = call.query()?;
    let admission = intake.admit_batch(call.caller(), &head(call, &query)?).await?;
    let mut share = intake.budget().share();
    let body = body::read(body, admission.body_bytes_max(), &mut share).await?;
    let (examined, share) = if admission.is_light(body.len()) {
        (admission.examine_batch(body, &mut share)?, share)
    } else {
        beside(call, share, move |share| admission.examine_batch(body, share)).await?
    };
    let results = intake.accept_batch(examined).await?;
    let accepted = results.iter().flatten();
    let (documents, bytes) =
        accepted.fold((0, 0), |(count, bytes), receipt| (count + 1, bytes + receipt.body.len()));
    call.app.metrics.accepted(documents, bytes);
    Ok(batch_answer(&results, call, share))
}

/// Examines a body on another thread, and gives its share back.
async fn beside<T: Send + 'static>(
    call: &Call<'_>,
    mut share: Share,
    examine: impl FnOnce(&mut Share) -> Result<T, Error> + Send + 'static,
) -> Result<(T, Share), Error> {
    let work = move || examine(&mut share).map(|examined| (examined, share));
    call.app.state.workers.run(work).await?
}

fn head<'a>(call: &'a Call<'_>, query: &'a Query<'_>) -> Result<SaveHead<'a>, Rejection> {
    let headers = &call.head.headers;
    // A key that is not ASCII, or one of two, must be refused, and not be taken for none.
    let key = text_of(headers, &IDEMPOTENCY_KEY, Rejection::KeyInvalid)?;
    let content_encoding = text_of(headers, &CONTENT_ENCODING, Rejection::EncodingUnsupported)?;
    Ok(SaveHead {
        stream: query.get("stream"),
        key,
        minted: call.app.state.edge.minted(headers)?,
        content_type: headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()),
        content_encoding,
        content_length: content_length(headers),
    })
}

/// The text of a header that may stand once and must be ASCII.
fn text_of<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    otherwise: Rejection,
) -> Result<Option<&'a str>, Rejection> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (value.to_str(), values.next()) {
        (Ok(text), None) => Ok(Some(text)),
        _ => Err(otherwise),
    }
}

/// The largest body whose share is given back before its answer is sent, in bytes: an answer of
/// this size goes out with its head.
const UNHELD_BYTES_MAX: usize = 16 << 10;

/// The answer with the receipt.
fn accepted(receipt: Receipt, request_id: &RequestId, mut share: Share) -> Answer {
    let id = receipt.id.text();
    let request_id = request_id.as_bytes();
    // 256 bytes are for the names, the ids and the MD5; a sixth of the body for its quotes.
    let mut out = Vec::with_capacity(256 + request_id.len() + receipt.body.len() * 7 / 6);
    out.extend_from_slice(br#"{"ResponseMetadata":{"RequestId":""#);
    let request_id_at = out.len()..out.len() + request_id.len();
    out.extend_from_slice(request_id);
    out.extend_from_slice(br#""},"MD5OfMessageBody":""#);
    push_hex(&mut out, &receipt.md5);
    out.extend_from_slice(br#"","MessageId":""#);
    out.extend_from_slice(&id);
    out.extend_from_slice(br#"","body":""#);
    escape::json(&mut out, &receipt.body);
    out.extend_from_slice(b"\"}");
    let body_end = out.len();
    out.extend_from_slice(RECEIPTS);
    out.extend_from_slice(&id);
    let (replayed, body_bytes) = (receipt.replayed, receipt.body.len());
    drop(receipt);
    let out = if body_bytes > UNHELD_BYTES_MAX {
        share.shrink_to(out.len());
        Bytes::from_owner(Held { bytes: out.into(), _share: share })
    } else {
        Bytes::from(out)
    };

    let mut answer = Response::new(Content::Whole(Full::new(out.slice(..body_end))));
    *answer.status_mut() = StatusCode::ACCEPTED;
    let headers = answer.headers_mut();
    headers.reserve(5);
    if replayed {
        headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(LOCATION, visible(out.slice(body_end..)));
    headers.insert(X_REQUEST_ID, visible(out.slice(request_id_at)));
    answer
}

fn visible(bytes: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(bytes).expect("ids are visible ASCII")
}

fn push_hex(out: &mut Vec<u8>, bytes: &[u8; 16]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    }
    out.extend_from_slice(&text);
}

fn batch_answer(results: &[Result<Receipt, Rejection>], call: &Call<'_>, share: Share) -> Answer {
    let request_id = call.id.as_str();
    let accepted = results.iter().flatten().count();
    let refused = results.len() - accepted;
    let mut out = Vec::with_capacity(512 + results.len() * 160);
    // A client that looks at the class alone must not take a batch for done that nothing is left
    // of: it is a problem, with the results beside its members.
    let (status, content_type, mut members) = match (accepted, refused) {
        (0, documents) => {
            let problem = Problem::rejected(&Rejection::BatchRefused { documents });
            (problem.status, PROBLEM, problem.members(request_id))
        }
        (_, 0) => (StatusCode::ACCEPTED, JSON, Map::new()),
        _ => (StatusCode::MULTI_STATUS, JSON, Map::new()),
    };
    members.insert("ResponseMetadata".to_owned(), json!({"RequestId": request_id}));
    members.insert("accepted".to_owned(), json!(accepted));
    members.insert("refused".to_owned(), json!(refused));
    serde_json::to_writer(&mut out, &members).expect("a vector takes all");
    out.pop();
    out.extend_from_slice(br#","results":["#);
    for (index, result) in results.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        match result {
            Ok(receipt) => {
                out.extend_from_slice(br#"{"status":202,"MD5OfMessageBody":""#);
                push_hex(&mut out, &receipt.md5);
                out.extend_from_slice(br#"","MessageId":""#);
                out.extend_from_slice(&receipt.id.text());
                let replayed: &[u8] = b"\",\"replayed\":true}";
                out.extend_from_slice(if receipt.replayed { replayed } else { b"\"}" });
            }
            Err(rejection) => {
                let problem = Problem::rejected(rejection);
                call.app.metrics.refused(problem.code);
                let mut members = problem.members(request_id);
                members.insert("index".to_owned(), index.into());
                serde_json::to_writer(&mut out, &members).expect("a vector takes all");
            }
        }
    }
    out.extend_from_slice(b"]}");
    held(status, content_type, out, share)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use inlet_core::budget::Budget;
    use inlet_core::id::DocumentId;

    use super::*;

    #[tokio::test]
    async fn a_receipt_has_its_four_members_and_says_where_it_is() {
        let body = "{\"a\":\n\t\"päö\\n\"}";
        let receipt = Receipt {
            id: DocumentId::from_bytes([0xab; 16]),
            md5: [0x0f; 16],
            body: Bytes::from(body),
            replayed: false,
        };
        let request_id = RequestId::fresh();
        let share = || Budget::new(1 << 20).share();
        let answer = accepted(receipt.clone(), &request_id, share());
        assert_eq!(answer.status(), 202);
        assert_eq!(answer.headers()[LOCATION], format!("/api/receipts/{}", receipt.id));
        assert_eq!(answer.headers()[X_REQUEST_ID], request_id.as_str());
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(json["ResponseMetadata"]["RequestId"], request_id.as_str());
        assert_eq!(json["MD5OfMessageBody"], "0f".repeat(16));
        assert_eq!(json["MessageId"], receipt.id.to_string());
        assert_eq!(json["body"], body);
        assert_eq!(json.as_object().unwrap().len(), 4);
        let again = accepted(Receipt { replayed: true, ..receipt }, &request_id, share());
        assert_eq!(again.headers()[IDEMPOTENCY_REPLAYED], "true");
    }
}
