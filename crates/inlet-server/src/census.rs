//! How many connections there are, in all and of each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

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
    /// `None` for an address that is not counted by itself.
    address: Option<IpAddr>,
}

impl Census {
    pub(crate) fn new(all_max: usize, per_address_max: usize) -> Self {
        Self { all_max, per_address_max, counts: Mutex::default() }
    }

    /// A place for a connection from `address`, if there is one.
    ///
    /// An IPv6 client commands a whole /64, so that is what is counted.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = counted(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.all >= self.all_max {
            return None;
        }
        if let Some(address) = address {
            let of_address = counts.by_address.entry(address).or_default();
            if *of_address >= self.per_address_max {
                return None;
            }
            *of_address += 1;
        }
        counts.all += 1;
        Some(Place { census: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.census.counts.lock().unwrap_or_else(PoisonError::into_inner);
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

    #[test]
    fn a_place_is_given_until_a_cap_is_reached_and_is_free_again() {
        let census = Arc::new(Census::new(3, 2));
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = census.admit(one).unwrap();
        let _second = census.admit(one).unwrap();
        assert!(census.admit(one).is_none());
        let _third = census.admit(other).unwrap();
        assert!(census.admit(other).is_none(), "the cap over all");
        drop(first);
        assert!(census.admit(one).is_some());
    }

    #[test]
    fn loopback_counts_toward_the_whole_only() {
        let census = Arc::new(Census::new(3, 1));
        let places: Vec<_> =
            (0..3).map(|_| census.admit("::ffff:127.0.0.1".parse().unwrap()).unwrap()).collect();
        assert!(census.admit("127.0.0.1".parse().unwrap()).is_none());
        drop(places);
        assert_eq!(census.counts.lock().unwrap().all, 0);
    }

    #[test]
    fn a_v6_client_is_counted_by_its_network() {
        let census = Arc::new(Census::new(9, 1));
        let _first = census.admit("2001:db8::1".parse().unwrap()).unwrap();
        assert!(census.admit("2001:db8::2".parse().unwrap()).is_none());
        assert!(census.admit("2001:db8:0:1::1".parse().unwrap()).is_some());
    }
}
