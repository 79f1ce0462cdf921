//! ThingWorx's JSON: how its REST interface writes values and infotables.

use serde_json::{Map, Value as Json, json};

use crate::{BaseType, Field, InfoTable, Location, Value};

/// A JSON value that does not fit a base type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{json} is no {}", base_type.name())]
pub struct Unfit {
    base_type: BaseType,
    /// What was given, cut to a readable length.
    json: String,
}

/// A value as JSON: DATETIME as milliseconds, LOCATION as an object, BLOB and IMAGE as base64.
#[must_use]
pub fn to_json(value: &Value) -> Json {
    match value {
        Value::Nothing => Json::Null,
        Value::Number(number) => json!(number),
        Value::Boolean(flag) => json!(flag),
        Value::DateTime(number) | Value::Long(number) => json!(number),
        Value::Integer(number) => json!(number),
        Value::TimeSpan { start, end, period } => {
            json!({ "startDate": start, "endDate": end, "period": period })
        }
        Value::InfoTable(table) => table_to_json(table),
        Value::Location(Location {
            longitude,
            latitude,
            elevation,
        }) => json!({
            "latitude": latitude, "longitude": longitude, "elevation": elevation, "units": "WGS84"
        }),
        Value::Image(bytes) | Value::Blob(bytes) => json!(base64(bytes)),
        Value::Variant(inner) => to_json(inner),
        Value::Vec2([x, y]) => json!({ "x": x, "y": y }),
        Value::Vec3([x, y, z]) => json!({ "x": x, "y": y, "z": z }),
        Value::Vec4([x, y, z, w]) => json!({ "x": x, "y": y, "z": z, "w": w }),
        Value::ThingCode { domain, instance } => json!(format!("{domain}:{instance}")),
        Value::Text(BaseType::Json, text) => {
            serde_json::from_str(text).unwrap_or_else(|_| json!(text))
        }
        Value::Text(_, text) => json!(text),
    }
}

/// A JSON value as a value of `base_type`, strictly: no text is read as a number.
///
/// # Errors
/// [`Unfit`] if it is none.
pub fn from_json(base_type: BaseType, json: &Json) -> Result<Value, Unfit> {
    let read = || -> Option<Value> {
        Some(match base_type {
            BaseType::Nothing => Value::Nothing,
            BaseType::Number => Value::Number(json.as_f64()?),
            BaseType::Boolean => Value::Boolean(json.as_bool()?),
            BaseType::DateTime => Value::DateTime(json.as_i64()?),
            BaseType::Integer => Value::Integer(json.as_i64()?.try_into().ok()?),
            BaseType::Long => Value::Long(json.as_i64()?),
            BaseType::Location => Value::Location(Location {
                latitude: json.get("latitude")?.as_f64()?,
                longitude: json.get("longitude")?.as_f64()?,
                elevation: json.get("elevation").map_or(Some(0.0), Json::as_f64)?,
            }),
            BaseType::InfoTable => Value::InfoTable(table_from_json(json).ok()?),
            BaseType::Json => Value::json(json.to_string()),
            BaseType::Variant => match json {
                Json::Bool(flag) => Value::Boolean(*flag),
                Json::Number(number) => Value::Number(number.as_f64()?),
                Json::String(text) => Value::string(text.as_str()),
                other => Value::json(other.to_string()),
            },
            text if text.is_text() => Value::Text(text, json.as_str()?.to_owned()),
            _ => return None,
        })
    };
    read().ok_or_else(|| Unfit {
        base_type,
        json: json.to_string().chars().take(80).collect(),
    })
}

/// An infotable as JSON: `{"dataShape":{"fieldDefinitions":{…}},"rows":[…]}`.
#[must_use]
pub fn table_to_json(table: &InfoTable) -> Json {
    let fields: Vec<Field> = table.fields().collect();
    let definitions: Map<String, Json> = fields
        .iter()
        .enumerate()
        .map(
            |(
                ordinal,
                Field {
                    name,
                    description,
                    base_type,
                    aspects,
                },
            )| {
                let aspects: Map<String, Json> = aspects
                    .iter()
                    .map(|(name, value)| (name.clone(), to_json(value)))
                    .collect();
                let definition = json!({
                    "name": name, "description": description, "baseType": base_type.name(),
                    "ordinal": ordinal, "aspects": aspects
                });
                (name.clone(), definition)
            },
        )
        .collect();
    let rows: Vec<Json> = table
        .rows()
        .map(|row| {
            let cells = fields.iter().zip(row);
            cells
                .map(|(field, cell)| (field.name.clone(), to_json(&cell)))
                .collect()
        })
        .collect();
    json!({ "dataShape": { "fieldDefinitions": definitions }, "rows": rows })
}

/// An infotable from its JSON.
///
/// # Errors
/// [`Unfit`] if the form, a base type or a cell is wrong.
pub fn table_from_json(json: &Json) -> Result<InfoTable, Unfit> {
    let unfit = || Unfit {
        base_type: BaseType::InfoTable,
        json: json.to_string().chars().take(80).collect(),
    };
    let definitions = json
        .pointer("/dataShape/fieldDefinitions")
        .and_then(Json::as_object)
        .ok_or_else(unfit)?;
    let mut fields: Vec<(i64, Field)> = definitions
        .iter()
        .map(|(name, definition)| {
            let base_type = definition.get("baseType")?.as_str()?.parse().ok()?;
            let ordinal = definition
                .get("ordinal")
                .and_then(Json::as_i64)
                .unwrap_or(0);
            Some((ordinal, Field::new(name.as_str(), base_type)))
        })
        .collect::<Option<_>>()
        .ok_or_else(unfit)?;
    fields.sort_by_key(|(ordinal, _)| *ordinal);
    let fields: Vec<Field> = fields.into_iter().map(|(_, field)| field).collect();
    let mut table = InfoTable::new(fields.clone());
    for row in json
        .get("rows")
        .and_then(Json::as_array)
        .ok_or_else(unfit)?
    {
        let cells = fields.iter().map(|field| match row.get(&field.name) {
            None | Some(Json::Null) => Ok(Value::Nothing),
            Some(cell) => from_json(field.base_type, cell),
        });
        table
            .push(&cells.collect::<Result<Vec<_>, _>>()?)
            .map_err(|_| unfit())?;
    }
    Ok(table)
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
