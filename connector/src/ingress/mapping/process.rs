//! A mapping process as the connector sees it.

use std::{
    io, os::unix::process::ExitStatusExt, path::Path, process::ExitStatus, process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::{
    Mapped,
    frame::{self, Kind},
    worker,
};

/// A process that does not answer for so long gets no processor: it ends itself long before, or lives on
/// a machine that stands still.
const PATIENCE: Duration = Duration::from_secs(10);
/// Signal of an allocation that fails, and of a stack that is full.
const ABORT: i32 = 6;

/// A running process, whose program is compiled. Dropping it ends it.
pub struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// How the contact with a process was lost.
#[derive(Debug)]
pub enum Lost {
    /// It has closed its side.
    Gone,
    /// It does not answer, or not as it should.
    Silent,
}

/// Why a process has ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Death {
    /// The message took too long.
    #[error("it takes more than {} ms of processor time", worker::TIME.as_millis())]
    Time,
    /// It wanted too much memory, or called itself too often.
    #[error("it needs more than {} MiB of memory, or too deep a stack", worker::MEMORY >> 20)]
    Memory,
    /// The interpreter is at fault.
    #[error("the interpreter has failed")]
    Fault,
    /// Not necessarily the message's fault.
    #[error("the process that maps messages has ended: {0}")]
    Unclear(String),
}

impl Death {
    /// A label of a metric.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Memory => "memory",
            Self::Fault => "fault",
            Self::Unclear(_) => "unclear",
        }
    }
}

impl Process {
    /// Starts one and waits until it has compiled the program.
    ///
    /// # Errors
    /// In words, if it cannot be started now.
    pub async fn start(executable: &Path, program: &str) -> Result<Self, String> {
        let mut child = Command::new(executable)
            .arg(worker::ASKED)
            .env_clear()
            .envs(worker::ENVIRONMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| error.to_string())?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (input, output) = pipes.ok_or("it has no pipes")?;
        let mut process = Self {
            child,
            input,
            output: BufReader::new(output),
        };
        let mut text = Vec::new();
        frame::put(&mut text, program.as_bytes());
        let begin = async {
            process.input.write_all(&text).await?;
            process.answer().await
        };
        match timeout(PATIENCE, begin).await {
            Ok(Ok((Kind::Ready, _))) => Ok(process),
            Ok(_) => Err(process.end(Lost::Gone).await.to_string()),
            Err(_) => Err("it does not answer".to_owned()),
        }
    }

    /// Asks for the messages of a request; appends the answers that have come.
    ///
    /// # Errors
    /// [`Lost`]: the process is of no more use; the first message without an answer was being worked on.
    pub async fn ask(
        &mut self,
        request: &[u8],
        asked: usize,
        answers: &mut Vec<Mapped>,
    ) -> Result<(), Lost> {
        within(self.input.write_all(request)).await?;
        while answers.len() < asked {
            let (kind, bytes) = within(self.answer()).await?;
            answers.push(match kind {
                Kind::Made if bytes.is_empty() => Mapped::Nothing,
                Kind::Made => match String::from_utf8(bytes) {
                    Ok(text) => Mapped::Text(text),
                    Err(_) => Mapped::Failed("it gives what is no text in UTF-8".to_owned()),
                },
                Kind::Failed => Mapped::Failed(String::from_utf8_lossy(&bytes).into_owned()),
                Kind::Later => return Ok(()),
                Kind::Ready => return Err(Lost::Silent),
            });
        }
        Ok(())
    }

    /// Ends it, if it has not ended by itself.
    pub async fn end(mut self, lost: Lost) -> Death {
        if matches!(lost, Lost::Gone)
            && let Ok(Ok(status)) = timeout(PATIENCE, self.child.wait()).await
        {
            return death(status);
        }
        // `kill_on_drop` sees to it and takes no time.
        Death::Unclear("it did not answer".to_owned())
    }

    async fn answer(&mut self) -> io::Result<(Kind, Vec<u8>)> {
        let mut first = [0; frame::HEAD];
        self.output.read_exact(&mut first).await?;
        let known = frame::head(first).filter(|(_, length)| *length <= 2 * worker::OUTPUT);
        let Some((kind, length)) = known else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let mut bytes = vec![0; length];
        self.output.read_exact(&mut bytes).await?;
        Ok((kind, bytes))
    }
}

async fn within<T>(doing: impl Future<Output = io::Result<T>>) -> Result<T, Lost> {
    match timeout(PATIENCE, doing).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => Err(Lost::Silent),
        Ok(Err(_)) => Err(Lost::Gone),
        Err(_) => Err(Lost::Silent),
    }
}

fn death(status: ExitStatus) -> Death {
    match (status.signal(), status.code()) {
        (Some(signal), _) if signal == worker::TOO_LONG.as_raw() => Death::Time,
        (Some(ABORT), _) => Death::Memory,
        (_, Some(code)) if code == i32::from(worker::FAULT) => Death::Fault,
        _ => Death::Unclear(status.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_message_has_done_is_held_against_it() {
        let signal = |number| death(ExitStatus::from_raw(number));
        let code = |number: i32| death(ExitStatus::from_raw(number << 8));
        assert_eq!(signal(24), Death::Time);
        assert_eq!(signal(6), Death::Memory);
        assert_eq!(code(70), Death::Fault);
        for unclear in [
            signal(9),
            signal(15),
            signal(11),
            code(0),
            code(1),
            code(64),
        ] {
            assert!(matches!(unclear, Death::Unclear(_)), "{unclear}");
        }
    }
}
