//! What a batch adds to the figures of streams and to the spans.

use std::collections::BTreeMap;

use inlet_core::document::{Document, StreamName};
use inlet_core::persist::plan::Plan;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::store::postgres::failure::Fault;
use crate::store::postgres::rows::signed;
use crate::store::postgres::spans;

/// Sums over the documents that were stored.
#[derive(Debug, Default)]
pub(super) struct Sums {
    streams: BTreeMap<StreamName, Figures>,
    /// By the number of the span, the earliest and latest reception.
    spans: BTreeMap<i64, (i64, i64)>,
}

#[derive(Debug)]
struct Figures {
    documents: i64,
    bytes: i64,
    first_us: i64,
    last_us: i64,
}

impl Sums {
    /// The sums of what the plan inserts at the positions from `first` on.
    pub(super) fn of(plan: &Plan, first: i64) -> Result<Self, Fault> {
        let mut sums = Self::default();
        for (position, document) in (first..).zip(plan.inserts()) {
            sums.stored(position, document)?;
        }
        Ok(sums)
    }

    fn stored(&mut self, position: i64, document: &Document) -> Result<(), Fault> {
        let received_us = document.received.as_micros();
        let bytes = signed(document.body.len() as u64)?;
        let around = (received_us, received_us);
        let span = self.spans.entry(spans::of(position)).or_insert(around);
        *span = (span.0.min(received_us), span.1.max(received_us));
        let none = Figures { documents: 0, bytes: 0, first_us: received_us, last_us: received_us };
        let figures = match self.streams.get_mut(&document.stream) {
            Some(figures) => figures,
            None => self.streams.entry(document.stream.clone()).or_insert(none),
        };
        figures.documents += 1;
        figures.bytes += bytes;
        figures.first_us = figures.first_us.min(received_us);
        figures.last_us = figures.last_us.max(received_us);
        Ok(())
    }

    /// Adds it all.
    pub(super) async fn write(&self, client: &Client) -> Result<(), Fault> {
        tokio::try_join!(biased; self.write_streams(client), spans::widen(client, &self.spans))?;
        Ok(())
    }

    async fn write_streams(&self, client: &Client) -> Result<(), Fault> {
        if self.streams.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = self.streams.keys().map(StreamName::as_str).collect();
        let column = |of: fn(&Figures) -> i64| self.streams.values().map(of).collect::<Vec<_>>();
        client
            .execute_typed(
                "INSERT INTO inlet.streams AS s (stream, documents, bytes, first_us, last_us)
                 SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[],
                     $5::bigint[])
                 ON CONFLICT (stream) DO UPDATE SET
                     documents = s.documents + excluded.documents,
                     bytes = s.bytes + excluded.bytes,
                     first_us = least(s.first_us, excluded.first_us),
                     last_us = greatest(s.last_us, excluded.last_us)",
                &[
                    (&names, Type::TEXT_ARRAY),
                    (&column(|figures| figures.documents), Type::INT8_ARRAY),
                    (&column(|figures| figures.bytes), Type::INT8_ARRAY),
                    (&column(|figures| figures.first_us), Type::INT8_ARRAY),
                    (&column(|figures| figures.last_us), Type::INT8_ARRAY),
                ],
            )
            .await?;
        Ok(())
    }
}
