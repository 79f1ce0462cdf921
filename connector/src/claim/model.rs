//! The promises of sharing, driven through random interleavings of crash, freeze, outage, delay, clock
//! skew and scale: the real members, claims, readers and lanes, over an API server, a hub and a platform
//! of the test's own, in simulated time.
//!
//! A failure tells its seed; `MODEL_SEED=<seed>` runs that one alone. `MODEL_RUNS` sets how many are run.

mod api;
mod hub;
mod member;
mod platform;

use std::{collections::BTreeMap, env, sync::Arc, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tokio::time::{Instant, sleep, sleep_until};

use api::ApiServer;
use hub::Hub;
use member::Member;
use platform::Platform;

/// How many interleavings the ordinary run takes, in half a minute; `make soak` takes thousands.
const RUNS: u64 = 60;
/// After the faults have stopped every partition is read again within this.
const OWNED: Duration = Duration::from_secs(15);
/// One time-out of a write request: how long a write of an earlier owner may still be sent after the
/// first of a later one.
const REQUEST: Duration = Duration::from_secs(4);
/// Longest pause of a device that a planned move may cause.
const PAUSE: Duration = Duration::from_secs(2);
/// Everything that was sent has arrived by then, or never will.
const ARRIVED: Duration = Duration::from_secs(150);

struct World {
    api: Arc<ApiServer>,
    hub: Arc<Hub>,
    platform: Arc<Platform>,
    members: Vec<Member>,
    started: u32,
    random: StdRng,
    /// What has happened, for whoever looks for the reason of a failure.
    history: Vec<String>,
    begun: Instant,
}

impl World {
    fn new(seed: u64, partitions: usize) -> Self {
        let platform = Arc::new(Platform::new(seed, partitions));
        Self {
            api: Arc::new(ApiServer::new(seed, platform.clone())),
            hub: Arc::new(Hub::new(partitions)),
            platform,
            members: Vec::new(),
            started: 0,
            random: StdRng::seed_from_u64(seed),
            history: Vec::new(),
            begun: Instant::now(),
        }
    }

    fn note(&mut self, what: &str) {
        let at = self.begun.elapsed().as_secs_f32();
        self.history.push(format!("{at:7.2} s  {what}"));
    }

    fn start(&mut self, template: &str) {
        let pod = format!("pod-{}", self.started);
        self.start_pod(&pod, template);
    }

    fn start_pod(&mut self, pod: &str, template: &str) {
        self.start_member(pod, template, true);
    }

    fn start_member(&mut self, pod: &str, template: &str, joins: bool) {
        self.started += 1;
        let skew_s = self.random.random_range(-86_400..86_400);
        let member = Member::start(self, pod, template, skew_s, joins);
        self.note(&format!("{} starts", member.id));
        self.members.push(member);
    }

    async fn stop(&mut self, index: usize) {
        let member = self.members.swap_remove(index);
        self.note(&format!("{} is told to stop", member.id));
        tokio::spawn(member.stop());
    }

    fn pick(&mut self) -> Option<usize> {
        (!self.members.is_empty()).then(|| self.random.random_range(0..self.members.len()))
    }

    /// One random fault, or the end of one.
    async fn disturb(&mut self) {
        let Some(index) = self.pick() else {
            return self.start("a");
        };
        let who = self.members[index].id.clone();
        let seconds = self.random.random_range(1..30);
        let what = match self.random.random_range(0..12) {
            0 => {
                let member = self.members.swap_remove(index);
                member.kill();
                format!("{who} is killed")
            }
            1 => {
                let member = self.members.swap_remove(index);
                let (pod, template) = (member.pod.clone(), member.template.clone());
                member.kill();
                self.start_pod(&pod, &template);
                format!("{who} is killed and restarted in its pod")
            }
            2 | 3 => {
                self.members[index].freeze(Duration::from_secs(seconds));
                format!("{who} is frozen for {seconds} s")
            }
            4 => {
                self.members[index].access.cut_api(seconds);
                format!("{who} is cut from the API server for {seconds} s")
            }
            5 => {
                for member in &self.members {
                    member.access.cut_api(seconds);
                }
                format!("the API server is gone for {seconds} s")
            }
            6 => {
                self.members[index].access.cut_hub(seconds);
                format!("{who} is cut from the hub for {seconds} s")
            }
            7 => {
                self.members[index].access.cut_platform(seconds);
                format!("{who} is cut from the platform for {seconds} s")
            }
            8 => {
                self.members[index].access.slow_api(seconds);
                format!("{who} waits for the API server and loses answers for {seconds} s")
            }
            9 => {
                self.hub.detach(&mut self.random);
                "a link is detached".to_owned()
            }
            10 => {
                self.start("a");
                "one more".to_owned()
            }
            _ if self.members.len() > 1 => {
                self.stop(index).await;
                "one less".to_owned()
            }
            _ => return,
        };
        self.note(&what);
    }

    /// Ends every fault; somebody is alive.
    fn heal(&mut self) {
        for member in &self.members {
            member.heal();
        }
        if self.members.is_empty() {
            self.start("a");
        }
        self.note("the faults have stopped");
    }

    fn fail(&self, seed: u64, promise: &str, detail: &str) -> ! {
        let (history, at) = (self.history.join("\n"), self.begun.elapsed());
        panic!("seed {seed} after {at:?}: {promise}: {detail}\n{history}");
    }

    /// Waits until every partition has a reader.
    async fn owned(&mut self, seed: u64, within: Duration) {
        let until = Instant::now() + within;
        while !self.hub.all_read() {
            if Instant::now() >= until {
                let detail = format!("{:?} of {}", self.hub.unread(), self.api.holders());
                self.fail(seed, "every partition is read in time", &detail);
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until everything has arrived, then checks the whole log.
    async fn settled(&mut self, seed: u64) {
        self.hub.stop();
        let until = Instant::now() + ARRIVED;
        while let Some(missing) = self.platform.missing(&self.hub) {
            if Instant::now() >= until {
                self.fail(seed, "nothing is skipped", &missing);
            }
            sleep(Duration::from_millis(200)).await;
        }
        for (promise, broken) in [
            ("first arrivals are in order", self.platform.disorder()),
            (
                "no write of an earlier epoch is sent after one of a later",
                self.platform.unfenced(REQUEST),
            ),
            (
                "a checkpoint is never beyond what is written",
                self.api.beyond(),
            ),
        ] {
            if let Some(detail) = broken {
                self.fail(seed, promise, &detail);
            }
        }
    }
}

/// Runs a world in simulated time, where hours take seconds.
fn simulate(run: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(run);
}

/// Every `of`th seed: the slower tests take fewer.
fn seeds(of: usize) -> impl Iterator<Item = u64> {
    all_seeds().into_iter().step_by(of)
}

fn all_seeds() -> Vec<u64> {
    let set = |name: &str| env::var(name).ok().and_then(|text| text.parse().ok());
    match set("MODEL_SEED") {
        Some(seed) => vec![seed],
        None => (0..set("MODEL_RUNS").unwrap_or(RUNS)).collect(),
    }
}

#[test]
fn nothing_is_lost_or_out_of_order_whatever_happens() {
    let mut twice = 0;
    for seed in seeds(1) {
        simulate(async {
            let mut dice = StdRng::seed_from_u64(seed);
            let partitions = dice.random_range(1..6);
            let mut world = World::new(seed, partitions);
            for _ in 0..dice.random_range(1..5) {
                world.start("a");
            }
            world.hub.begin(Duration::from_millis(200));
            sleep(Duration::from_secs(dice.random_range(1..20))).await;
            for _ in 0..dice.random_range(1..10) {
                world.disturb().await;
                sleep(Duration::from_millis(dice.random_range(10..9000))).await;
            }
            world.heal();
            world.owned(seed, OWNED).await;
            sleep(Duration::from_secs(10)).await;
            world.settled(seed).await;
            twice += world.platform.twice();
        });
    }
    println!("{twice} values written again in all");
}

#[test]
fn planned_moves_are_few_and_write_nothing_twice() {
    for seed in seeds(4) {
        simulate(async {
            let mut dice = StdRng::seed_from_u64(seed);
            let partitions = dice.random_range(1..9);
            let mut world = World::new(seed, partitions);
            let prompt = dice.random_bool(0.5);
            if prompt {
                world.platform.be_prompt();
            }
            for _ in 0..dice.random_range(1..5) {
                world.start("a");
            }
            world.hub.begin(Duration::from_millis(200));
            world.owned(seed, OWNED).await;
            sleep(Duration::from_secs(10)).await;

            // A rollout as a Deployment does it: one more of the new, then one less of the old.
            let before = world.api.epochs();
            let old: Vec<_> = world
                .members
                .iter()
                .map(|member| member.id.clone())
                .collect();
            for id in old {
                sleep_until(Instant::now() + Duration::from_secs(3)).await;
                world.start("b");
                sleep(Duration::from_millis(dice.random_range(2000..9000))).await;
                let index = world.members.iter().position(|member| member.id == id);
                world.stop(index.unwrap()).await;
            }
            sleep(Duration::from_secs(20)).await;
            let moves: BTreeMap<_, _> = world
                .api
                .epochs()
                .into_iter()
                .map(|(partition, epoch)| {
                    let first = before.get(&partition).copied().unwrap_or(epoch);
                    (partition, epoch - first)
                })
                .collect();
            if moves.values().any(|moves| *moves > 2) {
                world.fail(
                    seed,
                    "a rollout moves a partition twice at most",
                    &format!("{moves:?}"),
                );
            }
            // Up and down.
            world.start("b");
            world.start("b");
            sleep(Duration::from_secs(15)).await;
            for _ in 0..dice.random_range(1..world.members.len()) {
                let index = world.pick().unwrap();
                world.stop(index).await;
                sleep(Duration::from_millis(dice.random_range(0..4000))).await;
            }
            sleep(Duration::from_secs(15)).await;
            world.settled(seed).await;
            let twice = world.platform.twice();
            if twice > 0 {
                world.fail(
                    seed,
                    "a planned move writes nothing twice",
                    &format!("{twice} values"),
                );
            }
            let pause = world.platform.longest_pause();
            if prompt && pause > PAUSE {
                world.fail(
                    seed,
                    "a planned move pauses nobody for long",
                    &format!("{pause:?}"),
                );
            }
        });
    }
}

#[test]
fn a_member_that_cannot_join_the_routing_group_gets_no_partitions() {
    simulate(async {
        let mut world = World::new(0, 4);
        world.start("a");
        world.start("a");
        world.hub.begin(Duration::from_millis(200));
        world.owned(0, OWNED).await;
        sleep(Duration::from_secs(10)).await;
        let before = world.api.epochs();
        // The pod of a rollout that is blocked, by a wrong key for one.
        world.start_member("pod-blocked", "b", false);
        sleep(Duration::from_secs(60)).await;
        assert_eq!(world.api.epochs(), before, "nothing moves");
        let pause = world.platform.longest_pause();
        assert!(pause <= PAUSE, "a partition was not read for {pause:?}");
        world.settled(0).await;
    });
}

#[test]
fn steady_members_move_nothing_also_while_the_api_server_is_away() {
    for seed in seeds(8) {
        simulate(async {
            let mut dice = StdRng::seed_from_u64(seed);
            let mut world = World::new(seed, dice.random_range(1..9));
            world.platform.be_prompt();
            for _ in 0..dice.random_range(1..6) {
                world.start("a");
            }
            world.hub.begin(Duration::from_millis(200));
            world.owned(seed, OWNED).await;
            sleep(Duration::from_secs(15)).await;
            let before = world.api.epochs();
            for member in &world.members {
                member.access.cut_api(120);
            }
            world.note("the API server is gone for 120 s");
            sleep(Duration::from_secs(180)).await;
            let after = world.api.epochs();
            if before != after {
                world.fail(seed, "nothing moves", &format!("{before:?} → {after:?}"));
            }
            let pause = world.platform.longest_pause();
            if pause > PAUSE {
                world.fail(
                    seed,
                    "an outage of the API server pauses nothing",
                    &format!("{pause:?}"),
                );
            }
            world.settled(seed).await;
            if world.platform.twice() > 0 {
                world.fail(seed, "nothing is written twice", "");
            }
        });
    }
}

/// One of these.
fn choose<'a, T>(random: &mut StdRng, from: &'a [T]) -> Option<&'a T> {
    from.choose(random)
}
