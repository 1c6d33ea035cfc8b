//! `POST /api/save` and `/api/save/batch`: what is taken, and what each bad request is told.

use crate::client::{ask, json_headers};
use crate::harness::{Harness, SAVE};

#[tokio::test]
async fn a_document_is_accepted_and_its_receipt_has_four_members() {
    let server = Harness::start().await;
    let body = b"{\"order\": 1,\n \"note\": \"\xc3\xa4\\\"\"}";
    let answer = ask(server.address, "POST", "/api/save", &json_headers(SAVE), body).await;
    assert_eq!(answer.status, 202);
    let json = answer.json();
    assert_eq!(json["body"].as_str().unwrap().as_bytes(), body);
    let id = json["MessageId"].as_str().unwrap();
    assert_eq!(answer.header("location"), Some(format!("/api/receipts/{id}").as_str()));
    let request_id = json["ResponseMetadata"]["RequestId"].as_str();
    assert_eq!(answer.header("x-request-id"), request_id);
    assert_eq!(answer.header("x-instance-id"), Some("test-1"));
    assert_eq!(json.as_object().unwrap().len(), 4);
    assert_eq!(server.queue.len(), 1);
}
