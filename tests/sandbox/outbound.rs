//! Look-ups that go out: to a server of this machine that stands in for one of the internet. Only listed origins are reached,
//! whatever comes back is bounded, and what was asked is asked once.

use aibos::cell::outside::Outside;
use serde_json::{Value, json};
use suite::actor::Actor;
use suite::cell::Guest;
use suite::database::Backend;
use suite::kernel::{TestKernel, text};
use suite::outside::{NAME, OutsideServer};

use super::traces::{Traces, audited, report_of};

/// Generates the test on both databases.
macro_rules! on_both_backends {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(suite::database::Backend::Sqlite).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(suite::database::Backend::Postgres).await;
            })+
        }
    };
}

on_both_backends!(
    a_cell_answers_with_what_it_looked_up,
    an_encrypted_server_must_be_the_one_that_it_says,
    a_redirect_leads_nowhere_by_itself,
    what_comes_back_is_bounded,
    a_server_that_says_nothing_ends_with_the_call,
    what_was_asked_is_asked_once,
    nothing_is_asked_on_the_strength_of_what_is_no_longer_so,
);

/// The origin that the cells of these tests may ask.
const ORIGIN: &str = "http://rates.example.test";

/// A kernel whose cells reach a server under [`ORIGIN`]; the proxy, which may ask it; and Anna of the tenant `acme`.
async fn with_a_server(backend: Backend, listed: &str, timeout_ms: &str) -> (TestKernel, OutsideServer, Actor) {
    let server = OutsideServer::start().await;
    let outside = server.as_origin(ORIGIN, Outside::default());
    let test = TestKernel::start_with(backend, |config| config.outside = outside).await;
    let guest = Guest::proxy().with("\"http://localhost:1\"", listed).with("timeout_ms = 30000", timeout_ms);
    guest.install(&test.owner().await).await;
    let anna = test.tenant("acme").await;
    (test, server, anna)
}

async fn ask(actor: &Actor, target: &str) -> Value {
    actor.get(&format!("/proxy/do/outbound?{target}")).await.expect(200)
}

async fn a_cell_answers_with_what_it_looked_up(backend: Backend) {
    let listed = format!("\"{ORIGIN}\"");
    let (_test, server, anna) = with_a_server(backend, &listed, "timeout_ms = 30000").await;
    for (target, error) in [
        (format!("http/{NAME}:81/rate"), "HttpRequestDenied"),
        (format!("https/{NAME}/rate"), "HttpRequestDenied"),
        (format!("http/{}/rate", server.address), "HttpRequestDenied"),
        ("http/other.example.test/rate".to_owned(), "HttpRequestDenied"),
    ] {
        let answer = ask(&anna, &target).await;
        assert!(text(&answer["error"]).contains(error), "{target}: {answer}");
    }
    assert_eq!(server.seen(), [""; 0], "an origin that is not listed sees nothing");

    let reply = anna.post(&format!("/proxy/do/outbound?http/{NAME}/rate?of=EUR"), &json!({})).await;
    let answer = reply.clone().expect(200);
    assert_eq!((&answer["status"], &answer["body"], &answer["bytes"]), (&json!(200), &json!("1.0842"), &json!(6)));
    assert_eq!(server.seen(), ["GET /rate?of=EUR HTTP/1.1"]);
    let entries = audited(&anna, &reply).await;
    assert_eq!(entries[0]["receipt"]["host_calls"]["outbound"], 1, "{entries:?}");
}

async fn an_encrypted_server_must_be_the_one_that_it_says(backend: Backend) {
    let server = OutsideServer::start_encrypted().await;
    let outside = server.as_origin(&format!("https://{NAME}"), Outside::default());
    let outside = server.as_origin("https://other.example.test", outside);
    let test = TestKernel::start_with(backend, |config| config.outside = outside).await;
    let listed = format!("\"https://{NAME}\", \"https://other.example.test\"");
    Guest::proxy().with("\"http://localhost:1\"", &listed).install(&test.owner().await).await;
    let anna = test.tenant("acme").await;
    let impostor = ask(&anna, "https/other.example.test/rate").await;
    assert!(text(&impostor["error"]).contains("Tls"), "its certificate is for another name: {impostor}");
    assert_eq!(server.seen(), [""; 0]);
    assert_eq!(ask(&anna, &format!("https/{NAME}/rate")).await["body"], "1.0842");
    assert_eq!(server.seen(), ["GET /rate HTTP/1.1"]);
}

async fn a_redirect_leads_nowhere_by_itself(backend: Backend) {
    let private = OutsideServer::start().await;
    let listed = format!("\"{ORIGIN}\", \"http://{}\"", private.address);
    let (_test, server, anna) = with_a_server(backend, &listed, "timeout_ms = 30000").await;
    for location in [format!("http://{}/rate", private.address), "http://169.254.169.254/latest".to_owned()] {
        let moved = ask(&anna, &format!("http/{NAME}/moved?{location}")).await;
        assert_eq!((&moved["status"], &moved["location"]), (&json!(302), &json!(location)));
    }
    assert_eq!(server.seen().len(), 2);
    // The cell follows, to an origin that is even listed.
    let followed = ask(&anna, &format!("http/{}/rate", private.address)).await;
    assert!(text(&followed["error"]).contains("DestinationIpProhibited"), "{followed}");
    let followed = ask(&anna, "http/169.254.169.254/latest").await;
    assert!(text(&followed["error"]).contains("HttpRequestDenied"), "{followed}");
    assert_eq!(private.seen(), [""; 0]);
}

async fn what_comes_back_is_bounded(backend: Backend) {
    let listed = format!("\"{ORIGIN}\"");
    let (_test, server, anna) = with_a_server(backend, &listed, "timeout_ms = 30000").await;
    let large = ask(&anna, &format!("http/{NAME}/large")).await;
    assert!(text(&large["broken"]).contains("HttpResponseBodySize(Some(4194304))"), "{large}");
    for path in ["noise", "long-head"] {
        let answer = ask(&anna, &format!("http/{NAME}/{path}")).await;
        assert!(answer["error"].is_string(), "{path}: {answer}");
    }
    let asked = server.seen().len();
    let crawl = anna.post(&format!("/proxy/do/crawl?http/{NAME}/rate"), &json!({})).await;
    assert_eq!(crawl.clone().refused(503, "LIMIT_EXCEEDED")["limit"], "outbound");
    assert_eq!(server.seen().len() - asked, 16);
    let receipt = audited(&anna, &crawl).await[0]["receipt"].clone();
    assert_eq!(receipt["host_calls"]["outbound"], 17, "the one too many is counted: {receipt}");
}

async fn a_server_that_says_nothing_ends_with_the_call(backend: Backend) {
    let listed = format!("\"{ORIGIN}\"");
    let (test, server, anna) = with_a_server(backend, &listed, "timeout_ms = 300").await;
    for path in ["silent", "half"] {
        let reply = anna.post(&format!("/proxy/do/outbound?http/{NAME}/{path}"), &json!({})).await;
        reply.clone().refused(504, "CELL_TIMEOUT");
        let traps = test.owner().await.get("/api/v1/cells/proxy/traps").await.expect(200);
        assert_eq!(report_of(&traps, &reply)["kind"], "timed_out", "{path}");
    }
    assert_eq!(server.seen().len(), 2);
}

async fn what_was_asked_is_asked_once(backend: Backend) {
    let listed = format!("\"{ORIGIN}\"");
    let (test, server, anna) = with_a_server(backend, &listed, "timeout_ms = 30000").await;
    anna.post("/proxy/do/state?201", &json!({})).await.done(201);
    let path = format!("/proxy/do/remember?http/{NAME}/held");
    let body = json!({});
    let (reply, ()) = tokio::join!(anna.post(&path, &body), async {
        server.arrival().await;
        // What the call has read changes while it waits.
        anna.post("/proxy/do/state?202", &json!({})).await.done(202);
        server.release();
    });
    reply.clone().refused(409, "WRITE_CONFLICT");
    assert_eq!(server.seen(), ["GET /held HTTP/1.1"], "it was not run again");
    assert_eq!(Traces::of(&test, &anna, &["proxy"]).await.state, [("proxy/key".to_owned(), "202".to_owned())]);
    let entries = audited(&anna, &reply).await;
    assert_eq!((entries.len(), &entries[0]["details"]["outcome"]), (1, &json!("conflicted")), "{entries:?}");

    server.release();
    let answer = anna.post(&path, &body).await.expect(201);
    assert_eq!(answer, json!({ "before": "202", "now": "1.0842" }));
    assert_eq!(server.seen().len(), 2);
}

/// What this kernel remembers was changed by another process since: the call finds out before it asks, and runs again.
async fn nothing_is_asked_on_the_strength_of_what_is_no_longer_so(backend: Backend) {
    let listed = format!("\"{ORIGIN}\"");
    let (test, server, anna) = with_a_server(backend, &listed, "timeout_ms = 30000").await;
    anna.post("/proxy/do/state?201", &json!({})).await.done(201);
    let bytes = if backend == Backend::Sqlite { "blob" } else { "bytea" };
    let elsewhere = format!(
        "update state set value = cast('203' as {bytes}), version = (select sequence + 1 from head)
            where space = 'proxy' and key = 'key';
        update head set sequence = sequence + 1"
    );
    test.database.execute(&elsewhere).await.unwrap();
    let answer = anna.post(&format!("/proxy/do/remember?http/{NAME}/rate"), &json!({})).await.expect(201);
    assert_eq!(answer, json!({ "before": "203", "now": "1.0842" }));
    assert_eq!(server.seen().len(), 1, "the first run asked nothing");
}
