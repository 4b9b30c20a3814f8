//! Runs a component of the standard world `wasi:http/proxy`: the request becomes a WASI resource, and the reply is collected
//! while the guest writes it, up to the cell's limit. What comes out is the reply of a typed cell, so that everything after
//! it is one path: its effect goes by its status.

use bytes::Bytes;
use futures_util::FutureExt;
use http::request::Builder;
use http::uri::Authority;
use http::{HeaderName, HeaderValue};
use http_body_util::{BodyExt, Full};
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime::component::{ComponentExportIndex, Instance, Resource, TypedFunc};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};

use super::binding::{Effect, Request, Response};
use super::outcome::Stop;
use super::store::CellStore;

/// `incoming-handler.handle`.
pub type Handle = TypedFunc<(Resource<HostIncomingRequest>, Resource<HostResponseOutparam>), ()>;

/// What the guest gives to its response outparam.
type Given = Result<http::Response<HyperOutgoingBody>, ErrorCode>;

/// Where a request without a `Host` was sent: one of another cell.
const AUTHORITY_DEFAULT: &str = "localhost";

/// Calls `incoming-handler` of an instance and collects its reply.
pub async fn answer(
    store: &mut Store<CellStore>,
    instance: Instance,
    handle: ComponentExportIndex,
    request: Request,
    output_bytes_max: usize,
) -> wasmtime::Result<Response> {
    let handle: Handle = instance.get_typed_func(&mut *store, handle)?;
    let (sender, given) = oneshot::channel();
    let request = store.data_mut().http().new_incoming_request(Scheme::Http, incoming(request)?)?;
    let out = store.data_mut().http().new_response_outparam(sender)?;
    let mut collecting = Box::pin(collect(given, output_bytes_max));
    let mut collected = None;
    {
        let mut calling = Box::pin(handle.call_async(&mut *store, (request, out)));
        loop {
            tokio::select! {
                biased;
                called = &mut calling => break called?,
                // An error ends the guest here; after a whole reply it may still do something, and trap.
                response = &mut collecting, if collected.is_none() => collected = Some(response?),
            }
        }
    }
    // What the guest finished just before it returned is there by now.
    if let Some(response) = collected.map(Ok).or_else(|| (&mut collecting).now_or_never()) {
        return Ok(response?);
    }
    // Whatever the guest still holds of its reply ends it.
    store.data_mut().release();
    Ok(collecting.await?)
}

/// The request as the guest sees it.
pub fn incoming(request: Request) -> Result<http::Request<Full<Bytes>>, Stop> {
    let host = request.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
    // What a client or another cell sent is not the doing of the cell that is asked.
    let authority = host.and_then(|(_, host)| host.parse::<Authority>().ok());
    let authority = authority.unwrap_or_else(|| Authority::from_static(AUTHORITY_DEFAULT));
    let target = match &request.query {
        Some(query) => format!("{}?{query}", request.path),
        None => request.path,
    };
    let uri = http::Uri::builder().scheme("http").authority(authority).path_and_query(target).build();
    let mut builder = Builder::new().method(request.method.as_str());
    for (name, value) in &request.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            builder = builder.header(name, value);
        }
    }
    let bad = |cause: http::Error| Stop::BadResponse(format!("the request is not valid HTTP: {cause}"));
    builder.uri(uri.map_err(bad)?).body(Full::new(Bytes::from(request.body))).map_err(bad)
}

/// The reply, once it is whole.
async fn collect(given: oneshot::Receiver<Given>, output_bytes_max: usize) -> Result<Response, Stop> {
    let response = match given.await {
        Ok(Ok(response)) => response,
        Ok(Err(code)) => return Err(Stop::BadResponse(format!("the cell answered with the error {code:?}"))),
        Err(_) => return Err(Stop::BadResponse("the cell returned without an answer".into())),
    };
    let (parts, mut stream) = response.into_parts();
    let mut headers = Vec::with_capacity(parts.headers.len());
    for (name, value) in &parts.headers {
        let text = value.to_str().map_err(|_| Stop::BadResponse(format!("header {:?} is not valid", name.as_str())))?;
        headers.push((name.as_str().to_owned(), text.to_owned()));
    }
    let mut body = Vec::new();
    while let Some(frame) = stream.frame().await {
        let frame = frame.map_err(|_| Stop::BadResponse("the body was not finished".into()))?;
        let Some(data) = frame.data_ref() else { continue };
        if body.len() + data.len() > output_bytes_max {
            return Err(Stop::Output);
        }
        body.extend_from_slice(data);
    }
    Ok(Response { status: parts.status.as_u16(), headers, body, effect: Effect::ByStatus })
}
