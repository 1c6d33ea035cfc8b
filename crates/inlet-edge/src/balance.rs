//! Which backend is asked: the better of two, the own zone first.
//!
//! One candidate is whose turn it is, the other is drawn; the one with less load is asked, and
//! with equal load the one whose turn it is. So an idle edge goes round all of them, and a busy
//! one avoids the slow without herding to the fastest. Load is the response time lately times the
//! requests outstanding ([`Load`]).
//!
//! Backends of the own zone come first. Others are asked when the better of the own zone is
//! overloaded: it has more than a few requests outstanding and a far greater load than the better
//! of theirs. So a zone that loses half its backends sends over what is too much for the rest, and
//! one that loses all of them sends everything.

mod load;

pub(crate) use load::Load;

use crate::options::BalanceOptions;

/// A backend as the choice sees it.
pub(crate) trait Candidate<A> {
    /// Its load; requests go where it is less.
    fn score(&self, asking: &A) -> f64;
    /// How many requests it has outstanding.
    fn outstanding(&self) -> usize;
    /// The share it gets of what its equals get, above 0 and up to 1.
    fn share(&self) -> f64;
    /// Whether it can't be asked for this request: it was tried already, or is full.
    fn is_out(&self, asking: &A) -> bool;
}

/// How often a candidate that starts slowly may be passed over before it is taken anyway.
const PASSES_MAX: usize = 4;

/// Chooses among the backends of the own zone and those of others, and gives its index in the one
/// list behind the other; `turn` goes up by one for each request, `draw` gives numbers from 0 up
/// to 1. Nothing, where none can be asked.
pub(crate) fn choose<A, C: Candidate<A>>(
    near: &[C],
    far: &[C],
    asking: &A,
    turn: usize,
    options: &BalanceOptions,
    mut draw: impl FnMut() -> f64,
) -> Option<usize> {
    let best_near = better_of_two(near, asking, turn, &mut draw);
    if far.is_empty() {
        return best_near;
    }
    let Some(own) = best_near else {
        return better_of_two(far, asking, turn, &mut draw).map(|index| near.len() + index);
    };
    if near[own].outstanding() < options.spill_outstanding {
        return Some(own);
    }
    match better_of_two(far, asking, turn, &mut draw) {
        Some(other) if near[own].score(asking) > options.spill_ratio * far[other].score(asking) => {
            Some(near.len() + other)
        }
        _ => Some(own),
    }
}

fn better_of_two<A, C: Candidate<A>>(
    candidates: &[C],
    asking: &A,
    turn: usize,
    draw: &mut impl FnMut() -> f64,
) -> Option<usize> {
    let count = candidates.len();
    let first = seek(candidates, asking, turn, None, draw)?;
    if count == 1 {
        return Some(first);
    }
    let Some(second) = seek(candidates, asking, drawn(count, draw), Some(first), draw) else {
        return Some(first);
    };
    let better = candidates[second].score(asking) < candidates[first].score(asking);
    Some(if better { second } else { first })
}

/// The first candidate from `start` on that can be asked and is not passed over because it starts
/// slowly; or, when all were passed over, the first that can be asked.
fn seek<A, C: Candidate<A>>(
    candidates: &[C],
    asking: &A,
    start: usize,
    not: Option<usize>,
    draw: &mut impl FnMut() -> f64,
) -> Option<usize> {
    let count = candidates.len();
    let mut passed_over = None;
    let mut passes = 0;
    for step in 0..count {
        let index = (start % count + step) % count;
        let candidate = &candidates[index];
        if Some(index) == not || candidate.is_out(asking) {
            continue;
        }
        let share = candidate.share();
        if share >= 1.0 || passes >= PASSES_MAX || draw() < share {
            return Some(index);
        }
        passes += 1;
        passed_over = passed_over.or(Some(index));
    }
    passed_over
}

/// A number below `count`.
fn drawn(count: usize, draw: &mut impl FnMut() -> f64) -> usize {
    let scaled = draw() * count as f64;
    // The draw is below 1, and a count of backends is far below the limits of either type.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
    let index = scaled as usize;
    index.min(count - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    struct Fake {
        score: f64,
        outstanding: usize,
        share: f64,
        out: bool,
    }

    impl Candidate<()> for Fake {
        fn score(&self, (): &()) -> f64 {
            self.score
        }
        fn outstanding(&self) -> usize {
            self.outstanding
        }
        fn share(&self) -> f64 {
            self.share
        }
        fn is_out(&self, (): &()) -> bool {
            self.out
        }
    }

    const CALM: Fake = Fake { score: 1.0, outstanding: 0, share: 1.0, out: false };

    fn counts(near: &[Fake], far: &[Fake], requests: usize) -> Vec<usize> {
        let mut state = 7u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        let mut counts = vec![0; near.len() + far.len()];
        for turn in 0..requests {
            if let Some(index) = choose(near, far, &(), turn, &BalanceOptions::default(), &mut draw)
            {
                counts[index] += 1;
            }
        }
        counts
    }

    #[test]
    fn equal_backends_take_turns() {
        assert_eq!(counts(&[CALM; 4], &[], 400), [100; 4]);
    }

    #[test]
    fn the_slowest_gets_the_least() {
        let slow = Fake { score: 50.0, ..CALM };
        let counts = counts(&[CALM, CALM, slow, CALM], &[], 1000);
        assert_eq!(counts[2], 0, "it loses against whichever it is compared with");
    }

    #[test]
    fn one_that_is_out_is_never_chosen_and_none_is_an_answer() {
        let out = Fake { out: true, ..CALM };
        assert_eq!(counts(&[out, CALM], &[], 100), [0, 100]);
        assert_eq!(counts(&[out, out], &[out], 100), [0, 0, 0]);
        assert_eq!(counts(&[], &[], 100), [0; 0]);
    }

    #[test]
    fn one_that_starts_slowly_gets_about_its_share() {
        let slow_start = Fake { share: 0.1, ..CALM };
        let counts = counts(&[CALM, CALM, slow_start, CALM], &[], 10_000);
        assert!((150..600).contains(&counts[2]), "{counts:?}");
    }

    #[test]
    fn when_all_start_slowly_requests_go_out_all_the_same() {
        let slow_start = Fake { share: 0.1, ..CALM };
        assert_eq!(counts(&[slow_start; 3], &[], 300).iter().sum::<usize>(), 300);
    }

    #[test]
    fn the_own_zone_comes_first_until_it_is_overloaded() {
        let busy = Fake { score: 9.0, outstanding: 9, ..CALM };
        assert_eq!(counts(&[CALM; 2], &[CALM; 2], 100), [50, 50, 0, 0]);
        assert_eq!(counts(&[busy; 2], &[CALM; 2], 100), [0, 0, 50, 50]);
        let busy_too = Fake { score: 8.0, ..busy };
        assert_eq!(counts(&[busy; 2], &[busy_too; 2], 100), [50, 50, 0, 0], "no better there");
    }

    #[test]
    fn a_zone_without_backends_sends_everything_over() {
        let out = Fake { out: true, ..CALM };
        assert_eq!(counts(&[out, out], &[CALM; 2], 100), [0, 0, 50, 50]);
    }
}
