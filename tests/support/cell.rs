//! The guests that `tests/run` built, and how a test puts them into a kernel.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use reqwest::multipart::{Form, Part};

use crate::actor::{Actor, Reply};

/// A built cell: its manifest and its component.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The text of its `cell.toml`.
    pub manifest: String,
    /// The component.
    pub component: Vec<u8>,
}

impl Guest {
    /// The payment hub, the processor or the ledger.
    #[must_use]
    pub fn finance(name: &str) -> Self {
        Self::read(&format!("cells/{name}"), name)
    }

    /// The probe.
    #[must_use]
    pub fn probe() -> Self {
        static PROBE: OnceLock<Guest> = OnceLock::new();
        PROBE.get_or_init(|| Self::read("tests/guests/probe", "probe")).clone()
    }

    /// The component of the standard HTTP world.
    #[must_use]
    pub fn proxy() -> Self {
        static PROXY: OnceLock<Guest> = OnceLock::new();
        PROXY.get_or_init(|| Self::read("tests/guests/proxy", "proxy")).clone()
    }

    /// The cell in another language; `tests/run --all` builds it.
    #[must_use]
    pub fn polyglot(language: &str) -> Self {
        Self::read_built(&format!("tests/guests/polyglot/{language}"), &format!("target/polyglot/{language}.wasm"))
    }

    fn read(directory: &str, name: &str) -> Self {
        Self::read_built(directory, &format!("target/wasm32-wasip2/release/{}.wasm", name.replace('-', "_")))
    }

    fn read_built(directory: &str, component: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the workspace");
        let component: PathBuf = root.join(component);
        let missing = format!("{} is missing; tests/run builds it", component.display());
        Self {
            manifest: std::fs::read_to_string(root.join(directory).join("cell.toml")).expect("a manifest"),
            component: std::fs::read(&component).expect(&missing),
        }
    }

    /// The same with a text of the manifest replaced, which must occur.
    #[must_use]
    pub fn with(mut self, from: &str, to: &str) -> Self {
        assert!(self.manifest.contains(from), "{from:?} is not in the manifest:\n{}", self.manifest);
        self.manifest = self.manifest.replace(from, to);
        self
    }

    /// The same with another version.
    #[must_use]
    pub fn version(self, version: &str) -> Self {
        self.with("version = \"1.0.0\"", &format!("version = \"{version}\""))
    }

    /// Uploads it as an operator.
    pub async fn upload(&self, operator: &Actor, query: &str) -> Reply {
        let form = Form::new()
            .part("manifest", Part::text(self.manifest.clone()).file_name("cell.toml"))
            .part("component", Part::bytes(self.component.clone()).file_name("cell.wasm"));
        operator.upload(&format!("/api/v1/cells{query}"), form).await
    }

    /// Uploads it with a text for its signature.
    pub async fn upload_signed(&self, operator: &Actor, query: &str, signature: &str) -> Reply {
        let form = Form::new()
            .part("manifest", Part::text(self.manifest.clone()).file_name("cell.toml"))
            .part("component", Part::bytes(self.component.clone()).file_name("cell.wasm"))
            .text("signature", signature.to_owned());
        operator.upload(&format!("/api/v1/cells{query}"), form).await
    }

    /// Uploads and activates it.
    pub async fn install(&self, operator: &Actor) {
        self.upload(operator, "?activate=true").await.done(201);
    }
}

/// Installs the payment hub, the processor and the ledger.
pub async fn install_finance(operator: &Actor) {
    for name in ["ledger", "processor", "payment-hub"] {
        Guest::finance(name).install(operator).await;
    }
}
