//! What clients do. To add an operation: a line in [`Operation::ALL`], an arm in each `match` here, and in the checker what
//! it must have left behind.

use serde_json::json;

use super::journal::Intent;
use super::random::Random;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// A payment that goes through.
    Pay,
    /// A payment that is declined, and recorded.
    Decline,
    /// A payment of which nobody knows yet; a `Sync` follows as a rule.
    Wait,
    /// A payment whose processor traps: it leaves nothing.
    Trap,
    /// Asks what became of a payment that waits.
    Sync,
    /// The key of a payment with another body: it is refused.
    Reuse,
    /// An event with an id of the client's choice.
    Publish,
    /// A user.
    CreateUser,
}

/// Destinations: few, so that accounts are shared, and one of them is opened in every run by several at once.
const DESTINATIONS: u64 = 8;
const CURRENCIES: [&str; 3] = ["EUR", "JPY", "USD"];

impl Operation {
    /// All of them, with how often each is begun, in a hundred; those with 0 follow from others.
    pub(super) const ALL: [(Self, &'static str, u64); 8] = [
        (Self::Pay, "pay", 52),
        (Self::Decline, "decline", 12),
        (Self::Wait, "wait", 14),
        (Self::Trap, "trap", 2),
        (Self::Publish, "publish", 14),
        (Self::CreateUser, "create-user", 6),
        (Self::Sync, "sync", 0),
        (Self::Reuse, "reuse", 0),
    ];

    pub(super) fn choose(random: &mut Random) -> Self {
        let mut point = random.below(100);
        for (operation, _, weight) in Self::ALL {
            if point < weight {
                return operation;
            }
            point -= weight;
        }
        Self::Pay
    }

    pub(super) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(operation, ..)| *operation == self).map_or("", |(_, name, _)| name)
    }

    pub(super) fn parse(name: &str) -> Self {
        Self::ALL.iter().find(|(_, known, _)| *known == name).expect("an operation of this version").0
    }

    /// Whether its requests carry an idempotency key.
    pub(super) fn has_key(self) -> bool {
        match self {
            Self::Pay | Self::Decline | Self::Wait | Self::Trap | Self::Sync | Self::Reuse => true,
            Self::Publish | Self::CreateUser => false,
        }
    }

    /// Whether it makes a payment when it succeeds.
    pub(super) fn makes_payment(self) -> bool {
        matches!(self, Self::Pay | Self::Decline | Self::Wait)
    }

    /// Whether a reply of this status says that it is done and kept.
    pub(super) fn acknowledged(self, status: u16) -> bool {
        match self {
            Self::Pay | Self::CreateUser => status == 201,
            Self::Decline => status == 402,
            Self::Wait => status == 202,
            Self::Sync => status == 200,
            Self::Publish => matches!(status, 200 | 201),
            Self::Trap | Self::Reuse => false,
        }
    }

    /// Whether it may be refused so, whatever the weather.
    pub(super) fn may_hear(self, status: u16, code: &str) -> bool {
        match self {
            Self::Trap => (status, code) == (503, "PROCESSOR_DOWN"),
            Self::Reuse => (status, code) == (422, "IDEMPOTENCY_KEY_REUSED"),
            // An earlier sending, whose reply was lost, made the user.
            Self::CreateUser => (status, code) == (409, "ALREADY_EXISTS"),
            Self::Pay | Self::Decline | Self::Wait | Self::Sync | Self::Publish => false,
        }
    }

    /// A new request.
    pub(super) fn intent(self, id: String, tenant: &str, random: &mut Random) -> Intent {
        let path = match self {
            Self::Publish => "/api/v1/events",
            Self::CreateUser => "/api/v1/users",
            Self::Pay | Self::Decline | Self::Wait | Self::Trap | Self::Sync | Self::Reuse => "/payments/process",
        };
        let body = match self {
            Self::Publish => json!({ "type": "crash.noted", "id": id, "subject": "crash", "data": { "note": id } }),
            Self::CreateUser => json!({ "email": email(&id) }),
            Self::Pay | Self::Sync | Self::Reuse => payment(&id, "tok_ok", random),
            Self::Decline => {
                payment(&id, ["tok_declined", "tok_insufficient"][usize::from(random.percent(50))], random)
            }
            Self::Wait => payment(&id, "tok_timeout", random),
            Self::Trap => payment(&id, "tok_trap", random),
        };
        Intent {
            id,
            tenant: tenant.to_owned(),
            operation: self,
            path: path.to_owned(),
            body: body.to_string(),
            about: None,
        }
    }

    /// The sync of a payment.
    pub(super) fn sync(id: String, tenant: &str, payment: &str) -> Intent {
        Intent {
            id,
            tenant: tenant.to_owned(),
            operation: Self::Sync,
            path: format!("/payments/{payment}/sync"),
            body: "null".to_owned(),
            about: Some(payment.to_owned()),
        }
    }

    /// Another request under the key of one that was acknowledged.
    pub(super) fn reuse(id: String, of: &Intent, random: &mut Random) -> Intent {
        let mut intent = Self::Reuse.intent(id, &of.tenant, random);
        intent.about = Some(of.id.clone());
        intent
    }
}

/// The address of the user that an intent makes.
pub(super) fn email(id: &str) -> String {
    format!("{id}@crash.test")
}

fn payment(id: &str, source: &str, random: &mut Random) -> serde_json::Value {
    let currency = CURRENCIES[usize::try_from(random.below(3)).unwrap_or_default()];
    json!({
        "amount": 1 + random.below(100_000), "currency": currency, "source": source, "reference": id,
        "destination": format!("merchant-{}", random.below(DESTINATIONS)),
    })
}
