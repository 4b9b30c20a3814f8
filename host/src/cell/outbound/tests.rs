//! What goes over the wire once an address was found good. That only good addresses are reached is tested from outside, in
//! `tests/sandbox/proxy.rs`: there every address of this machine must be refused.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Semaphore;
use wasmtime_wasi_http::{Error, WasiBody};

use super::{Origin, exchange, look_up};
use crate::limit;

fn request(body: &'static [u8]) -> Request<WasiBody> {
    let body = Full::new(Bytes::from_static(body)).map_err(Error::from).boxed_unsync();
    let request = Request::post("https://rates.example.com/eur?at=noon").header("host", "rates.example.com");
    request.body(body).unwrap()
}

/// Reads a request to the end of its head and answers.
async fn serve(mut peer: DuplexStream, head: String, body: Vec<u8>) -> String {
    let mut seen = Vec::new();
    while !seen.ends_with(b"ping") {
        seen.push(peer.read_u8().await.unwrap());
    }
    peer.write_all(head.as_bytes()).await.unwrap();
    // A client that has read enough hangs up.
    drop(peer.write_all(&body).await);
    String::from_utf8(seen).unwrap()
}

#[test]
fn origins_are_scheme_host_and_port() {
    let of = |text: &str| Origin::of(&text.parse().unwrap()).map(|origin| origin.to_string());
    assert_eq!(of("https://Rates.Example.com/eur?at=noon").as_deref(), Some("https://rates.example.com:443"));
    assert_eq!(of("http://[::1]/").as_deref(), Some("http://[::1]:80"));
    assert_eq!(of("http://10.0.0.1:8080/").as_deref(), Some("http://10.0.0.1:8080"));
    for no_origin in [
        "ftp://example.com/",
        "https://user@example.com/",
        "/path",
        // Found by the fuzzer: the parser of URIs takes it for an authority.
        "http://8[%2b::db8::0a1]:8080/",
    ] {
        assert_eq!(of(no_origin), None, "{no_origin}");
    }
    for no_grant in ["https://example.com/eur", "https://example.com?x", "example.com", "https://*", "*", ""] {
        assert!(no_grant.parse::<Origin>().is_err() || no_grant == "https://*", "{no_grant}");
    }
}

#[tokio::test]
async fn a_look_up_goes_out_once_and_follows_nothing() {
    let (ours, theirs) = tokio::io::duplex(1024);
    let reply = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\ncontent-length: 4\r\n\r\n";
    let peer = serve(theirs, reply.into(), b"pong".to_vec());
    let (seen, answered) = tokio::join!(peer, exchange(ours, request(b"ping")));
    let (response, driver) = answered.ok().unwrap();
    assert_eq!(response.status(), StatusCode::FOUND);
    let (body, _) = tokio::join!(response.into_body().collect(), Box::into_pin(driver));
    assert_eq!(body.unwrap().to_bytes(), "pong");
    assert!(seen.starts_with("POST /eur?at=noon HTTP/1.1\r\nhost: rates.example.com\r\n"), "{seen}");
    assert!(seen.contains("connection: close\r\n"), "{seen}");
}

#[tokio::test]
async fn a_flood_from_outside_ends() {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let flood = vec![b'x'; limit::OUTBOUND_REPLY_BYTES_MAX + 1];
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", flood.len());
    let reading = async {
        let (response, driver) = exchange(ours, request(b"ping")).await.ok().unwrap();
        let reading = response.into_body().collect();
        let (body, _) = tokio::join!(reading, Box::into_pin(driver));
        body.map(|_| ()).unwrap_err()
    };
    let (_, error) = tokio::join!(serve(theirs, head, flood), reading);
    assert!(matches!(error, Error::HttpResponseBodySize(Some(_))), "{error:?}");
}

/// A silent name server keeps its threads, however soon the cells give up; it gets no more of them.
#[tokio::test]
async fn silent_name_servers_take_so_many_threads_and_no_more() {
    let places = Arc::new(Semaphore::new(limit::OUTBOUND_LOOKUPS_MAX));
    let (asked, questions) = mpsc::channel();
    let mut silences = Vec::new();
    let soon = Duration::from_millis(20);
    for number in 0..2 * limit::OUTBOUND_LOOKUPS_MAX {
        let (speaks, silence) = mpsc::channel::<()>();
        silences.push(speaks);
        let asked = asked.clone();
        let silent = look_up(&places, move || {
            asked.send(number).unwrap();
            silence.recv().ok();
            Ok(Vec::new())
        });
        assert!(tokio::time::timeout(soon, silent).await.is_err(), "the call of look-up {number} gives up");
    }
    let waiting: Vec<_> = questions.try_iter().collect();
    assert_eq!(waiting, (0..limit::OUTBOUND_LOOKUPS_MAX).collect::<Vec<_>>(), "those who gave up before are not asked");
    assert_eq!(places.available_permits(), 0);
    // Passwords and compilations use the same threads.
    assert_eq!(tokio::task::spawn_blocking(|| 7).await.unwrap(), 7);

    let answered = async { look_up(&places, || Ok(vec![([192, 0, 2, 1], 443).into()])).await.ok().unwrap() };
    let (answered, ()) = tokio::join!(answered, async { drop(silences) });
    assert_eq!(answered.len(), 1, "once one speaks, the next is asked");
}
