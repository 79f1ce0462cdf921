//! One node's door: accepts connections while the node is in the cluster.

use std::sync::Arc;

use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_util::{either::Either, sync::CancellationToken};

use crate::{cluster::Shared, socket};

pub(crate) async fn serve(
    listener: TcpListener,
    node: usize,
    cluster: Shared,
    tls: Option<TlsAcceptor>,
    shutdown: CancellationToken,
) {
    let mut sockets = JoinSet::new();
    let mut id = 0_u64;
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(_) = sockets.join_next() => continue,
        };
        let Ok((tcp, _)) = accepted else { continue };
        if cluster.nodes[node].faults.borrow().away {
            drop(tcp);
            continue;
        }
        // Requests and answers are small; waiting to fill a segment would only delay them.
        let _ = tcp.set_nodelay(true);
        id += 1;
        let (cluster, tls, shutdown) = (Arc::clone(&cluster), tls.clone(), shutdown.clone());
        sockets.spawn(async move {
            let stream = match tls {
                None => Either::Right(tcp),
                Some(tls) => match tls.accept(tcp).await {
                    Ok(stream) => Either::Left(stream),
                    Err(error) => return tracing::debug!(node, %error, "TLS failed"),
                },
            };
            socket::serve(stream, id, node, cluster, shutdown).await;
        });
    }
    while sockets.join_next().await.is_some() {}
}
