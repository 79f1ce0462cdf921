//! What the watches have seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use kube::Resource;

/// Namespace and name of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// The object of this name.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// Key of a named object.
    pub fn of(object: &impl Resource) -> Self {
        let metadata = object.meta();
        Self::new(
            metadata.namespace.clone().unwrap_or_default(),
            metadata.name.clone().unwrap_or_default(),
        )
    }

    /// Another object of the same namespace.
    #[must_use]
    pub fn sibling(&self, name: &str) -> Self {
        Self::new(self.namespace.clone(), name)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Objects of one kind, written by the watches of that kind and read by reconciles. Never locked across
/// an await.
pub struct Store<K> {
    objects: Arc<RwLock<BTreeMap<ObjectKey, Arc<K>>>>,
}

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self {
            objects: Arc::clone(&self.objects),
        }
    }
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self {
            objects: Arc::default(),
        }
    }
}

impl<K> Store<K> {
    // A writer that panicked left the map whole: each write is one insert or removal.
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<ObjectKey, Arc<K>>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<ObjectKey, Arc<K>>> {
        self.objects.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object of this name.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.read().get(key).cloned()
    }

    /// The objects of a namespace whose names begin with `prefix`.
    #[must_use]
    pub fn with_prefix(&self, namespace: &str, prefix: &str) -> Vec<Arc<K>> {
        self.read()
            .range(ObjectKey::new(namespace, prefix)..)
            .take_while(|(key, _)| key.namespace == namespace && key.name.starts_with(prefix))
            .map(|(_, object)| Arc::clone(object))
            .collect()
    }

    /// The keys of all objects.
    #[must_use]
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.read().keys().cloned().collect()
    }

    /// All objects.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<K>> {
        self.read().values().cloned().collect()
    }

    /// Takes an object in; returns the one it replaces.
    pub fn insert(&self, key: ObjectKey, object: impl Into<Arc<K>>) -> Option<Arc<K>> {
        self.write().insert(key, object.into())
    }

    /// Forgets an object.
    pub fn remove(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.write().remove(key)
    }

    /// After a fresh list: forgets what is in `scope` (a namespace; `None` for all) and was not listed.
    /// Returns what is forgotten.
    pub fn retain(&self, scope: Option<&str>, listed: &BTreeSet<ObjectKey>) -> Vec<Arc<K>> {
        let mut objects = self.write();
        let in_scope = |key: &ObjectKey| scope.is_none_or(|scope| key.namespace == scope);
        let gone: Vec<_> = objects
            .keys()
            .filter(|key| in_scope(key) && !listed.contains(key))
            .cloned()
            .collect();
        gone.iter().filter_map(|key| objects.remove(key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: &str, name: &str) -> ObjectKey {
        ObjectKey::new(namespace, name)
    }

    #[test]
    fn a_prefix_does_not_reach_into_other_names_or_namespaces() {
        let store = Store::<String>::default();
        for (namespace, name) in [
            ("a", "x-connector"),
            ("a", "x-connector-1"),
            ("a", "xy-connector"),
            ("b", "x-connector"),
        ] {
            store.insert(key(namespace, name), format!("{namespace}/{name}"));
        }
        let found = store.with_prefix("a", "x-connector");
        let found: Vec<_> = found.iter().map(|object| object.as_str()).collect();
        assert_eq!(found, ["a/x-connector", "a/x-connector-1"]);
    }

    #[test]
    fn a_fresh_list_forgets_only_in_its_own_namespace() {
        let store = Store::default();
        for namespace in ["a", "b"] {
            store.insert(key(namespace, "gone"), ());
            store.insert(key(namespace, "kept"), ());
        }
        assert_eq!(
            store
                .retain(Some("a"), &BTreeSet::from([key("a", "kept")]))
                .len(),
            1
        );
        assert_eq!(
            store.keys(),
            [key("a", "kept"), key("b", "gone"), key("b", "kept")]
        );
        assert_eq!(store.retain(None, &BTreeSet::new()).len(), 3);
    }
}
