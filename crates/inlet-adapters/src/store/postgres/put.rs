//! Writing a plan: documents, dead letters, figures, tallies and cursor, in one transaction.
//!
//! ```text
//! to the server                                           from the server
//! BEGIN · hold the row of `positions` · the states of the ids   first position, states
//! INSERT … SELECT FROM unnest(…)   (meanwhile the tallies)      inserted
//! letters · tallies · figures · spans · cursor · COMMIT         done
//! ```
//!
//! Holding that one row from the first statement on makes one writer wait for the other, as their
//! tallies would anyway, and earlier: so nothing can deadlock, positions become visible in order,
//! and the states stay as they were found. Where they are not those that the plan rests on, nothing
//! is written. A document the engine refuses fails its statement; it is then looked for by halves.

mod insert;
mod letters;
mod sums;

use std::sync::Arc;

use inlet_core::id::DocumentId;
use inlet_core::persist::plan::{KnownIds, LetterWrite, Plan};
use inlet_core::ports::{Cursor, Written};
use inlet_core::tally::TallySheet;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::failure::{Fault, refusal};
use super::known::known;
use super::rows::signed;
use super::tallies;
use sums::Sums;

/// Adding so few documents to the tallies is not worth another thread.
const COUNTED_INLINE_MAX: usize = 64;

/// Writes the plan and commits, or leaves everything as it was.
pub(super) async fn put(client: &Client, begin: &str, plan: &Arc<Plan>) -> Result<Written, Fault> {
    let ids: Vec<DocumentId> = plan.items().map(|item| item.id()).collect();
    let letters =
        plan.letters.iter().filter(|letter| matches!(letter, LetterWrite::New { .. })).count();
    let positions = signed((plan.inserts.len() + letters) as u64)?;
    let ((), first, states) = tokio::try_join!(
        biased;
        async { Ok::<_, Fault>(client.batch_execute(begin).await?) },
        hold_positions(client, positions),
        known(client, &ids),
    )?;
    let changed = changed(plan, states);
    if !changed.is_empty() {
        client.batch_execute("ROLLBACK").await?;
        return Ok(Written::Changed(changed));
    }
    let (inserted, sheet) = tokio::join!(
        biased;
        insert::insert(client, &plan.batch, first, &plan.inserts),
        count(plan),
    );
    match inserted {
        Ok(()) => {}
        Err(fault) if refusal(&fault).is_some() => {
            client.batch_execute("ROLLBACK").await?;
            client.batch_execute(begin).await?;
            let first = hold_positions(client, positions).await?;
            let refused = insert::refused(client, &plan.batch, first, &plan.inserts).await?;
            client.batch_execute("ROLLBACK").await?;
            return Ok(Written::Refused(refused));
        }
        Err(fault) => return Err(fault),
    }
    let sums = Sums::of(plan, first)?;
    let first_letter = first + signed(plan.inserts.len() as u64)?;
    tokio::try_join!(
        biased;
        letters::write(client, first_letter, &plan.letters),
        tallies::add(client, &sheet),
        sums.write(client),
        move_cursor(client, plan.cursor()),
        async { Ok(client.batch_execute("COMMIT").await?) },
    )?;
    Ok(Written::Done)
}

/// Holds the row that all writers hold, and takes that many positions; returns the first.
async fn hold_positions(client: &Client, positions: i64) -> Result<i64, Fault> {
    let sql = "UPDATE inlet.positions SET last = last + $1 WHERE one RETURNING last - $1 + 1";
    let rows = client.query_typed(sql, &[(&positions, Type::INT8)]).await?;
    Ok(rows.first().ok_or(Fault::Damaged("positions"))?.try_get(0)?)
}

/// The states that differ from those that the plan rests on.
fn changed(plan: &Plan, mut states: KnownIds) -> KnownIds {
    for id in plan.known.keys() {
        states.entry(*id).or_default();
    }
    states.retain(|id, known| plan.known.get(id) != Some(known));
    states
}

/// The tallies of the plan, counted beside the thread that talks to the server where there are
/// many.
async fn count(plan: &Arc<Plan>) -> TallySheet {
    if plan.inserts.len() <= COUNTED_INLINE_MAX {
        return plan.tallies();
    }
    let plan = Arc::clone(plan);
    let counted = tokio::task::spawn_blocking(move || plan.tallies());
    counted.await.expect("counting does not panic, and is not aborted while it is waited for")
}

async fn move_cursor(client: &Client, cursor: Option<&Cursor>) -> Result<(), Fault> {
    let Some(cursor) = cursor else { return Ok(()) };
    client
        .execute_typed(
            "INSERT INTO inlet.cursors AS c (log, segment, \"offset\") VALUES ($1, $2, $3)
             ON CONFLICT (log) DO UPDATE
                 SET segment = excluded.segment, \"offset\" = excluded.\"offset\"
                 WHERE (excluded.segment, excluded.\"offset\") > (c.segment, c.\"offset\")",
            &[
                (&cursor.log, Type::TEXT),
                (&signed(cursor.segment)?, Type::INT8),
                (&signed(cursor.offset)?, Type::INT8),
            ],
        )
        .await?;
    Ok(())
}
