//! Faults of connections: what lies between the operator and a server when neither of them is at fault.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{DuplexStream, copy_bidirectional, duplex},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// How connections fare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Well.
    Open,
    /// Nobody listens; those that stood are reset.
    Refused,
    /// New ones are accepted and reset at once, as are those that stood.
    Reset,
    /// New ones are accepted and never hear anything, nor do those that stood, without any sign of an
    /// end. They stay mute when the line is open again: only a new connection helps.
    Mute,
}

/// How connections fare, and how often all of them have been reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    pub line: Line,
    pub resets: u32,
}

/// What the kernel holds of a connection's bytes is more; this is only the way through here.
const BUFFER: usize = 64 * 1024;

/// Opens a port; each connection that gets through is given to `serve`.
pub async fn listen(
    line: watch::Receiver<State>,
    serve: impl Fn(DuplexStream) + Send + 'static,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(run(listener, address, line, serve));
    Ok(address)
}

async fn run(
    listener: TcpListener,
    address: SocketAddr,
    mut line: watch::Receiver<State>,
    serve: impl Fn(DuplexStream),
) {
    let mut listening = Some(listener);
    loop {
        let now = line.borrow_and_update().line;
        if now == Line::Refused {
            listening = None;
        } else if listening.is_none() {
            listening = TcpListener::bind(address).await.ok();
        }
        let accepted = async {
            match &listening {
                Some(listener) => listener.accept().await,
                None if now == Line::Refused => std::future::pending().await,
                None => {
                    // Somebody has the port for a moment: try again.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Err(io::ErrorKind::AddrInUse.into())
                }
            }
        };
        tokio::select! {
            accepted = accepted => if let Ok((stream, _)) = accepted {
                let (ours, theirs) = duplex(BUFFER);
                if now == Line::Open {
                    serve(theirs);
                }
                tokio::spawn(carry(stream, ours, line.clone()));
            },
            changed = line.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

async fn carry(mut stream: TcpStream, mut ours: DuplexStream, mut line: watch::Receiver<State>) {
    let begun = *line.borrow_and_update();
    let now = if begun.line == Line::Open {
        tokio::select! {
            _ = copy_bidirectional(&mut stream, &mut ours) => return,
            now = fault(begun, &mut line) => now,
        }
    } else {
        begun.line
    };
    match now {
        // Open: again, after a reset.
        Line::Open | Line::Refused | Line::Reset => {
            let _ = stream.set_zero_linger();
        }
        // Kept, so that no end is ever seen.
        Line::Mute => {
            let _kept = (&stream, &ours);
            std::future::pending::<()>().await;
        }
    }
}

/// The first fault after `begun`.
async fn fault(begun: State, line: &mut watch::Receiver<State>) -> Line {
    match line.wait_for(|now| *now != begun).await {
        Ok(now) => now.line,
        // The test has ended.
        Err(_) => Line::Reset,
    }
}
