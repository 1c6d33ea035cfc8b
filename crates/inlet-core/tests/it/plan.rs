//! The rules for what is stored, as a table: what is known of an id and what comes, against what
//! is to be written and what then became of it.

use std::collections::HashMap;
use std::sync::Arc;

use inlet_core::dead_letter::{Cause, DeadLetter};
use inlet_core::document::{BodyHash, Document};
use inlet_core::failure::FailureKind;
use inlet_core::id::DocumentId;
use inlet_core::persist::plan::{KnownIds, LetterWrite, Plan, plan};
use inlet_core::persist::put_batch;
use inlet_core::ports::{Batch, EraseMark, Known, KnownLetter, Outcome, Store, TallyKind};
use inlet_testkit::fault::{FailingStore, Faults};
use inlet_testkit::memory::MemoryStore;
use inlet_testkit::sample::{NOW, after, batch, cursor, document, document_with, id};

/// What is to be written of a letter, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Letter {
    New(u64, &'static str, u32),
    Again(u64, &'static str, u32),
    Gone(u64),
}

fn letters(plan: &Plan) -> Vec<Letter> {
    let number = |id: &DocumentId| u64::from_be_bytes(*id.as_bytes().first_chunk().unwrap());
    let short = |write: &LetterWrite| match write {
        LetterWrite::New { letter, body } => {
            assert_eq!(*body, BodyHash::of(&letter.body));
            Letter::New(number(&letter.id), letter.cause.code(), letter.attempts)
        }
        LetterWrite::Again { id, cause, attempts, .. } => {
            Letter::Again(number(id), cause.code(), *attempts)
        }
        LetterWrite::Gone { id, .. } => Letter::Gone(number(id)),
    };
    plan.letters.iter().map(short).collect()
}

fn stored(body: &str) -> Known {
    Known { stored: Some(BodyHash::of(body.as_bytes())), ..Known::default() }
}

fn dead(body: &str, attempts: u32) -> Known {
    let letter = KnownLetter { body: BodyHash::of(body.as_bytes()), attempts };
    Known { letters: vec![letter], ..Known::default() }
}

fn erased(millis: i64) -> Known {
    let mark = EraseMark { generation: 0, at: after(millis) };
    Known { erased: Some(mark), ..Known::default() }
}

fn both(one: Known, other: Known) -> Known {
    Known {
        stored: one.stored.or(other.stored),
        letters: [one.letters, other.letters].concat(),
        erased: one.erased.or(other.erased),
        version: 0,
    }
}

fn given_up(n: u64, body: &str) -> DeadLetter {
    DeadLetter::of(&document_with(n, body), Cause::Refused("given up".into()), 5, NOW)
}

fn undecodable(n: u64, body: &str, attempts: u32) -> DeadLetter {
    DeadLetter::of(&document_with(n, body), Cause::Undecodable("short".into()), attempts, NOW)
}

/// One row of the table.
struct Case {
    says: &'static str,
    /// What is known of id 1.
    known: Known,
    documents: Vec<Document>,
    dead: Vec<DeadLetter>,
    /// The items that the engine refuses.
    refused: Vec<usize>,
    outcomes: &'static str,
    inserts: Vec<usize>,
    letters: Vec<Letter>,
}

impl Case {
    fn new(says: &'static str, known: Known, outcomes: &'static str) -> Self {
        Self {
            says,
            known,
            documents: Vec::new(),
            dead: Vec::new(),
            refused: Vec::new(),
            outcomes,
            inserts: Vec::new(),
            letters: Vec::new(),
        }
    }

    /// A document 1 with that body comes.
    fn comes(mut self, body: &str) -> Self {
        self.documents.push(document_with(1, body));
        self
    }

    fn letter(mut self, letter: DeadLetter) -> Self {
        self.dead.push(letter);
        self
    }

    fn refused(mut self, item: usize) -> Self {
        self.refused.push(item);
        self
    }

    fn inserts(mut self, item: usize) -> Self {
        self.inserts.push(item);
        self
    }

    fn writes(mut self, letter: Letter) -> Self {
        self.letters.push(letter);
        self
    }

    fn check(self) {
        let batch = Arc::new(Batch { dead: self.dead, ..batch(self.documents) });
        let known = KnownIds::from([(id(1), self.known)]);
        let refused: HashMap<_, _> =
            self.refused.into_iter().map(|item| (item, "poison".to_owned())).collect();
        let plan = plan(&batch, 0..batch.len(), &known, &refused);
        let short = |outcome: &Outcome| match outcome {
            Outcome::Stored => "stored",
            Outcome::Duplicate => "duplicate",
            Outcome::Erased => "erased",
            Outcome::Dead(cause) => cause.code(),
        };
        let outcomes: Vec<_> = plan.outcomes.iter().map(short).collect();
        assert_eq!(outcomes.join(" "), self.outcomes, "{}", self.says);
        assert_eq!(plan.inserts, self.inserts, "{}", self.says);
        assert_eq!(letters(&plan), self.letters, "{}", self.says);
    }
}

#[test]
fn each_document_and_letter_comes_to_what_the_rules_say() {
    let nothing = Known::default;
    let conflict = |attempts| Letter::New(1, "key_conflict", attempts);
    for case in [
        Case::new("new", nothing(), "stored").comes("1").inserts(0),
        Case::new("a repeat of what is stored", stored("1"), "duplicate").comes("1"),
        Case::new("another body under the id", stored("1"), "key_conflict")
            .comes("2")
            .writes(conflict(1)),
        Case::new("the same other body again", both(stored("1"), dead("2", 1)), "key_conflict")
            .comes("2")
            .writes(Letter::Again(1, "key_conflict", 2)),
        Case::new("accepted before the erasure", erased(1), "erased").comes("1"),
        Case::new("accepted after the erasure", erased(0), "stored").comes("1").inserts(0),
        Case::new("another body, erased", both(stored("1"), erased(1)), "erased").comes("2"),
        Case::new("refused by the engine", nothing(), "refused")
            .comes("1")
            .refused(0)
            .writes(Letter::New(1, "refused", 3)),
        Case::new("refused again", dead("1", 3), "refused")
            .comes("1")
            .refused(0)
            .writes(Letter::Again(1, "refused", 6)),
        Case::new("refused, and stored meanwhile", stored("1"), "duplicate").comes("1").refused(0),
        Case::new("dead before", dead("1", 3), "stored")
            .comes("1")
            .inserts(0)
            .writes(Letter::Gone(1)),
        Case::new("dead before with another body", dead("2", 3), "stored").comes("1").inserts(0),
        Case::new("stored and dead", both(stored("1"), dead("1", 3)), "duplicate")
            .comes("1")
            .writes(Letter::Gone(1)),
        Case::new("twice in one batch", nothing(), "stored duplicate")
            .comes("1")
            .comes("1")
            .inserts(0),
        Case::new("two bodies in one batch", nothing(), "stored key_conflict duplicate")
            .comes("1")
            .comes("2")
            .comes("1")
            .inserts(0)
            .writes(conflict(1)),
        Case::new("one conflict twice", stored("1"), "key_conflict key_conflict")
            .comes("2")
            .comes("2")
            .writes(conflict(2)),
        Case::new("the first refused, the second not", nothing(), "refused stored key_conflict")
            .comes("1")
            .comes("2")
            .comes("1")
            .refused(0)
            .inserts(1)
            .writes(Letter::New(1, "key_conflict", 4)),
        Case::new("refused at first, then taken", nothing(), "refused stored")
            .comes("1")
            .comes("1")
            .refused(0)
            .inserts(1),
        Case::new("a letter", nothing(), "refused")
            .letter(given_up(1, "1"))
            .writes(Letter::New(1, "refused", 5)),
        Case::new("a letter for what is stored", stored("1"), "duplicate").letter(given_up(1, "1")),
        Case::new("a letter for what this batch stores", nothing(), "stored duplicate")
            .comes("1")
            .letter(given_up(1, "1"))
            .inserts(0),
        Case::new("a letter with another body", stored("1"), "refused")
            .letter(given_up(1, "2"))
            .writes(Letter::New(1, "refused", 5)),
        Case::new("a letter of what is erased", erased(1), "erased").letter(given_up(1, "1")),
        Case::new("a letter that died before", dead("1", 3), "refused")
            .letter(given_up(1, "1"))
            .writes(Letter::Again(1, "refused", 8)),
        Case::new("attempts that the queue counts", dead("1", 3), "undecodable undecodable")
            .letter(undecodable(1, "1", 5))
            .letter(undecodable(1, "1", 4))
            .writes(Letter::Again(1, "undecodable", 5)),
        Case::new("attempts at their end", dead("1", u32::MAX), "refused")
            .letter(given_up(1, "1"))
            .writes(Letter::Again(1, "refused", u32::MAX)),
    ] {
        case.check();
    }
}

#[test]
fn what_is_counted_is_what_is_inserted_and_what_is_dead_for_the_first_time() {
    let documents = [document(1), document(2), document_with(3, "33"), document(4)];
    let dead = vec![given_up(5, "55555"), given_up(6, "6")];
    let batch = Arc::new(Batch { dead, ..batch(documents) });
    let known = KnownIds::from([
        (id(1), Known { stored: Some(document(1).body_hash()), ..Known::default() }),
        (id(3), stored("3")),
        (id(6), self::dead("6", 1)),
    ]);
    let plan = plan(&batch, 0..batch.len(), &known, &HashMap::new());
    let mut counts: Vec<_> = plan
        .tallies()
        .rows()
        .into_iter()
        .filter(|row| !matches!(row.kind, TallyKind::Field(..)))
        .map(|row| (row.kind, row.documents, row.bytes))
        .collect();
    counts.sort();
    assert_eq!(
        counts,
        [
            (TallyKind::Stored, 2, 14),
            (TallyKind::Dead("key_conflict".into()), 1, 2),
            (TallyKind::Dead("refused".into()), 1, 5),
        ]
    );
}

#[test]
fn a_plan_of_a_part_rests_on_the_states_of_its_items_and_moves_no_cursor() {
    let put = Batch { cursor: Some(cursor("log", 1, 1)), ..batch((1..=4).map(document)) };
    let put = Arc::new(Batch { dead: vec![given_up(5, "5")], ..put });
    let known = KnownIds::from([(id(1), stored("1")), (id(4), stored("4"))]);
    let part = plan(&put, 1..4, &known, &HashMap::new());
    assert_eq!(part.known.keys().collect::<Vec<_>>(), [&id(4)]);
    assert_eq!(part.inserts, [1, 2]);
    assert_eq!(part.cursor(), None);
    let rest = plan(&put, 4..5, &known, &HashMap::new());
    assert_eq!(rest.cursor(), Some(&cursor("log", 1, 1)));
}

#[tokio::test]
async fn a_batch_is_planned_again_with_what_the_store_says_of_it() {
    let store = MemoryStore::default();
    put_batch(&store, batch([document(1)])).await.unwrap();
    let faults = Faults::default();
    let watched = FailingStore::new(store, faults.clone());
    put_batch(&watched, batch([document(2), document(3)])).await.unwrap();
    assert_eq!(faults.calls(), 1, "nothing was known, and nothing looked up");
    let outcomes = put_batch(&watched, batch([document(1), document(4)])).await.unwrap();
    assert_eq!(outcomes, [Outcome::Duplicate, Outcome::Stored]);
    assert_eq!(faults.calls(), 3);
}

#[tokio::test]
async fn a_store_that_takes_few_items_at_once_gets_the_batch_in_parts_and_the_cursor_last() {
    let store = MemoryStore::default();
    store.take_at_most(3);
    store.refuse(Some("poison"));
    let documents = [
        document(1),
        document(2),
        document_with(1, "[1]"),
        document_with(4, "\"poison\""),
        document(5),
        document(1),
    ];
    let put = Batch { cursor: Some(cursor("log", 1, 1)), ..batch(documents) };
    let put = Batch { dead: vec![given_up(2, "{\"n\":2}"), given_up(8, "8")], ..put };
    let outcomes = put_batch(&store, put).await.unwrap();
    let codes: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Dead(cause) => cause.code(),
            Outcome::Stored => "stored",
            Outcome::Duplicate => "duplicate",
            Outcome::Erased => "erased",
        })
        .collect();
    assert_eq!(
        codes,
        [
            "stored",
            "stored",
            "key_conflict",
            "refused",
            "stored",
            "duplicate",
            "duplicate",
            "refused"
        ]
    );
    assert_eq!(store.cursors().await.unwrap(), [cursor("log", 1, 1)]);
}

#[tokio::test]
async fn a_store_that_never_stays_as_it_was_is_an_outage_after_a_bounded_number_of_plans() {
    let store = MemoryStore::default();
    store.disturb(3);
    let stored = put_batch(&store, batch([document(1)])).await.unwrap();
    assert_eq!(stored, [Outcome::Stored]);
    store.disturb(u32::MAX);
    let failure = put_batch(&store, batch([document(2)])).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Unavailable);
    assert!(failure.hint_text().is_some());
    store.disturb(0);
    assert_eq!(put_batch(&store, batch([document(2)])).await.unwrap(), [Outcome::Stored]);
}
