//! Runs of positions with the times they were received in.

use std::collections::BTreeMap;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::failure::Fault;

/// A span has this many positions, as a power of two.
const POSITIONS_LOG2: u32 = 12;
/// How many spans are looked up at once.
const SPANS_MAX: i64 = 256;

/// The span that a position is in.
pub(super) fn of(position: i64) -> i64 {
    position >> POSITIONS_LOG2
}

/// Widens each of those spans to the earliest and latest reception that is given.
pub(super) async fn widen(client: &Client, spans: &BTreeMap<i64, (i64, i64)>) -> Result<(), Fault> {
    if spans.is_empty() {
        return Ok(());
    }
    let numbers: Vec<i64> = spans.keys().copied().collect();
    let (min, max): (Vec<i64>, Vec<i64>) = spans.values().copied().unzip();
    client
        .execute_typed(
            "INSERT INTO inlet.spans AS s (span, received_min_us, received_max_us)
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])
             ON CONFLICT (span) DO UPDATE SET
                 received_min_us = least(s.received_min_us, excluded.received_min_us),
                 received_max_us = greatest(s.received_max_us, excluded.received_max_us)",
            &[(&numbers, Type::INT8_ARRAY), (&min, Type::INT8_ARRAY), (&max, Type::INT8_ARRAY)],
        )
        .await?;
    Ok(())
}

/// The first run of positions after `after` that can have documents received from `from` until
/// before `to`, both its ends included. Spans that lie side by side are one run.
pub(super) async fn next_run(
    client: &Client,
    after: i64,
    from: i64,
    to: i64,
) -> Result<Option<(i64, i64)>, Fault> {
    let Some(next) = after.checked_add(1) else { return Ok(None) };
    let rows = client
        .query_typed(
            "SELECT span FROM inlet.spans
             WHERE span >= $1 AND received_max_us >= $2 AND received_min_us < $3
             ORDER BY span LIMIT $4",
            &[
                (&of(next), Type::INT8),
                (&from, Type::INT8),
                (&to, Type::INT8),
                (&SPANS_MAX, Type::INT8),
            ],
        )
        .await?;
    let mut run: Option<(i64, i64)> = None;
    for row in rows {
        let span: i64 = row.try_get(0)?;
        let (first, last) =
            (span << POSITIONS_LOG2, (span << POSITIONS_LOG2) + ((1 << POSITIONS_LOG2) - 1));
        match &mut run {
            None => run = Some((first.max(next), last)),
            Some((_, end)) if *end + 1 == first => *end = last,
            Some(_) => break,
        }
    }
    Ok(run)
}
