//! What is stored of an import, and what a member does about it. Pure.

use serde::{Deserialize, Serialize};

use super::store::Seen;
use crate::identity::MemberId;

/// Devices that were refused and are named in the end; the others are only counted.
const NAMED: usize = 10;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// Thing Template of the Things that are made.
    pub template: String,
    /// Which devices, in the hub's query language; all without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
}

/// An import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Its id.
    pub id: String,
    /// What was asked for.
    pub asked: Asked,
    /// Whether it goes on.
    pub state: State,
    /// How far it has come.
    pub progress: Progress,
}

/// Whether an import goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// It does.
    Running,
    /// Every device was looked at.
    Completed,
    /// It was given up.
    Failed,
}

impl State {
    /// The word for it in the event.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

/// Where in the registry an import is: between two pages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Place {
    /// Before the first page.
    #[default]
    Start,
    /// Before the page that the hub's continuation names.
    Page(String),
    /// Behind the last page.
    End,
}

/// How far an import has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Where it goes on.
    pub place: Place,
    /// What the pages before that place came to.
    pub count: Count,
}

/// What has come of devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Count {
    /// Those whose Thing was made.
    pub created: u64,
    /// Those that had one, perhaps from an earlier try of the same page.
    pub existing: u64,
    /// Those that cannot have one.
    pub failed: u64,
    /// The first of the latter, with the reason.
    pub refused: Vec<String>,
}

impl Count {
    /// A device has no Thing, for this reason.
    pub fn refuse(&mut self, device: &str, reason: &str) {
        self.failed += 1;
        if self.refused.len() < NAMED {
            self.refused.push(format!("{device}: {reason}"));
        }
    }

    /// Adds what a page came to.
    pub fn add(&mut self, page: Self) {
        let Self {
            created,
            existing,
            failed,
            refused,
        } = page;
        self.created += created;
        self.existing += existing;
        self.failed += failed;
        self.refused.extend(refused);
        self.refused.truncate(NAMED);
    }
}

impl Record {
    /// An import that begins.
    #[must_use]
    pub fn new(asked: Asked) -> Self {
        Self {
            id: format!("{:016x}", rand::random::<u64>()),
            asked,
            state: State::Running,
            progress: Progress::default(),
        }
    }
}

/// What a member does about an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// There is none, or it is over.
    Rest,
    /// Another member is at it.
    Watch,
    /// It is nobody's, or ours: it is carried on.
    Carry(Record),
}

/// What the member `own` does about what it has seen, given that the holder is `dead` or not.
#[must_use]
pub fn step(seen: &Seen, own: &MemberId, dead: bool) -> Step {
    let Some(record) = seen.running() else {
        return Step::Rest;
    };
    match &seen.holder {
        Some(holder) if holder != own && !dead => Step::Watch,
        _ => Step::Carry(record.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(state: State, holder: Option<&str>) -> Seen {
        let asked = Asked {
            template: "AzureIotThing".into(),
            condition: None,
        };
        Seen {
            version: Some("1".into()),
            holder: holder.map(MemberId::new),
            record: Some(Record {
                state,
                ..Record::new(asked)
            }),
        }
    }

    #[test]
    fn an_import_is_carried_on_by_its_holder_or_once_it_has_none_that_lives() {
        let own = MemberId::new("own");
        let carries = |seen: &Seen, dead| matches!(step(seen, &own, dead), Step::Carry(_));
        assert!(carries(&seen(State::Running, None), false));
        assert!(carries(&seen(State::Running, Some("own")), false));
        assert!(carries(&seen(State::Running, Some("other")), true));
        let other = seen(State::Running, Some("other"));
        assert_eq!(step(&other, &own, false), Step::Watch);
        for state in [State::Completed, State::Failed] {
            assert_eq!(step(&seen(state, None), &own, false), Step::Rest);
            assert_eq!(step(&seen(state, Some("other")), &own, true), Step::Rest);
        }
        assert_eq!(step(&Seen::default(), &own, false), Step::Rest);
    }

    #[test]
    fn only_the_first_that_are_refused_are_named() {
        let mut all = Count::default();
        for page in 0..3 {
            let mut count = Count::default();
            for device in 0..6 {
                count.refuse(&format!("{page}-{device}"), "no name");
            }
            all.add(count);
        }
        assert_eq!((all.failed, all.refused.len()), (18, NAMED));
        assert_eq!(all.refused[6], "1-0: no name");
    }
}
