//! A table of fixed size that keeps what is counted for the keys seen last.
//!
//! A key belongs in one of many small sets, and pushes out the one in it that was used longest
//! ago. Who is pushed out starts anew, so a flood of keys lets more through than it should, and
//! never holds up anybody. Where a key belongs is drawn anew at each start (SipHash), so that
//! nobody can aim at the set of another.

use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use siphasher::sip::SipHasher13;

/// How many keys a set holds.
const WAYS: usize = 8;

/// What a count is kept under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    domain: u64,
    bytes: [u8; 32],
}

impl Key {
    /// A token, by its hash.
    pub(crate) fn token(hash: &[u8; 32]) -> Self {
        Self { domain: u64::MAX, bytes: *hash }
    }

    /// A client's address.
    pub(crate) fn address(address: IpAddr) -> Self {
        Self::address_for(u64::MAX - 1, address)
    }

    /// A client's address, for the rule of this number. Of an IPv6 address only the network of 64
    /// bits counts: the rest is the client's to choose.
    pub(crate) fn address_for(rule: u64, address: IpAddr) -> Self {
        let mut bytes = [0; 32];
        match address.to_canonical() {
            IpAddr::V4(v4) => bytes[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => {
                bytes[8..16].copy_from_slice(&v6.octets()[..8]);
                bytes[16] = 6;
            }
        }
        Self { domain: rule, bytes }
    }
}

/// Values of fixed number by key.
pub(crate) struct Table<V> {
    sets: Box<[Mutex<[Slot<V>; WAYS]>]>,
    seed: (u64, u64),
}

#[derive(Clone, Copy)]
struct Slot<V> {
    key: Option<Key>,
    used: Option<Instant>,
    value: V,
}

impl<V: Copy + Default> Table<V> {
    /// A table for at least `keys_max` keys.
    pub(crate) fn new(keys_max: usize) -> Self {
        let sets = keys_max.div_ceil(WAYS).next_power_of_two();
        let empty = Slot { key: None, used: None, value: V::default() };
        Self {
            sets: (0..sets).map(|_| Mutex::new([empty; WAYS])).collect(),
            seed: (rand::random(), rand::random()),
        }
    }

    /// Does something with what is kept under `key`; a default, where nothing is.
    pub(crate) fn with<T>(&self, key: Key, now: Instant, act: impl FnOnce(&mut V) -> T) -> T {
        let mut set = self.sets[self.set_of(&key)].lock().unwrap_or_else(PoisonError::into_inner);
        let found = set.iter().position(|slot| slot.key == Some(key));
        let index = found.unwrap_or_else(|| {
            let oldest = set.iter().enumerate().min_by_key(|(_, slot)| slot.used);
            let (index, _) = oldest.expect("a set has slots");
            set[index] = Slot { key: Some(key), used: None, value: V::default() };
            index
        });
        let slot = &mut set[index];
        slot.used = Some(now);
        act(&mut slot.value)
    }

    fn set_of(&self, key: &Key) -> usize {
        let mut hasher = SipHasher13::new_with_keys(self.seed.0, self.seed.1);
        hasher.write_u64(key.domain);
        hasher.write(&key.bytes);
        // Only low bits are kept, whatever the width.
        #[expect(clippy::cast_possible_truncation, reason = "see above")]
        let hash = hasher.finish() as usize;
        hash & (self.sets.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    fn key(number: u32) -> Key {
        Key::address(IpAddr::V4(Ipv4Addr::from(number)))
    }

    #[test]
    fn a_flood_of_keys_takes_no_room_and_leaves_those_in_use() {
        let table: Table<u32> = Table::new(64);
        let began = Instant::now();
        table.with(key(1), began, |value| *value = 7);
        for number in 2..10_000 {
            let now = began + Duration::from_millis(u64::from(number));
            table.with(key(number), now, |value| *value += 1);
            assert_eq!(table.with(key(1), now, |value| *value), 7, "it is in use");
        }
        assert_eq!(table.sets.len() * WAYS, 64);
        let later = began + Duration::from_secs(100);
        let kept = (2..10_000).filter(|n| table.with(key(*n), later, |value| *value) > 0).count();
        assert!(kept < 64, "{kept}");
    }

    #[test]
    fn keys_of_one_address_for_different_rules_are_different() {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_ne!(Key::address_for(1, address), Key::address_for(2, address));
        assert_ne!(Key::address_for(1, address), Key::address(address));
    }
}
