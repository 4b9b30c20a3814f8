//! Who asked, when, and under which correlation id: one value for each request, passed explicitly to everything that works
//! for it.

use std::net::{IpAddr, Ipv4Addr};

use jiff::Timestamp;

use crate::audit::{AuditEntry, Outcome, Party};
use crate::auth::actor::Actor;
use crate::clock::Clock;
use crate::id::{AuditId, CorrelationId, TenantId};

/// The circumstances of one request.
#[derive(Clone, Debug)]
pub struct Context {
    /// Who asks.
    pub actor: Actor,
    /// The id in every log line, event, audit entry and call made for this request.
    pub correlation: CorrelationId,
    /// W3C trace context, when the client sent a valid one.
    pub traceparent: Option<String>,
    /// When the request began. Fixed, so that running it again decides the same.
    pub now: Timestamp,
    /// Source of ids.
    pub clock: Clock,
    /// The client's address.
    pub client: IpAddr,
}

impl Context {
    /// The circumstances of work that the operator began on this machine: a start, a seed.
    #[must_use]
    pub fn operator(clock: &Clock) -> Self {
        Self {
            actor: Actor::Operator,
            correlation: CorrelationId::new(clock),
            traceparent: None,
            now: clock.now(),
            clock: clock.clone(),
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    /// The tenant whose data this request may touch; the platform for a request without a token.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.actor.tenant().unwrap_or(TenantId::PLATFORM)
    }

    /// An audit entry of this request.
    #[must_use]
    pub fn entry(&self, action: &str, target: Party, outcome: Outcome) -> AuditEntry {
        AuditEntry {
            id: AuditId::new(&self.clock),
            at: self.now,
            tenant_id: self.tenant(),
            actor: self.actor.party(),
            action: action.to_owned(),
            target,
            outcome,
            correlation_id: self.correlation,
            details: serde_json::Map::new(),
            cell: None,
            receipt: None,
        }
    }
}
