//! The custom resource definition as text.

use kube::CustomResourceExt;
use serde_json::Value;

use super::AzureIotHubConnector;

/// The definition as YAML, keys in a fixed order.
///
/// # Errors
/// If it has no YAML form, which would be a fault of this program.
pub fn yaml() -> Result<String, serde_yaml::Error> {
    // By way of JSON, whose maps are sorted by key.
    let mut tree = serde_json::to_value(AzureIotHubConnector::crd())
        .map_err(<serde_yaml::Error as serde::ser::Error>::custom)?;
    tidy(&mut tree);
    serde_yaml::to_string(&tree)
}

/// Removes what schemars writes and Kubernetes does not know: formats of unsigned integers, of which
/// the API server warns, and whole numbers written as fractions. Joins the lines of a paragraph, which
/// `kubectl explain` breaks by itself.
fn tidy(tree: &mut Value) {
    match tree {
        Value::Object(map) => {
            if matches!(map.get("format"), Some(Value::String(format)) if format.starts_with("uint"))
            {
                map.remove("format");
            }
            if let Some(Value::String(text)) = map.get_mut("description") {
                let paragraphs = text
                    .split("\n\n")
                    .map(|paragraph| paragraph.replace('\n', " "));
                *text = paragraphs.collect::<Vec<_>>().join("\n\n");
            }
            for bound in ["minimum", "maximum"] {
                if let Some(Value::Number(number)) = map.get_mut(bound)
                    && let Some(float) = number.as_f64()
                    && float.fract() == 0.0
                {
                    // Within the schema's own bounds, all far below 2^53.
                    #[allow(clippy::cast_possible_truncation)]
                    let whole = float as i64;
                    *number = whole.into();
                }
            }
            for copied in COPIED {
                if let Some(part) = map.get_mut(copied) {
                    below(part);
                }
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(list) => list.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// Parts of a pod that stand in the definition as Kubernetes has them. Its words for each of their fields would be
/// more than all our own; `kubectl explain pod.spec` has them.
const COPIED: [&str; 2] = ["affinity", "topologySpreadConstraints"];

/// Removes the words below this part, not its own.
fn below(part: &mut Value) {
    fn silence(tree: &mut Value) {
        match tree {
            Value::Object(map) => {
                if map.get("description").is_some_and(Value::is_string) {
                    map.remove("description");
                }
                map.values_mut().for_each(silence);
            }
            Value::Array(list) => list.iter_mut().for_each(silence),
            _ => {}
        }
    }
    if let Value::Object(map) = part {
        let fields = map.iter_mut().filter(|(key, _)| *key != "description");
        fields.for_each(|(_, tree)| silence(tree));
    }
}

/// Prints the definition to standard output.
#[must_use]
pub fn print() -> std::process::ExitCode {
    use std::{io::Write, process::ExitCode};
    let Ok(text) = yaml() else {
        return ExitCode::FAILURE;
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
