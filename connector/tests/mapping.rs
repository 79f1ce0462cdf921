//! What the mapping promises of programs that loop, eat memory or fail: the message at fault is passed, no
//! other, none is lost, and the order stays. With the real process.

// Clippy lets tests panic, but not the functions that tests share.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use connector::{
    identity::Identity,
    ingress::mapping::{Link, Mapped, Mapping, worker},
    metrics::Metrics,
    report::Reporter,
};
use iothub::{Batches, Event, HubError, MessageSource, Offset};
use tokio::time::timeout;

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_azure-iot-hub-connector");
/// Whatever has not happened by then will not: a machine that builds something else is slow.
const SOON: Duration = Duration::from_secs(120);

/// A message loops, eats, or is well.
const PROGRAM: &str = r#"
    if .do == "loop" then (def f: f; f)
    elif .do == "repeat" then last(repeat(.))
    elif .do == "eat" then ("x" * 1000000000)
    elif .do == "collect" then [range(1e12)]
    elif .do == "recurse" then (def f: 1 + f; f)
    elif .do == "pour" then repeat(.)
    elif .do == "fail" then error("no\nway")
    elif .do == "nothing" then empty
    else {v: .m.v, d: $device, m: $module, p: $properties.p, t: $enqueued} end"#;

struct World {
    mapping: Mapping,
    metrics: Metrics,
}

fn world_of(executable: &Path, program: &str) -> World {
    let metrics = Metrics::new().unwrap();
    let reporter = Reporter::new(&Identity::from_env());
    World {
        mapping: Mapping::new(executable.into(), program, metrics.clone(), reporter),
        metrics,
    }
}

fn world() -> World {
    world_of(Path::new(EXECUTABLE), PROGRAM)
}

impl World {
    fn restarts(&self, cause: &str) -> u64 {
        let of = format!("mapping_restarts_total{{cause=\"{cause}\"}} ");
        let text = self.metrics.text();
        let line = text.lines().find_map(|line| line.split_once(&of));
        line.map_or(0, |(_, count)| count.parse().unwrap())
    }

    /// What becomes of messages that come in these batches: each with its number.
    async fn mapped(&self, batches: Vec<Vec<Event>>) -> Vec<(i64, Option<Mapped>)> {
        let count = batches.iter().map(Vec::len).sum();
        let mut link = Link::new(Box::new(Held(batches.into())), Some(self.mapping.clone()));
        let mut all = Vec::new();
        while all.len() < count {
            let batch = timeout(SOON, link.next(500))
                .await
                .expect("goes on")
                .unwrap();
            all.extend(batch.each().map(|(event, mapped)| (event.sequence, mapped)));
        }
        all
    }

    /// What becomes of bodies.
    async fn made(&self, bodies: &[&str]) -> Vec<Mapped> {
        let events = (0..).zip(bodies).map(|(number, body)| event(number, body));
        let all = self.mapped(vec![events.collect()]).await;
        assert!(
            all.iter()
                .map(|(number, _)| *number)
                .eq(0..all.len() as i64)
        );
        all.into_iter().map(|(_, mapped)| mapped.unwrap()).collect()
    }
}

/// A link of the hub.
struct Held(VecDeque<Vec<Event>>);

#[async_trait]
impl Batches for Held {
    async fn next(&mut self, _: usize) -> Result<Vec<Event>, HubError> {
        match self.0.pop_front() {
            Some(events) => Ok(events),
            None => std::future::pending().await,
        }
    }

    async fn close(self: Box<Self>) -> Result<(), HubError> {
        Ok(())
    }
}

fn event(sequence: i64, body: &str) -> Event {
    Event {
        partition_offset: Offset::new(sequence.to_string()),
        sequence,
        enqueued_ms: 1000 + sequence,
        device: Some("dev".into()),
        module: None,
        source: MessageSource::Telemetry,
        body: body.as_bytes().to_vec().into(),
        content_type: None,
        content_encoding: None,
        message_id: None,
        properties: BTreeMap::from([("p".to_owned(), "q".to_owned())]),
    }
}

fn good(number: i64) -> Mapped {
    let time = 1000 + number;
    Mapped::Text(format!(
        "{{\"v\":{number},\"d\":\"dev\",\"m\":null,\"p\":\"q\",\"t\":{time}}}"
    ))
}

fn failed(mapped: &Mapped, words: &str) -> bool {
    matches!(mapped, Mapped::Failed(told) if told.contains(words))
}

#[tokio::test]
async fn bodies_are_mapped_and_what_is_no_telemetry_is_left_alone() {
    let world = world();
    let mut module = event(1, "{\"m\":{\"v\":1}}");
    module.module = Some("mod".into());
    let mut notice = event(2, "{}");
    notice.source = MessageSource::TwinChangeEvents;
    let mut nobody = event(3, "{}");
    nobody.device = None;
    let all = world
        .mapped(vec![
            vec![event(0, "{\"m\":{\"v\":0}}"), module],
            vec![
                notice,
                nobody,
                event(4, "no JSON"),
                event(5, "{\"do\":\"nothing\"}"),
                event(6, "[NaN]"),
            ],
            vec![event(7, "{\"m\":{\"v\":7}}")],
        ])
        .await;
    let of_module = "{\"v\":1,\"d\":\"dev\",\"m\":\"mod\",\"p\":\"q\",\"t\":1001}";
    assert_eq!(
        all,
        [
            (0, Some(good(0))),
            (1, Some(Mapped::Text(of_module.into()))),
            (2, None),
            (3, None),
            (4, None),
            (5, Some(Mapped::Nothing)),
            (6, None),
            (7, Some(good(7))),
        ]
    );
}

#[tokio::test]
async fn a_message_that_loops_is_passed_alone_and_the_order_stays() {
    let world = world();
    // One to ten, two of them next to each other, one the last.
    let loops = |number: i64| number % 10 == 4 || number == 15 || number == 39;
    let events = (0..40).map(|number| {
        let bad = if number % 20 == 4 { "loop" } else { "repeat" };
        let body = if loops(number) {
            format!("{{\"do\":\"{bad}\"}}")
        } else {
            format!("{{\"m\":{{\"v\":{number}}}}}")
        };
        event(number, &body)
    });
    let all = world.mapped(vec![events.collect()]).await;
    assert_eq!(all.len(), 40);
    for (place, (number, mapped)) in (0..).zip(&all) {
        assert_eq!(place, *number);
        let mapped = mapped.as_ref().unwrap();
        if loops(place) {
            assert!(failed(mapped, "250 ms of processor time"), "{mapped:?}");
        } else {
            assert_eq!(mapped, &good(place));
        }
    }
    assert_eq!(world.restarts("time"), 6);
}

#[tokio::test]
async fn a_message_that_takes_any_memory_is_passed_alone() {
    let world = world();
    let made = world
        .made(&[
            "{\"m\":{\"v\":0}}",
            "{\"do\":\"eat\"}",
            "{\"do\":\"recurse\"}",
            "{\"m\":{\"v\":3}}",
            "{\"do\":\"collect\"}",
            "{\"m\":{\"v\":5}}",
        ])
        .await;
    assert_eq!(
        (&made[0], &made[3], &made[5]),
        (&good(0), &good(3), &good(5))
    );
    assert!(failed(&made[1], "64 MiB"), "{made:?}");
    assert!(failed(&made[2], "64 MiB"), "{made:?}");
    // Slow code runs out of time before.
    assert!(failed(&made[4], "it "), "{made:?}");
    assert_eq!(world.restarts("unclear"), 0);
}

#[tokio::test]
async fn errors_and_too_much_output_cost_no_process() {
    let world = world();
    let pour = format!("{{\"do\":\"pour\",\"pad\":\"{}\"}}", "x".repeat(10_000));
    let made = world
        .made(&["{\"do\":\"fail\"}", &pour, "{\"m\":{\"v\":2}}", "{\"m\":1}"])
        .await;
    assert_eq!(made[0], Mapped::Failed("no way".into()));
    assert!(failed(&made[1], "more than 262144 bytes"), "{made:?}");
    assert_eq!(made[2], good(2));
    assert!(failed(&made[3], "cannot index 1 with \"v\""), "{made:?}");
    for cause in ["time", "memory", "fault", "unclear"] {
        assert_eq!(world.restarts(cause), 0, "{cause}");
    }
}

/// Answers are put off when they become large; bodies are taken in portions.
#[tokio::test]
async fn large_bodies_and_answers_all_come_through_in_order() {
    let world = world_of(Path::new(EXECUTABLE), "{a: .x, b: .x}");
    let body = format!("{{\"x\":\"{}\"}}", "y".repeat(60_000));
    let events: Vec<Event> = (0..200).map(|number| event(number, &body)).collect();
    let all = world.mapped(vec![events]).await;
    assert!(all.iter().map(|(number, _)| *number).eq(0..200));
    let right = |mapped: &Option<Mapped>| matches!(mapped, Some(Mapped::Text(text)) if text.len() > 120_000);
    assert!(all.iter().all(|(_, mapped)| right(mapped)));
}

#[tokio::test]
async fn a_partition_full_of_killers_does_not_hold_up_another() {
    let world = world();
    let killers: Vec<Event> = (0..60)
        .map(|number| event(number, "{\"do\":\"loop\"}"))
        .collect();
    let mut bad = Link::new(
        Box::new(Held(vec![killers].into())),
        Some(world.mapping.clone()),
    );
    let (done, mut is_done) = tokio::sync::oneshot::channel();
    let flood = tokio::spawn(async move {
        let mut passed = 0;
        while passed < 24 {
            passed += bad.next(500).await.unwrap().events().len();
        }
        let _ = done.send(());
    });
    for round in 0..5 {
        let events = (0..100).map(|number| event(number, &format!("{{\"m\":{{\"v\":{number}}}}}")));
        let all = world.mapped(vec![events.collect()]).await;
        assert_eq!(all.len(), 100, "{round}");
    }
    assert!(
        is_done.try_recv().is_err(),
        "the others have waited for all killers"
    );
    timeout(SOON, flood).await.unwrap().unwrap();
    assert_eq!(world.restarts("time"), 24);
}

/// While its events are mapped nobody hears that the link is gone.
#[tokio::test]
async fn after_a_killer_fewer_events_are_taken_from_the_link() {
    struct Asked(Held, std::sync::Arc<std::sync::Mutex<Vec<usize>>>);

    #[async_trait]
    impl Batches for Asked {
        async fn next(&mut self, max: usize) -> Result<Vec<Event>, HubError> {
            self.1.lock().unwrap().push(max);
            self.0.next(max).await
        }

        async fn close(self: Box<Self>) -> Result<(), HubError> {
            Ok(())
        }
    }

    let world = world();
    let batch = |first: &str| vec![event(0, first), event(1, "{}")];
    let batches = vec![
        batch("{}"),
        batch("{\"do\":\"eat\"}"),
        batch("{}"),
        batch("{}"),
    ];
    let asked = std::sync::Arc::default();
    let held = Asked(Held(batches.into()), std::sync::Arc::clone(&asked));
    let mut link = Link::new(Box::new(held), Some(world.mapping.clone()));
    let mut taken = 0;
    while taken < 8 {
        let next = timeout(SOON, link.next(500)).await;
        taken += next.expect("goes on").unwrap().events().len();
    }
    assert_eq!(*asked.lock().unwrap(), [500, 500, 20, 500]);
}

/// The process by way of a script that tells its number.
fn told(folder: &Path) -> PathBuf {
    let script = folder.join("worker");
    let text = format!(
        "#!/bin/sh\necho $$ >> {}/pids\nexec {EXECUTABLE} \"$@\"\n",
        folder.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn folder() -> Folder {
    let path = std::env::temp_dir().join(format!("mapping-{:032x}", rand::random::<u128>()));
    fs::create_dir(&path).unwrap();
    Folder(path)
}

#[tokio::test]
async fn a_process_that_is_killed_from_outside_passes_nothing_and_sees_no_environment() {
    let folder = folder();
    let world = world_of(&told(&folder.0), PROGRAM);
    assert_eq!(world.made(&["{\"m\":{\"v\":0}}"]).await, [good(0)]);
    let pid = fs::read_to_string(folder.0.join("pids"))
        .unwrap()
        .trim()
        .to_owned();
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let environment = String::from_utf8_lossy(&environment);
    assert!(
        !environment.contains("CARGO") && !environment.contains("HOME="),
        "{environment}"
    );

    let killed = Command::new("kill").args(["-9", &pid]).status().unwrap();
    assert!(killed.success());
    assert_eq!(world.made(&["{\"m\":{\"v\":0}}"]).await, [good(0)]);
    assert_eq!(world.restarts("unclear"), 1);
    let pids = fs::read_to_string(folder.0.join("pids")).unwrap();
    assert_eq!(pids.lines().count(), 2);
}

#[tokio::test]
async fn without_a_process_telemetry_waits_and_nothing_is_passed() {
    for executable in ["/nowhere", "/bin/false"] {
        let world = world_of(Path::new(executable), PROGRAM);
        let batches = Held(vec![vec![event(0, "{}")]].into());
        let mut link = Link::new(Box::new(batches), Some(world.mapping.clone()));
        let waits = timeout(Duration::from_secs(2), link.next(500)).await;
        assert!(waits.is_err(), "{executable}");
        assert!(link.is_mapping());
    }
}

fn block(bytes: &[u8]) -> Vec<u8> {
    let mut block = u32::try_from(bytes.len()).unwrap().to_le_bytes().to_vec();
    block.extend_from_slice(bytes);
    block
}

/// Also while its program loops: it does not read, but it watches.
#[test]
fn the_process_ends_with_the_connector() {
    let portion = [block(b"[\"dev\",null,{},0]"), block(b"{\"do\":\"loop\"}")].concat();
    for portion in [Vec::new(), block(&portion)] {
        let mut child = Command::new(EXECUTABLE)
            .arg(worker::ASKED)
            .env_clear()
            .envs(worker::ENVIRONMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(&block(PROGRAM.as_bytes())).unwrap();
        let mut ready = [9; 5];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut ready)
            .unwrap();
        assert_eq!(ready, [0; 5]);
        input.write_all(&portion).unwrap();
        let begun = Instant::now();
        drop(input);
        let status = child.wait().unwrap();
        assert_eq!(
            status.signal(),
            Some(15),
            "{status} after {:?}",
            begun.elapsed()
        );
    }
}
