//! A client of which each answer is heard, for those who judge by answers whether a server is there.

use http::{Method, Request, StatusCode};
use kube::{Client, client::Body};

/// How a request ended: the server's status, or `None` if there was no answer.
pub type Heard = (Method, Option<StatusCode>);

/// The same client; `hear` is told how each request ended. Of a watch that is its beginning, not its events.
#[must_use]
pub fn heard(client: Client, hear: impl Fn(Heard) + Clone + Send + Sync + 'static) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, hear) = (client.clone(), hear.clone());
        async move {
            let method = request.method().clone();
            let answer = client.send(request).await;
            let status = answer.as_ref().ok().map(http::Response::status);
            hear((method, status));
            answer.map_err(Into::<tower::BoxError>::into)
        }
    });
    Client::new(service, namespace)
}
