//! Messages of every kind, made by chance.

use alwayson::{
    BaseType, Bind, Body, Characteristic, Claim, EntityType, Field, Gateway, Header, InfoTable,
    Location, Message, Method, Request, Response, Status, Value,
};
use proptest::{collection::vec, option, prelude::*, sample::select};

/// Texts around the length where the length field changes its form, and short ones of any letters.
pub fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "\\PC{0,12}",
        1 => (120..135_usize).prop_map(|length| "x".repeat(length)),
        1 => "[a-zé]{60,70}",
    ]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

fn location() -> impl Strategy<Value = Location> {
    any::<[f64; 3]>().prop_map(|[longitude, latitude, elevation]| Location {
        longitude,
        latitude,
        elevation,
    })
}

/// A value of this base type, whose tables are no deeper than `depth` and whose numbers are finite or
/// infinite, but something: NaN equals nothing.
pub fn value(base_type: BaseType, depth: u32) -> BoxedStrategy<Value> {
    match base_type {
        BaseType::Nothing => Just(Value::Nothing).boxed(),
        BaseType::Number => any::<f64>().prop_map(Value::Number).boxed(),
        BaseType::Boolean => any::<bool>().prop_map(Value::Boolean).boxed(),
        BaseType::DateTime => any::<i64>().prop_map(Value::DateTime).boxed(),
        BaseType::TimeSpan => (any::<i64>(), any::<i64>(), text())
            .prop_map(|(start, end, period)| Value::TimeSpan { start, end, period })
            .boxed(),
        BaseType::InfoTable => table(depth.saturating_sub(1))
            .prop_map(Value::InfoTable)
            .boxed(),
        BaseType::Location => location().prop_map(Value::Location).boxed(),
        BaseType::Image => bytes().prop_map(Value::Image).boxed(),
        BaseType::Blob => bytes().prop_map(Value::Blob).boxed(),
        BaseType::Variant => any_value(depth)
            .prop_map(|inner| match inner {
                // A variant in a variant has no meaning; see `a_variant_in_a_variant_is_refused`.
                Value::Variant(_) => Value::Variant(Box::new(Value::Nothing)),
                inner => Value::Variant(Box::new(inner)),
            })
            .boxed(),
        BaseType::Integer => any::<i32>().prop_map(Value::Integer).boxed(),
        BaseType::Long => any::<i64>().prop_map(Value::Long).boxed(),
        BaseType::Vec2 => any::<[f64; 2]>().prop_map(Value::Vec2).boxed(),
        BaseType::Vec3 => any::<[f64; 3]>().prop_map(Value::Vec3).boxed(),
        BaseType::Vec4 => any::<[f64; 4]>().prop_map(Value::Vec4).boxed(),
        BaseType::ThingCode => (any::<i32>(), any::<i64>())
            .prop_map(|(domain, instance)| Value::ThingCode { domain, instance })
            .boxed(),
        texts => text()
            .prop_map(move |text| Value::Text(texts, text))
            .boxed(),
    }
}

/// A value of any base type; with no depth left, of one that holds no other values.
pub fn any_value(depth: u32) -> BoxedStrategy<Value> {
    let nests = |one: &BaseType| matches!(one, BaseType::InfoTable | BaseType::Variant);
    let types: Vec<BaseType> = BaseType::ALL
        .iter()
        .copied()
        .filter(|one| depth > 0 || !nests(one))
        .collect();
    select(types)
        .prop_flat_map(move |base_type| value(base_type, depth.saturating_sub(1)))
        .boxed()
}

fn field() -> impl Strategy<Value = Field> {
    let aspects = vec((text(), any_value(0)), 0..3);
    (text(), text(), select(BaseType::ALL), aspects).prop_map(
        |(name, description, base_type, aspects)| Field {
            name,
            description,
            base_type,
            aspects,
        },
    )
}

/// A table whose cells are of any base type, whatever their field says.
pub fn table(depth: u32) -> BoxedStrategy<InfoTable> {
    vec(field(), 0..4)
        .prop_flat_map(move |fields| {
            let rows = vec(vec(any_value(depth), fields.len()), 0..3);
            (Just(fields), rows)
        })
        .prop_map(|(fields, rows)| {
            let mut table = InfoTable::new(fields);
            for row in rows {
                table.push(&row).unwrap();
            }
            table
        })
        .boxed()
}

pub fn request() -> impl Strategy<Value = Request> {
    let method = select(vec![Method::Get, Method::Put, Method::Post, Method::Delete]);
    let headers = vec((text(), text()), 0..3);
    (
        method,
        any::<u8>(),
        text(),
        any::<u8>(),
        text(),
        headers,
        option::of(table(2)),
    )
        .prop_map(
            |(method, entity_type, entity, characteristic, target, headers, params)| Request {
                method,
                entity_type: EntityType(entity_type),
                entity,
                characteristic: Characteristic(characteristic),
                target,
                headers: headers
                    .iter()
                    .flat_map(|(name, value)| [name.as_str(), value.as_str()])
                    .collect(),
                params,
            },
        )
}

pub fn response() -> impl Strategy<Value = Response> {
    (0x40..=u8::MAX, option::of(text()), option::of(table(2))).prop_map(
        |(status, reason, content)| Response {
            status: Status::from_code(status).unwrap(),
            reason,
            content,
        },
    )
}

fn bind() -> impl Strategy<Value = Bind> {
    let gateway = (text(), text()).prop_map(|(name, template)| Gateway { name, template });
    (option::of(gateway), vec(text(), 0..6)).prop_map(|(gateway, names)| Bind {
        gateway,
        ..Bind::names(names.iter().map(String::as_str))
    })
}

fn claims() -> impl Strategy<Value = alwayson::Claims> {
    let claim = (text(), text()).prop_map(|(name, value)| Claim { name, value });
    vec(claim, 0..4).prop_map(|claims| claims.into_iter().collect())
}

fn header() -> impl Strategy<Value = Header> {
    any::<(u32, i32, i32)>().prop_map(|(request_id, endpoint_id, session_id)| Header {
        request_id,
        endpoint_id,
        session_id,
    })
}

/// Requests and responses: what may travel in parts.
pub fn splittable() -> impl Strategy<Value = Message> {
    let body = prop_oneof![
        request().prop_map(Body::Request),
        response().prop_map(Body::Response)
    ];
    (header(), body).prop_map(|(header, body)| Message { header, body })
}

/// Messages of every kind.
pub fn message() -> impl Strategy<Value = Message> {
    let body = prop_oneof![
        4 => request().prop_map(Body::Request),
        4 => response().prop_map(Body::Response),
        1 => claims().prop_map(Body::Auth),
        1 => claims().prop_map(Body::ClearAuth),
        1 => bind().prop_map(Body::Bind),
        1 => bind().prop_map(Body::Unbind),
        1 => Just(Body::KeepAlive),
    ];
    (header(), body).prop_map(|(header, body)| Message { header, body })
}
