//! Points in time as the hub writes them. Pure.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde::{Deserialize, Deserializer};

/// Reads `2016-09-29T18:18:52.7418462Z`, and the same without the Z, which the hub leaves out here and
/// there and always means. What the year 1 stands for has never happened.
fn parse(text: &str) -> Option<Timestamp> {
    let parsed = text.parse().ok().or_else(|| {
        let civil: DateTime = text.parse().ok()?;
        TimeZone::UTC.to_timestamp(civil).ok()
    });
    parsed.filter(|time| *time > Timestamp::UNIX_EPOCH)
}

/// A field that may be absent, null, or never have happened.
pub(crate) fn optional<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
    let text: Option<String> = Option::deserialize(from)?;
    Ok(text.as_deref().and_then(parse))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_that_the_hub_writes_is_read() {
        let expected = "2016-09-29T18:18:52.7418462Z".parse().ok();
        for (text, time) in [
            ("2016-09-29T18:18:52.7418462Z", expected),
            ("2016-09-29T18:18:52.7418462", expected),
            ("2016-09-29T20:18:52.7418462+02:00", expected),
            ("0001-01-01T00:00:00Z", None),
            ("0001-01-01T00:00:00", None),
            ("soon", None),
        ] {
            assert_eq!(parse(text), time, "{text}");
        }
    }
}
