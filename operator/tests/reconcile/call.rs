//! A request to the API server, as far as tests speak of it.

use http::{Method, Uri};

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `get`, `list`, `watch`, `create`, `update`, `patch` or `delete`.
    pub verb: &'static str,
    /// Plural of the kind, with `/status` or another subresource.
    pub resource: String,
    pub namespace: String,
    /// Empty for a list.
    pub name: String,
    /// Who owns the fields that are written; empty if it does not say.
    pub manager: String,
    /// Where a watch begins; empty if it does not say.
    pub version: String,
    /// Number among those that change something, from 1; the election's do not count.
    pub write: Option<usize>,
}

impl Call {
    pub fn of(method: &Method, uri: &Uri) -> Self {
        let query = uri.query().unwrap_or_default();
        let value = |key: &str| {
            let found = query
                .split('&')
                .find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
            found.unwrap_or_default().to_owned()
        };
        let mut parts = uri.path().split('/').filter(|part| !part.is_empty());
        // `api/v1` or `apis/<group>/<version>`.
        match parts.next() {
            Some("apis") => drop((parts.next(), parts.next())),
            _ => drop(parts.next()),
        }
        let rest: Vec<&str> = parts.collect();
        let (namespace, rest) = match rest[..] {
            ["namespaces", namespace, ref rest @ ..] if !rest.is_empty() => (namespace, rest),
            ref rest => ("", rest),
        };
        let name = rest.get(1).copied().unwrap_or_default();
        let resource = match rest {
            [plural, _, subresource] => format!("{plural}/{subresource}"),
            [plural, ..] => (*plural).to_owned(),
            [] => String::new(),
        };
        let verb = match *method {
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ if value("watch") == "true" => "watch",
            _ if name.is_empty() => "list",
            _ => "get",
        };
        Self {
            verb,
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            manager: value("fieldManager"),
            version: value("resourceVersion"),
            write: None,
        }
    }

    /// Whether it changes something.
    pub fn writes(&self) -> bool {
        !matches!(self.verb, "get" | "list" | "watch")
    }

    /// Whether it is about the operators' own Lease.
    pub fn elects(&self) -> bool {
        self.resource == "leases" && self.name == "azure-iot-hub-operator"
    }

    /// Whether it writes an object that belongs to a connector: neither a status nor an event.
    pub fn writes_child(&self) -> bool {
        self.writes() && !matches!(&*self.resource, "azureiothubconnectors/status" | "events")
    }
}

#[test]
fn a_request_is_told_by_its_path() {
    let of = |method: Method, uri: &str| Call::of(&method, &uri.parse().unwrap());
    let list = of(Method::GET, "/api/v1/namespaces/a/pods?limit=500");
    assert_eq!((list.verb, &*list.resource), ("list", "pods"));
    let watch = of(
        Method::GET,
        "/apis/apps/v1/deployments?&watch=true&timeoutSeconds=9&resourceVersion=7",
    );
    assert_eq!((watch.verb, &*watch.resource), ("watch", "deployments"));
    assert_eq!(watch.version, "7");
    let path = "/apis/iot-connectors.dev/v1alpha1/namespaces/a/azureiothubconnectors/x/status?&fieldManager=m";
    let status = of(Method::PATCH, path);
    assert_eq!(status.resource, "azureiothubconnectors/status");
    assert_eq!(
        (&*status.namespace, &*status.name, &*status.manager),
        ("a", "x", "m")
    );
    assert!(status.writes() && !status.writes_child());
}
