//! The command line's connection to a running kernel.

use std::path::Path;

use clap::Args;
use http::Method;
use reqwest::multipart::Form;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::output::Failure;

/// Which kernel, and as whom.
#[derive(Debug, Args)]
pub struct Client {
    /// Address of the kernel.
    #[arg(long, env = "AIBOS_URL", default_value = "http://127.0.0.1:8080", global = true)]
    url: String,
    /// Access token, from POST /api/v1/auth/login.
    #[arg(long, env = "AIBOS_TOKEN", hide_env_values = true, global = true)]
    token: Option<String>,
    /// Print data as JSON.
    #[arg(long, global = true)]
    pub json: bool,
}

impl Client {
    /// Sends a request with an optional JSON body.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let request = self.request(method, path)?;
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        self.finish(request).await
    }

    /// Writes the body of a reply to a file that only its owner may read; answers its length. The file is there when all of
    /// it came, and nothing is left of one that broke off.
    pub async fn download(&self, path: &str, file: &Path) -> Result<u64, Failure> {
        let mut response = self.request(Method::GET, path)?.send().await?;
        if !response.status().is_success() {
            let status = response.status().as_u16();
            return Err(Failure(explain(status, &serde_json::from_str(&response.text().await?).unwrap_or_default())));
        }
        let mut part = file.as_os_str().to_owned();
        part.push(format!(".{}.part", std::process::id()));
        let written = take(&mut response, Path::new(&part)).await;
        let kept = match written {
            Ok(bytes) => tokio::fs::rename(&part, file).await.map(|()| bytes).map_err(Failure::from),
            Err(cause) => Err(cause),
        };
        if kept.is_err() {
            // It may not even have been made.
            tokio::fs::remove_file(&part).await.ok();
        }
        kept
    }

    /// Sends a multipart form.
    pub async fn upload(&self, path: &str, form: Form) -> Result<Value, Failure> {
        let request = self.request(Method::POST, path)?.multipart(form);
        self.finish(request).await
    }

    fn request(&self, method: Method, path: &str) -> Result<reqwest::RequestBuilder, Failure> {
        let http = reqwest::Client::builder().user_agent(concat!("aibos/", env!("CARGO_PKG_VERSION"))).build()?;
        let request = http.request(method, format!("{}{path}", self.url.trim_end_matches('/')));
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    async fn finish(&self, request: reqwest::RequestBuilder) -> Result<Value, Failure> {
        let response = request.send().await.map_err(|error| {
            if error.is_connect() {
                Failure(format!("no kernel answers at {}; start one with `aibos dev`, or set AIBOS_URL", self.url))
            } else {
                Failure::from(error)
            }
        })?;
        let status = response.status();
        let text = response.text().await?;
        let body: Value = if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? };
        if status.is_success() {
            return Ok(body);
        }
        Err(Failure(explain(status.as_u16(), &body)))
    }
}

/// Writes a body to a new file, to the disk.
async fn take(response: &mut reqwest::Response, file: &Path) -> Result<u64, Failure> {
    let mut options = tokio::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    options.mode(0o600);
    let mut output = options.open(file).await?;
    let mut bytes = 0;
    while let Some(chunk) = response.chunk().await? {
        output.write_all(&chunk).await?;
        bytes += chunk.len() as u64;
    }
    output.flush().await?;
    output.sync_all().await?;
    Ok(bytes)
}

/// A problem as a person reads it: its sentence, then each reason or field on a line of its own.
fn explain(status: u16, problem: &Value) -> String {
    let text = |name: &str| problem.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut lines = vec![format!("{status} {}: {}", text("code"), text("detail"))];
    for list in ["reasons", "errors"] {
        let items = problem.get(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        lines.extend(items.iter().map(|item| {
            let member = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
            format!("  {}{}: {}", member("code"), member("pointer"), member("message"))
        }));
    }
    if status == 401 {
        lines.push("Set AIBOS_TOKEN to an access token from POST /api/v1/auth/login.".into());
    }
    lines.join("\n")
}
