//! The last lines of the log, kept in memory.

use std::{
    collections::VecDeque,
    fmt::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

/// Lines that are kept, and the bytes of each: half a megabyte at most. Who wants more has the pod's log.
const LINES: usize = 500;
const BYTES: usize = 1000;

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When, in milliseconds since 1970.
    pub time_ms: i64,
    /// How serious.
    pub level: Level,
    /// Which part wrote it.
    pub origin: &'static str,
    /// What it says.
    pub content: String,
}

/// The last lines. Cheap to clone; all clones are the same lines.
#[derive(Debug, Clone, Default)]
pub struct Recent(Arc<Mutex<VecDeque<Line>>>);

impl Recent {
    fn lines(&self) -> MutexGuard<'_, VecDeque<Line>> {
        // Lines are whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lines that are kept, the oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Line> {
        self.lines().iter().cloned().collect()
    }

    fn push(&self, line: Line) {
        let mut lines = self.lines();
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

impl<S: Subscriber> Layer<S> for Recent {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut content = Content::default();
        event.record(&mut content);
        let metadata = event.metadata();
        self.push(Line {
            time_ms: Timestamp::now().as_millisecond(),
            level: *metadata.level(),
            origin: metadata.target(),
            content: content.text(),
        });
    }
}

/// A line as text: the message, then its fields.
#[derive(Default)]
struct Content {
    message: String,
    fields: String,
}

impl Content {
    fn text(self) -> String {
        let mut text = self.message + &self.fields;
        if text.len() > BYTES {
            let end = (0..=BYTES).rev().find(|end| text.is_char_boundary(*end));
            text.truncate(end.unwrap_or_default());
            text.push('…');
        }
        text
    }
}

impl Visit for Content {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to memory cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_are_not_endless() {
        let recent = Recent::default();
        let log = tracing_subscriber::registry().with(recent.clone());
        tracing::subscriber::with_default(log, || {
            for number in 0..LINES + 10 {
                tracing::info!(number, "line");
            }
            tracing::warn!(text = "ä".repeat(BYTES), "long");
        });
        let lines = recent.all();
        assert_eq!(lines.len(), LINES);
        assert_eq!(lines[0].content, "line number=11");
        let last = lines.last().unwrap();
        assert_eq!(last.level, Level::WARN);
        assert!(last.content.len() <= BYTES + '…'.len_utf8());
    }
}
