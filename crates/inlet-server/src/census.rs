//! How many connections there are, in all and of each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts connections against the caps.
#[derive(Debug)]
pub(crate) struct Census {
    all_max: usize,
    per_address_max: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A place among the connections; dropped, it is free again.
#[derive(Debug)]
pub(crate) struct Place {
    census: Arc<Census>,
    /// `None` while it is not counted for one, or for one that is not counted by itself.
    address: Option<IpAddr>,
}

impl Census {
    pub(crate) fn new(all_max: usize, per_address_max: usize) -> Self {
        Self { all_max, per_address_max, counts: Mutex::default() }
    }

    /// A place for a connection, if there is one, which is counted for no address yet.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Place> {
        let mut counts = self.counts();
        if counts.all >= self.all_max {
            return None;
        }
        counts.all += 1;
        Some(Place { census: Arc::clone(self), address: None })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Counts it for `address`, and tells whether there was room for that.
    ///
    /// An IPv6 client commands a whole /64, so that is what is counted.
    pub(crate) fn count_for(&mut self, address: IpAddr) -> bool {
        let Some(address) = counted(address) else { return true };
        let mut counts = self.census.counts();
        let of_address = counts.by_address.entry(address).or_default();
        if *of_address >= self.census.per_address_max {
            return false;
        }
        *of_address += 1;
        drop(counts);
        self.address = Some(address);
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.census.counts();
        counts.all -= 1;
        if let Some(address) = self.address
            && let Some(of_address) = counts.by_address.get_mut(&address)
        {
            *of_address -= 1;
            if *of_address == 0 {
                counts.by_address.remove(&address);
            }
        }
    }
}

fn counted(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V6(address) => {
            Some(IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()))
        }
        address => Some(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(census: &Arc<Census>, address: &str) -> Option<Place> {
        let mut place = census.admit()?;
        place.count_for(address.parse().unwrap()).then_some(place)
    }

    #[test]
    fn a_place_is_given_until_a_cap_is_reached_and_is_free_again() {
        let census = Arc::new(Census::new(3, 2));
        let (one, other) = ("192.0.2.1", "192.0.2.2");
        let first = admit(&census, one).unwrap();
        let _second = admit(&census, one).unwrap();
        assert!(admit(&census, one).is_none());
        let _third = admit(&census, other).unwrap();
        assert!(admit(&census, other).is_none(), "the cap over all");
        drop(first);
        assert!(admit(&census, one).is_some());
    }

    #[test]
    fn loopback_counts_toward_the_whole_only() {
        let census = Arc::new(Census::new(3, 1));
        let places: Vec<_> = (0..3).map(|_| admit(&census, "::ffff:127.0.0.1").unwrap()).collect();
        assert!(admit(&census, "127.0.0.1").is_none());
        drop(places);
        assert_eq!(census.counts.lock().unwrap().all, 0);
    }

    #[test]
    fn a_v6_client_is_counted_by_its_network() {
        let census = Arc::new(Census::new(9, 1));
        let _first = admit(&census, "2001:db8::1").unwrap();
        assert!(admit(&census, "2001:db8::2").is_none());
        assert!(admit(&census, "2001:db8:0:1::1").is_some());
    }
}
