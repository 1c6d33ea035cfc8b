//! The setting `log_level`: one level for everything, and others for parts of it.
//!
//! ```text
//! warn                       everything from warnings up
//! inlet_log=debug,warn       the same, and all of inlet-log
//! ```

use tracing::level_filters::LevelFilter;

/// The form of a filter, for messages.
pub const EXPECTED: &str =
    "error, warn, info, debug, trace, off, or a filter as in inlet_log=debug,info";

/// The level of everything, and the levels of the parts that have one of their own, by the path
/// of a module. A word that is no level is no filter, because as the name of a part it would
/// silence everything else. `None` for text that is no filter.
pub fn parse(text: &str) -> Option<(LevelFilter, Vec<(String, LevelFilter)>)> {
    let mut default = LevelFilter::INFO;
    let mut parts = Vec::new();
    for directive in text.split(',').map(str::trim) {
        match directive.split_once('=') {
            None => default = level(directive)?,
            Some((part, name)) if !part.trim().is_empty() => {
                parts.push((part.trim().to_owned(), level(name.trim())?));
            }
            Some(_) => return None,
        }
    }
    Some((default, parts))
}

fn level(name: &str) -> Option<LevelFilter> {
    // The type also takes numbers and nothing at all.
    let is_word = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic());
    name.parse().ok().filter(|_| is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_no_filter() {
        for text in ["inf", "", "info,", "inlet_log", "inlet_log=loud", "=debug", "3", "a=2", "a="]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn parts_have_levels_of_their_own_beside_that_of_everything() {
        assert_eq!(parse("WARN"), Some((LevelFilter::WARN, Vec::new())));
        assert_eq!(parse("off"), Some((LevelFilter::OFF, Vec::new())));
        let (default, parts) = parse("inlet_log=debug").unwrap();
        assert_eq!(default, LevelFilter::INFO);
        assert_eq!(parts, [("inlet_log".to_owned(), LevelFilter::DEBUG)]);
        assert_eq!(parse("a::b=trace, error").unwrap().0, LevelFilter::ERROR);
    }
}
