//! Whatever is asked of a payment, its amounts stay within each other and its status on its edges.

use aibos_cell::Money;
use proptest::prelude::*;
use serde_json::json;

use super::*;

const START: Timestamp = Timestamp::from_milliseconds(0);

fn payment(method: CaptureMethod) -> Payment {
    let euro = Currency::parse("EUR").expect("known");
    let order = Order {
        money: Money::new(1000, euro).expect("in range"),
        source: "tok_ok".to_owned(),
        destination: "acme".to_owned(),
        reference: None,
    };
    Payment::begin("p1".to_owned(), order, method, START)
}

fn authorized() -> Payment {
    let mut payment = payment(CaptureMethod::Manual);
    payment.authorize().expect("it was processing");
    payment
}

fn capture(payment: &mut Payment, id: &str, amount: Option<i64>, last: Last) -> Result<(), Refusal> {
    let plan = payment.plan_capture(id.to_owned(), amount, last)?;
    let rest_hold = (plan.rest > 0).then(|| format!("{id}-rest"));
    payment.capture(plan, rest_hold)
}

#[test]
fn the_answer_has_the_fields_of_the_contract() {
    let mut payment = payment(CaptureMethod::Automatic);
    payment.succeed().expect("it was processing");
    payment.count_change();
    assert_eq!(
        serde_json::to_value(&payment).expect("JSON"),
        json!({
            "transaction_id": "p1",
            "version": 1,
            "status": "succeeded",
            "capture_method": "automatic",
            "amount": 1000,
            "amount_capturable": 0,
            "amount_captured": 1000,
            "amount_released": 0,
            "amount_refunded": 0,
            "amount_refunding": 0,
            "currency": "EUR",
            "source": "tok_ok",
            "destination": "acme",
            "created_at": "1970-01-01T00:00:00.000Z",
        })
    );
}

#[test]
fn money_is_held_for_seven_days_and_not_a_moment_longer() {
    let payment = authorized();
    let week = Timestamp::from_milliseconds(604_800_000);
    assert_eq!(payment.expires_at, Some(week));
    assert!(!payment.is_over(Timestamp::from_milliseconds(604_799_999)));
    assert!(payment.is_over(week));
}

#[test]
fn parts_are_captured_until_nothing_is_left() {
    let mut payment = authorized();
    capture(&mut payment, "c1", Some(600), Last::No).expect("held");
    assert_eq!((payment.status(), payment.amount_capturable), (Status::PartiallyCapturedAndCapturable, 400));
    let before = payment.clone();
    let too_much = Err(Refusal::CaptureTooLarge { capturable: 400 });
    assert_eq!(capture(&mut payment, "c2", Some(401), Last::No), too_much);
    // Before the processor is asked, which would take it.
    for last in [Last::Yes, Last::No] {
        assert_eq!(payment.plan_capture("c2".to_owned(), Some(401), last).map(|_| ()), too_much);
    }
    assert_eq!(payment, before);
    capture(&mut payment, "c2", None, Last::No).expect("held");
    assert_eq!((payment.status(), payment.amount_captured), (Status::Succeeded, 1000));
    assert_eq!(capture(&mut payment, "c3", None, Last::No), Err(Refusal::Unexpected(Status::Succeeded)));
}

#[test]
fn a_last_part_releases_the_rest() {
    let mut payment = authorized();
    capture(&mut payment, "c1", Some(1), Last::Yes).expect("held");
    assert_eq!((payment.status(), payment.amount_capturable, payment.hold_id), (Status::PartiallyCaptured, 0, None));
    assert_eq!(payment.amount_released, 999);
}

#[test]
fn what_is_released_depends_on_what_was_taken() {
    let mut untouched = authorized();
    untouched.cancel().expect("held");
    assert_eq!(untouched.status(), Status::Canceled);
    assert_eq!(untouched.expire(), Err(Refusal::Unexpected(Status::Canceled)));
    let mut partly = authorized();
    capture(&mut partly, "c1", Some(1), Last::No).expect("held");
    partly.expire().expect("held");
    assert_eq!((partly.status(), partly.refundable()), (Status::PartiallyCaptured, 1));
    assert_eq!((untouched.amount_released, partly.amount_released), (1000, 999));
}

#[test]
fn a_refund_takes_from_the_oldest_capture_first() {
    let mut payment = authorized();
    capture(&mut payment, "c1", Some(300), Last::No).expect("held");
    capture(&mut payment, "c2", Some(700), Last::No).expect("held");
    let parts = payment.begin_refund("r1", Some(450)).expect("taken");
    assert_eq!(
        parts,
        [Part::new("r1", 1, "c1".to_owned(), 300), Part::new("r1", 2, "c2".to_owned(), 150)],
        "{payment:?}"
    );
    assert_eq!(payment.refundable(), 550);
    payment.fail_refund("r1", &parts);
    assert_eq!(payment.refundable(), 1000);
    assert_eq!(payment.begin_refund("r2", Some(300)).expect("taken")[0].reverses, "c1");
}

#[test]
fn a_refund_that_could_not_be_booked_is_not_begun() {
    let mut payment = payment(CaptureMethod::Automatic);
    payment.succeed().expect("it was processing");
    for number in 0..REFUNDS_MAX {
        let id = format!("r{number}");
        payment.begin_refund(&id, Some(1)).expect("taken");
        payment.finish_refund(&id, 1);
        let declined = payment.begin_refund("declined", Some(1));
        if let Ok(parts) = declined {
            payment.fail_refund("declined", &parts);
        }
    }
    let before = payment.clone();
    assert_eq!(payment.begin_refund("more", Some(1)), Err(Refusal::NoMoreRefunds));
    assert_eq!(payment, before);
}

#[derive(Clone, Copy, Debug)]
enum Ask {
    Succeed,
    Authorize,
    Decline,
    Conflict,
    Cancel,
    Expire,
    Capture(i64, Last),
    Await(i64),
    FailCapture,
    Refund(i64, bool),
}

fn ask() -> impl Strategy<Value = Ask> {
    let last = prop_oneof![Just(Last::Yes), Just(Last::No)];
    prop_oneof![
        1 => Just(Ask::Succeed),
        3 => Just(Ask::Authorize),
        1 => Just(Ask::Decline),
        1 => Just(Ask::Conflict),
        1 => Just(Ask::Cancel),
        1 => Just(Ask::Expire),
        6 => (-1..500_i64, last).prop_map(|(amount, last)| Ask::Capture(amount, last)),
        1 => (-1..500_i64).prop_map(Ask::Await),
        1 => Just(Ask::FailCapture),
        5 => (-1..500_i64, any::<bool>()).prop_map(|(amount, done)| Ask::Refund(amount, done)),
    ]
}

/// Does what is asked, if it is allowed.
fn follow(payment: &mut Payment, ask: Ask, id: &str) -> Result<(), Refusal> {
    match ask {
        Ask::Succeed => payment.succeed(),
        Ask::Authorize => payment.authorize(),
        Ask::Decline => payment.decline("card_declined".to_owned()),
        Ask::Conflict => payment.conflict(),
        Ask::Cancel => payment.cancel(),
        Ask::Expire => payment.expire(),
        Ask::Capture(amount, last) => capture(payment, id, Some(amount), last),
        Ask::Await(amount) => {
            let plan = payment.plan_capture(id.to_owned(), Some(amount), Last::No)?;
            payment.await_capture(plan)
        }
        Ask::FailCapture => payment.fail_capture(),
        Ask::Refund(amount, done) => {
            let parts = payment.begin_refund(id, Some(amount))?;
            if done {
                payment.finish_refund(id, amount);
            } else {
                payment.fail_refund(id, &parts);
            }
            Ok(())
        }
    }
}

/// A hold is neither given up nor over while a capture of it waits: the adapter settles the capture first.
fn makes_sense(payment: &Payment, ask: Ask) -> bool {
    match ask {
        Ask::Cancel => payment.status() != Status::Processing,
        Ask::Expire => payment.capture_waiting.is_none(),
        _ => true,
    }
}

proptest! {
    #[test]
    fn amounts_stay_within_each_other_and_a_refusal_changes_nothing(
        asks in prop::collection::vec(ask(), 1..40),
        manual in any::<bool>(),
    ) {
        let mut payment = payment(if manual { CaptureMethod::Manual } else { CaptureMethod::Automatic });
        for (number, ask) in asks.into_iter().enumerate() {
            if !makes_sense(&payment, ask) {
                continue;
            }
            let before = payment.clone();
            if follow(&mut payment, ask, &format!("x{number}")).is_err() {
                prop_assert_eq!(&payment, &before);
                continue;
            }
            let (from, to) = (before.status(), payment.status());
            prop_assert!(from == to || from.next().contains(&to), "{} -> {}", from, to);
            let sum = payment.amount_captured + payment.amount_capturable + payment.amount_released;
            prop_assert!(sum == payment.amount || sum == 0, "{:?}", payment);
            prop_assert!(payment.amount_refunded + payment.amount_refunding <= payment.amount_captured);
            prop_assert!(payment.amount_captured >= before.amount_captured);
            prop_assert!(payment.amount_refunded >= before.amount_refunded);
            prop_assert_eq!(payment.hold_id.is_some(), payment.amount_capturable > 0);
            if !payment.captures.is_empty() {
                let (taken, back) = payment.captures.iter().fold((0, 0), |(taken, back), capture| {
                    assert!((0..=capture.amount).contains(&capture.amount_reversed));
                    (taken + capture.amount, back + capture.amount_reversed)
                });
                prop_assert_eq!(taken, payment.amount_captured);
                prop_assert_eq!(back, payment.amount_refunded + payment.amount_refunding);
            }
            let stored = serde_json::to_string(&payment).expect("JSON");
            prop_assert_eq!(serde_json::from_str::<Payment>(&stored).expect("what we wrote"), payment.clone());
        }
    }
}
