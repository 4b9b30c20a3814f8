//! The reference model: payments as lists of plain numbers, written from the documents and not from the cells' code.

use std::collections::BTreeMap;

use super::draw::Operation;

/// A hold lasts seven days.
const HOLD_MS: i64 = 7 * 24 * 3600 * 1000;

/// Status and code of the answer.
pub(super) type Answer = (u16, &'static str);

#[derive(Clone, Debug)]
pub(super) struct Payment {
    pub(super) id: String,
    pub(super) status: &'static str,
    pub(super) manual: bool,
    pub(super) source: &'static str,
    pub(super) merchant: &'static str,
    pub(super) currency: &'static str,
    pub(super) amount: i64,
    pub(super) held: i64,
    /// What was taken at once, and what was given back of it or is about to be.
    pub(super) captures: Vec<(i64, i64)>,
    /// An unanswered capture, and what it leaves held.
    pub(super) capture_waiting: Option<(i64, i64)>,
    /// Unanswered refunds: amount, and how many captures they touch.
    pub(super) refunds_waiting: Vec<(i64, u64)>,
    pub(super) refunded: i64,
    pub(super) refunds: usize,
    pub(super) version: u64,
    expires_at: i64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) payments: Vec<Payment>,
    pub(super) events: BTreeMap<&'static str, u64>,
    pub(super) limits: BTreeMap<(&'static str, &'static str), i64>,
    pub(super) merchants: Vec<&'static str>,
    pub(super) now: i64,
}

impl Payment {
    pub(super) fn captured(&self) -> i64 {
        self.captures.iter().map(|(amount, _)| amount).sum()
    }

    fn capturable(&self) -> bool {
        matches!(self.status, "requires_capture" | "partially_captured_and_capturable")
    }

    fn refundable(&self) -> bool {
        matches!(self.status, "succeeded" | "partially_captured" | "partially_captured_and_capturable")
    }

    /// What can still be given back.
    fn left(&self) -> i64 {
        self.captures.iter().map(|(amount, back)| amount - back).sum()
    }
}

impl Model {
    /// The payments to which something can still happen.
    pub(super) fn live(&self) -> Vec<usize> {
        let live = |payment: &Payment| payment.status == "processing" || payment.held > 0 || payment.left() > 0;
        (0..self.payments.len()).filter(|at| live(&self.payments[*at])).collect()
    }

    /// What a merchant was paid and not given back, in a currency.
    pub(super) fn posted(&self, merchant: &str, currency: &str) -> i128 {
        self.of(merchant, currency).map(|payment| i128::from(payment.captured()) - i128::from(payment.refunded)).sum()
    }

    /// What is held for a merchant in a currency.
    pub(super) fn pending(&self, merchant: &str, currency: &str) -> i128 {
        self.of(merchant, currency).map(|payment| i128::from(payment.held)).sum()
    }

    /// Every debit, and so every credit, of a currency.
    pub(super) fn turnover(&self, currency: &str) -> i128 {
        let of = self.payments.iter().filter(|payment| payment.currency == currency);
        of.map(|payment| i128::from(payment.captured()) + i128::from(payment.refunded)).sum()
    }

    fn of(&self, merchant: &str, currency: &str) -> impl Iterator<Item = &Payment> {
        let chosen = move |payment: &&Payment| payment.merchant == merchant && payment.currency == currency;
        self.payments.iter().filter(chosen)
    }

    fn event(&mut self, kind: &'static str, count: u64) {
        *self.events.entry(kind).or_default() += count;
    }

    /// A change of a payment with its one event.
    fn changed(&mut self, at: usize, event: &'static str) {
        self.payments[at].version += 1;
        self.event(event, 1);
    }

    /// Does what is asked and says what is answered. `Err` is an answer after which everything must be as before.
    pub(super) fn apply(&mut self, operation: &Operation) -> Result<Answer, Answer> {
        if let Operation::Capture { amount: Some(0), .. } | Operation::Refund { amount: Some(0), .. } = operation {
            return Err((400, "VALIDATION_ERROR"));
        }
        if let Some(at) = operation.payment() {
            self.touch(at);
        }
        match *operation {
            Operation::Create { manual, source, merchant, currency, amount } => {
                self.create(manual, source, merchant, currency, amount)
            }
            Operation::Capture { payment, amount, last } => self.capture(payment, amount, last),
            Operation::Cancel { payment } if !self.payments[payment].capturable() => Ok(UNEXPECTED),
            Operation::Cancel { payment } => {
                self.release(payment);
                Ok((200, ""))
            }
            Operation::Refund { payment, amount } => self.refund(payment, amount),
            Operation::Reversal { payment } => self.reverse(payment),
            Operation::Sync { payment } => self.sync(payment),
            Operation::Limit { merchant, currency, min } => self.limit(merchant, currency, min),
        }
    }

    fn touch(&mut self, at: usize) {
        let now = self.now;
        let payment = &mut self.payments[at];
        if payment.capturable() && now >= payment.expires_at {
            payment.held = 0;
            payment.status = if payment.captures.is_empty() { "expired" } else { "partially_captured" };
            self.event("ledger.transaction.expired", 1);
            self.changed(at, "payment.expired");
        }
    }

    fn create(
        &mut self,
        manual: bool,
        source: &'static str,
        merchant: &'static str,
        currency: &'static str,
        amount: i64,
    ) -> Result<Answer, Answer> {
        if source == "tok_trap" {
            return Err((503, "PROCESSOR_DOWN"));
        }
        self.payments.push(Payment {
            id: String::new(),
            status: "processing",
            manual,
            source,
            merchant,
            currency,
            amount,
            held: 0,
            captures: Vec::new(),
            capture_waiting: None,
            refunds_waiting: Vec::new(),
            refunded: 0,
            refunds: 0,
            version: 0,
            expires_at: self.now + HOLD_MS,
        });
        let at = self.payments.len() - 1;
        match source {
            "tok_declined" => {
                self.payments[at].status = "failed";
                self.changed(at, "payment.failed");
                return Ok((402, "PAYMENT_DECLINED"));
            }
            "tok_conflict" => {
                self.payments[at].status = "conflicted";
                self.changed(at, "payment.conflicted");
                return Ok((409, "PAYMENT_CONFLICTED"));
            }
            _ => {}
        }
        if !self.merchants.contains(&merchant) {
            self.merchants.push(merchant);
        }
        if source == "tok_timeout" {
            self.changed(at, "payment.created");
            return Ok((202, ""));
        }
        self.charged(at, "payment.created");
        Ok((201, ""))
    }

    /// The processor said yes to the charge.
    fn charged(&mut self, at: usize, held: &'static str) {
        let payment = &mut self.payments[at];
        if payment.manual {
            payment.status = "requires_capture";
            payment.held = payment.amount;
            self.event("ledger.transaction.pending", 1);
            self.changed(at, held);
        } else {
            payment.status = "succeeded";
            payment.captures.push((payment.amount, 0));
            self.event("ledger.transaction.posted", 1);
            self.changed(at, "payment.succeeded");
        }
    }

    fn capture(&mut self, at: usize, amount: Option<i64>, last: bool) -> Result<Answer, Answer> {
        let payment = &mut self.payments[at];
        if !payment.capturable() {
            return Ok(UNEXPECTED);
        }
        let amount = amount.unwrap_or(payment.held);
        if amount > payment.held {
            return Err((422, "CAPTURE_AMOUNT_TOO_LARGE"));
        }
        let rest = if last { 0 } else { payment.held - amount };
        match payment.source {
            "tok_capture_timeout" => {
                payment.status = "processing";
                payment.capture_waiting = Some((amount, rest));
                self.changed(at, "payment.processing");
                Ok((202, ""))
            }
            "tok_capture_declined" => Err((402, "CAPTURE_DECLINED")),
            "tok_capture_conflict" => {
                payment.status = "conflicted";
                payment.held = 0;
                self.event("ledger.transaction.voided", 1);
                self.changed(at, "payment.conflicted");
                Ok((409, "PAYMENT_CONFLICTED"))
            }
            _ => {
                self.captured(at, amount, rest);
                Ok((200, ""))
            }
        }
    }

    fn captured(&mut self, at: usize, amount: i64, rest: i64) {
        let payment = &mut self.payments[at];
        payment.captures.push((amount, 0));
        payment.held = rest;
        payment.capture_waiting = None;
        payment.status = if payment.captured() == payment.amount {
            "succeeded"
        } else if rest > 0 {
            "partially_captured_and_capturable"
        } else {
            "partially_captured"
        };
        self.event("ledger.transaction.posted", 1);
        self.event("ledger.transaction.pending", u64::from(rest > 0));
        self.changed(at, "payment.captured");
    }

    fn release(&mut self, at: usize) {
        let payment = &mut self.payments[at];
        payment.held = 0;
        payment.status = if payment.captures.is_empty() { "canceled" } else { "partially_captured" };
        self.event("ledger.transaction.voided", 1);
        self.changed(at, "payment.canceled");
    }

    fn refund(&mut self, at: usize, amount: Option<i64>) -> Result<Answer, Answer> {
        let payment = &mut self.payments[at];
        if !payment.refundable() {
            return Ok(UNEXPECTED);
        }
        let amount = amount.unwrap_or(payment.left());
        if amount < 1 || amount > payment.left() {
            return Ok((422, "REFUND_AMOUNT_TOO_LARGE"));
        }
        payment.refunds += 1;
        if payment.source == "tok_refund_declined" {
            self.changed(at, "refund.failed");
            return Ok((402, "REFUND_DECLINED"));
        }
        let (mut left, mut parts) = (amount, 0);
        for (taken, back) in &mut payment.captures {
            let part = left.min(*taken - *back);
            *back += part;
            left -= part;
            parts += u64::from(part > 0);
        }
        if payment.source == "tok_refund_timeout" {
            payment.refunds_waiting.push((amount, parts));
            self.changed(at, "refund.created");
            return Ok((202, ""));
        }
        self.given_back(at, amount, parts)?;
        Ok((201, ""))
    }

    fn given_back(&mut self, at: usize, amount: i64, parts: u64) -> Result<(), Answer> {
        let payment = &mut self.payments[at];
        payment.refunded += amount;
        let (merchant, currency) = (payment.merchant, payment.currency);
        self.event("ledger.transaction.posted", parts);
        self.changed(at, "refund.succeeded");
        let min = self.limits.get(&(merchant, currency)).copied();
        match min {
            Some(min) if self.posted(merchant, currency) < i128::from(min) => Err((409, "ACCOUNT_LIMIT")),
            _ => Ok(()),
        }
    }

    /// Would the merchant keep to the limit without so much?
    fn may_go(&self, at: usize, amount: i64) -> bool {
        let Payment { merchant, currency, .. } = self.payments[at];
        let min = self.limits.get(&(merchant, currency)).copied();
        min.is_none_or(|min| self.posted(merchant, currency) - i128::from(amount) >= i128::from(min))
    }

    fn reverse(&mut self, at: usize) -> Result<Answer, Answer> {
        let held = self.payments[at].capturable();
        if !held && !self.payments[at].refundable() {
            return Ok(UNEXPECTED);
        }
        if held {
            self.release(at);
            if self.payments[at].left() == 0 {
                return Ok((200, ""));
            }
        }
        Ok(match self.refund(at, None)? {
            (201, _) => (200, ""),
            other => other,
        })
    }

    fn sync(&mut self, at: usize) -> Result<Answer, Answer> {
        let payment = &mut self.payments[at];
        let over = self.now >= payment.expires_at;
        match payment.capture_waiting {
            Some((amount, _)) if over => {
                self.event("ledger.transaction.expired", 1);
                self.captured(at, amount, 0);
            }
            Some((amount, rest)) => self.captured(at, amount, rest),
            None if payment.status == "processing" && payment.manual && over => {
                payment.status = "expired";
                self.changed(at, "payment.expired");
            }
            None if payment.status == "processing" => self.charged(at, "payment.authorized"),
            None => {}
        }
        // At most five are settled, and one that a limit forbids waits on without keeping the others.
        let (mut settled, mut tried, mut waiting) = (0, 0, Vec::new());
        for (amount, parts) in std::mem::take(&mut self.payments[at].refunds_waiting) {
            tried += parts;
            if settled == 5 || (tried > 50 && tried > parts) || !self.may_go(at, amount) {
                waiting.push((amount, parts));
            } else {
                settled += 1;
                self.given_back(at, amount, parts)?;
            }
        }
        self.payments[at].refunds_waiting = waiting;
        Ok((200, ""))
    }

    fn limit(&mut self, merchant: &'static str, currency: &'static str, min: Option<i64>) -> Result<Answer, Answer> {
        if !self.merchants.contains(&merchant) {
            return Err((404, "NOT_FOUND"));
        }
        match min {
            None => _ = self.limits.remove(&(merchant, currency)),
            Some(min) if self.posted(merchant, currency) < i128::from(min) => return Err((409, "ACCOUNT_LIMIT")),
            Some(min) => _ = self.limits.insert((merchant, currency), min),
        }
        self.event("ledger.account.limited", 1);
        Ok((200, ""))
    }
}

const UNEXPECTED: Answer = (409, "PAYMENT_UNEXPECTED_STATE");
