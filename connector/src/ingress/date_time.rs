//! JSON → DATETIME, by the grammar of Joda-Time's `dateTimeParser`, which PTC's connector reads. Pure.

use jiff::{
    SignedDuration, Timestamp,
    civil::{Date, DateTime, ISOWeekDate, Weekday},
    tz::TimeZone,
};
use serde_json::Value as Json;

use super::value::whole;

const HOUR: i64 = 3_600_000;
const MINUTE: i64 = 60_000;
const SECOND: i64 = 1000;

/// Milliseconds since 1970, from a number, from a text of one, or from a date and time:
/// `yyyy[-MM[-dd]]`, `yyyy-DDD` or `xxxx-'W'ww[-e]`, then optionally `T`, `HH[:mm[:ss]]` with a fraction
/// of the last part, and `Z` or `±HH[:mm[:ss[.SSS]]]`. A time alone begins with `T` and is of
/// 1 January 1970. Without an offset it is UTC: what pod or hub takes for local time means nothing to a
/// device. A space in place of the `T` is read too.
#[must_use]
pub fn date_time(json: &Json) -> Option<i64> {
    if let Some(ms) = whole(json) {
        return Some(ms);
    }
    let text = json.as_str()?.trim();
    joda(text).or_else(|| rfc3339(text))
}

fn rfc3339(text: &str) -> Option<i64> {
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Some(instant.as_millisecond());
    }
    text.parse::<DateTime>().ok().and_then(utc_ms)
}

fn utc_ms(civil: DateTime) -> Option<i64> {
    let instant = TimeZone::UTC.to_timestamp(civil).ok()?;
    Some(instant.as_millisecond())
}

fn joda(text: &str) -> Option<i64> {
    // Everything below slices by bytes.
    if !text.is_ascii() {
        return None;
    }
    let (day, rest) = match text.split_once('T') {
        Some((day, rest)) => (day, Some(rest)),
        None => (text, None),
    };
    let midnight = match (day, rest) {
        ("", None | Some("")) => return None,
        ("", _) => 0,
        (day, _) => utc_ms(date(day)?.to_datetime(jiff::civil::Time::midnight()))?,
    };
    let Some(rest) = rest else {
        return Some(midnight);
    };
    let (clock, offset) = match rest.find(['Z', '+', '-']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    midnight
        .checked_add(time(clock)?)?
        .checked_sub(self::offset(offset)?)
}

fn date(text: &str) -> Option<Date> {
    let parts: Vec<&str> = text.split('-').collect();
    let year = digits(parts.first()?, 4)?;
    match parts[1..] {
        [] => Date::new(i16::try_from(year).ok()?, 1, 1).ok(),
        [week] if week.starts_with('W') => week_date(year, week, "1"),
        [week, day] if week.starts_with('W') => week_date(year, week, day),
        [ordinal] if ordinal.len() == 3 => {
            let year = i16::try_from(year).ok()?;
            let first = Date::new(year, 1, 1).ok()?;
            let days = digits(ordinal, 3)?.checked_sub(1)?;
            let date = first
                .checked_add(SignedDuration::from_hours(days.checked_mul(24)?))
                .ok()?;
            (days >= 0 && date.year() == year).then_some(date)
        }
        [month] => day_of(year, month, "01"),
        [month, day] => day_of(year, month, day),
        _ => None,
    }
}

fn day_of(year: i64, month: &str, day: &str) -> Option<Date> {
    let small = |text| i8::try_from(digits(text, 2)?).ok();
    Date::new(i16::try_from(year).ok()?, small(month)?, small(day)?).ok()
}

fn week_date(year: i64, week: &str, day: &str) -> Option<Date> {
    let week = i8::try_from(digits(week.strip_prefix('W')?, 2)?).ok()?;
    let day = Weekday::from_monday_one_offset(i8::try_from(digits(day, 1)?).ok()?).ok()?;
    let date = ISOWeekDate::new(i16::try_from(year).ok()?, week, day).ok()?;
    Some(date.date())
}

/// `HH[:mm[:ss]]`, the last part with a fraction; nothing is midnight.
fn time(text: &str) -> Option<i64> {
    if text.is_empty() {
        return Some(0);
    }
    let (whole, fraction) = match text.split_once(['.', ',']) {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let mut ms = 0;
    let mut last = HOUR;
    for (index, part) in whole.split(':').enumerate() {
        let (unit, limit) = *[(HOUR, 24), (MINUTE, 60), (SECOND, 60)].get(index)?;
        let number = digits(part, 2).filter(|number| *number < limit)?;
        ms += number * unit;
        last = unit;
    }
    let Some(fraction) = fraction else {
        return Some(ms);
    };
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Nine digits are a nanosecond of a second and fit; what is finer is cut.
    let kept = &fraction[..fraction.len().min(9)];
    let scale = 10_i64.pow(u32::try_from(kept.len()).ok()?);
    Some(ms + kept.parse::<i64>().ok()? * last / scale)
}

/// `Z`, or `±HH[:mm[:ss[.SSS]]]`, also `±HHmm`; nothing is UTC.
fn offset(text: &str) -> Option<i64> {
    let sign = match text.as_bytes().first() {
        None => return Some(0),
        Some(b'Z') => return (text.len() == 1).then_some(0),
        Some(b'-') => -1,
        Some(_) => 1,
    };
    let clock = &text[1..];
    let ms = match clock.len() {
        0 => return None,
        4 if !clock.contains([':', '.', ',']) => time(&format!("{}:{}", &clock[..2], &clock[2..]))?,
        _ => time(clock)?,
    };
    Some(sign * ms)
}

/// Exactly `count` digits.
fn digits(text: &str, count: usize) -> Option<i64> {
    let fits = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn every_form_of_the_grammar_is_read() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond();
        let cases = [
            ("1634630768641", at("2021-10-19T08:06:08.641Z")),
            ("2021-10-19T08:06:08.641Z", at("2021-10-19T08:06:08.641Z")),
            (
                "2021-10-19T10:06:08,641+02:00",
                at("2021-10-19T08:06:08.641Z"),
            ),
            (
                "2021-10-19T10:06:08.6419+0200",
                at("2021-10-19T08:06:08.641Z"),
            ),
            ("2021-10-19T10:06+02", at("2021-10-19T08:06:00Z")),
            (
                "2021-10-19T03:06:08-05:00:00.000",
                at("2021-10-19T08:06:08Z"),
            ),
            ("2021-10-19T08:06", at("2021-10-19T08:06:00Z")),
            ("2021-10-19T08:06.5", at("2021-10-19T08:06:30Z")),
            ("2021-10-19T08.5", at("2021-10-19T08:30:00Z")),
            ("2021-10-19T", at("2021-10-19T00:00:00Z")),
            ("2021-10-19TZ", at("2021-10-19T00:00:00Z")),
            ("2021-10-19", at("2021-10-19T00:00:00Z")),
            ("2021-10", at("2021-10-01T00:00:00Z")),
            ("2021-292", at("2021-10-19T00:00:00Z")),
            ("2024-366", at("2024-12-31T00:00:00Z")),
            ("2021-W42-2", at("2021-10-19T00:00:00Z")),
            ("2021-W42", at("2021-10-18T00:00:00Z")),
            ("T10:20:30.5Z", at("1970-01-01T10:20:30.5Z")),
            ("2021-10-19 08:06:08", at("2021-10-19T08:06:08Z")),
            ("1969-12-31T23:59:59Z", -1000),
        ];
        for (text, expected) in cases {
            assert_eq!(date_time(&json!(text)), Some(expected), "{text}");
        }
        assert_eq!(date_time(&json!(12)), Some(12));
        // A year alone is a number of milliseconds, as every text of a number.
        assert_eq!(date_time(&json!("2021")), Some(2021));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "T",
            "yesterday",
            "2021-13",
            "2021-10-32",
            "2021-02-30",
            "2021-366",
            "2021-000",
            "2021-W54-1",
            "2021-W10-8",
            "2021-10-19T24:00",
            "2021-10-19T08:60",
            "2021-10-19T8",
            "2021-10-19T08:06:08.",
            "2021-10-19T08:06:08+",
            "2021-10-19T08:06:08Zulu",
            "１２",
            "2021-10-19T08:00:00:00",
        ] {
            assert_eq!(date_time(&json!(text)), None, "{text:?}");
        }
        for json in [
            json!(null),
            json!(true),
            json!([1]),
            json!(1e300),
            json!(0.5),
        ] {
            assert_eq!(date_time(&json), None, "{json}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_time_or_none(text in "[0-9TWZ:.,+ -]{0,30}|.{0,20}") {
            let _ = date_time(&json!(text));
        }
    }
}
