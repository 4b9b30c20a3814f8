//! The request as a cell sees it: path parameters, query, headers, JSON body. Parsing answers a [`Problem`] that
//! names the field, so that a handler reads its input with `?`.

use serde::de::DeserializeOwned;

use crate::bindings::aibos::cell::types;
use crate::{Page, Problem, Timestamp, percent, pointer};

/// One request, from the gateway or from another cell.
#[derive(Clone, Debug)]
pub struct Request {
    raw: types::Request,
    parameters: Vec<(&'static str, String)>,
}

impl Request {
    /// A request without query, headers and body: for native tests of routes.
    #[must_use]
    pub fn new(method: &str, path: &str) -> Self {
        Self::from(types::Request {
            method: method.to_owned(),
            path: path.to_owned(),
            query: None,
            headers: Vec::new(),
            body: Vec::new(),
        })
    }

    /// The same request at another path, for a router inside a `{*rest}` route.
    #[must_use]
    pub fn at_path(&self, path: &str) -> Self {
        let mut moved = self.clone();
        path.clone_into(&mut moved.raw.path);
        moved.parameters.clear();
        moved
    }

    pub(crate) fn with_parameters(self, parameters: Vec<(&'static str, String)>) -> Self {
        Self { parameters, ..self }
    }

    /// Upper-case method.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.raw.method
    }

    /// The path without the query, percent-encoding kept.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.raw.path
    }

    /// A parameter of the route's pattern, percent-decoded. Asking for one that the pattern does not have is a
    /// mistake in the cell: 500.
    pub fn parameter(&self, name: &str) -> Result<&str, Problem> {
        self.parameters
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
            .ok_or_else(|| Problem::internal(format!("the route has no parameter {name}")))
    }

    /// The first value of a query parameter, decoded as a form does (`+` is a space).
    pub fn query(&self, name: &str) -> Result<Option<String>, Problem> {
        let query = self.raw.query.as_deref().unwrap_or_default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if decode_form(key).as_deref() == Some(name) {
                return decode_form(value)
                    .map(Some)
                    .ok_or_else(|| Problem::invalid(&format!("/query/{name}"), "not percent-encoded UTF-8"));
            }
        }
        Ok(None)
    }

    /// A query parameter as an integer; none when it is absent.
    pub fn query_integer(&self, name: &str) -> Result<Option<i64>, Problem> {
        self.query(name)?
            .map(|text| text.parse().map_err(|_| Problem::invalid(&format!("/query/{name}"), "must be an integer")))
            .transpose()
    }

    /// `limit` and `cursor` of a list.
    pub fn page(&self) -> Result<Page, Problem> {
        Page::parse(self.query("limit")?.as_deref(), self.query("cursor")?.as_deref())
            .map_err(|error| Problem::validation(vec![error]))
    }

    /// The first header of this name (lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// All headers; names are lower case.
    #[must_use]
    pub fn headers(&self) -> &[(String, String)] {
        &self.raw.headers
    }

    /// The body as it came.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.raw.body
    }

    /// The body as JSON. Give `T` `#[serde(deny_unknown_fields)]`: a field that is silently ignored is a payment that
    /// does not do what its sender meant. 415 for another media type, 400 `VALIDATION_ERROR` with the pointer of the
    /// first wrong field otherwise.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        if !self.header("content-type").is_some_and(is_json) {
            let detail = "The body must be JSON: send `Content-Type: application/json`.";
            return Err(Problem::new(415, "UNSUPPORTED_MEDIA_TYPE", detail));
        }
        serde_json::from_slice(self.body())
            .map_err(|error| Problem::validation(vec![pointer::locate(self.body(), &error)]))
    }

    /// The same for a body that may be left out: nothing at all stands for the default, an empty object.
    pub fn json_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, Problem> {
        if self.body().is_empty() { Ok(T::default()) } else { self.json() }
    }

    /// A query parameter as a time; none when it is absent.
    pub fn query_time(&self, name: &str) -> Result<Option<Timestamp>, Problem> {
        let parse = |text: String| {
            let wrong = || {
                Problem::invalid(&format!("/query/{name}"), "must be a time of RFC 3339, such as 2026-11-21T07:53:00Z")
            };
            Timestamp::parse(&text).ok_or_else(wrong)
        };
        self.query(name)?.map(parse).transpose()
    }
}

impl From<types::Request> for Request {
    fn from(raw: types::Request) -> Self {
        Self { raw, parameters: Vec::new() }
    }
}

fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn decode_form(text: &str) -> Option<String> {
    percent::decode(&text.replace('+', " ")).map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        amount: i64,
    }

    fn with_body(content_type: &str, body: &str) -> Request {
        let mut request = Request::new("POST", "/");
        request.raw.headers.push(("content-type".to_owned(), content_type.to_owned()));
        request.raw.body = body.as_bytes().to_vec();
        request
    }

    fn with_query(query: &str) -> Request {
        let mut request = Request::new("GET", "/");
        request.raw.query = Some(query.to_owned());
        request
    }

    #[test]
    fn only_json_media_types_are_read_as_json() {
        let read = |media_type| {
            with_body(media_type, r#"{"amount":1}"#)
                .json::<Body>()
                .map(|body| body.amount)
                .map_err(|problem| problem.status())
        };
        assert_eq!(read("application/json; charset=utf-8"), Ok(1));
        assert_eq!(read("application/merge-patch+json"), Ok(1));
        assert_eq!(read("text/plain"), Err(415));
    }

    #[test]
    fn a_wrong_body_is_a_validation_error() {
        let problem =
            with_body("application/json", r#"{"amount":1.0}"#).json::<Body>().expect_err("a float is no amount");
        assert_eq!(problem.status(), 400);
        assert_eq!(problem.code(), "VALIDATION_ERROR");
    }

    #[test]
    fn query_values_are_decoded() {
        let request = with_query("a=1%202&b=x+y&empty=&flag&bad=%ff");
        assert_eq!(request.query("a").ok().flatten().as_deref(), Some("1 2"));
        assert_eq!(request.query("b").ok().flatten().as_deref(), Some("x y"));
        assert_eq!(request.query("empty").ok().flatten().as_deref(), Some(""));
        assert_eq!(request.query("flag").ok().flatten().as_deref(), Some(""));
        assert_eq!(request.query("none").ok().flatten(), None);
        assert!(request.query("bad").is_err());
        assert!(request.query_integer("a").is_err());
    }
}
