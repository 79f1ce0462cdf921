//! Waiting for what was promised.

use std::time::{Duration, Instant};

use crate::proxy::Proxy;

/// Longest wait for what should take a second, on a machine that is busy with other things: with twelve tests
/// and builds side by side on two cores a minute was not always enough.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(150);
/// How long nothing may be written before a state counts as steady, in the short and in the long form.
const QUIET: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
/// The same of what is promised for a steady state itself.
const STEADY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// The short or the long form.
pub fn form<T>((short, long): (T, T)) -> T {
    if long_form() { long } else { short }
}

/// How long a steady state is looked at.
pub fn steady() -> Duration {
    form(STEADY)
}

/// Whether `SOAK=1` asks for every fault and not for one of each sort, and for the long times.
pub fn long_form() -> bool {
    std::env::var_os("SOAK").is_some_and(|value| !value.is_empty())
}

/// Waits for `look` to find what is promised; says what was missing if it does not.
pub async fn eventually<T>(promise: &str, look: impl AsyncFnMut() -> Result<T, String>) -> T {
    within(PATIENCE, promise, look).await
}

/// The same for a look that takes many requests.
pub async fn rarely<T>(promise: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    eventually(promise, async || {
        let found = look().await;
        if found.is_err() {
            tokio::time::sleep(4 * LOOK).await;
        }
        found
    })
    .await
}

/// The same, within this time.
pub async fn within<T>(
    patience: Duration,
    promise: &str,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let begun = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(missing) if begun.elapsed() > patience => {
                panic!(
                    "broken: {promise}: {missing} after {} s",
                    patience.as_secs()
                )
            }
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

/// Waits until the operator has said all it has to say: an event follows the status that it tells of, once
/// that is answered.
pub async fn settled(proxy: &Proxy) {
    const LULL: Duration = Duration::from_secs(1);
    within(
        Duration::from_secs(15),
        "writing comes to an end",
        async || {
            let before = proxy.writes();
            tokio::time::sleep(LULL).await;
            match (proxy.writes() - before, proxy.under_way()) {
                (0, 0) => Ok(()),
                (more, waits) => Err(format!("{more} writes in a second, {waits} unanswered")),
            }
        },
    )
    .await;
}

/// Once settled, nothing is written for a while; `when` says when that is promised.
pub async fn quiet(proxy: &Proxy, when: &str) {
    quiet_for(form(QUIET), proxy, when).await;
}

/// The same for another time.
pub async fn quiet_for(time: Duration, proxy: &Proxy, when: &str) {
    settled(proxy).await;
    let before = proxy.seen().len();
    tokio::time::sleep(time).await;
    let after = proxy.seen();
    let written: Vec<_> = after[before..]
        .iter()
        .filter(|seen| seen.call.writes() && !seen.call.elects())
        .map(|seen| {
            format!(
                "{} {} {}",
                seen.call.verb, seen.call.resource, seen.call.name
            )
        })
        .collect();
    assert!(written.is_empty(), "broken: no writes {when}: {written:?}");
}
