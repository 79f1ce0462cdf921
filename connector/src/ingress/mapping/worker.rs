//! The process that runs the program: portions of messages from standard input, answers to standard output.
//!
//! Two threads: one runs the program, the other reads and watches. So the process ends when the connector
//! does (its input ends) even while the program loops, and a message that takes too long ends it. That
//! happens under the lock that a message has to take before it is answered: whatever is unanswered first
//! was the one that took too long.
//!
//! Nothing of the connector's is in reach: the environment is empty, standard error leads nowhere, the
//! connector's files and sockets are closed on `exec`.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::AsFd,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use mapping::{Filter, STACK};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Resource, Rlimit, Signal, getpid, kill_process, setrlimit},
    time::{ClockId, clock_gettime},
};

use super::frame::{self, Kind};

/// The one argument of a process that is to run a program.
pub const ASKED: &str = "--mapping-worker";
/// Variables of a process, which needs none of the connector's. Its allocator reserves a gibibyte ahead, as
/// always, but does not make it writable: what is writable before the limit is set would never count.
pub const ENVIRONMENT: [(&str, &str); 1] = [("MIMALLOC_ARENA_EAGER_COMMIT", "0")];

/// Exit status: the program does not compile.
pub const NO_PROGRAM: u8 = 64;
/// Exit status: the interpreter has gone wrong.
pub const FAULT: u8 = 70;
/// Signal by which the process ends itself: a message takes too long.
pub const TOO_LONG: Signal = Signal::XCPU;

/// Processor time of one message. An ordinary one takes some 20 µs. The largest body that is read has 50,000
/// values, twice what a message of the hub holds; to make something of each takes 40 to 130 ms.
pub const TIME: Duration = Duration::from_millis(250);
/// Memory for the interpreter, in bytes: the largest body and what is made of it take 20 MiB, and two
/// processes of this size fit into a pod's 512 MiB beside what the connector needs.
pub const MEMORY: usize = 64 << 20;
/// Outputs of one message, in bytes: what a message could have had on the wire.
pub const OUTPUT: usize = 256 << 10;
/// Answers of one portion, in bytes, after which the rest is put off: they wait in the connector's memory.
const ANSWERS: usize = 1 << 20;
/// Processor time of one portion, after which the rest is put off: other partitions wait for their turn.
const PORTION: Duration = TIME;
/// How often the time of a message is looked at.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 10_000_000,
};

/// Runs the program of a connector, if that is what this process was started for.
#[must_use]
pub fn run_if_asked() -> Option<ExitCode> {
    let asked = std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == ASKED);
    asked.then(|| serve().unwrap_or(ExitCode::FAILURE))
}

fn serve() -> io::Result<ExitCode> {
    std::panic::set_hook(Box::new(|_| std::process::exit(FAULT.into())));
    // Without a dump: the memory holds what devices have sent.
    limit(Resource::Core, 0)?;
    // Data and not address space: the executable and its libraries do not count. The stack of the thread
    // below does.
    limit(Resource::Data, STACK + MEMORY)?;
    // Without a buffer between, so that to wait for input means what it says.
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let Some(program) = block(&mut input)? else {
        return Ok(ExitCode::SUCCESS);
    };
    let Ok(program) = String::from_utf8(program) else {
        return Ok(ExitCode::from(NO_PROGRAM));
    };
    let watch = Arc::new(Watch::default());
    let (portions, queue) = mpsc::channel();
    let watched = watch.clone();
    thread::Builder::new().stack_size(STACK).spawn(move || {
        // The connector is gone, or knows what the end of this process means.
        let _ = work(&program, &queue, &watched, &mut output);
        std::process::exit(NO_PROGRAM.into());
    })?;
    loop {
        let wait = watch.is_busy().then_some(&LOOK);
        match poll(&mut [PollFd::new(&input, PollFlags::IN)], wait) {
            Ok(0) => watch.end_if_too_long(),
            Ok(_) => {
                let Some(portion) = block(&mut input)? else {
                    end(Signal::TERM);
                };
                watch.begins_portion();
                // The other thread lives as long as the process.
                let _ = portions.send(portion);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Compiles the program, then answers.
fn work(
    program: &str,
    portions: &mpsc::Receiver<Vec<u8>>,
    watch: &Watch,
    output: &mut File,
) -> io::Result<()> {
    let filter = Filter::compile(program).map_err(io::Error::other)?;
    output.write_all(&frame::answer(Kind::Ready, b""))?;
    while let Ok(portion) = portions.recv() {
        let (mut rest, mut given, begun) = (&portion[..], 0, used());
        while let (Some(about), Some(body)) = (frame::take(&mut rest), frame::take(&mut rest)) {
            if given > ANSWERS || used().saturating_sub(begun) > PORTION {
                watch.ends(true);
                output.write_all(&frame::answer(Kind::Later, b""))?;
                break;
            }
            watch.begins();
            let made = filter.run(about, body, OUTPUT);
            watch.ends(rest.is_empty());
            // At once: when the next message ends this process, the answer is with the connector.
            let answer = match made {
                Ok(bytes) => frame::answer(Kind::Made, &bytes),
                Err(fault) => frame::answer(Kind::Failed, fault.to_string().as_bytes()),
            };
            given += answer.len();
            output.write_all(&answer)?;
        }
    }
    Ok(())
}

/// The next block; none at the end of the input.
fn block(input: &mut File) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; frame::LENGTH];
    match input.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut bytes = vec![0; frame::length_of(length)];
    match input.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is being worked on, and since when.
#[derive(Default)]
struct Watch(Mutex<Work>);

#[derive(Default)]
struct Work {
    /// A portion is not done.
    busy: bool,
    /// Processor time of this process when the message was begun.
    since: Option<Duration>,
}

impl Watch {
    fn work(&self) -> std::sync::MutexGuard<'_, Work> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_busy(&self) -> bool {
        self.work().busy
    }

    fn begins_portion(&self) {
        self.work().busy = true;
    }

    fn begins(&self) {
        self.work().since = Some(used());
    }

    fn ends(&self, portion: bool) {
        let mut work = self.work();
        work.since = None;
        work.busy &= !portion;
    }

    fn end_if_too_long(&self) {
        // Held until the process is gone: what has taken too long is never answered.
        let work = self.work();
        if let Some(since) = work.since
            && used().saturating_sub(since) >= TIME
        {
            end(TOO_LONG);
        }
    }
}

/// Processor time that this process has used.
fn used() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

fn limit(resource: Resource, bytes: usize) -> io::Result<()> {
    let most = Some(bytes as u64);
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    Ok(setrlimit(resource, limit)?)
}

/// Ends this process at once: nothing is tidied up that the other thread may be using.
fn end(signal: Signal) -> ! {
    let _ = kill_process(getpid(), signal);
    loop {
        thread::park();
    }
}
