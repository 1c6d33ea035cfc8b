//! The promises of [`Secrets`].

use std::sync::Arc;

use async_trait::async_trait;
use inlet_core::failure::Failure;
use inlet_core::ports::{SECRET_BYTES_MAX, Secrets, Swapped};
use tokio::task::JoinSet;

/// Opens secrets, and looks at who else could read them.
#[async_trait]
pub trait SecretsFixture: Send + Sync {
    /// Opens the secrets: empty the first time, with what was put before every other time.
    /// Handles opened before go on working.
    async fn open(&self) -> Arc<dyn Secrets>;
    /// What of all that is kept others than the owner could read; empty where nothing.
    async fn exposed(&self) -> Vec<String>;
}

/// Makes a test of each promise of [`Secrets`]; the argument is an expression that makes a fresh
/// [`SecretsFixture`].
#[macro_export]
macro_rules! secrets_contract {
    ($fixture:expr) => {
        $crate::contract_tests! {
            secrets, $fixture,
            secrets_1_get_gives_what_was_put_last_also_after_a_restart,
            secrets_2_a_name_never_put_gives_none,
            secrets_3_a_reader_sees_the_old_value_or_the_new_one,
            secrets_4_a_swap_changes_nothing_where_something_else_is_there_than_expected,
            secrets_4_of_many_that_swap_at_once_one_wins,
            secrets_4_of_changes_made_at_once_by_many_none_is_lost,
            secrets_5_a_swap_to_what_is_expected_only_compares,
            secrets_6_what_is_kept_is_the_owners_alone,
        }
    };
}

/// Puts a value over whatever is there.
pub async fn put(secrets: &dyn Secrets, name: &str, value: &[u8]) -> Result<(), Failure> {
    let mut there = secrets.get(name).await?;
    loop {
        match secrets.swap(name, there.as_deref(), value).await? {
            Swapped::Done => return Ok(()),
            Swapped::Other(other) => there = other,
        }
    }
}

/// The last value is given, whoever asks.
pub async fn secrets_1_get_gives_what_was_put_last_also_after_a_restart(
    fixture: &dyn SecretsFixture,
) {
    let secrets = fixture.open().await;
    let all_bytes: Vec<u8> = (0..=255).collect();
    put(&*secrets, "id-key-1", b"first").await.unwrap();
    put(&*secrets, "id-key-1", &all_bytes).await.unwrap();
    put(&*secrets, "empty", b"").await.unwrap();
    let large = vec![9; SECRET_BYTES_MAX];
    put(&*secrets, &"n".repeat(64), &large).await.unwrap();
    for secrets in [secrets, fixture.open().await] {
        assert_eq!(secrets.get("id-key-1").await.unwrap(), Some(all_bytes.clone()));
        assert_eq!(secrets.get("empty").await.unwrap(), Some(Vec::new()));
        assert!(secrets.get(&"n".repeat(64)).await.unwrap() == Some(large.clone()));
    }
}

/// Nothing is there before it is put, and a name that is not allowed reaches nothing.
pub async fn secrets_2_a_name_never_put_gives_none(fixture: &dyn SecretsFixture) {
    let secrets = fixture.open().await;
    assert_eq!(secrets.get("never").await.unwrap(), None);
    for name in ["", "../token", "a/b", "UPPER", ".lock", &"n".repeat(65)] {
        assert!(secrets.swap(name, None, b"x").await.is_err(), "{name}");
        assert!(secrets.get(name).await.is_err(), "{name}");
    }
    assert!(secrets.swap("large", None, &vec![0; SECRET_BYTES_MAX + 1]).await.is_err());
    assert_eq!(secrets.get("large").await.unwrap(), None);
}

/// Whatever a reader sees was put as a whole.
pub async fn secrets_3_a_reader_sees_the_old_value_or_the_new_one(fixture: &dyn SecretsFixture) {
    let (writer, reader) = (fixture.open().await, fixture.open().await);
    put(&*writer, "k", &[0; 9_000]).await.unwrap();
    let writing = async {
        for n in 1..=20 {
            put(&*writer, "k", &[n; 9_000]).await.unwrap();
        }
    };
    let reading = async {
        for _ in 0..40 {
            let value = reader.get("k").await.unwrap().unwrap();
            assert_eq!(value.len(), 9_000);
            assert!(value.iter().all(|byte| *byte == value[0]), "a mixture was read");
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(writing, reading);
}

/// Whatever was expected in vain, the value that is there stays and is returned.
pub async fn secrets_4_a_swap_changes_nothing_where_something_else_is_there_than_expected(
    fixture: &dyn SecretsFixture,
) {
    let secrets = fixture.open().await;
    let there = |value: &[u8]| Swapped::Other(Some(value.to_vec()));
    assert_eq!(secrets.swap("k", Some(b"x"), b"a").await.unwrap(), Swapped::Other(None));
    assert_eq!(secrets.get("k").await.unwrap(), None);
    assert_eq!(secrets.swap("k", None, b"first").await.unwrap(), Swapped::Done);
    assert_eq!(secrets.swap("k", None, b"second").await.unwrap(), there(b"first"));
    assert_eq!(secrets.swap("k", Some(b""), b"second").await.unwrap(), there(b"first"));
    assert_eq!(fixture.open().await.get("k").await.unwrap(), Some(b"first".to_vec()));
    assert_eq!(secrets.swap("k", Some(b"first"), b"").await.unwrap(), Swapped::Done);
    assert_eq!(secrets.swap("k", None, b"third").await.unwrap(), there(b""));
    assert_eq!(secrets.swap("k", Some(b""), b"third").await.unwrap(), Swapped::Done);
    assert_eq!(fixture.open().await.get("k").await.unwrap(), Some(b"third".to_vec()));
}

/// One succeeds; the others are told its value.
pub async fn secrets_4_of_many_that_swap_at_once_one_wins(fixture: &dyn SecretsFixture) {
    const MANY: u8 = 4;
    for expected in [None, Some(b"before".as_slice())] {
        let name = if expected.is_some() { "there" } else { "new" };
        if let Some(expected) = expected {
            put(&*fixture.open().await, name, expected).await.unwrap();
        }
        let mut swapping = JoinSet::new();
        for n in 0..MANY {
            let secrets = fixture.open().await;
            let expected = expected.map(<[u8]>::to_vec);
            swapping.spawn(async move {
                (n, secrets.swap(name, expected.as_deref(), &[n]).await.unwrap())
            });
        }
        let swapped = swapping.join_all().await;
        let winners: Vec<u8> =
            swapped.iter().filter(|(_, s)| *s == Swapped::Done).map(|(n, _)| *n).collect();
        let [winner] = winners[..] else { panic!("{winners:?} have won") };
        assert_eq!(fixture.open().await.get(name).await.unwrap(), Some(vec![winner]));
        for (n, swapped) in swapped {
            assert!(n == winner || swapped == Swapped::Other(Some(vec![winner])), "{swapped:?}");
        }
    }
}

/// Eight at once add their letter to what they have read until it is in.
pub async fn secrets_4_of_changes_made_at_once_by_many_none_is_lost(fixture: &dyn SecretsFixture) {
    let mut adding = JoinSet::new();
    for letter in b'a'..=b'h' {
        let secrets = fixture.open().await;
        adding.spawn(async move {
            let mut there = secrets.get("letters").await.unwrap();
            loop {
                let value = [there.as_deref().unwrap_or_default(), &[letter]].concat();
                match secrets.swap("letters", there.as_deref(), &value).await.unwrap() {
                    Swapped::Done => return,
                    Swapped::Other(other) => there = other,
                }
            }
        });
    }
    adding.join_all().await;
    let mut letters = fixture.open().await.get("letters").await.unwrap().unwrap();
    letters.sort_unstable();
    assert_eq!(String::from_utf8(letters).unwrap(), "abcdefgh");
}

/// It tells whether the value is still there.
pub async fn secrets_5_a_swap_to_what_is_expected_only_compares(fixture: &dyn SecretsFixture) {
    let (ours, theirs) = (fixture.open().await, fixture.open().await);
    put(&*ours, "k", b"old").await.unwrap();
    assert_eq!(ours.swap("k", Some(b"old"), b"old").await.unwrap(), Swapped::Done);
    put(&*theirs, "k", b"new").await.unwrap();
    let swapped = ours.swap("k", Some(b"old"), b"old").await.unwrap();
    assert_eq!(swapped, Swapped::Other(Some(b"new".to_vec())));
    assert_eq!(theirs.get("k").await.unwrap(), Some(b"new".to_vec()));
}

/// Nobody else can read it.
pub async fn secrets_6_what_is_kept_is_the_owners_alone(fixture: &dyn SecretsFixture) {
    let secrets = fixture.open().await;
    put(&*secrets, "a", b"1").await.unwrap();
    put(&*secrets, "a", b"2").await.unwrap();
    put(&*secrets, "b", b"3").await.unwrap();
    assert_eq!(fixture.exposed().await, Vec::<String>::new());
}
