//! What a checkpoint's blob says: its metadata, of which KEDA's scaler reads `sequencenumber`. Pure.

use std::borrow::Cow;

use iothub::{PartitionId, SourceIdentity};
use object_store::{Attribute, Attributes, path::Path};

use crate::ingress::Mark;

const OFFSET: &str = "offset";
const SEQUENCE: &str = "sequencenumber";
const ENQUEUED: &str = "enqueued";
const EPOCH: &str = "epoch";
const OWNER: &str = "owner";
const FORMAT: &str = "format";

/// Offset and sequence number of a partition that has never been checkpointed: before its first event, as
/// Event Hubs writes it. The blob exists all the same, so that a scaler finds a number and an earlier
/// owner cannot make it.
const NOWHERE: &str = "-1";

/// What a checkpoint's blob says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// Where to resume; `None` if never checkpointed.
    pub(super) mark: Option<Mark>,
    /// Epoch of the claim that wrote it; 0 if another program did.
    pub(super) epoch: i64,
    /// Member that wrote it; empty if another program did.
    pub(super) owner: String,
}

/// Where a partition's checkpoint is, within its container: KEDA's `blobMetadata`, and the layout of
/// Microsoft's own SDKs. The namespace is in lower case already.
pub(super) fn path(source: &SourceIdentity, partition: &PartitionId) -> Path {
    group(source).join("checkpoint").join(partition.as_str())
}

/// Where the blob is whose only purpose is to be written at the start.
pub(super) fn proof(source: &SourceIdentity) -> Path {
    group(source).join("proof")
}

fn group(source: &SourceIdentity) -> Path {
    let SourceIdentity {
        namespace,
        hub,
        consumer_group,
    } = source;
    let group = consumer_group.to_lowercase();
    Path::from_iter([namespace.as_str(), hub, &group])
}

impl Record {
    pub(super) fn attributes(&self) -> Attributes {
        let Self { mark, epoch, owner } = self;
        let (offset, sequence, enqueued) = match mark {
            Some(Mark {
                offset,
                sequence,
                enqueued_ms,
            }) => (
                offset.to_string(),
                sequence.to_string(),
                enqueued_ms.to_string(),
            ),
            None => (NOWHERE.into(), NOWHERE.into(), "0".into()),
        };
        [
            (OFFSET, offset),
            (SEQUENCE, sequence),
            (ENQUEUED, enqueued),
            (EPOCH, epoch.to_string()),
            (OWNER, owner.clone()),
            (FORMAT, "1".to_owned()),
        ]
        .into_iter()
        .map(|(key, value)| (Attribute::Metadata(Cow::Borrowed(key)), value))
        .collect()
    }

    /// What the metadata says. What another program wrote without a position counts as never
    /// checkpointed.
    pub(super) fn read(attributes: &Attributes) -> Self {
        // Names of metadata are compared without case: the service keeps the writer's.
        let find = |wanted: &str| {
            attributes.iter().find_map(|(key, value)| match key {
                Attribute::Metadata(key) if key.eq_ignore_ascii_case(wanted) => {
                    Some(value.as_ref().to_owned())
                }
                _ => None,
            })
        };
        let number = |key: &str| find(key)?.parse().ok();
        let mark = find(OFFSET)
            .filter(|offset| offset != NOWHERE && !offset.is_empty())
            .zip(number(SEQUENCE))
            .map(|(offset, sequence)| Mark {
                offset: offset.into(),
                sequence,
                enqueued_ms: number(ENQUEUED).unwrap_or_default(),
            });
        Self {
            mark,
            epoch: number(EPOCH).unwrap_or_default(),
            owner: find(OWNER).unwrap_or_default(),
        }
    }
}

/// Whether `mark` lies before `other` in the same stream. A stream that was made anew counts from the
/// start again, but later.
pub(super) fn is_behind(mark: &Mark, other: &Mark) -> bool {
    mark.sequence < other.sequence && mark.enqueued_ms <= other.enqueued_ms
}

/// The later one of two marks.
pub(super) fn later(one: Option<Mark>, other: Option<Mark>) -> Option<Mark> {
    match (one, other) {
        (Some(one), Some(other)) if is_behind(&one, &other) => Some(other),
        (Some(one), _) => Some(one),
        (None, other) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(sequence: i64, enqueued_ms: i64) -> Mark {
        Mark {
            offset: format!("{}", sequence * 100).into(),
            sequence,
            enqueued_ms,
        }
    }

    #[test]
    fn a_checkpoint_lies_where_keda_looks_for_it() {
        let source = SourceIdentity {
            namespace: "ns.servicebus.windows.net".into(),
            hub: "iothub-ehub-Plant-7".into(),
            consumer_group: "$Default".into(),
        };
        assert_eq!(
            path(&source, &PartitionId::new("3")).as_ref(),
            "ns.servicebus.windows.net/iothub-ehub-Plant-7/$default/checkpoint/3"
        );
    }

    #[test]
    fn what_is_written_is_read_again() {
        for mark in [None, Some(mark(7, 70))] {
            let record = Record {
                mark,
                epoch: 1_800_000_000,
                owner: "AzureIot-ns-pod-abc".into(),
            };
            assert_eq!(Record::read(&record.attributes()), record);
        }
    }

    #[test]
    fn what_microsofts_sdks_wrote_is_gone_on_from() {
        let theirs: Attributes = [("Offset", "4096"), ("Sequencenumber", "12")]
            .into_iter()
            .map(|(key, value)| (Attribute::Metadata(key.into()), value))
            .collect();
        let Record { mark, epoch, owner } = Record::read(&theirs);
        assert_eq!(
            mark.map(|mark| (mark.offset.to_string(), mark.sequence)),
            Some(("4096".into(), 12))
        );
        assert_eq!((epoch, owner.as_str()), (0, ""));
        assert_eq!(Record::read(&Attributes::new()).mark, None);
    }

    #[test]
    fn of_two_marks_the_later_one_counts_and_a_new_stream_is_later() {
        let (old, new) = (mark(5, 50), mark(9, 90));
        for (one, other) in [(&old, &new), (&new, &old)] {
            assert_eq!(
                later(Some(one.clone()), Some(other.clone())),
                Some(new.clone())
            );
        }
        assert_eq!(later(None, Some(old.clone())), Some(old.clone()));
        assert_eq!(later(Some(old.clone()), None), Some(old.clone()));
        let anew = mark(0, 200);
        for (one, other) in [(&anew, &new), (&new, &anew)] {
            assert!(!is_behind(one, other));
        }
    }
}
