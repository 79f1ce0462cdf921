//! How far a value can be trusted, in the platform's words.

use serde_json::Value as Json;

/// The platform's qualities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Quality {
    /// As measured.
    #[default]
    Good,
    /// Not to be used.
    Bad,
    /// Nobody knows.
    Unknown,
    /// Beyond what can be measured.
    OutOfRange,
    /// From somewhere that is not known to be right.
    UnverifiedSource,
}

impl Quality {
    const ALL: [Self; 5] = [
        Self::Good,
        Self::Bad,
        Self::Unknown,
        Self::OutOfRange,
        Self::UnverifiedSource,
    ];

    /// The platform's word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "GOOD",
            Self::Bad => "BAD",
            Self::Unknown => "UNKNOWN",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::UnverifiedSource => "UNVERIFIED_SOURCE",
        }
    }

    /// The word in the reports of PTC's connector, which has three.
    #[must_use]
    pub fn reported(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Unknown | Self::OutOfRange | Self::UnverifiedSource => "uncertain",
        }
    }

    /// What a device says, in whatever case; also OPC's `uncertain`.
    #[must_use]
    pub fn read(json: &Json) -> Option<Self> {
        let word = json.as_str()?;
        if word.eq_ignore_ascii_case("uncertain") {
            return Some(Self::Unknown);
        }
        let named = |quality: &Self| word.eq_ignore_ascii_case(quality.name());
        Self::ALL.into_iter().find(named)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn qualities_are_read_in_any_case_and_nothing_is_guessed() {
        for (said, expected) in [
            (json!("GOOD"), Some(Quality::Good)),
            (json!("bad"), Some(Quality::Bad)),
            (json!("Uncertain"), Some(Quality::Unknown)),
            (json!("out_of_range"), Some(Quality::OutOfRange)),
            (json!("fine"), None),
            (json!(0), None),
            (json!(null), None),
        ] {
            assert_eq!(Quality::read(&said), expected, "{said}");
        }
    }
}
