//! Requests of edges, carried out on the model.
//!
//! The platform answers every failure with 0xA0 and a reason that names the URI.

use std::{collections::BTreeMap, sync::Arc};

use alwayson::{
    BaseType, Characteristic, EntityType, Field, InfoTable, Method, Request, Response, Status,
    Value,
    json::{from_json, table_to_json, to_json},
};
use serde_json::Value as Json;

use crate::{
    bind::EndpointId,
    cluster::{Cluster, lock, now_ms},
    entity,
    log::{EventEntry, ValueEntry},
    model::{Model, Thing},
};

/// A failure: the cause, to which the URI is added.
type Done = Result<Response, String>;

pub(crate) fn execute(
    cluster: &Arc<Cluster>,
    node: usize,
    endpoint: EndpointId,
    request: &Request,
) -> Response {
    let name = request.target.as_str();
    *lock(&cluster.served)
        .entry(format!("{:?} {name}", request.method))
        .or_default() += 1;
    let failing = cluster.nodes[node].faults.borrow().fail_all
        || lock(&cluster.failing).contains(&request.entity);
    let done = if failing {
        Err("an internal error occurred".to_owned())
    } else if lock(&cluster.forbidden).contains(name) {
        let entity = &request.entity;
        Err(format!(
            "Not authorized for ServiceInvoke on {name} in {entity}"
        ))
    } else {
        let sender = lock(&cluster.nodes[node].endpoints)
            .get(&endpoint)
            .and_then(|one| one.gateway.clone())
            .unwrap_or_default();
        Call {
            cluster,
            node,
            sender,
            taken_ms: now_ms(),
        }
        .run(request)
    };
    done.unwrap_or_else(|cause| {
        let Request {
            entity_type,
            entity,
            characteristic,
            target,
            ..
        } = request;
        let uri = format!(
            "/{}/{entity}/{}/{target}/",
            entity_type.name(),
            characteristic.name()
        );
        let reason = format!("Unable to dispatch [ uri = {uri} ] : {cause}");
        Response::error(Status::INTERNAL_ERROR, reason)
    })
}

struct Call<'a> {
    cluster: &'a Arc<Cluster>,
    node: usize,
    sender: String,
    taken_ms: i64,
}

impl Call<'_> {
    fn run(&self, request: &Request) -> Done {
        let may = |template: Option<&str>| lock(&self.cluster.rights).check(request, template);
        if request.entity_type == EntityType::RESOURCES && request.entity == "EntityServices" {
            may(None)?;
            return entity::services(self.cluster, request);
        }
        if request.entity_type != EntityType::THINGS {
            return Err(format!("[{}] does not exist", request.entity));
        }
        let mut model = lock(&self.cluster.model);
        let Some((name, thing)) = model.thing(&request.entity) else {
            return Err(format!("Thing [{}] does not exist", request.entity));
        };
        let (name, thing) = (name.to_owned(), Arc::clone(thing));
        may(Some(model.base(&thing.template)))?;
        let service = match request.characteristic {
            Characteristic::SERVICES => request.target.as_str(),
            _ => "",
        };
        if let Some(done) = entity::life(&mut model, &name, &thing, service) {
            return done;
        }
        match (request.method, request.characteristic) {
            (Method::Post, Characteristic::EVENTS) => {
                drop(model);
                let data = request.params.as_ref().map_or(Json::Null, table_to_json);
                self.event(&name, &request.target, data);
                Ok(Response::ok())
            }
            (Method::Post, Characteristic::SERVICES) => {
                self.service(&mut model, &name, &thing, request)
            }
            (Method::Get, Characteristic::PROPERTIES) => {
                match entity::gateway(&model, &thing, &request.target) {
                    Some(response) => Ok(response),
                    None => read(&model, &name, &thing, &request.target),
                }
            }
            (Method::Put, Characteristic::PROPERTIES) => {
                let params = request.params.as_ref().ok_or("no value is given")?;
                if let Some(done) = entity::route(&mut model, &name, &thing, params) {
                    return done;
                }
                let row = params.rows().next().ok_or("no value is given")?;
                for (field, value) in params.fields().zip(row) {
                    let write = Write {
                        property: field.name,
                        value,
                        time_ms: None,
                        quality: None,
                    };
                    self.write(&mut model, &name, &thing, write)?;
                }
                Ok(Response::ok())
            }
            (method, side) => Err(format!("{method:?} of {} is not supported", side.name())),
        }
    }

    fn event(&self, thing: &str, event: &str, data: Json) {
        let (thing, event) = (thing.to_owned(), event.to_owned());
        lock(&self.cluster.events).push(EventEntry {
            fired_ms: now_ms(),
            thing,
            event,
            data,
        });
    }

    fn service(&self, model: &mut Model, name: &str, thing: &Thing, request: &Request) -> Done {
        let params = request.params.as_ref();
        if let (Some(tally), true) = (&self.cluster.tally, request.target.starts_with("Update")) {
            lock(tally).request();
        }
        match request.target.as_str() {
            "UpdateSubscribedPropertyValues" => {
                self.subscribed(model, name, thing, vtq_rows(params, "values")?)
            }
            "UpdateSubscribedPropertyValuesBatched" => {
                self.subscribed(model, name, thing, batched_rows(params)?)
            }
            "UpdatePropertyValues" => {
                for row in vtq_rows(params, "values")? {
                    self.write(model, name, thing, row)?;
                }
                Ok(Response::ok())
            }
            "GetPropertySubscriptions" => Ok(Response::with(subscriptions(thing))),
            "GetEventSubscriptions" => Ok(Response::with(InfoTable::new([Field::new(
                "edgeName",
                BaseType::String,
            )]))),
            "GetPropertyDefinitions" => Ok(Response::with(definitions(thing))),
            "GetPropertyValues" => read(model, name, thing, "*"),
            "GetConfiguration" => Ok(Response::with(configuration(thing))),
            "GetMetadata" => {
                let json = serde_json::to_string(thing).map_err(|error| error.to_string())?;
                Ok(Response::result(Value::json(json)))
            }
            other => Err(format!(
                "Service [{other}] does not exist on Thing [{name}]"
            )),
        }
    }

    fn subscribed(&self, model: &mut Model, name: &str, thing: &Thing, rows: Vec<Write>) -> Done {
        for row in rows {
            // Unknown names are skipped, and the call still succeeds.
            let Some((local, _)) = thing.by_remote_name(&row.property) else {
                tracing::debug!(thing = name, property = row.property, "not subscribed");
                continue;
            };
            let write = match local == row.property {
                true => row,
                false => Write {
                    property: local.to_owned(),
                    ..row
                },
            };
            self.write(model, name, thing, write)?;
        }
        Ok(Response::ok())
    }

    fn write(
        &self,
        model: &mut Model,
        name: &str,
        thing: &Thing,
        write: Write,
    ) -> Result<(), String> {
        let Write {
            property,
            value,
            time_ms,
            quality,
        } = write;
        let definition = thing
            .properties
            .get(&property)
            .ok_or_else(|| format!("Property [{property}] does not exist on Thing [{name}]"))?;
        let value = match value {
            Value::Variant(inner) => *inner,
            plain => plain,
        };
        if value.base_type() != definition.base_type {
            return Err(format!(
                "Property [{property}] of Thing [{name}] is a {}, not a {}",
                definition.base_type.name(),
                value.base_type().name()
            ));
        }
        match &self.cluster.tally {
            Some(tally) => lock(tally).value(&property, &value),
            None => lock(&self.cluster.values).push(ValueEntry {
                taken_ms: self.taken_ms,
                node: self.node,
                thing: name.into(),
                property: property.as_str().into(),
                value: to_json(&value).to_string().into(),
                time_ms: time_ms.unwrap_or(self.taken_ms),
                quality: quality.as_deref().unwrap_or("GOOD").into(),
                gateway: self.sender.as_str().into(),
            }),
        }
        model.set(name, &property, value);
        Ok(())
    }
}

/// One value to be written.
struct Write {
    property: String,
    value: Value,
    time_ms: Option<i64>,
    quality: Option<String>,
}

/// Rows of name, value, time and quality, in whatever order the fields are.
fn vtq_rows(params: Option<&InfoTable>, field: &str) -> Result<Vec<Write>, String> {
    let value = params.and_then(|params| params.get(0, field));
    let Some(Value::InfoTable(table)) = value else {
        return Err(format!("parameter [{field}] must be an INFOTABLE"));
    };
    rows_of(&table)
}

/// Rows of a time and a batch of names, values and qualities.
fn batched_rows(params: Option<&InfoTable>) -> Result<Vec<Write>, String> {
    let value = params.and_then(|params| params.get(0, "batches"));
    let Some(Value::InfoTable(table)) = value else {
        return Err("parameter [batches] must be an INFOTABLE".into());
    };
    let time = table.column("time").ok_or("field [time] is missing")?;
    let batch = table.column("batch").ok_or("field [batch] is missing")?;
    let mut writes = Vec::new();
    for row in table.rows() {
        let (Value::DateTime(time_ms), Value::InfoTable(batch)) = (&row[time], &row[batch]) else {
            return Err("a batch needs a time and an INFOTABLE".into());
        };
        let rows = rows_of(batch)?.into_iter();
        writes.extend(rows.map(|write| Write {
            time_ms: Some(*time_ms),
            ..write
        }));
    }
    Ok(writes)
}

fn rows_of(table: &InfoTable) -> Result<Vec<Write>, String> {
    let column = |field: &str| table.column(field);
    let name = column("name").ok_or("field [name] is missing")?;
    let value = column("value").ok_or("field [value] is missing")?;
    let (time, quality) = (column("time"), column("quality"));
    table
        .rows()
        .map(|mut row| {
            let mut take = |column: usize| std::mem::replace(&mut row[column], Value::Nothing);
            let Value::Text(_, property) = take(name) else {
                return Err("field [name] is no text".to_owned());
            };
            let value = take(value);
            let time_ms = time.and_then(|at| match take(at) {
                Value::DateTime(ms) => Some(ms),
                _ => None,
            });
            let quality = quality.and_then(|at| match take(at) {
                Value::Text(_, text) => Some(text),
                _ => None,
            });
            Ok(Write {
                property,
                value,
                time_ms,
                quality,
            })
        })
        .collect()
}

fn read(model: &Model, name: &str, thing: &Thing, target: &str) -> Done {
    let value = |property: &String| model.get(name, property).cloned().unwrap_or(Value::Nothing);
    if matches!(target, "" | "*") {
        let cells = thing
            .properties
            .keys()
            .map(|property| (property.clone(), value(property)));
        return Ok(Response::with(InfoTable::one_row(cells)));
    }
    let property = target.to_owned();
    if !thing.properties.contains_key(&property) {
        return Err(format!(
            "Property [{property}] does not exist on Thing [{name}]"
        ));
    }
    let value = value(&property);
    Ok(Response::with(InfoTable::one_row([(property, value)])))
}

/// One row per remote property binding; the name is the edge's.
fn subscriptions(thing: &Thing) -> InfoTable {
    let mut table = InfoTable::new([
        Field::new("edgeName", BaseType::String),
        Field::new("pushType", BaseType::String),
        Field::new("pushThreshold", BaseType::Number),
    ]);
    for (name, property) in &thing.properties {
        let Some(edge) = property.remote_name(name) else {
            continue;
        };
        let push = property
            .remote
            .as_ref()
            .map_or("", |remote| remote.push_type.as_str());
        let push = if push.is_empty() { "VALUE" } else { push };
        let row = [Value::string(edge), Value::string(push), Value::Number(0.0)];
        let _ = table.push(&row);
    }
    table
}

/// The Thing's properties, as the data shape `PropertyDefinition` has them, with the remote name.
fn definitions(thing: &Thing) -> InfoTable {
    let mut table = InfoTable::new([
        Field::new("name", BaseType::String),
        Field::new("description", BaseType::String),
        Field::new("baseType", BaseType::BaseTypeName),
        Field::new("isRemote", BaseType::Boolean),
        Field::new("remotePropertyName", BaseType::String),
    ]);
    for (name, property) in &thing.properties {
        let remote = property.remote_name(name);
        let row = [
            Value::string(name.as_str()),
            Value::string(""),
            Value::Text(BaseType::BaseTypeName, property.base_type.name().into()),
            Value::Boolean(remote.is_some()),
            Value::string(remote.unwrap_or_default()),
        ];
        let _ = table.push(&row);
    }
    table
}

fn configuration(thing: &Thing) -> InfoTable {
    let cells: BTreeMap<&String, Value> = thing
        .configuration
        .iter()
        .map(|(name, json)| {
            let value = match json {
                Json::Null => Value::Nothing,
                Json::Bool(_) => from_json(BaseType::Boolean, json).unwrap_or(Value::Nothing),
                Json::Number(_) => from_json(BaseType::Number, json).unwrap_or(Value::Nothing),
                Json::String(text) => Value::string(text.as_str()),
                other => Value::json(other.to_string()),
            };
            (name, value)
        })
        .collect();
    InfoTable::one_row(
        cells
            .into_iter()
            .map(|(name, value)| (name.as_str(), value)),
    )
}
