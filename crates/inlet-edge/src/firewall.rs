//! What is let through: a model of what there is, then rules of the operator's.
//!
//! **The model** comes first. The caller gives the edge a table of [`Route`]s, and a request that
//! fits none of them is refused: `404` for a path, `405` for a method, `415` for a content type,
//! `413` for a size, `400` for a path that could be read in two ways.
//!
//! **The rules** are a file, `firewall.toml`:
//!
//! ```toml
//! [sets]                                   # addresses by name
//! office = ["203.0.113.0/24", "2001:db8::/32", "198.51.100.7"]
//!
//! [[rules]]                                # from the first to the last
//! name = "office"                          # in the log and the metrics
//! action = "allow"                         # no later rule is looked at
//! from = "office"                          # the client's address is in the set
//!
//! [[rules]]
//! name = "scanners"
//! action = "block"                         # 403; `count` counts the match and goes on
//! methods = ["GET", "HEAD"]                # one of these
//! path = '\.(php|asp)$'                    # a regular expression on the decoded path
//! query = 'union.+select'                  # on the query, as it came
//! header = { name = "user-agent", matches = '(?i)sqlmap|nikto' }
//!
//! [[rules]]
//! name = "sizes"
//! action = "count"
//! not_from = "office"                      # the client's address is not in the set
//! head_bytes_over = 8192                   # all header names and values together
//! target_bytes_over = 1024                 # path and query
//! body_bytes_over = 65536                  # as announced
//!
//! [[rules]]
//! name = "rate"
//! action = "block"                         # 429 for a rule with a rate
//! path = '^/api/save'
//! rate = { requests = 1000, seconds = 60 } # by client address (IPv6: each /64)
//! ```
//!
//! A rule matches when all of its conditions do; at least one is needed. Expressions are those of
//! the `regex` crate, without Unicode classes, and take time linear in what they look at. Rates
//! are counted for requests that fit the other conditions. There are at most 1,000 rules, 10,000
//! networks in a set, and 1 MiB in a file.
//!
//! [`Rules::parse`] gives the rules as plain data, for whoever turns them into something else.

mod addresses;
mod compiled;
mod model;
mod rules;

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use arc_swap::ArcSwap;
use http::request;

pub(crate) use compiled::Verdict;
pub(crate) use model::{Model, Permit};
pub use model::{Route, RouteError};
pub use rules::{Action, HeaderPattern, Rate, Rule, RuleError, Rules};

use compiled::Compiled;

/// The largest file of rules, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why a file of rules can't be used.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// It can't be read.
    #[error("the firewall's rules in {path} could not be read")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A rule in it is not as it should be.
    #[error("{path}: {source}")]
    Rule {
        /// Which.
        path: PathBuf,
        /// Where, and why.
        source: RuleError,
    },
}

/// The rules in force.
pub(crate) struct Firewall {
    rules: ArcSwap<Compiled>,
}

/// What a rule looks at.
pub(crate) struct Subject<'a> {
    pub(crate) head: &'a request::Parts,
    /// The decoded path.
    pub(crate) path: &'a str,
    pub(crate) client: IpAddr,
    /// The announced length of the body, in bytes.
    pub(crate) body_bytes: u64,
}

impl Firewall {
    /// The rules of the file at `path`, or none.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self, FirewallError> {
        Ok(Self { rules: ArcSwap::from_pointee(read_or_none(path)?) })
    }

    /// Takes the rules of the file at `path` as it is now, or none. On an error the rules stay as
    /// they were.
    pub(crate) fn set(&self, path: Option<&Path>) -> Result<(), FirewallError> {
        let compiled = read_or_none(path)?;
        compiled.take_counts(&self.rules.load());
        self.rules.store(Arc::new(compiled));
        Ok(())
    }

    /// What the rules say of a request, and the names of all that matched, put at the end of
    /// `matched`.
    pub(crate) fn judge(
        &self,
        subject: &Subject<'_>,
        now: Instant,
        matched: &mut Vec<Arc<str>>,
    ) -> Verdict {
        self.rules.load().judge(subject, now, matched)
    }

    /// How often each rule matched.
    pub(crate) fn matches(&self) -> Vec<(String, Action, u64)> {
        let rules = self.rules.load();
        let rules = rules.rules.iter();
        rules
            .map(|rule| (rule.name.clone(), rule.action, rule.matches.load(Ordering::Relaxed)))
            .collect()
    }
}

fn read_or_none(path: Option<&Path>) -> Result<Compiled, FirewallError> {
    path.map_or_else(|| Ok(Compiled::default()), read)
}

fn read(path: &Path) -> Result<Compiled, FirewallError> {
    let failed = |source| FirewallError::Read { path: path.to_owned(), source };
    let length = fs::metadata(path).map_err(failed)?.len();
    if length > FILE_BYTES_MAX {
        return Err(failed(io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes"))));
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    let wrong = |source| FirewallError::Rule { path: path.to_owned(), source };
    let rules = Rules::parse(&text).map_err(wrong)?;
    Ok(Compiled::new(&rules).expect("rules that were parsed can be compiled"))
}
