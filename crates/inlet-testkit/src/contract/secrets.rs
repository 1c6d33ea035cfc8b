//! The promises of [`Secrets`].

use std::sync::Arc;

use async_trait::async_trait;
use inlet_core::ports::Secrets;

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
            secrets_4_put_new_changes_nothing_that_is_there,
            secrets_4_of_two_that_put_new_at_once_one_wins,
            secrets_5_what_is_kept_is_the_owners_alone,
        }
    };
}

/// The last value is given, whoever asks.
pub async fn secrets_1_get_gives_what_was_put_last_also_after_a_restart(
    fixture: &dyn SecretsFixture,
) {
    let secrets = fixture.open().await;
    let all_bytes: Vec<u8> = (0..=255).collect();
    secrets.put("id-key-1", b"first").await.unwrap();
    secrets.put("id-key-1", &all_bytes).await.unwrap();
    secrets.put("empty", b"").await.unwrap();
    let large = vec![9; 64 << 10];
    secrets.put(&"n".repeat(64), &large).await.unwrap();
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
    for name in ["", "../token", "a/b", "UPPER", &"n".repeat(65)] {
        assert!(secrets.put(name, b"x").await.is_err(), "{name}");
        assert!(secrets.get(name).await.is_err(), "{name}");
    }
    assert!(secrets.put("large", &vec![0; (64 << 10) + 1]).await.is_err());
    assert_eq!(secrets.get("large").await.unwrap(), None);
}

/// Whatever a reader sees was put as a whole.
pub async fn secrets_3_a_reader_sees_the_old_value_or_the_new_one(fixture: &dyn SecretsFixture) {
    let (writer, reader) = (fixture.open().await, fixture.open().await);
    writer.put("k", &[0; 9_000]).await.unwrap();
    let writing = async {
        for n in 1..=20 {
            writer.put("k", &[n; 9_000]).await.unwrap();
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

/// What is there stays and is returned.
pub async fn secrets_4_put_new_changes_nothing_that_is_there(fixture: &dyn SecretsFixture) {
    let secrets = fixture.open().await;
    assert_eq!(secrets.put_new("k", b"first").await.unwrap(), b"first");
    assert_eq!(secrets.put_new("k", b"second").await.unwrap(), b"first");
    assert_eq!(fixture.open().await.get("k").await.unwrap(), Some(b"first".to_vec()));
    secrets.put("k", b"third").await.unwrap();
    assert_eq!(secrets.put_new("k", b"fourth").await.unwrap(), b"third");
}

/// All who try at once have the same value afterwards.
pub async fn secrets_4_of_two_that_put_new_at_once_one_wins(fixture: &dyn SecretsFixture) {
    let (one, other) = (fixture.open().await, fixture.open().await);
    for n in 0..10 {
        let name = format!("k-{n}");
        let (a, b) = tokio::join!(one.put_new(&name, b"one"), other.put_new(&name, b"other"));
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!(a, b);
        assert_eq!(one.get(&name).await.unwrap(), Some(a));
    }
}

/// Nobody else can read it.
pub async fn secrets_5_what_is_kept_is_the_owners_alone(fixture: &dyn SecretsFixture) {
    let secrets = fixture.open().await;
    secrets.put("a", b"1").await.unwrap();
    secrets.put("a", b"2").await.unwrap();
    secrets.put_new("b", b"3").await.unwrap();
    assert_eq!(fixture.exposed().await, Vec::<String>::new());
}
