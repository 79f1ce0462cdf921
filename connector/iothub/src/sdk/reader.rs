//! A reader of one partition: a task with a client of its own, and the way of its events to us.
//!
//! The SDK attaches while its stream is polled, and the stream borrows its receiver; a task that owns
//! both keeps it going while nobody asks for events, and closes everything in order even when its
//! [`Batches`] are just dropped.

use std::{pin::Pin, time::Duration};

use async_trait::async_trait;
use azure_messaging_eventhubs::{
    ConsumerClient, EventHubsError, OpenReceiverOptions, models::ReceivedEventData,
};
use futures::{Stream, StreamExt};
use tokio::{
    pin, select,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    SdkSourceSettings, client,
    fault::{During, hub_error},
    received,
};
use crate::{Batches, Epoch, Event, HubError, PartitionId, Position};

/// Events on their way from the task; beyond it, the link's own credit holds the hub back. A batch or
/// so: the point is only that the task need not be woken for each event. Less where little may wait.
const READY: usize = 512;

/// A refusal to attach overtakes nothing, but the parts of the SDK that it passes run side by side.
const GRACE: Duration = Duration::from_millis(100);

const ATTACHING: &str = "attaching to a partition";
const READING: &str = "reading a partition";

/// What goes from the task to its [`Batches`]; an error is the last.
type Passed = Result<Event, HubError>;

/// What to read.
pub(super) struct Order {
    pub(super) settings: SdkSourceSettings,
    pub(super) partition: PartitionId,
    pub(super) position: Position,
    pub(super) epoch: Epoch,
    pub(super) ahead: u32,
}

/// Starts a reader. Returns once it is attached, or why it is not.
pub(super) async fn open(order: Order) -> Result<Box<dyn Batches>, HubError> {
    let half = usize::try_from(order.ahead / 2).unwrap_or(READY);
    let (events, ready) = mpsc::channel(half.clamp(1, READY));
    let (say, attached) = oneshot::channel();
    let stop = CancellationToken::new();
    let task = tokio::spawn(run(order, events, say, stop.clone()));
    let reader = Reader {
        ready,
        failure: None,
        stop: stop.drop_guard(),
        task,
    };
    // The task's own time-outs bound this. When we are dropped, the guard ends the task.
    match attached.await {
        Ok(Ok(())) => Ok(Box::new(reader)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(ended()),
    }
}

struct Reader {
    ready: mpsc::Receiver<Passed>,
    /// The error that has ended the link.
    failure: Option<HubError>,
    stop: DropGuard,
    task: JoinHandle<Result<(), HubError>>,
}

fn ended() -> HubError {
    HubError::Transport {
        what: READING.into(),
        cause: "the reader has ended".into(),
    }
}

#[async_trait]
impl Batches for Reader {
    async fn next(&mut self, max: usize) -> Result<Vec<Event>, HubError> {
        if let Some(error) = &self.failure {
            return Err(error.clone());
        }
        let mut taken = Vec::new();
        let mut passed = self.ready.recv().await.unwrap_or_else(|| Err(ended()));
        // No waiting from here on, so that nothing is lost when we are dropped.
        loop {
            match passed {
                Ok(event) => taken.push(event),
                Err(error) => {
                    self.failure = Some(error.clone());
                    return if taken.is_empty() {
                        Err(error)
                    } else {
                        Ok(taken)
                    };
                }
            }
            if taken.len() >= max {
                return Ok(taken);
            }
            passed = match self.ready.try_recv() {
                Ok(passed) => passed,
                // An end without an error is found by the next call.
                Err(_) => return Ok(taken),
            };
        }
    }

    async fn close(self: Box<Self>) -> Result<(), HubError> {
        let Self { stop, task, .. } = *self;
        drop(stop);
        // Bounded: from here on the task only closes, within its time-outs.
        match task.await {
            Ok(closed) => closed,
            Err(error) => Err(HubError::Transport {
                what: "closing a reader".into(),
                cause: error.to_string(),
            }),
        }
    }
}

/// Connects, attaches, passes events on until `stop` or an error, and closes.
async fn run(
    order: Order,
    events: mpsc::Sender<Passed>,
    attached: oneshot::Sender<Result<(), HubError>>,
    stop: CancellationToken,
) -> Result<(), HubError> {
    let Order {
        settings,
        partition,
        position,
        epoch,
        ahead,
    } = order;
    let opened = select! {
        () = stop.cancelled() => return Ok(()),
        opened = client::open(&settings) => opened,
    };
    let client = match opened {
        Ok(client) => client,
        Err(error) => {
            // Whoever opens has gone if nobody hears this.
            let _ = attached.send(Err(error));
            return Ok(());
        }
    };
    let options = OpenReceiverOptions {
        owner_level: Some(epoch.0),
        prefetch: Some(ahead),
        start_position: Some(client::start(position)),
        // It would be taken for a fault of the link.
        receive_timeout: None,
    };
    let link = Link {
        client: &client,
        partition: partition.as_str(),
        time: settings.request_timeout,
    };
    // No I/O yet: the stream attaches.
    let opening = client.open_receiver_on_partition(partition.as_str().to_owned(), Some(options));
    let detached = match opening.await {
        Ok(receiver) => {
            {
                let stream = receiver.stream_events();
                pin!(stream);
                select! {
                    () = stop.cancelled() => {}
                    () = link.read(stream, &events, attached) => {}
                }
            }
            // The stream is gone, and with it its hold on the link, which can be detached now.
            client::detach(receiver).await
        }
        Err(error) => {
            let _ = attached.send(Err(link.failed(&error, During::Attaching)));
            Ok(())
        }
    };
    let closed = client::close(client).await;
    detached.and(closed)
}

/// The link of a reader, on this side of the SDK.
struct Link<'a> {
    client: &'a ConsumerClient,
    partition: &'a str,
    /// For attaching.
    time: Duration,
}

type Received = Result<ReceivedEventData, EventHubsError>;

impl Link<'_> {
    fn failed(&self, error: &EventHubsError, during: During) -> HubError {
        let what = match during {
            During::Reading => READING,
            During::Asking | During::Attaching => ATTACHING,
        };
        hub_error(error, during, what, Some(self.partition))
    }

    /// Attaches, says so, and passes events on until nobody takes them or an error ends it.
    async fn read(
        &self,
        mut stream: Pin<&mut (impl Stream<Item = Received> + Send)>,
        events: &mpsc::Sender<Passed>,
        attached: oneshot::Sender<Result<(), HubError>>,
    ) {
        let attaching = self.attach(stream.as_mut());
        let attach = client::within(ATTACHING, self.time, attaching).await;
        let first = match attach.and_then(|attached| attached) {
            Ok(first) => first,
            Err(error) => {
                let _ = attached.send(Err(error));
                return;
            }
        };
        if attached.send(Ok(())).is_err() {
            return;
        }
        if let Some(event) = first
            && events.send(Ok(event)).await.is_err()
        {
            return;
        }
        loop {
            let passed = self.passed(stream.next().await, During::Reading);
            let over = passed.is_err();
            if events.send(passed).await.is_err() || over {
                return;
            }
        }
    }

    fn passed(&self, received: Option<Received>, during: During) -> Passed {
        match received {
            Some(Ok(event)) => received::event(event.raw_amqp_message()),
            Some(Err(error)) => Err(self.failed(&error, during)),
            None => Err(ended()),
        }
    }

    /// Polls the stream until the link is attached; gives the first event if that was the sign.
    ///
    /// The SDK does not tell when its stream has attached: on an empty partition it just stays pending.
    /// So a question about the partition is sent on the same connection, behind the attachment: the
    /// stream is polled first and so is authorised first (`$cbs` serves one at a time), after which it
    /// needs two round trips and the question eight. The answer to the question means that the link is
    /// attached, or its refusal is at the door.
    async fn attach(
        &self,
        mut stream: Pin<&mut (impl Stream<Item = Received> + Send)>,
    ) -> Result<Option<Event>, HubError> {
        let question = self.client.get_partition_properties(self.partition);
        select! {
            biased;
            first = stream.next() => return self.passed(first, During::Attaching).map(Some),
            answer = question => answer.map_err(|error| self.failed(&error, During::Asking))?,
        };
        match timeout(GRACE, stream.next()).await {
            Ok(first) => self.passed(first, During::Attaching).map(Some),
            Err(_) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{MessageSource, Offset};

    fn event(sequence: i64) -> Event {
        Event {
            partition_offset: Offset::new(sequence.to_string()),
            sequence,
            enqueued_ms: 0,
            device: None,
            module: None,
            source: MessageSource::Telemetry,
            body: bytes::Bytes::new(),
            content_type: None,
            content_encoding: None,
            message_id: None,
            properties: BTreeMap::new(),
        }
    }

    fn reader() -> (mpsc::Sender<Passed>, Box<Reader>) {
        let (events, ready) = mpsc::channel(READY);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            stopped.cancelled().await;
            Ok(())
        });
        let reader = Reader {
            ready,
            failure: None,
            stop: stop.drop_guard(),
            task,
        };
        (events, Box::new(reader))
    }

    async fn sequences(reader: &mut Reader, max: usize) -> Vec<i64> {
        let batch = reader.next(max).await.unwrap();
        batch.iter().map(|event| event.sequence).collect()
    }

    #[tokio::test]
    async fn a_batch_is_what_is_ready_up_to_its_size() {
        let (events, mut reader) = reader();
        for sequence in 0..5 {
            events.try_send(Ok(event(sequence))).unwrap();
        }
        assert_eq!(sequences(&mut reader, 3).await, [0, 1, 2]);
        assert_eq!(sequences(&mut reader, 3).await, [3, 4]);
        let waiting = tokio::time::timeout(Duration::from_millis(10), reader.next(3));
        assert!(waiting.await.is_err(), "it waits for at least one");
        events.try_send(Ok(event(5))).unwrap();
        assert_eq!(
            sequences(&mut reader, 3).await,
            [5],
            "and has lost none by that"
        );
    }

    #[tokio::test]
    async fn events_before_an_error_are_given_and_the_error_stays() {
        let (events, mut reader) = reader();
        events.try_send(Ok(event(0))).unwrap();
        events.try_send(Err(HubError::QuotaExceeded)).unwrap();
        assert_eq!(sequences(&mut reader, 9).await, [0]);
        for _ in 0..2 {
            assert_eq!(reader.next(9).await, Err(HubError::QuotaExceeded));
        }
        assert_eq!(reader.close().await, Ok(()));
    }

    #[tokio::test]
    async fn a_reader_whose_task_has_gone_says_so() {
        let (events, mut reader) = reader();
        drop(events);
        assert_eq!(reader.next(1).await, Err(ended()));
    }
}
