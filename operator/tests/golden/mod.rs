//! Files that hold what a test expects.

use std::path::PathBuf;

use operator::api::AzureIotHubConnector;

/// A resource as the API server gives it: by way of JSON, since YAML of its own has tags for variants.
pub fn resource(text: &str) -> serde_json::Result<AzureIotHubConnector> {
    let tree: serde_json::Value = serde_yaml::from_str(text).map_err(serde::de::Error::custom)?;
    serde_json::from_value(tree)
}

/// The repository's folder.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The file of this path below [`root`] holds `text`; with `BLESS=1` it does afterwards.
pub fn golden(path: &str, text: &str) {
    let file = root().join(path);
    if std::env::var_os("BLESS").is_some_and(|set| !set.is_empty()) {
        std::fs::write(&file, text).unwrap_or_else(|error| panic!("{path}: {error}"));
        return;
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    for (at, (is, was)) in text.lines().zip(expected.lines()).enumerate() {
        assert_eq!(is, was, "{path}, line {}; to accept: BLESS=1", at + 1);
    }
    assert!(
        text == expected,
        "{path} is longer or shorter; to accept: BLESS=1"
    );
}
