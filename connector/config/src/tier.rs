//! Sizes of an IoT Hub.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Pricing tier of an IoT Hub, named as Microsoft does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Tier {
    /// Free.
    F1,
    /// Basic: neither messages to devices nor direct methods nor twins.
    B1,
    /// Basic.
    B2,
    /// Basic.
    B3,
    /// Standard.
    S1,
    /// Standard.
    S2,
    /// Standard.
    S3,
}

impl Tier {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F1 => "F1",
            Self::B1 => "B1",
            Self::B2 => "B2",
            Self::B3 => "B3",
            Self::S1 => "S1",
            Self::S2 => "S2",
            Self::S3 => "S3",
        }
    }

    /// Whether a hub can have so many units (Microsoft Learn, "Choose the right IoT Hub tier and size").
    pub(crate) fn check(self, units: u16) -> Result<(), &'static str> {
        let (most, what) = match self {
            Self::F1 => (1, "must be 1 with tier F1"),
            Self::B3 | Self::S3 => (10, "must be 1 to 10 with this tier"),
            Self::B1 | Self::B2 | Self::S1 | Self::S2 => (200, "must be 1 to 200"),
        };
        match (1..=most).contains(&units) {
            true => Ok(()),
            false => Err(what),
        }
    }
}
