//! A set of addresses that is searched in logarithmic time.

use std::net::IpAddr;

use ipnet::IpNet;

/// Networks as ranges of their addresses, apart and in order. IPv4 addresses are numbered as the
/// IPv6 addresses they are mapped to.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    ranges: Vec<(u128, u128)>,
}

impl Addresses {
    pub(crate) fn new(networks: &[IpNet]) -> Self {
        let mut all: Vec<(u128, u128)> = networks
            .iter()
            .map(|network| (number(network.network()), number(network.broadcast())))
            .collect();
        all.sort_unstable();
        let mut ranges: Vec<(u128, u128)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match ranges.last_mut() {
                Some(before) if first <= before.1 => before.1 = before.1.max(last),
                _ => ranges.push((first, last)),
            }
        }
        Self { ranges }
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let address = number(address);
        let after = self.ranges.partition_point(|(first, _)| *first <= address);
        after > 0 && address <= self.ranges[after - 1].1
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_networks_that_overlap_and_touch() {
        let networks =
            ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7/32", "192.0.2.8/32", "2001:db8::/32"];
        let set = Addresses::new(&networks.map(|network| network.parse().unwrap()));
        let has = |address: &str| set.contains(address.parse().unwrap());
        for inside in
            ["10.0.0.0", "10.1.2.3", "10.255.255.255", "192.0.2.7", "192.0.2.8", "2001:db8::9"]
        {
            assert!(has(inside), "{inside}");
        }
        for outside in ["9.255.255.255", "11.0.0.0", "192.0.2.6", "192.0.2.9", "2001:db9::", "::"] {
            assert!(!has(outside), "{outside}");
        }
        assert!(has("::ffff:10.0.0.1"), "a mapped address is the one it stands for");
        assert!(!Addresses::default().contains("::1".parse().unwrap()));
    }
}
