//! Property writes that wait for the same device become one message.
//!
//! Only what waits already is put together: the first write goes at once, and what comes while it is on its
//! way waits for it, as it would have to anyway to arrive after it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use iothub::HubError;
use serde_json::{Map, Value as Json};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

/// A message is not filled beyond this, in bytes: half of what the hub takes, so that its properties fit.
const FULL: usize = 32 * 1024;

/// Writes that wait, by device.
#[derive(Debug, Clone, Default)]
pub(super) struct Coalescer(Arc<Mutex<HashMap<String, Vec<Waiting>>>>);

#[derive(Debug)]
struct Waiting {
    values: Map<String, Json>,
    deadline: Instant,
    reply: oneshot::Sender<Result<(), HubError>>,
}

impl Coalescer {
    fn lanes(&self) -> MutexGuard<'_, HashMap<String, Vec<Waiting>>> {
        // Each change is one step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends values to a device, together with others that wait for it. `send` sends one message.
    pub(super) async fn send<F>(
        &self,
        device: &str,
        values: Map<String, Json>,
        deadline: Instant,
        send: impl Fn(String, Map<String, Json>, Instant) -> F + Send + 'static,
    ) -> Result<(), HubError>
    where
        F: Future<Output = Result<(), HubError>> + Send,
    {
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting {
            values,
            deadline,
            reply,
        };
        let first = {
            let mut lanes = self.lanes();
            let lane = lanes.get_mut(device);
            let first = lane.is_none();
            match lane {
                Some(lane) => lane.push(waiting),
                None => drop(lanes.insert(device.to_owned(), vec![waiting])),
            }
            first
        };
        if first {
            // Of its own, so that others do not depend on the first one's patience.
            let (lanes, device) = (self.clone(), device.to_owned());
            tokio::spawn(async move { lanes.run(device, send).await });
        }
        match timeout_at(deadline, answer).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(_)) => Err(HubError::NotSent {
                why: "the connector is ending".into(),
            }),
            Err(_) => Err(HubError::NotSent {
                why: "earlier messages to the device took too long".into(),
            }),
        }
    }

    /// Sends what waits for a device until nothing does.
    async fn run<F: Future<Output = Result<(), HubError>>>(
        &self,
        device: String,
        send: impl Fn(String, Map<String, Json>, Instant) -> F,
    ) {
        while let Some(batch) = self.next(&device) {
            let mut values = Map::new();
            let mut replies = Vec::with_capacity(batch.len());
            let mut deadline: Option<Instant> = None;
            for waiting in batch {
                // The newest value of a property is the one that counts.
                values.extend(waiting.values);
                deadline = Some(deadline.map_or(waiting.deadline, |old| old.min(waiting.deadline)));
                replies.push(waiting.reply);
            }
            let Some(deadline) = deadline else { continue };
            let sent = send(device.clone(), values, deadline).await;
            for reply in replies {
                // Whoever has gone does not want to know.
                let _ = reply.send(sent.clone());
            }
        }
    }

    /// What goes into the next message; ends the lane if nothing waits.
    fn next(&self, device: &str) -> Option<Vec<Waiting>> {
        let mut lanes = self.lanes();
        let lane = lanes.get_mut(device)?;
        // Nobody waits for these any more: they were told that they are not sent.
        lane.retain(|waiting| !waiting.reply.is_closed());
        if lane.is_empty() {
            lanes.remove(device);
            return None;
        }
        let mut bytes = 0;
        let fit = lane.iter().take_while(|waiting| {
            bytes += size(&waiting.values);
            bytes <= FULL
        });
        // One that is too large alone is the hub's to refuse.
        let fit = fit.count().max(1);
        Some(lane.drain(..fit).collect())
    }
}

fn size(values: &Map<String, Json>) -> usize {
    let each = values.iter();
    each.map(|(name, value)| name.len() + value.to_string().len() + 4)
        .sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use tokio::{sync::mpsc, task::JoinHandle, time::sleep};

    use super::*;

    type Sent = (Map<String, Json>, oneshot::Sender<Result<(), HubError>>);

    /// Lanes before a hub that waits for the test's word.
    #[derive(Clone)]
    struct Bench {
        lanes: Coalescer,
        hub: mpsc::UnboundedSender<Sent>,
    }

    impl Bench {
        fn new() -> (Self, mpsc::UnboundedReceiver<Sent>) {
            let (hub, sent) = mpsc::unbounded_channel();
            let lanes = Coalescer::default();
            (Self { lanes, hub }, sent)
        }

        fn write(
            &self,
            name: &'static str,
            value: Json,
            seconds: u64,
        ) -> JoinHandle<Result<(), HubError>> {
            let Self { lanes, hub } = self.clone();
            let deadline = Instant::now() + Duration::from_secs(seconds);
            let send = move |_, values, _| {
                let (reply, answer) = oneshot::channel();
                let _ = hub.send((values, reply));
                async move { answer.await.unwrap_or(Ok(())) }
            };
            tokio::spawn(async move { lanes.send("d", one(name, value), deadline, send).await })
        }
    }

    fn one(name: &str, value: Json) -> Map<String, Json> {
        Map::from_iter([(name.to_owned(), value)])
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_already_becomes_one_message_and_each_is_answered() {
        let (bench, mut sent) = Bench::new();
        let first = bench.write("a", json!(1), 27);
        let (values, go) = sent.recv().await.unwrap();
        assert_eq!(values, one("a", json!(1)), "the first does not wait");
        let more = [
            bench.write("a", json!(2), 27),
            bench.write("b", json!(3), 27),
            bench.write("a", json!(4), 27),
        ];
        sleep(Duration::from_millis(1)).await;
        assert!(sent.try_recv().is_err(), "one at a time");
        go.send(Ok(())).unwrap();
        assert_eq!(first.await.unwrap(), Ok(()));
        let (values, go) = sent.recv().await.unwrap();
        assert_eq!(Json::Object(values), json!({"a": 4, "b": 3}));
        go.send(Err(HubError::QuotaExceeded)).unwrap();
        for write in more {
            assert_eq!(write.await.unwrap(), Err(HubError::QuotaExceeded));
        }
        sleep(Duration::from_millis(1)).await;
        assert!(
            bench.lanes.lanes().is_empty(),
            "an idle device costs nothing"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_given_up_is_not_sent_and_large_values_are_not_put_together() {
        let (bench, mut sent) = Bench::new();
        let _first = bench.write("a", json!(1), 60);
        let (_, go) = sent.recv().await.unwrap();
        let late = bench.write("a", json!("late"), 5);
        let large = [json!("x".repeat(FULL - 100)), json!("y".repeat(FULL - 100))];
        let large = large.map(|value| bench.write("a", value, 60));
        let error = late.await.unwrap().unwrap_err();
        assert!(matches!(error, HubError::NotSent { .. }), "{error}");
        go.send(Ok(())).unwrap();
        for (write, begins) in large.into_iter().zip(['x', 'y']) {
            let (values, go) = sent.recv().await.unwrap();
            assert!(values["a"].as_str().unwrap().starts_with(begins));
            go.send(Ok(())).unwrap();
            assert_eq!(write.await.unwrap(), Ok(()));
        }
    }
}
