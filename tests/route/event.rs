//! `/api/v1/events`

use http::Method;
use serde_json::{Value, json};
use suite::kernel::{TestKernel, text};

on_both_kernels!(publishes, a_repeated_id_is_the_same_event, refuses_bad_events, reads_by_filter_and_page);

const EVENTS: &str = "/api/v1/events";

async fn publishes(kernel: TestKernel) {
    let anna = kernel.tenant("acme").await;
    let correlation = "0197e6a8-1111-7000-8000-00000000abcd";
    let anna = anna.with_header("x-correlation-id", correlation);
    let body = json!({ "type": "invoice.approved", "subject": "invoice/7", "data": { "total": 100 } });
    let reply = anna.post(EVENTS, &body).await;
    assert_eq!(reply.header("x-correlation-id"), correlation);
    let envelope = reply.expect(201);
    assert_eq!(envelope["specversion"], "1.0");
    assert_eq!(envelope["type"], "invoice.approved");
    assert_eq!(envelope["subject"], "invoice/7");
    assert_eq!(envelope["source"], format!("/users/{}", anna.id));
    assert_eq!(envelope["data"], json!({ "total": 100 }));
    assert_eq!(envelope["sequence"], 1);
    assert_eq!(envelope["tenantid"].as_str(), Some(anna.tenant_id.as_str()));
    assert_eq!(envelope["actor"], format!("user:{}", anna.id));
    assert_eq!(envelope["correlationid"], correlation);
    assert_eq!(envelope["datacontenttype"], "application/json");
    let second = anna.post("/api/v1/events/publish", &json!({ "type": "a", "data": null })).await.expect(201);
    assert_eq!(second["sequence"], 2);
    let page = anna.get(EVENTS).await.expect(200);
    assert_eq!(page["data"], json!([envelope, second]));
    let entries = kernel.audit(&anna, "event.publish").await;
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1]["target"], json!({ "type": "event", "id": envelope["id"] }));
    assert_eq!(entries[1]["correlation_id"], correlation);
    let exact = r#"{"type":"b","data":{"n":1.10,"big":123456789012345678901234567890}}"#;
    let reply = anna.send_text(Method::POST, EVENTS, Some(exact.into())).await;
    assert!(reply.text.contains(r#""data":{"n":1.10,"big":123456789012345678901234567890}"#), "{}", reply.text);
    let page = anna.get("/api/v1/events?type=b").await;
    assert!(page.text.contains(r#"{"n":1.10,"big":123456789012345678901234567890}"#), "{}", page.text);
}

async fn a_repeated_id_is_the_same_event(kernel: TestKernel) {
    let anna = kernel.tenant("acme").await;
    let body = json!({ "type": "invoice.approved", "id": "invoice-7", "data": 1 });
    let first = anna.post(EVENTS, &body).await.expect(201);
    let other = json!({ "type": "invoice.other", "id": "invoice-7", "data": 2 });
    assert_eq!(anna.post(EVENTS, &body).await.expect(200), first);
    assert_eq!(anna.post(EVENTS, &other).await.expect(200), first);
    assert_eq!(anna.get(EVENTS).await.expect(200)["data"], json!([first]));
    assert_eq!(kernel.audit(&anna, "event.publish").await.len(), 1, "nothing happened twice");
    let ada = kernel.user(&anna, "ada", &["kernel.event.publish"]).await;
    ada.post(EVENTS, &body).await.done(201);
    let mut publishing = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let anna = anna.clone();
        publishing.spawn(async move { anna.post(EVENTS, &json!({ "type": "x", "id": "race", "data": 1 })).await });
    }
    let mut statuses: Vec<u16> = publishing.join_all().await.into_iter().map(|reply| reply.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 200, 201]);
}

async fn refuses_bad_events(kernel: TestKernel) {
    let anna = kernel.tenant("acme").await;
    let refused = [
        ("/type", json!({ "type": "Not A Type", "data": 1 })),
        ("/type", json!({ "type": "", "data": 1 })),
        ("/subject", json!({ "type": "a", "subject": "", "data": 1 })),
        ("/subject", json!({ "type": "a", "subject": "x".repeat(257), "data": 1 })),
        ("/id", json!({ "type": "a", "id": "a\nb", "data": 1 })),
        ("/data", json!({ "type": "a", "data": "x".repeat(64 * 1024) })),
    ];
    for (pointer, body) in refused {
        anna.post(EVENTS, &body).await.invalid(pointer);
    }
    anna.post(EVENTS, &json!({ "type": "a" })).await.refused(400, "VALIDATION_ERROR");
    anna.post(EVENTS, &json!({ "type": "a", "data": 1, "source": "/cells/x" })).await.refused(400, "VALIDATION_ERROR");
    anna.send_text(Method::POST, EVENTS, Some("{".into())).await.refused(400, "VALIDATION_ERROR");
    let large = format!("{{\"type\":\"a\",\"data\":\"{}\"}}", "x".repeat(1024 * 1024));
    anna.send_text(Method::POST, EVENTS, Some(large)).await.refused(413, "PAYLOAD_TOO_LARGE");
    anna.send(Method::POST, EVENTS, None).await.refused(415, "UNSUPPORTED_MEDIA_TYPE");
    assert_eq!(anna.get(EVENTS).await.expect(200)["data"], json!([]));
    assert_eq!(kernel.audit(&anna, "event.publish").await.len(), 0);
}

async fn reads_by_filter_and_page(kernel: TestKernel) {
    let anna = kernel.tenant("acme").await;
    for number in 1..=5 {
        let kind = if number % 2 == 0 { "order.even" } else { "order.odd" };
        let body = json!({ "type": kind, "subject": format!("order/{number}"), "data": number });
        anna.post(EVENTS, &body).await.done(201);
    }
    let sequences = async |query: &str| -> (Vec<Value>, Value) {
        let page = anna.get(&format!("{EVENTS}?{query}")).await.expect(200);
        let data = page["data"].as_array().unwrap().iter().map(|event| event["sequence"].clone()).collect();
        (data, page["next_cursor"].clone())
    };
    assert_eq!(sequences("type=order.even").await.0, [2, 4]);
    assert_eq!(sequences("type=order.*").await.0, [1, 2, 3, 4, 5]);
    assert_eq!(sequences("type=invoice.*").await.0, Vec::<Value>::new());
    assert_eq!(sequences("subject=order/3").await.0, [3]);
    assert_eq!(sequences("after=3").await.0, [4, 5]);
    let (first, cursor) = sequences("limit=2").await;
    assert_eq!((first, text(&cursor)), (vec![json!(1), json!(2)], "2"));
    assert_eq!(sequences("limit=3&cursor=2").await, (vec![json!(3), json!(4), json!(5)], Value::Null));
    anna.get(&format!("{EVENTS}?after=1&cursor=1")).await.invalid("/query/cursor");
    anna.get(&format!("{EVENTS}?after=x")).await.invalid("/query/after");
    anna.get(&format!("{EVENTS}?cursor=x")).await.invalid("/query/cursor");
    let other = kernel.tenant("other").await;
    assert_eq!(other.get(EVENTS).await.expect(200)["data"], json!([]), "another tenant's log is another log");
    assert_eq!(other.post(EVENTS, &json!({ "type": "a", "data": 1 })).await.expect(201)["sequence"], 1);
}
