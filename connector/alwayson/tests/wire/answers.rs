//! Every request of the platform is answered, however slowly it takes the answers.

use std::{num::NonZeroU8, sync::Arc, time::Duration};

use alwayson::{
    Body, Claim, Credentials, Header, Incoming, Message, Node, NodeSettings, Request, Response,
    Status, Timings, TlsSettings, Value,
};
use futures::{SinkExt, Stream, StreamExt};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{Instant, timeout_at},
};
use tokio_tungstenite::{
    WebSocketStream, accept_async,
    tungstenite::{Error, Message as Frame},
};
use tokio_util::sync::CancellationToken;

/// Whatever has not come by then never will.
const SOON: Duration = Duration::from_secs(60);
/// As large as fits into one frame, so that what waits is more than the system's buffers hold.
const LARGE: usize = 8000;

struct Key;

impl Credentials for Key {
    fn claims(&self) -> Result<Vec<Claim>, String> {
        Ok(vec![Claim {
            name: "appKey".into(),
            value: "a key".into(),
        }])
    }
}

/// A node of a platform, on which an endpoint with one WebSocket logs in that answers at once.
async fn node() -> (Node, WebSocketStream<TcpStream>, CancellationToken) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let settings = NodeSettings {
        name: "node".into(),
        url: format!("ws://{address}/Thingworx/WS").parse().unwrap(),
        tls: TlsSettings::default(),
        pipes: NonZeroU8::MIN,
        timings: Timings::default(),
    };
    let (requests, mut asked) = mpsc::channel::<Incoming>(1024);
    let stop = CancellationToken::new();
    let node = Node::start(settings, Arc::new(Key), requests, stop.clone());
    tokio::spawn(async move {
        while let Some(incoming) = asked.recv().await {
            incoming.reply(Response::result(Value::string("x".repeat(LARGE))));
        }
    });
    let (tcp, _) = listener.accept().await.unwrap();
    let mut socket = accept_async(tcp).await.unwrap();
    let login = socket.next().await.unwrap().unwrap().into_data();
    let header = Message::decode(&login).unwrap().header;
    let accepted = Message {
        header: Header {
            endpoint_id: 7,
            session_id: 1,
            ..header
        },
        body: Response::ok().into(),
    };
    let accepted = Frame::binary(accepted.encode().unwrap());
    socket.send(accepted).await.unwrap();
    (node, socket, stop)
}

fn request(request_id: u32) -> Frame {
    let message = Message {
        header: Header {
            request_id,
            endpoint_id: -1,
            session_id: -1,
        },
        body: Body::Request(Request::read("Thing", "property")),
    };
    Frame::binary(message.encode().unwrap())
}

/// Reads the answers to so many requests; tells how many of each kind came.
async fn answers(
    mut socket: impl Stream<Item = Result<Frame, Error>> + Unpin,
    count: u32,
) -> (usize, usize) {
    let end = Instant::now() + SOON;
    let mut open = vec![true; count as usize];
    let (mut done, mut refused) = (0, 0);
    while done + refused < open.len() {
        let next = timeout_at(end, socket.next()).await;
        let next = next.unwrap_or_else(|_| {
            let answered = done + refused;
            panic!("only {answered} of {count} requests were answered")
        });
        let Frame::Binary(bytes) = next.unwrap().unwrap() else {
            continue;
        };
        let message = Message::decode(&bytes).unwrap();
        let Body::Response(response) = message.body else {
            continue;
        };
        let open = &mut open[message.header.request_id as usize];
        assert!(std::mem::take(open), "a request was answered twice");
        match response.status {
            Status::SUCCESS => done += 1,
            Status::SERVICE_UNAVAILABLE => refused += 1,
            status => panic!("{status:?}"),
        }
    }
    (done, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_platform_that_asks_faster_than_it_reads_is_slowed_down_and_gets_every_answer() {
    const COUNT: u32 = 20_000;
    // Nothing is read before so many are sent: more than may be served and wait at once.
    const BEFORE: usize = 5000;
    let (_node, socket, _stop) = node().await;
    let (mut sink, stream) = socket.split();
    let (tell, mut sent) = watch::channel(0);
    let asking = tokio::spawn(async move {
        for id in 0..COUNT {
            sink.send(request(id)).await.unwrap();
            tell.send_replace(id as usize + 1);
        }
        sink
    });
    sent.wait_for(|sent| *sent >= BEFORE).await.unwrap();
    let (done, refused) = answers(stream, COUNT).await;
    assert_eq!(done + refused, COUNT as usize);
    let _sink = asking.await.unwrap();
}
