//! Takes from WASI without end: handles, bytes, calls, time. Each function ends only because the host ends it.

use std::hint::black_box;
use std::time::Duration;

use wasip2::cli::{environment, stdout};
use wasip2::clocks::{monotonic_clock, wall_clock};
use wasip2::http::types::{Fields, OutgoingBody, OutgoingRequest, OutgoingResponse};
use wasip2::io::poll::poll;
use wasip2::random::{insecure, random};

/// Takes what this word names; true when there is no such thing to take.
pub(crate) fn take(what: &str) -> bool {
    match what {
        "fields" => keep(Fields::new),
        "requests" => keep(|| OutgoingRequest::new(Fields::new())),
        "responses" => keep(|| OutgoingResponse::new(Fields::new())),
        "bodies" => keep(body),
        "streams" => keep(stdout::get_stdout),
        "pollables" => keep(|| monotonic_clock::subscribe_duration(1)),
        "subscriptions" => {
            let stream = stdout::get_stdout();
            keep(|| stream.subscribe());
        }
        "copies" => {
            let fields = large_fields();
            keep(|| fields.clone());
        }
        "header" => append(&Fields::new()),
        "random" => repeat(|| drop(black_box(random::get_random_bytes(1024)))),
        "much-random" => drop(black_box(random::get_random_bytes(u64::MAX))),
        "insecure" => repeat(|| _ = black_box(insecure::get_insecure_random_u64())),
        "clock" => repeat(|| _ = black_box(monotonic_clock::now())),
        "wall-clock" => repeat(|| _ = black_box(wall_clock::now())),
        "environment" => repeat(|| drop(black_box(environment::get_environment()))),
        "poll" => poll_for_ever(),
        "ready" => {
            let never = monotonic_clock::subscribe_duration(u64::MAX);
            repeat(|| _ = black_box(never.ready()));
        }
        "nothing" => drop(poll(&[])),
        "block" => monotonic_clock::subscribe_duration(u64::MAX).block(),
        "wait" => {
            let never = [(); 50].map(|()| monotonic_clock::subscribe_duration(u64::MAX));
            poll(&never.iter().collect::<Vec<_>>());
        }
        "doze" => repeat(|| std::thread::sleep(Duration::from_millis(1))),
        "print" => repeat(|| println!("{}", "x".repeat(1000))),
        "print-raw" => {
            let stream = stdout::get_stdout();
            repeat(|| _ = stream.blocking_write_and_flush(&[b'x'; 4096]));
        }
        _ => return true,
    }
    false
}

fn repeat(mut step: impl FnMut()) {
    loop {
        step();
    }
}

/// Makes handles and gives none back.
fn keep<T>(make: impl Fn() -> T) {
    repeat(|| std::mem::forget(make()));
}

fn body() -> OutgoingBody {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("the body is there once");
    std::mem::forget(response);
    body
}

/// Headers as large as the host takes them.
fn large_fields() -> Fields {
    let fields = Fields::new();
    for number in 0..60 {
        fields.append(&format!("x-{number}"), &[b'x'; 1000]).expect("a header");
    }
    fields
}

fn append(fields: &Fields) {
    repeat(|| fields.append("x-more", &[b'x'; 4096]).expect("a header"));
}

/// Asks about the same ready handle, many at a time.
fn poll_for_ever() {
    let now = monotonic_clock::subscribe_duration(0);
    let many = vec![&now; 100];
    repeat(|| drop(black_box(poll(&many))));
}
