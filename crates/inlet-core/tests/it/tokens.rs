//! The list of tokens, changed by many at once.

use std::sync::Arc;

use inlet_core::auth::list::{self, LastAdmin, NewToken, TokenList, USES_KEPT_EVERY_US};
use inlet_core::auth::{Scope, Tokens};
use inlet_core::document::{StreamName, Timestamp};
use inlet_core::error::Error;
use inlet_core::failure::FailureKind;
use inlet_core::ports::{SECRET_BYTES_MAX, Secrets, Swapped};
use inlet_core::rejection::Rejection;
use inlet_testkit::memory::MemorySecrets;

const NOW: Timestamp = Timestamp::from_micros(1_795_226_598_000_000);

fn new(name: &str, scopes: &[Scope]) -> NewToken {
    NewToken { name: name.to_owned(), scopes: scopes.to_vec(), streams: None, expires: None }
}

fn rejection<T: std::fmt::Debug>(result: Result<T, Error>) -> Rejection {
    match result.unwrap_err() {
        Error::Rejected(rejection) => rejection,
        Error::Failed(failure) => panic!("{failure:?}"),
    }
}

async fn names(secrets: &MemorySecrets) -> Vec<String> {
    let list = TokenList::read(secrets).await.unwrap();
    let mut names: Vec<_> = list.tokens().iter().map(|token| token.name.clone()).collect();
    names.sort();
    names
}

/// Secrets that give what was there when they were made, as an adapter that remembers may.
struct Stale(MemorySecrets, Option<Vec<u8>>);

#[async_trait::async_trait]
impl Secrets for Stale {
    async fn get(&self, _: &str) -> Result<Option<Vec<u8>>, inlet_core::failure::Failure> {
        Ok(self.1.clone())
    }

    async fn swap(
        &self,
        name: &str,
        expected: Option<&[u8]>,
        value: &[u8],
    ) -> Result<Swapped, inlet_core::failure::Failure> {
        self.0.swap(name, expected, value).await
    }
}

#[tokio::test]
async fn of_tokens_added_and_revoked_at_once_none_is_lost() {
    let secrets = Arc::new(MemorySecrets::default());
    for n in 0..8 {
        list::add(&*secrets, &new(&format!("old-{n}"), &[Scope::Save]), NOW).await.unwrap();
    }
    let before = secrets.get("tokens").await.unwrap();
    let changes = (0..8).map(|n| {
        // Each begins with what was there before all of them.
        let stale = Stale((*secrets).clone(), before.clone());
        tokio::spawn(async move {
            let added = new(&format!("new-{n}"), &[Scope::Read]);
            list::add(&stale, &added, NOW).await.unwrap();
            list::revoke(&stale, &format!("old-{n}"), LastAdmin::Keep, NOW).await.unwrap();
        })
    });
    for change in changes.collect::<Vec<_>>() {
        change.await.unwrap();
    }
    let wanted: Vec<_> = (0..8).map(|n| format!("new-{n}")).collect();
    assert_eq!(names(&secrets).await, wanted);
}

#[tokio::test]
async fn a_name_that_is_taken_elsewhere_or_gone_is_told_by_what_is_there_now() {
    let secrets = MemorySecrets::default();
    list::add(&secrets, &new("first", &Scope::ALL), NOW).await.unwrap();
    let stale = Stale(secrets.clone(), secrets.get("tokens").await.unwrap());
    list::add(&secrets, &new("ci", &[Scope::Save]), NOW).await.unwrap();
    let taken = list::add(&stale, &new("ci", &[Scope::Save]), NOW).await;
    assert_eq!(rejection(taken), Rejection::TokenNameTaken);
    list::revoke(&stale, "ci", LastAdmin::Keep, NOW).await.unwrap();
    let gone = list::revoke(&stale, "ci", LastAdmin::Keep, NOW).await;
    assert_eq!(rejection(gone), Rejection::NotFound);
}

#[tokio::test]
async fn the_last_token_that_may_administer_is_revoked_only_when_told_to() {
    let secrets = MemorySecrets::default();
    list::add(&secrets, &new("first", &Scope::ALL), NOW).await.unwrap();
    list::add(&secrets, &new("reader", &[Scope::Read]), NOW).await.unwrap();
    let mut expired = new("expired", &[Scope::Admin]);
    expired.expires = Some(Timestamp::from_micros(NOW.as_micros() + 1));
    list::add(&secrets, &expired, NOW).await.unwrap();
    let later = Timestamp::from_micros(NOW.as_micros() + 1);
    let kept = list::revoke(&secrets, "first", LastAdmin::Keep, later).await;
    assert_eq!(rejection(kept), Rejection::LastAdminToken);
    list::revoke(&secrets, "reader", LastAdmin::Keep, later).await.unwrap();
    list::revoke(&secrets, "first", LastAdmin::Revoke, later).await.unwrap();
    assert_eq!(names(&secrets).await, ["expired"]);
}

#[tokio::test]
async fn a_right_that_does_not_fit_is_refused_by_its_name() {
    let secrets = MemorySecrets::default();
    let with = |change: &dyn Fn(&mut NewToken)| {
        let mut token = new("ci", &[Scope::Save]);
        change(&mut token);
        token
    };
    let stream = StreamName::default();
    for (token, wanted) in [
        (with(&|token| token.name = String::new()), "name"),
        (with(&|token| token.name = "a b".into()), "name"),
        (with(&|token| token.name = "INLET_TOKEN".into()), "name"),
        (with(&|token| token.name = "n".repeat(65)), "name"),
        (with(&|token| token.scopes.clear()), "scopes"),
        (with(&|token| token.streams = Some(Vec::new())), "streams"),
        (with(&|token| token.streams = Some(vec![stream.clone(); 33])), "streams"),
        (with(&|token| token.expires = Some(NOW)), "expires"),
    ] {
        match rejection(list::add(&secrets, &token, NOW).await) {
            Rejection::ParameterInvalid { name, .. } => assert_eq!(name, wanted),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(secrets.get("tokens").await.unwrap(), None);
}

#[tokio::test]
async fn a_list_that_is_full_refuses_a_token_and_keeps_those_there_are() {
    let secrets = MemorySecrets::default();
    let mut count: usize = 0;
    let refused = loop {
        let mut token = new(&format!("{count:064}"), &Scope::ALL);
        token.streams = Some(vec![StreamName::new(&"s".repeat(64)).unwrap(); 32]);
        match list::add(&secrets, &token, NOW).await {
            Ok(_) => count += 1,
            refused => break rejection(refused),
        }
    };
    assert_eq!(refused, Rejection::TokenLimit);
    assert!(secrets.get("tokens").await.unwrap().unwrap().len() <= SECRET_BYTES_MAX);
    assert_eq!(names(&secrets).await.len(), count);
}

#[tokio::test]
async fn a_secret_that_is_no_list_is_damage_and_its_text_is_not_told() {
    let secrets = MemorySecrets::default();
    secrets.swap("tokens", None, b"{\"tokens\":\"geheim\"}").await.unwrap();
    let failure = TokenList::read(&secrets).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Damaged);
    assert!(!failure.chain().contains("geheim"), "{}", failure.chain());
}

#[tokio::test]
async fn the_last_use_is_kept_once_an_hour_and_merged_over_instances() {
    let secrets = MemorySecrets::default();
    let (token, text) = list::add(&secrets, &new("ci", &[Scope::Save]), NOW).await.unwrap();
    let book = || async { Tokens::new(TokenList::read(&secrets).await.unwrap().book(&[])) };
    let (here, there) = (book().await, book().await);
    let at = |us: i64| Timestamp::from_micros(NOW.as_micros() + us);
    let uses = |tokens: Tokens| {
        let secrets = secrets.clone();
        async move { list::uses(&secrets, &tokens).await.unwrap() }
    };
    assert!(uses(here.clone()).await.is_empty());
    here.authorize(Some(&text), Scope::Save, at(0)).unwrap();
    list::keep_uses(&secrets, &here).await.unwrap();
    assert_eq!(uses(there.clone()).await[&token.sha256], at(0));
    // Within the hour it is known here alone.
    here.authorize(Some(&text), Scope::Save, at(USES_KEPT_EVERY_US)).unwrap();
    list::keep_uses(&secrets, &here).await.unwrap();
    assert_eq!(uses(here.clone()).await[&token.sha256], at(USES_KEPT_EVERY_US));
    assert_eq!(uses(there.clone()).await[&token.sha256], at(0));
    there.authorize(Some(&text), Scope::Save, at(USES_KEPT_EVERY_US + 1)).unwrap();
    list::keep_uses(&secrets, &there).await.unwrap();
    assert_eq!(uses(here).await[&token.sha256], at(USES_KEPT_EVERY_US + 1));
    // With the token goes what is kept of it.
    list::revoke(&secrets, "ci", LastAdmin::Revoke, NOW).await.unwrap();
    let (other, text) = list::add(&secrets, &new("other", &[Scope::Save]), NOW).await.unwrap();
    let after = book().await;
    after.authorize(Some(&text), Scope::Save, at(0)).unwrap();
    list::keep_uses(&secrets, &after).await.unwrap();
    assert_eq!(uses(book().await).await.keys().collect::<Vec<_>>(), [&other.sha256]);
}
