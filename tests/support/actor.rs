//! Somebody who calls the kernel over HTTP, and what they get.

use http::{HeaderMap, Method};
use reqwest::multipart::Form;
use reqwest::{Client, RequestBuilder};
use serde_json::Value;

/// A client with an identity.
#[derive(Clone, Debug)]
pub struct Actor {
    client: Client,
    url: String,
    headers: Vec<(String, String)>,
    /// The access token.
    pub token: Option<String>,
    /// The tenant's id, where the test made the user.
    pub tenant_id: String,
    /// The user's id, where the test made the user.
    pub id: String,
}

/// What the kernel answered.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body as it came.
    pub text: String,
    /// Body as JSON; null when it is none.
    pub json: Value,
}

impl Actor {
    /// Somebody without a token.
    #[must_use]
    pub fn anonymous(url: &str) -> Self {
        Self {
            client: Client::new(),
            url: url.to_owned(),
            headers: Vec::new(),
            token: None,
            tenant_id: String::new(),
            id: String::new(),
        }
    }

    /// Somebody with this token.
    #[must_use]
    pub fn with_token(url: &str, token: String) -> Self {
        Self { token: Some(token), ..Self::anonymous(url) }
    }

    /// Remembers the ids of tenant and user.
    pub fn identify(&mut self, tenant_id: &Value, id: &Value) {
        tenant_id.as_str().expect("a tenant's id").clone_into(&mut self.tenant_id);
        id.as_str().expect("a user's id").clone_into(&mut self.id);
    }

    /// The same actor at a kernel that listens elsewhere now.
    #[must_use]
    pub fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    /// The same actor, who sends a header with every request.
    #[must_use]
    pub fn with_header(&self, name: &str, value: &str) -> Self {
        let mut other = self.clone();
        other.headers.push((name.to_owned(), value.to_owned()));
        other
    }

    /// `GET`
    pub async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, None).await
    }

    /// `POST` with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(Method::POST, path, Some(body)).await
    }

    /// `PUT`; null is no body.
    pub async fn put(&self, path: &str, body: &Value) -> Reply {
        self.send(Method::PUT, path, Some(body).filter(|body| !body.is_null())).await
    }

    /// `PATCH` with a JSON body.
    pub async fn patch(&self, path: &str, body: &Value) -> Reply {
        self.send(Method::PATCH, path, Some(body)).await
    }

    /// `DELETE`
    pub async fn delete(&self, path: &str) -> Reply {
        self.send(Method::DELETE, path, None).await
    }

    /// Any request.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Reply {
        self.send_text(method, path, body.map(Value::to_string)).await
    }

    /// Any request with a JSON body as it is written.
    pub async fn send_text(&self, method: Method, path: &str, body: Option<String>) -> Reply {
        self.send_bytes(method, path, "application/json", body.map(String::into_bytes)).await
    }

    /// Any request with a body of any kind.
    pub async fn send_bytes(&self, method: Method, path: &str, media: &str, body: Option<Vec<u8>>) -> Reply {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.header("content-type", media).body(body);
        }
        Self::finish(request).await
    }

    /// `POST` of a multipart form.
    pub async fn upload(&self, path: &str, form: Form) -> Reply {
        Self::finish(self.request(Method::POST, path).multipart(form)).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn finish(request: RequestBuilder) -> Reply {
        let reply = request.send().await.expect("the kernel answers");
        let (status, headers) = (reply.status().as_u16(), reply.headers().clone());
        let text = reply.text().await.expect("the body arrives");
        let json = serde_json::from_str(&text).unwrap_or_default();
        Reply { status, headers, text, json }
    }
}

impl Reply {
    /// The JSON of a reply that must have this status.
    #[track_caller]
    #[must_use = "use `.status` when the body does not matter"]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json
    }

    /// The same for a reply whose body does not matter.
    #[track_caller]
    pub fn done(self, status: u16) {
        assert_eq!(self.status, status, "{}", self.text);
    }

    /// The problem of a refusal, which must have this status and code and all that every problem has.
    #[track_caller]
    #[expect(clippy::must_use_candidate, reason = "called for its checks; the problem is for further ones")]
    pub fn refused(self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.json["code"], code, "{}", self.text);
        assert_eq!(self.json["status"], status);
        assert_eq!(self.json["correlation_id"].as_str(), Some(self.header("x-correlation-id")));
        for member in ["type", "title", "detail", "instance"] {
            assert!(self.json[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {}", self.text);
        }
        self.json
    }

    /// The problem of a request that is wrong at one place.
    #[track_caller]
    #[expect(clippy::must_use_candidate, reason = "called for its checks; the problem is for further ones")]
    pub fn invalid(self, pointer: &str) -> Value {
        let problem = self.refused(400, "VALIDATION_ERROR");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
        problem
    }

    /// A header as text; empty when it is absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}
