//! What an operation takes: typed path, query and body. Unknown fields are errors, and each error says where.

use std::fmt::Display;
use std::str::FromStr;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::problem::{Code, Problem};
use crate::limit;
use crate::state::{Scan, Space};

/// A buffered request before it is understood.
#[derive(Debug)]
pub struct Raw {
    /// Path parameters, decoded.
    pub path: Vec<(String, String)>,
    /// The query, undecoded.
    pub query: String,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// Where an input's parts go in the OpenAPI document.
#[derive(Debug, Default)]
pub struct InputDocument {
    /// Schema of an object whose properties are path parameters.
    pub path: Option<Schema>,
    /// Schema of an object whose properties are query parameters.
    pub query: Option<Schema>,
    /// Names and meanings of headers.
    pub headers: Vec<(&'static str, &'static str)>,
    /// Media type and schema of the body.
    pub body: Option<(&'static str, Schema)>,
    /// Whether a request may come without the body.
    pub body_is_optional: bool,
}

/// Something that an operation can take.
pub trait Input: Sized + Send + 'static {
    /// Largest body, in bytes.
    const BODY_BYTES_MAX: usize = limit::BODY_BYTES_MAX;
    /// Understands a request, or says what is wrong with it.
    fn parse(raw: &Raw) -> Result<Self, Problem>;
    /// Describes itself.
    fn describe(generator: &mut SchemaGenerator, document: &mut InputDocument);
}

/// The JSON body.
#[derive(Debug)]
pub struct Json<T>(pub T);

/// The JSON body, or the default when there is none.
#[derive(Debug)]
pub struct OptionalJson<T>(pub T);

/// The query.
#[derive(Debug)]
pub struct Query<T>(pub T);

/// The path parameters.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl Input for () {
    fn parse(_raw: &Raw) -> Result<Self, Problem> {
        Ok(())
    }
    fn describe(_generator: &mut SchemaGenerator, _document: &mut InputDocument) {}
}

impl<T: DeserializeOwned + JsonSchema + Send + 'static> Input for Json<T> {
    fn parse(raw: &Raw) -> Result<Self, Problem> {
        if !is_json(&raw.headers) {
            return Err(Problem::new(
                Code::UnsupportedMediaType,
                "The body must be JSON: send `Content-Type: application/json`.",
            ));
        }
        // A list would be taken for the fields in their order.
        if raw.body.trim_ascii_start().starts_with(b"[") {
            return Err(Problem::invalid("", "the body must be a JSON object, not a list"));
        }
        let mut deserializer = serde_json::Deserializer::from_slice(&raw.body);
        let value = serde_path_to_error::deserialize(&mut deserializer)
            .map_err(|error| Problem::invalid(&pointer(error.path()), sentence(error.inner())))?;
        deserializer.end().map_err(|error| Problem::invalid("", sentence(&error)))?;
        Ok(Self(value))
    }
    fn describe(generator: &mut SchemaGenerator, document: &mut InputDocument) {
        document.body = Some(("application/json", generator.subschema_for::<T>()));
    }
}

impl<T: DeserializeOwned + JsonSchema + Default + Send + 'static> Input for OptionalJson<T> {
    fn parse(raw: &Raw) -> Result<Self, Problem> {
        match raw.body.trim_ascii() {
            b"" | b"null" => Ok(Self(T::default())),
            _ => Json::parse(raw).map(|Json(value)| Self(value)),
        }
    }
    fn describe(generator: &mut SchemaGenerator, document: &mut InputDocument) {
        Json::<T>::describe(generator, document);
        document.body_is_optional = true;
    }
}

impl<T: DeserializeOwned + JsonSchema + Send + 'static> Input for Query<T> {
    fn parse(raw: &Raw) -> Result<Self, Problem> {
        let deserializer = serde_urlencoded::Deserializer::new(form_urlencoded::parse(raw.query.as_bytes()));
        serde_path_to_error::deserialize(deserializer)
            .map(Self)
            .map_err(|error| Problem::invalid(&format!("/query{}", pointer(error.path())), error.inner().to_string()))
    }
    fn describe(generator: &mut SchemaGenerator, document: &mut InputDocument) {
        document.query = Some(generator.root_schema_for::<T>());
    }
}

impl<T: DeserializeOwned + JsonSchema + Send + 'static> Input for Path<T> {
    fn parse(raw: &Raw) -> Result<Self, Problem> {
        let pairs = raw.path.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let deserializer = serde::de::value::MapDeserializer::<_, serde::de::value::Error>::new(pairs);
        serde_path_to_error::deserialize(deserializer)
            .map(Self)
            .map_err(|error| Problem::invalid(&format!("/path{}", pointer(error.path())), error.inner().to_string()))
    }
    fn describe(generator: &mut SchemaGenerator, document: &mut InputDocument) {
        document.path = Some(generator.root_schema_for::<T>());
    }
}

impl<A: Input, B: Input> Input for (A, B) {
    const BODY_BYTES_MAX: usize =
        if A::BODY_BYTES_MAX > B::BODY_BYTES_MAX { A::BODY_BYTES_MAX } else { B::BODY_BYTES_MAX };
    fn parse(raw: &Raw) -> Result<Self, Problem> {
        Ok((A::parse(raw)?, B::parse(raw)?))
    }
    fn describe(generator: &mut SchemaGenerator, document: &mut InputDocument) {
        A::describe(generator, document);
        B::describe(generator, document);
    }
}

/// The common parameters of a list.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Paging {
    /// Page size, 1 to 200; 50 when absent.
    #[serde(default)]
    pub limit: Option<u32>,
    /// Where the page before ended: its `next_cursor`.
    #[serde(default)]
    pub cursor: Option<String>,
}

impl Paging {
    /// The page size.
    pub fn size(&self) -> Result<u32, Problem> {
        page_size(self.limit)
    }

    /// Refuses a cursor that no page of this list could have ended with.
    pub fn check_cursor(&self, could_end: impl Fn(&str) -> bool) -> Result<(), Problem> {
        match &self.cursor {
            Some(cursor) if !could_end(cursor) => {
                Err(Problem::invalid("/query/cursor", "must be the next_cursor of a page of this list"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The scan of this page of records whose keys are `prefix` and an id; one more than the page, to see whether another
    /// follows. The cursor is the id of the last record shown.
    pub fn scan<Id: FromStr + Display>(&self, space: Space, prefix: &str) -> Result<Scan, Problem> {
        let after = match &self.cursor {
            None => None,
            Some(cursor) => {
                let id: Id = cursor
                    .parse()
                    .map_err(|_| Problem::invalid("/query/cursor", "must be the next_cursor of a page of this list"))?;
                Some(format!("{prefix}{id}"))
            }
        };
        Ok(Scan { space, prefix: prefix.to_owned(), after, limit: self.size()? + 1 })
    }
}

/// For a field of a PATCH: absent stays `None`, and what is there must be valid; `null` is, where the field is an option.
pub fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A page size within its bounds.
pub fn page_size(limit: Option<u32>) -> Result<u32, Problem> {
    let size = limit.unwrap_or(limit::PAGE_DEFAULT);
    if (1..=limit::PAGE_MAX).contains(&size) {
        Ok(size)
    } else {
        Err(Problem::invalid("/query/limit", format!("must be between 1 and {}", limit::PAGE_MAX)))
    }
}

/// Whether the body is declared as JSON.
#[must_use]
pub fn is_json(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|text| {
        let media = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        media == "application/json" || (media.starts_with("application/") && media.ends_with("+json"))
    })
}

/// `a.b[0]` as a JSON pointer.
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter().fold(String::new(), |pointer, segment| match segment {
        Segment::Map { key } => format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1")),
        Segment::Seq { index } => format!("{pointer}/{index}"),
        Segment::Enum { variant } => format!("{pointer}/{variant}"),
        Segment::Unknown => pointer,
    })
}

/// What was expected, without what was sent: it may be a secret in the wrong type.
fn sentence(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.strip_prefix("invalid type: ").or_else(|| text.strip_prefix("invalid value: ")) {
        Some(rest) => rest.rsplit_once(", expected ").map_or(text.clone(), |(_, wanted)| format!("expected {wanted}")),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_the_wrong_type_is_not_repeated() {
        let sentence = |text: &str| sentence(&serde_json::from_str::<String>(text).unwrap_err());
        assert_eq!(sentence("4711"), "expected a string at line 1 column 4");
        assert_eq!(sentence("\"a"), "EOF while parsing a string at line 1 column 2");
        let number = serde_json::from_str::<u8>("\"hunter2, expected by nobody\"").unwrap_err();
        assert!(!super::sentence(&number).contains("hunter2"), "{number}");
    }
}
