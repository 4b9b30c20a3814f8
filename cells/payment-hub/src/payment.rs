//! A payment and its rules: what may be captured, released and given back, and when. It changes here only, along the edges
//! of [`Status::next`]; a refused change leaves it as it was.
//!
//! Always: `amount_refunded + amount_refunding <= amount_captured`, `amount_captured + amount_capturable +
//! amount_released <= amount`.

use aibos_cell::{Currency, Timestamp};
use serde::{Deserialize, Serialize};

pub use crate::status::Status;

use crate::order::{CaptureMethod, Order};
use crate::refund::Part;
use crate::stored::Stored;

/// How long money is held: seven days from the payment's creation.
pub const HOLD_MS: u64 = 7 * 86_400_000;
/// Captures of one payment: a refund of all of it is a reversal of each, and a call may publish a hundred events.
pub const CAPTURES_MAX: usize = 50;
/// Refunds of one payment, declined ones apart. Each is at most one reversal of each capture, of which the ledger takes five
/// hundred: none is asked of the processor that could not be booked.
pub const REFUNDS_MAX: u32 = 500;
/// Refunds of one payment that wait for the processor's answer.
pub const REFUNDS_WAITING_MAX: usize = 20;
/// Refunds that one `sync` settles; the next one goes on.
pub const REFUNDS_SYNCED_MAX: usize = 5;
/// Reversals that one `sync` tries to book, unless the first refund alone is more: a call may publish a hundred events.
pub const PARTS_SYNCED_MAX: usize = CAPTURES_MAX;

/// A change that the payment's status or its amounts do not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its status does not allow it.
    Unexpected(Status),
    /// More than can be captured, or not more than zero.
    CaptureTooLarge {
        /// What can be captured.
        capturable: i64,
    },
    /// More than can be given back, or not more than zero.
    RefundTooLarge {
        /// What can be given back.
        refundable: i64,
    },
    /// There are [`CAPTURES_MAX`] already.
    TooManyCaptures,
    /// [`REFUNDS_WAITING_MAX`] wait already.
    TooManyRefunds,
    /// There are [`REFUNDS_MAX`] already.
    NoMoreRefunds,
}

/// A capture, or the one of an automatic payment: a posted transaction of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// The ledger's transaction, and the processor's operation.
    pub capture_id: String,
    /// Minor units.
    pub amount: i64,
    /// What was given back of it, or is about to be.
    pub amount_reversed: i64,
}

/// A capture that may be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturePlan {
    /// Its id.
    pub capture_id: String,
    /// Minor units.
    pub amount: i64,
    /// What is left of the hold afterwards; zero when the rest is released.
    pub rest: i64,
}

/// A payment, as it is stored at `payment/{id}`, answered and published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Payment {
    pub(crate) transaction_id: String,
    /// One more with each change.
    pub(crate) version: u64,
    pub(crate) status: Status,
    pub(crate) capture_method: CaptureMethod,
    pub(crate) amount: i64,
    pub(crate) amount_capturable: i64,
    pub(crate) amount_captured: i64,
    /// What was held and is not any more, without being captured.
    pub(crate) amount_released: i64,
    pub(crate) amount_refunded: i64,
    /// Refunds that the processor has not answered yet.
    pub(crate) amount_refunding: i64,
    pub(crate) currency: Currency,
    pub(crate) source: String,
    pub(crate) destination: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reference: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) decline_code: Option<String>,
    pub(crate) created_at: String,
    /// When the hold ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<Timestamp>,
    /// The ledger's hold, while there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hold_id: Option<String>,
    /// Of a manual payment.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) captures: Vec<Capture>,
    /// The capture that the processor has not answered yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) capture_waiting: Option<CapturePlan>,
    /// The refunds that the processor has not answered yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) refunds_waiting: Vec<String>,
    /// Refunds, declined ones apart.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) refund_count: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Payment {
    /// A payment that is about to be charged.
    #[must_use]
    pub fn begin(id: String, order: Order, capture_method: CaptureMethod, now: Timestamp) -> Self {
        let manual = capture_method == CaptureMethod::Manual;
        Self {
            transaction_id: id,
            version: 0,
            status: Status::Processing,
            capture_method,
            amount: order.money.amount(),
            amount_capturable: 0,
            amount_captured: 0,
            amount_released: 0,
            amount_refunded: 0,
            amount_refunding: 0,
            currency: order.money.currency(),
            source: order.source,
            destination: order.destination,
            reference: order.reference,
            decline_code: None,
            created_at: now.to_string(),
            expires_at: manual.then(|| now.plus(HOLD_MS)),
            hold_id: None,
            captures: Vec::new(),
            capture_waiting: None,
            refunds_waiting: Vec::new(),
            refund_count: 0,
        }
    }

    /// The payment's id; the charge has the same one, and so has its first transaction or hold in the ledger.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.transaction_id
    }

    /// Where it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// Does its hold end by itself by now?
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| now >= end)
    }

    /// What can be given back.
    #[must_use]
    pub fn refundable(&self) -> i64 {
        let taken_back = self.amount_refunded.saturating_add(self.amount_refunding);
        if self.status.is_refundable() { self.amount_captured.saturating_sub(taken_back) } else { 0 }
    }

    /// Counts a change. Every change is written and published once, so this is the number of its events, too.
    pub fn count_change(&mut self) {
        self.version = self.version.saturating_add(1);
    }

    /// Charged at once, and the ledger has it.
    pub fn succeed(&mut self) -> Result<(), Refusal> {
        self.awaits_charge(CaptureMethod::Automatic)?;
        self.move_to(Status::Succeeded)?;
        self.amount_captured = self.amount;
        Ok(())
    }

    /// Authorised, and the ledger holds it.
    pub fn authorize(&mut self) -> Result<(), Refusal> {
        self.awaits_charge(CaptureMethod::Manual)?;
        self.move_to(Status::RequiresCapture)?;
        self.amount_capturable = self.amount;
        self.hold_id = Some(self.transaction_id.clone());
        Ok(())
    }

    /// The charge was declined.
    pub fn decline(&mut self, code: String) -> Result<(), Refusal> {
        self.awaits_charge(self.capture_method)?;
        self.move_to(Status::Failed)?;
        self.decline_code = Some(code);
        Ok(())
    }

    /// The processor answered with another amount or currency. What was held is released.
    pub fn conflict(&mut self) -> Result<(), Refusal> {
        self.release_as(Status::Conflicted)
    }

    /// The hold is given up.
    pub fn cancel(&mut self) -> Result<(), Refusal> {
        self.release_as(if self.amount_captured == 0 { Status::Canceled } else { Status::PartiallyCaptured })
    }

    /// Nobody took the rest in time.
    pub fn expire(&mut self) -> Result<(), Refusal> {
        self.release_as(if self.amount_captured == 0 { Status::Expired } else { Status::PartiallyCaptured })
    }

    fn release_as(&mut self, status: Status) -> Result<(), Refusal> {
        self.move_to(status)?;
        self.amount_released = self.amount_released.saturating_add(self.amount_capturable);
        self.amount_capturable = 0;
        self.hold_id = None;
        self.capture_waiting = None;
        Ok(())
    }

    /// May so much be captured (all that can be, when no amount is named)? `last` releases the rest.
    pub fn plan_capture(&self, capture_id: String, amount: Option<i64>, last: Last) -> Result<CapturePlan, Refusal> {
        if !self.status.is_capturable() {
            return Err(Refusal::Unexpected(self.status));
        }
        if self.captures.len() >= CAPTURES_MAX {
            return Err(Refusal::TooManyCaptures);
        }
        let capturable = self.amount_capturable;
        let amount = amount.unwrap_or(capturable);
        let left = capturable.checked_sub(amount).filter(|left| amount > 0 && *left >= 0);
        let left = left.ok_or(Refusal::CaptureTooLarge { capturable })?;
        Ok(CapturePlan { capture_id, amount, rest: if last == Last::Yes { 0 } else { left } })
    }

    /// The processor has not answered a capture.
    pub fn await_capture(&mut self, plan: CapturePlan) -> Result<(), Refusal> {
        self.move_to(Status::Processing)?;
        self.capture_waiting = Some(plan);
        Ok(())
    }

    /// The processor refused a capture that it had not answered before.
    pub fn fail_capture(&mut self) -> Result<(), Refusal> {
        if self.capture_waiting.is_none() {
            return Err(Refusal::Unexpected(self.status));
        }
        self.move_to(match self.amount_captured {
            0 => Status::RequiresCapture,
            _ => Status::PartiallyCapturedAndCapturable,
        })?;
        self.capture_waiting = None;
        Ok(())
    }

    /// The capture is posted; `rest_hold` is the hold that goes on with the rest.
    pub fn capture(&mut self, plan: CapturePlan, rest_hold: Option<String>) -> Result<(), Refusal> {
        let CapturePlan { capture_id, amount, rest } = plan;
        let capturable = self.amount_capturable;
        let taken = self.amount_captured.checked_add(amount).filter(|taken| amount > 0 && *taken <= self.amount);
        let taken = taken.ok_or(Refusal::CaptureTooLarge { capturable })?;
        self.move_to(match (&rest_hold, taken == self.amount) {
            (_, true) => Status::Succeeded,
            (Some(_), false) => Status::PartiallyCapturedAndCapturable,
            (None, false) => Status::PartiallyCaptured,
        })?;
        self.amount_captured = taken;
        if rest_hold.is_some() {
            self.amount_capturable = rest;
        } else {
            let released = capturable.saturating_sub(amount);
            self.amount_released = self.amount_released.saturating_add(released);
            self.amount_capturable = 0;
        }
        self.hold_id = rest_hold;
        self.capture_waiting = None;
        self.captures.push(Capture { capture_id, amount, amount_reversed: 0 });
        Ok(())
    }

    /// Takes so much (all that there is, when no amount is named) from the captures, oldest first, for a refund that
    /// begins. Answers which captures it reverses.
    pub fn begin_refund(&mut self, refund_id: &str, amount: Option<i64>) -> Result<Vec<Part>, Refusal> {
        if !self.status.is_refundable() {
            return Err(Refusal::Unexpected(self.status));
        }
        if self.refunds_waiting.len() >= REFUNDS_WAITING_MAX {
            return Err(Refusal::TooManyRefunds);
        }
        if self.refund_count >= REFUNDS_MAX {
            return Err(Refusal::NoMoreRefunds);
        }
        let refundable = self.refundable();
        let amount = amount.unwrap_or(refundable);
        if !(1..=refundable).contains(&amount) {
            return Err(Refusal::RefundTooLarge { refundable });
        }
        let mut parts = Vec::new();
        if self.captures.is_empty() {
            parts.push(Part::new(refund_id, 1, self.transaction_id.clone(), amount));
        }
        let mut left = amount;
        for capture in &mut self.captures {
            let part = left.min(capture.amount.saturating_sub(capture.amount_reversed));
            if part > 0 {
                capture.amount_reversed = capture.amount_reversed.saturating_add(part);
                left = left.saturating_sub(part);
                parts.push(Part::new(refund_id, parts.len().saturating_add(1), capture.capture_id.clone(), part));
            }
        }
        self.amount_refunding = self.amount_refunding.saturating_add(amount);
        self.refund_count = self.refund_count.saturating_add(1);
        Ok(parts)
    }

    /// The processor has not answered a refund that began.
    pub fn await_refund(&mut self, refund_id: &str) {
        self.refunds_waiting.push(refund_id.to_owned());
    }

    /// The money of a refund that began is given back.
    pub fn finish_refund(&mut self, refund_id: &str, amount: i64) {
        self.refunds_waiting.retain(|waiting| waiting != refund_id);
        self.amount_refunding = self.amount_refunding.saturating_sub(amount);
        self.amount_refunded = self.amount_refunded.saturating_add(amount);
    }

    /// A refund that began was declined.
    pub fn fail_refund(&mut self, refund_id: &str, parts: &[Part]) {
        self.refunds_waiting.retain(|waiting| waiting != refund_id);
        self.refund_count = self.refund_count.saturating_sub(1);
        for part in parts {
            self.amount_refunding = self.amount_refunding.saturating_sub(part.amount);
            for capture in self.captures.iter_mut().filter(|capture| capture.capture_id == part.reverses) {
                capture.amount_reversed = capture.amount_reversed.saturating_sub(part.amount);
            }
        }
    }

    /// `processing` is also the status of a payment whose capture waits; that one is charged already.
    fn awaits_charge(&self, capture_method: CaptureMethod) -> Result<(), Refusal> {
        let charged = self.capture_waiting.is_some() || !self.captures.is_empty();
        if charged || self.capture_method != capture_method { Err(Refusal::Unexpected(self.status)) } else { Ok(()) }
    }

    fn move_to(&mut self, to: Status) -> Result<(), Refusal> {
        if !self.status.next().contains(&to) {
            return Err(Refusal::Unexpected(self.status));
        }
        self.status = to;
        Ok(())
    }
}

/// Is a capture the last one, so that the rest is released?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// The rest is released.
    Yes,
    /// The rest is held on.
    No,
}

/// Where a payment is stored.
#[must_use]
pub fn key(id: &str) -> String {
    format!("payment/{id}")
}

#[cfg(test)]
mod tests;
