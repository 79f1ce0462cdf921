//! Events that have come: gaps are told, and what they say goes to its lane.

use std::sync::Arc;

use tokio::time::Instant;

use super::Reader;
use crate::ingress::{
    decode::{Undecodable, decode, decode_mapped},
    letter::size,
    low_water::Mark,
    mapping::{Batch, Mapped},
};

impl Reader {
    pub(super) fn received(&mut self, batch: Batch, now: Instant) {
        let events = batch.events();
        let (id, ingress) = (self.id.clone(), self.ingress.clone());
        let (partition, metrics) = (id.as_str(), &ingress.metrics);
        // The wall clock, only where the settings ask for it, and for a metric.
        let now_ms = jiff::Timestamp::now().as_millisecond();
        metrics.batch(partition, events, now_ms);
        self.ahead.received(events);
        if let Some(bytes) = self.ahead.event() {
            ingress.memory.has_event(bytes);
        }
        self.batches
            .extend(events.last().map(|last| (last.sequence, now)));
        if let Some(pace) = &mut self.pace {
            pace.took(events.len());
        }
        let keeps = ingress.letters.is_some();
        for (event, mapped) in batch.each() {
            if let Some(last) = &self.position {
                let missing = event.sequence - last.sequence - 1;
                if missing > 0 {
                    tracing::error!(
                        partition,
                        after = last.sequence,
                        missing,
                        "events are missing: the hub no longer keeps them, or never delivered them"
                    );
                    metrics
                        .gaps
                        .with_label_values(&[partition])
                        .inc_by(missing.unsigned_abs());
                }
                if missing < 0 {
                    // Delivered again by the hub; the first arrival has its place already.
                    continue;
                }
            }
            let mark = Mark {
                offset: event.partition_offset.as_str().into(),
                sequence: event.sequence,
                enqueued_ms: event.enqueued_ms,
            };
            self.position = Some(mark.clone());
            let settings = &ingress.messages;
            let decoded = match mapped {
                None => decode(&event, settings, now_ms),
                Some(Mapped::Text(text)) => decode_mapped(&event, &text, settings, now_ms),
                Some(Mapped::Failed(why)) => Err(Undecodable::Unmapped(why)),
                Some(Mapped::Nothing) => {
                    self.low.admit(mark, 0, now);
                    self.settle(&[event.sequence]);
                    continue;
                }
            };
            match decoded {
                Ok(mut message) => {
                    if keeps {
                        message.bytes += size(&event);
                        message.event = Some(Arc::new(event));
                    }
                    self.low.admit(mark, message.bytes, now);
                    self.lanes.push(message);
                }
                Err(fault) => {
                    let bytes = if keeps {
                        size(&event)
                    } else {
                        event.body.len()
                    };
                    self.low.admit(mark, bytes, now);
                    self.undecodable(event, &fault);
                }
            }
        }
    }
}
