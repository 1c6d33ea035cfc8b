//! Comparing backends with each other over a window of time.

use crate::options::HealthOptions;

/// A backend that fails more than half of its answers in a window is failing, as long as the
/// others' failures stay below this share.
const OTHERS_FAILING_MAX: f64 = 0.25;

/// How a backend did in a window, beside the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Like the others, or with too few answers to tell.
    Ordinary,
    /// Most of its answers were failures, and not those of the others.
    Failing,
    /// It took far longer than the others.
    Slow,
}

/// What a backend did in a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many requests ended.
    pub answers: u32,
    /// How many of those were failures.
    pub failures: u32,
    /// Their response times together, in microseconds.
    pub latency_us: u64,
}

/// How each of `tallies` compares with the rest. Where all are slow or all fail, none stands out.
pub fn outliers(tallies: &[Tally], options: &HealthOptions) -> Vec<Window> {
    (0..tallies.len()).map(|index| compare(index, tallies, options)).collect()
}

fn compare(index: usize, tallies: &[Tally], options: &HealthOptions) -> Window {
    let own = tallies[index];
    if own.answers < options.window_answers_min {
        return Window::Ordinary;
    }
    let others = || {
        let enough = |tally: &&Tally| tally.answers >= options.window_answers_min;
        let others = tallies.iter().enumerate().filter(move |(other, _)| *other != index);
        others.map(|(_, tally)| tally).filter(enough)
    };
    let (answers, failures) = others().fold((0u64, 0u64), |(answers, failures), tally| {
        (answers + u64::from(tally.answers), failures + u64::from(tally.failures))
    });
    if answers == 0 {
        return Window::Ordinary;
    }
    let others_failing = failures as f64 / answers as f64;
    if own.failures * 2 > own.answers && others_failing < OTHERS_FAILING_MAX {
        return Window::Failing;
    }
    let mut means: Vec<f64> = others().map(mean_us).collect();
    means.sort_by(f64::total_cmp);
    let median = means[means.len() / 2];
    let slow = mean_us(&own);
    if slow > options.slow_ms as f64 * 1000.0 && slow > median * options.slow_ratio {
        Window::Slow
    } else {
        Window::Ordinary
    }
}

fn mean_us(tally: &Tally) -> f64 {
    tally.latency_us as f64 / f64::from(tally.answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(answers: u32, failures: u32, mean_ms: u64) -> Tally {
        Tally { answers, failures, latency_us: mean_ms * 1000 * u64::from(answers) }
    }

    fn compared(tallies: &[Tally]) -> Vec<Window> {
        outliers(tallies, &HealthOptions::default())
    }

    #[test]
    fn one_that_is_slower_than_the_others_stands_out() {
        let calm = tally(100, 0, 5);
        let result = compared(&[calm, tally(50, 0, 900), calm]);
        assert_eq!(result, [Window::Ordinary, Window::Slow, Window::Ordinary]);
    }

    #[test]
    fn where_all_are_slow_none_stands_out() {
        let slow = tally(100, 0, 900);
        assert_eq!(compared(&[slow, slow, slow]), [Window::Ordinary; 3]);
    }

    #[test]
    fn small_differences_and_few_answers_tell_nothing() {
        let calm = tally(100, 0, 1);
        assert_eq!(compared(&[calm, tally(100, 0, 100)]), [Window::Ordinary; 2]);
        assert_eq!(compared(&[calm, tally(3, 3, 9_000)]), [Window::Ordinary; 2]);
        assert_eq!(compared(&[tally(100, 100, 9_000)]), [Window::Ordinary], "nobody to compare");
    }

    #[test]
    fn one_that_fails_while_the_others_do_not_stands_out() {
        let calm = tally(100, 1, 5);
        assert_eq!(compared(&[calm, tally(60, 40, 5)]), [Window::Ordinary, Window::Failing]);
        let failing = tally(100, 80, 5);
        assert_eq!(compared(&[failing, failing]), [Window::Ordinary; 2]);
    }
}
