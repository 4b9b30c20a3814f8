//! Publishing to the tenant's event log and reading it.

use axum::response::Response;
use http::StatusCode;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::audit::{Outcome, Party};
use crate::event::{self, Envelope, Event, EventQuery, StoredEvent};
use crate::http::input::{Json, Query, page_size};
use crate::http::operation::Operation;
use crate::http::output::{self, Ok200, Output, Page};
use crate::http::problem::{Code, Problem};
use crate::id;
use crate::limit;
use crate::rbac::permission::{EventPublish, EventRead};
use crate::rbac::permit::Permit;
use crate::state::unit::Receipt;

/// An event to be published.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventInput {
    /// Dotted lower-case words, for example `invoice.approved`. Not one that a cell publishes.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the event is about, at most 256 characters.
    #[serde(default)]
    pub subject: Option<String>,
    /// The payload: any JSON, at most 64 KiB; kept as it was sent.
    #[schemars(with = "serde_json::Value")]
    pub data: Box<RawValue>,
    /// An id of your own, at most 256 characters. Publishing it again is the same event and changes nothing.
    #[serde(default)]
    pub id: Option<String>,
}

/// Which events.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventFilter {
    /// An exact type, or a prefix that ends in `*`, for example `payment.*`.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// An exact subject.
    #[serde(default)]
    pub subject: Option<String>,
    /// Only events with a greater sequence.
    #[serde(default)]
    pub after: Option<i64>,
    /// Where the page before ended: its `next_cursor`. The same as `after`.
    #[serde(default)]
    pub cursor: Option<String>,
    /// Page size, 1 to 200; 50 when absent.
    #[serde(default)]
    pub limit: Option<u32>,
}

/// The reply to a publication.
#[derive(Debug)]
pub enum Published {
    /// 201; the commit gives the sequence.
    New(Box<Event>),
    /// 200; the event was there already.
    Known(Box<StoredEvent>),
}

impl Output for Published {
    const STATUS: StatusCode = StatusCode::CREATED;
    const OTHER: Option<(StatusCode, &'static str)> =
        Some((StatusCode::OK, "An event with this id was published before: this is it, and nothing changed."));

    fn respond(self, receipt: &Receipt) -> Response {
        match self {
            Self::New(event) => {
                let sequence = receipt.events.first().copied().unwrap_or_default();
                output::json(StatusCode::CREATED, &Envelope::from(StoredEvent { sequence, event: *event }))
            }
            Self::Known(stored) => output::json(StatusCode::OK, &Envelope::from(*stored)),
        }
    }

    fn describe(generator: &mut SchemaGenerator) -> Option<(&'static str, Schema)> {
        Some(("application/json", generator.subschema_for::<Envelope>()))
    }
}

/// `POST /api/v1/events`
pub async fn publish(
    operation: Operation,
    permit: Permit<EventPublish>,
    Json(body): Json<EventInput>,
) -> Result<Published, Problem> {
    check(&body)?;
    let (context, tenant) = (&operation.context, permit.access().tenant);
    if let Some(cell) = operation.kernel.reserved_by(&body.kind) {
        let mut entry = context.entry("event.publish", Party::new("event_type", &body.kind), Outcome::Denied);
        entry.details.insert("reserved_by".into(), cell.clone().into());
        operation.kernel.record(entry).await?;
        return Err(Problem::new(
            Code::EventTypeReserved,
            format!("Events of type {} are published by the cell {cell} alone; choose another type.", body.kind),
        ));
    }
    let source = format!("/users/{}", permit.access().user);
    if let Some(chosen) = &body.id
        && let Some(stored) = operation.kernel.storage.event(tenant, &source, chosen).await?
    {
        operation.changes_nothing();
        return Ok(Published::Known(Box::new(stored)));
    }
    let event = Event {
        id_chosen: body.id.is_some(),
        id: body.id.unwrap_or_else(|| id::uuid(&context.clock).to_string()),
        source,
        kind: body.kind,
        subject: body.subject,
        time: context.now,
        data: body.data.get().to_owned(),
        tenant,
        actor: context.actor.principal(),
        correlation: context.correlation,
        traceparent: context.traceparent.clone(),
    };
    operation.work.publish(event.clone());
    operation.target("event", &event.id);
    operation.detail("type", event.kind.as_str());
    Ok(Published::New(Box::new(event)))
}

/// `GET /api/v1/events`
pub async fn list(
    operation: Operation,
    permit: Permit<EventRead>,
    Query(filter): Query<EventFilter>,
) -> Result<Ok200<Page<Envelope>>, Problem> {
    let size = page_size(filter.limit)?;
    let query = EventQuery {
        tenant: permit.access().tenant,
        kind: filter.kind,
        subject: filter.subject,
        after: position(filter.after, filter.cursor.as_deref())?,
        limit: size + 1,
    };
    let events = operation.kernel.storage.events(&query).await?;
    let envelopes = events.into_iter().map(Envelope::from).collect();
    Ok(Ok200(Page::cut(envelopes, size, |envelope: &Envelope| envelope.sequence.to_string())))
}

fn check(body: &EventInput) -> Result<(), Problem> {
    if !event::valid_type(&body.kind) {
        return Err(Problem::invalid(
            "/type",
            "must be dotted lower-case words of at most 128 characters, like invoice.approved",
        ));
    }
    for (pointer, text) in [("/subject", &body.subject), ("/id", &body.id)] {
        let Some(text) = text else { continue };
        let fits = (1..=limit::EVENT_NAME_MAX).contains(&text.chars().count());
        if !fits || text.chars().any(char::is_control) {
            let most = limit::EVENT_NAME_MAX;
            return Err(Problem::invalid(pointer, format!("must be 1 to {most} characters, no control characters")));
        }
    }
    if body.data.get().len() > limit::EVENT_DATA_BYTES_MAX {
        let most = limit::EVENT_DATA_BYTES_MAX;
        return Err(Problem::invalid("/data", format!("may have at most {most} bytes; publish a reference instead")));
    }
    Ok(())
}

fn position(after: Option<i64>, cursor: Option<&str>) -> Result<i64, Problem> {
    match (after, cursor) {
        (Some(_), Some(_)) => Err(Problem::invalid("/query/cursor", "send either after or cursor, not both")),
        (None, Some(cursor)) => {
            cursor.parse().map_err(|_| Problem::invalid("/query/cursor", "must be the next_cursor of a page"))
        }
        (Some(after), None) => Ok(after),
        (None, None) => Ok(0),
    }
}
