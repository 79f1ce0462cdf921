//! Start positions, as the selector filter of a receiver's source writes them.

/// Where a reader starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// With the oldest event kept.
    Earliest,
    /// With the next event to arrive.
    Latest,
    /// At an offset.
    Offset {
        /// The offset of an event.
        value: u64,
        /// With that event rather than after it.
        inclusive: bool,
    },
    /// At a sequence number.
    Sequence {
        /// The sequence number of an event.
        value: i64,
        /// With that event rather than after it.
        inclusive: bool,
    },
    /// At a point in time.
    Enqueued {
        /// Unix milliseconds.
        value: i64,
        /// Also what arrived in that very millisecond.
        inclusive: bool,
    },
}

/// A selector that Event Hubs does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("The filter '{0}' is not a valid amqp filter for EventHub entities")]
pub struct BadSelector(pub String);

impl Position {
    /// Reads a selector: `amqp.annotation.x-opt-{offset|sequence-number|enqueued-time} {>|>=} 'value'`.
    ///
    /// # Errors
    /// [`BadSelector`].
    pub fn from_selector(text: &str) -> Result<Self, BadSelector> {
        Self::parse(text).ok_or_else(|| BadSelector(text.to_owned()))
    }

    fn parse(text: &str) -> Option<Self> {
        let rest = text.trim().strip_prefix("amqp.annotation.x-opt-")?;
        let (name, rest) = rest.split_once('>')?;
        let (inclusive, value) = match rest.strip_prefix('=') {
            Some(value) => (true, value),
            None => (false, rest),
        };
        let value = value.trim();
        let value = value
            .strip_prefix('\'')
            .map_or(Some(value), |quoted| quoted.strip_suffix('\''))?;
        match name.trim() {
            "offset" => match value {
                "-1" => Some(Self::Earliest),
                "@latest" => Some(Self::Latest),
                number => number
                    .parse()
                    .ok()
                    .map(|value| Self::Offset { value, inclusive }),
            },
            "sequence-number" => value
                .parse()
                .ok()
                .map(|value| Self::Sequence { value, inclusive }),
            // The second name is that of older clients.
            "enqueued-time" | "enqueuedtimeutc" => value
                .parse()
                .ok()
                .map(|value| Self::Enqueued { value, inclusive }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_sdks_write() {
        let read = |text| Position::from_selector(text).unwrap();
        let sequence = |value, inclusive| Position::Sequence { value, inclusive };
        assert_eq!(
            read("amqp.annotation.x-opt-offset > '-1'"),
            Position::Earliest
        );
        assert_eq!(
            read("amqp.annotation.x-opt-offset > '@latest'"),
            Position::Latest
        );
        assert_eq!(
            read("amqp.annotation.x-opt-offset >= '4711'"),
            Position::Offset {
                value: 4711,
                inclusive: true
            }
        );
        assert_eq!(
            read("amqp.annotation.x-opt-sequence-number >'12345'"),
            sequence(12345, false)
        );
        assert_eq!(
            read("amqp.annotation.x-opt-sequence-number >='12345'"),
            sequence(12345, true)
        );
        assert_eq!(
            read("amqp.annotation.x-opt-enqueued-time > '1600000000000'"),
            Position::Enqueued {
                value: 1_600_000_000_000,
                inclusive: false
            }
        );
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "amqp.annotation.x-opt-offset > no offset",
            "amqp.annotation.x-opt-offset < '1'",
            "amqp.annotation.x-opt-offset > '1",
            "amqp.annotation.x-opt-partition-key > '1'",
        ] {
            assert!(Position::from_selector(text).is_err(), "{text}");
        }
    }
}
