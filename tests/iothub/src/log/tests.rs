//! Positions and owner levels, as promises.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use super::*;

fn event(size: usize) -> NewEvent {
    NewEvent {
        origin: Arc::new(Origin {
            device: "d".into(),
            module: None,
            auth_method: String::new(),
            generation: String::new(),
            source: "Telemetry".into(),
        }),
        sections: Bytes::from(vec![0; size]),
    }
}

/// `count` events, stored at 1000, 1010, 1020…
fn partition(count: i64, retention: usize) -> Arc<Partition> {
    let partition = Arc::new(Partition::new(0, retention));
    for n in 0..count {
        partition.append(event(10), 1000 + n * 10);
    }
    partition
}

fn request(name: &str, epoch: Option<Epoch>, position: Position) -> ReaderRequest {
    ReaderRequest {
        group: "$Default".into(),
        name: name.into(),
        epoch,
        position,
        wake: Arc::new(Notify::new()),
    }
}

fn open(partition: &Arc<Partition>, name: &str, epoch: Option<Epoch>) -> Result<Reader, OpenError> {
    Reader::open(
        Arc::clone(partition),
        request(name, epoch, Position::Earliest),
    )
}

fn first(partition: &Arc<Partition>, position: Position) -> Option<i64> {
    let mut reader = Reader::open(Arc::clone(partition), request("r", None, position)).unwrap();
    reader.next().unwrap().map(|record| record.sequence)
}

#[test]
fn sequence_offset_and_time_grow_and_are_distinct() {
    let partition = partition(3, 10);
    let last = partition.view().last.unwrap();
    assert_eq!(
        last,
        Last {
            sequence: 2,
            offset: 148,
            enqueued: 1020
        }
    );
    // The clock may jump back; enqueued times do not.
    assert_eq!(partition.append(event(10), 5).enqueued, 1020);
}

#[test]
fn positions_select_the_event_they_name_or_the_next() {
    let log = partition(5, 10);
    let offset = |value, inclusive| Position::Offset { value, inclusive };
    let sequence = |value, inclusive| Position::Sequence { value, inclusive };
    let time = |value, inclusive| Position::Enqueued { value, inclusive };
    for (position, expected) in [
        (Position::Earliest, Some(0)),
        (Position::Latest, None),
        (offset(74, true), Some(1)),
        (offset(74, false), Some(2)),
        (offset(75, false), Some(2)),
        (offset(296, false), None),
        (sequence(-1, false), Some(0)),
        (sequence(3, true), Some(3)),
        (sequence(3, false), Some(4)),
        (time(0, false), Some(0)),
        (time(1010, true), Some(1)),
        (time(1010, false), Some(2)),
        (time(9999, false), None),
    ] {
        assert_eq!(first(&log, position), expected, "{position:?}");
    }
}

#[test]
fn latest_gives_what_arrives_afterwards() {
    let log = partition(5, 10);
    let mut reader = Reader::open(Arc::clone(&log), request("r", None, Position::Latest)).unwrap();
    assert!(reader.next().unwrap().is_none());
    log.append(event(1), 2000);
    assert_eq!(reader.next().unwrap().unwrap().sequence, 5);
}

#[test]
fn positions_beyond_the_end_are_refused_and_evict_nobody() {
    let log = partition(5, 10);
    let mut holder = open(&log, "holder", Some(1)).unwrap();
    for position in [
        Position::Offset {
            value: 297,
            inclusive: true,
        },
        Position::Sequence {
            value: 5,
            inclusive: true,
        },
    ] {
        let refused = Reader::open(Arc::clone(&log), request("r", Some(2), position));
        assert!(refused.is_err(), "{position:?}");
    }
    assert!(holder.next().is_ok());
    assert!(Partition::new(0, 1).view().last.is_none());
}

#[test]
fn retention_drops_the_oldest_and_readers_go_on_with_what_is_left() {
    let log = partition(2, 3);
    let mut reader = open(&log, "r", None).unwrap();
    for n in 0..4 {
        log.append(event(10), 3000 + n);
    }
    assert_eq!(log.view().begin, 3);
    assert_eq!(reader.next().unwrap().unwrap().sequence, 3);
    assert_eq!(
        first(
            &log,
            Position::Offset {
                value: 0,
                inclusive: true
            }
        ),
        Some(3)
    );
}

#[test]
fn a_higher_or_equal_epoch_evicts_and_nothing_is_read_afterwards() {
    for new in [7, 8] {
        let log = partition(5, 10);
        let mut old = open(&log, "old", Some(7)).unwrap();
        assert!(old.next().unwrap().is_some());
        let mut young = open(&log, "young", Some(new)).unwrap();
        assert!(matches!(old.next(), Err(Stolen::ByEpoch { .. })), "{new}");
        assert!(young.next().unwrap().is_some());
        let readers = log.view().readers;
        assert_eq!(readers.len(), 1, "the evicted one reads no more");
        assert_eq!(readers[0].name, "young");
    }
}

#[test]
fn a_lower_epoch_is_refused_while_the_higher_reads() {
    let log = partition(1, 10);
    let holder = open(&log, "holder", Some(7)).unwrap();
    assert!(matches!(
        open(&log, "late", Some(6)),
        Err(OpenError::LowerEpoch { held: 7, .. })
    ));
    drop(holder);
    assert!(open(&log, "late", Some(6)).is_ok());
}

#[test]
fn readers_without_an_epoch_yield_to_one_with() {
    let log = partition(1, 10);
    let mut plain = open(&log, "plain", None).unwrap();
    let _holder = open(&log, "holder", Some(0)).unwrap();
    assert!(plain.next().is_err());
    assert!(matches!(
        open(&log, "plain", None),
        Err(OpenError::EpochNeeded { held: 0 })
    ));
}

#[test]
fn at_most_five_readers_without_an_epoch() {
    let log = partition(1, 10);
    let five: Vec<_> = (0..5).map(|_| open(&log, "r", None).unwrap()).collect();
    assert!(matches!(open(&log, "r", None), Err(OpenError::TooMany)));
    drop(five);
    assert!(open(&log, "r", None).is_ok());
}

#[test]
fn consumer_groups_do_not_see_each_other() {
    let log = partition(1, 10);
    let mut mine = open(&log, "mine", Some(1)).unwrap();
    let mut other = request("other", Some(9), Position::Earliest);
    other.group = "thingworx".into();
    let _other = Reader::open(Arc::clone(&log), other).unwrap();
    assert!(mine.next().unwrap().is_some());
}

#[test]
fn an_append_wakes_every_reader() {
    let log = partition(0, 10);
    let asked = request("r", None, Position::Latest);
    let wake = Arc::clone(&asked.wake);
    let _reader = Reader::open(Arc::clone(&log), asked).unwrap();
    log.append(event(1), 0);
    let told = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(async { futures::FutureExt::now_or_never(wake.notified()) });
    assert!(told.is_some());
}

#[test]
fn retention_that_passes_leaves_the_newest() {
    let log = partition(5, 10);
    log.expire(2);
    assert_eq!(log.view().begin, 3);
    assert_eq!(log.view().last.map(|last| last.sequence), Some(4));
    assert_eq!(first(&log, Position::Earliest), Some(3));
    log.expire(0);
    assert!(log.view().empty);
}

#[test]
fn a_stream_that_is_made_again_counts_from_0_and_detaches_its_readers() {
    let log = partition(5, 10);
    let mut reader = open(&log, "r", None).unwrap();
    log.recreate();
    assert!(matches!(reader.next(), Err(Stolen::Forced(_))));
    let old = Position::Offset {
        value: 296,
        inclusive: false,
    };
    assert!(Reader::open(Arc::clone(&log), request("r", None, old)).is_err());
    log.append(event(1), 3000);
    assert_eq!(first(&log, Position::Earliest), Some(0));
}

#[test]
fn a_stalled_reader_gets_nothing_and_a_new_one_does() {
    let log = partition(5, 10);
    let mut stalled = open(&log, "stalled", Some(1)).unwrap();
    log.stall();
    assert!(stalled.next().unwrap().is_none());
    let mut new = open(&log, "new", Some(1)).unwrap();
    assert!(new.next().unwrap().is_some());
}
