//! Which instances there should be, and in which zone: a pure function of how the zones stand.
//!
//! Each zone has places `1` to `N`. While a zone is not up, as many more places as it has are
//! spread over those that are, with numbers above `N`. Places of a zone that an operator closed
//! are not kept; those of one that fails are, because an instance that starts there is how it is
//! found out that the zone is back.

/// How a zone stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zone {
    /// Instances run there.
    Up,
    /// Instances do not start there.
    Down,
    /// An operator has taken it out of use.
    Closed,
}

/// A place for an instance: the zone, counted from 0, and its number there, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) zone: usize,
    pub(super) number: usize,
}

impl Place {
    /// Whether the place is there only for as long as another zone is not up.
    pub(super) fn is_substitute(self, per_zone: usize) -> bool {
        self.number > per_zone
    }
}

/// The name of a zone: `a` for the first.
pub(super) fn zone_name(zone: usize) -> String {
    let letter = u8::try_from(zone).map_or(b'z', |zone| b'a'.saturating_add(zone).min(b'z'));
    char::from(letter).to_string()
}

/// All places that should be taken.
pub(super) fn places(zones: &[Zone], per_zone: usize) -> Vec<Place> {
    let up: Vec<usize> = (0..zones.len()).filter(|zone| zones[*zone] == Zone::Up).collect();
    let mut taken = vec![0; zones.len()];
    for (zone, taken) in taken.iter_mut().enumerate() {
        // Where no zone is up there is nowhere else to go.
        if zones[zone] != Zone::Closed || up.is_empty() {
            *taken = per_zone;
        }
    }
    let missing = (zones.len() - up.len()) * per_zone;
    for zone in up.iter().cycle().take(if up.is_empty() { 0 } else { missing }) {
        taken[*zone] += 1;
    }
    let places = |(zone, taken): (usize, &usize)| {
        (1..=*taken).map(move |number| Place { zone, number }).collect::<Vec<_>>()
    };
    taken.iter().enumerate().flat_map(places).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(zones: &[Zone], per_zone: usize) -> String {
        let name = |place: &Place| format!("{}{}", zone_name(place.zone), place.number);
        places(zones, per_zone).iter().map(name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn instances_are_spread_evenly_over_zones_that_are_up() {
        assert_eq!(names(&[Zone::Up, Zone::Up], 2), "a1 a2 b1 b2");
        assert_eq!(names(&[Zone::Up], 1), "a1");
    }

    #[test]
    fn the_instances_of_a_zone_that_is_down_go_to_the_others_and_it_is_still_tried() {
        assert_eq!(names(&[Zone::Up, Zone::Down], 2), "a1 a2 a3 a4 b1 b2");
        assert_eq!(names(&[Zone::Down, Zone::Up, Zone::Up], 2), "a1 a2 b1 b2 b3 c1 c2 c3");
    }

    #[test]
    fn nothing_is_tried_in_a_zone_that_is_closed() {
        assert_eq!(names(&[Zone::Closed, Zone::Up], 2), "b1 b2 b3 b4");
    }

    #[test]
    fn where_no_zone_is_up_all_are_tried() {
        assert_eq!(names(&[Zone::Closed, Zone::Down], 1), "a1 b1");
    }

    #[test]
    fn there_are_always_as_many_places_in_zones_that_are_up_as_in_all() {
        for zones in [[Zone::Up, Zone::Down, Zone::Up], [Zone::Up, Zone::Closed, Zone::Down]] {
            let up = |place: &&Place| zones[place.zone] == Zone::Up;
            assert_eq!(places(&zones, 4).iter().filter(up).count(), 12, "{zones:?}");
        }
    }
}
