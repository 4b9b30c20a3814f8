//! What operators give a cell beside its code: settings and secrets, by name. A snapshot carries them, so a request sees one
//! state of them from its beginning to its end. Secrets stay sealed in it until a cell reveals one.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::registry::platform;
use crate::state::StateKey;

/// A stored setting.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SettingRecord {
    /// The cell.
    pub cell: String,
    /// The setting.
    pub name: String,
    /// What the cell reads.
    pub value: String,
    /// When it was set.
    pub updated_at: Timestamp,
}

/// A stored secret. Its value is sealed for [`sealed_for`] this cell and name, so it opens in no other place.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SecretRecord {
    /// The cell.
    pub cell: String,
    /// The secret.
    pub name: String,
    sealed: String,
    /// When it was first set.
    pub created_at: Timestamp,
    /// When it was last set.
    pub updated_at: Timestamp,
}

impl SecretRecord {
    /// A secret whose value was sealed already.
    #[must_use]
    pub fn new(cell: &str, name: &str, sealed: &[u8], created_at: Timestamp, updated_at: Timestamp) -> Self {
        let sealed = STANDARD_NO_PAD.encode(sealed);
        Self { cell: cell.to_owned(), name: name.to_owned(), sealed, created_at, updated_at }
    }
}

/// The key of a setting's record, or with an empty name the prefix of all of a cell.
#[must_use]
pub fn setting_key(cell: &str, name: &str) -> StateKey {
    platform().key(format!("config/{cell}/{name}"))
}

/// The key of a secret's record, or with an empty name the prefix of all of a cell.
#[must_use]
pub fn secret_key(cell: &str, name: &str) -> StateKey {
    platform().key(format!("secret/{cell}/{name}"))
}

/// The purpose that a secret is sealed for.
#[must_use]
pub fn sealed_for(cell: &str, name: &str) -> String {
    format!("cell-secret/{cell}/{name}")
}

/// Whether a text may name a setting or a secret: 1 to 64 letters, digits, `_`, `-` and `.`, a letter first.
#[must_use]
pub fn valid_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
}

type Open = dyn Fn(&str, &[u8]) -> Option<Vec<u8>> + Send + Sync;

/// Opens what was sealed for a purpose. The key stays where the kernel put it.
#[derive(Clone, Default)]
pub struct Vault(Option<Arc<Open>>);

impl Vault {
    /// A vault that opens with this.
    pub fn new(open: impl Fn(&str, &[u8]) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(open)))
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault(…)")
    }
}

/// Everything that was given, by cell and name.
#[derive(Debug, Default)]
pub struct Given {
    settings: HashMap<String, HashMap<String, String>>,
    secrets: HashMap<String, HashMap<String, String>>,
    vault: Vault,
}

impl Given {
    /// What these records give.
    #[must_use]
    pub fn new(settings: Vec<SettingRecord>, secrets: Vec<SecretRecord>, vault: Vault) -> Self {
        let mut given = Self { vault, ..Self::default() };
        for SettingRecord { cell, name, value, .. } in settings {
            given.settings.entry(cell).or_default().insert(name, value);
        }
        for SecretRecord { cell, name, sealed, .. } in secrets {
            given.secrets.entry(cell).or_default().insert(name, sealed);
        }
        given
    }

    /// A stored setting.
    #[must_use]
    pub fn setting(&self, cell: &str, name: &str) -> Option<&String> {
        self.settings.get(cell)?.get(name)
    }

    /// Whether a secret was set.
    #[must_use]
    pub fn has_secret(&self, cell: &str, name: &str) -> bool {
        self.sealed(cell, name).is_some()
    }

    /// The value of a secret; none when it was not set, or does not open here.
    #[must_use]
    pub fn reveal(&self, cell: &str, name: &str) -> Option<String> {
        let sealed = STANDARD_NO_PAD.decode(self.sealed(cell, name)?).ok()?;
        let open = self.vault.0.as_ref()?;
        String::from_utf8(open(&sealed_for(cell, name), &sealed)?).ok()
    }

    fn sealed(&self, cell: &str, name: &str) -> Option<&String> {
        self.secrets.get(cell)?.get(name)
    }
}
