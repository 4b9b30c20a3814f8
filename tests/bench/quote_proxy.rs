//! The computing route of the benchmark as a component of the standard world `wasi:http/proxy`, which any host can run.

mod quote;

use wasip2::http::types::{Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Quote;

wasip2::http::proxy::export!(Quote);

impl wasip2::exports::http::incoming_handler::Guest for Quote {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let quoted = quote::quote(&read(&request));
        let fields = Fields::from_list(&[("content-type".into(), b"application/json".into())]).expect("a header");
        let response = OutgoingResponse::new(fields);
        response.set_status_code(if quoted.is_some() { 200 } else { 400 }).expect("a status");
        let body = response.body().expect("the body is there once");
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().expect("its stream is there once");
        stream.blocking_write_and_flush(&quoted.unwrap_or_default()).expect("the host takes the reply");
        drop(stream);
        OutgoingBody::finish(body, None).expect("the reply is whole");
    }
}

fn read(request: &IncomingRequest) -> Vec<u8> {
    let body = request.consume().expect("the body is there once");
    let stream = body.stream().expect("its stream is there once");
    let mut bytes = Vec::new();
    while let Ok(more) = stream.blocking_read(64 * 1024) {
        bytes.extend(more);
    }
    drop(stream);
    drop(IncomingBody::finish(body));
    bytes
}
