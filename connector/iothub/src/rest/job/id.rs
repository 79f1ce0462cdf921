//! Names of jobs. Pure.

use percent_encoding::utf8_percent_encode;

use crate::{HubError, sas::COMPONENT};

/// Longest id (Microsoft Learn, "Schedule jobs on multiple devices").
const LONGEST: usize = 64;

/// The name of a job, chosen by its maker. As the hub takes a name only once, a job is never made twice,
/// however often it is asked for; and whoever lost the answer can look the job up by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JobId(String);

impl JobId {
    /// 1 to 64 letters, digits and dashes of US-ASCII.
    ///
    /// # Errors
    /// [`HubError::Settings`] if it is something else.
    pub fn new(text: impl Into<String>) -> Result<Self, HubError> {
        let text = text.into();
        let fits = (1..=LONGEST).contains(&text.len())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if fits {
            return Ok(Self(text));
        }
        Err(HubError::Settings {
            what: format!(
                "{text:?} cannot be the id of a job: 1 to {LONGEST} letters, digits and dashes"
            ),
        })
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn path(&self) -> String {
        format!("/jobs/v2/{}", self.0)
    }
}

pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, COMPONENT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_name_and_no_path() {
        assert_eq!(JobId::new("aB-9").unwrap().path(), "/jobs/v2/aB-9");
        let long = "x".repeat(LONGEST + 1);
        for text in ["", "a/b", "..", "a b", "ä", "query?", &long] {
            assert!(JobId::new(text).is_err(), "{text}");
        }
    }
}
