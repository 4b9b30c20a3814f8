//! One run: an operation is drawn, sent, and compared; sometimes twice, sometimes while a cell is made to trap.

use std::collections::BTreeMap;

use http::Method;
use jiff::SignedDuration;
use serde_json::{Value, json};
use suite::actor::{Actor, Reply};
use suite::cell::install_finance;
use suite::kernel::{PASSWORD, TestKernel, text};

use super::draw::{Operation, Random};
use super::payments::{Answer, Model};

pub(super) struct Run {
    pub(super) test: TestKernel,
    pub(super) merchant: Actor,
    pub(super) other: Actor,
    pub(super) model: Model,
    /// Entries of each account as they were seen last.
    pub(super) seen: BTreeMap<String, Vec<Value>>,
    operator: Actor,
    random: Random,
    keys: u64,
    answers: BTreeMap<Answer, u64>,
    traps: u64,
    replays: u64,
}

impl Run {
    pub(super) async fn begin(test: TestKernel, random: Random) -> Self {
        let operator = test.owner().await;
        install_finance(&operator).await;
        let merchant = test.tenant("acme").await;
        let other = test.tenant("other").await;
        Self {
            test,
            merchant,
            other,
            operator,
            random,
            model: Model::default(),
            seen: BTreeMap::new(),
            keys: 0,
            answers: BTreeMap::new(),
            traps: 0,
            replays: 0,
        }
    }

    pub(super) async fn step(&mut self, step: u64) {
        self.pass_time().await;
        let operation = Operation::draw(&mut self.random, self.model.payments.len(), &self.model.live());
        let id = operation.payment().map(|at| self.model.payments[at].id.clone()).unwrap_or_default();
        let request = operation.request(&id);
        self.keys += 1;
        let keyed = self.merchant.with_header("idempotency-key", &format!("key-{}", self.keys));

        let fault = self.inject().await;
        let reply = send(&keyed, &request).await;
        let reply = if let Some(cell) = fault {
            self.operator.post(&format!("/api/v1/chaos/recover/{cell}"), &Value::Null).await.done(200);
            if reply.status == 503 && request.2["source"] != "tok_trap" {
                self.traps += 1;
                // Nothing happened, and the key is not used up.
                self.check_payment(operation.payment()).await;
                send(&keyed, &request).await
            } else {
                reply
            }
        } else {
            reply
        };

        let mut next = self.model.clone();
        let (answer, happened) = match next.apply(&operation) {
            Ok(answer) => (answer, true),
            Err(answer) => (answer, false),
        };
        let about = format!("step {step}: {operation:?}\n{:?}", operation.payment().map(|at| &self.model.payments[at]));
        let code = if reply.status < 400 { "" } else { reply.json["code"].as_str().unwrap_or_default() };
        assert_eq!((reply.status, code), answer, "{about}\nanswered {}", reply.text);
        *self.answers.entry(answer).or_default() += 1;
        if happened {
            if next.payments.len() > self.model.payments.len() {
                text(&reply.json["transaction_id"]).clone_into(&mut next.payments.last_mut().unwrap().id);
            }
            self.model = next;
        }
        let touched = match operation {
            Operation::Create { .. } if happened => Some(self.model.payments.len() - 1),
            _ => operation.payment(),
        };
        self.check_payment(touched).await;
        if self.random.one_in(4) {
            self.send_again(&keyed, &request, &reply, touched).await;
        }
    }

    /// A moment, or sometimes hours or days.
    async fn pass_time(&mut self) {
        let time = if self.random.one_in(14) {
            SignedDuration::from_hours(i64::try_from(self.random.below(80)).unwrap())
        } else {
            SignedDuration::from_millis(1)
        };
        self.test.pass(time);
        self.model.now = self.test.clock.now().as_millisecond();
        if time > SignedDuration::from_secs(1) {
            // The tokens have run out, and the keys of before may be forgotten.
            self.merchant.token = self.test.sign_in("acme", "owner@acme.test", PASSWORD).await.token;
            self.other.token = self.test.sign_in("other", "owner@other.test", PASSWORD).await.token;
            self.operator.token = self.test.sign_in("platform", "olga@platform.test", PASSWORD).await.token;
        }
    }

    /// Sometimes one of the cells will trap once, at a host call of its own.
    async fn inject(&mut self) -> Option<&'static str> {
        if !self.random.one_in(8) {
            return None;
        }
        let cell = ["payment-hub", "processor", "ledger"][self.random.below(3)];
        let at = format!("host-call:{}", 1 + self.random.below(12));
        let fault = json!({ "cell": cell, "kind": "trap", "at": at, "count": 1 });
        self.operator.post("/api/v1/chaos/faults", &fault).await.done(201);
        Some(cell)
    }

    /// What was committed is answered again byte for byte, and another request with its key is refused.
    async fn send_again(&mut self, keyed: &Actor, request: &Request, first: &Reply, touched: Option<usize>) {
        let reply = send(keyed, request).await;
        if first.status < 400 {
            assert_eq!(reply.header("idempotency-replayed"), "true", "{}", reply.text);
        }
        if reply.header("idempotency-replayed") == "true" {
            assert_eq!((reply.status, &reply.text), (first.status, &first.text));
            self.replays += 1;
            let mut other = request.clone();
            other.2["reference"] = "another body".into();
            send(keyed, &other).await.refused(422, "IDEMPOTENCY_KEY_REUSED");
        } else if first.status != 503 {
            assert_eq!((reply.status, &reply.json["code"]), (first.status, &first.json["code"]));
        }
        self.check_payment(touched).await;
    }

    async fn check_payment(&self, at: Option<usize>) {
        let Some(at) = at else { return };
        let expected = &self.model.payments[at];
        let shown = self.merchant.get(&format!("/payments/status/{}", expected.id)).await.expect(200);
        let refunding: i64 = expected.refunds_waiting.iter().map(|(amount, _)| amount).sum();
        let shown_as = json!({
            "status": shown["status"],
            "version": shown["version"],
            "amount": shown["amount"],
            "currency": shown["currency"],
            "amount_capturable": shown["amount_capturable"],
            "amount_captured": shown["amount_captured"],
            "amount_refunded": shown["amount_refunded"],
            "amount_refunding": shown["amount_refunding"],
        });
        let expected_as = json!({
            "status": expected.status,
            "version": expected.version,
            "amount": expected.amount,
            "currency": expected.currency,
            "amount_capturable": expected.held,
            "amount_captured": expected.captured(),
            "amount_refunded": expected.refunded,
            "amount_refunding": refunding,
        });
        assert_eq!(shown_as, expected_as, "{shown}");
    }

    pub(super) fn summary(&self) -> String {
        let Self { model, answers, traps, replays, .. } = self;
        let payments = model.payments.len();
        format!("{payments} payments, {traps} traps, {replays} replays\nanswers {answers:?}\nevents {:?}", model.events)
    }
}

pub(super) type Request = (&'static str, String, Value);

async fn send(actor: &Actor, (method, path, body): &Request) -> Reply {
    actor.send(Method::from_bytes(method.as_bytes()).unwrap(), path, Some(body)).await
}
