//! The Ed25519 keys that sign access tokens. The first start of a kernel on an empty database makes one; its private part
//! is sealed under the master key. Newest last; the newest signs, all verify.

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::{DecodingKey, EncodingKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::seal::{MasterKey, SealError};
use crate::audit::{Outcome, Party};
use crate::clock::Clock;
use crate::context::Context;
use crate::id::{self, TenantId};
use crate::state::committer::{CommitError, Committer};
use crate::state::unit::Verdict;
use crate::state::work::{Work, WorkError};
use crate::state::{Scan, Space};
use crate::storage::Storage;

/// Prefix of the records, in the platform's space.
const PREFIX: &str = "signing-key/";
/// Most keys that are published at once.
const KEYS_MAX: u32 = 16;

/// Why the kernel has no key to sign with.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The database failed.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// The new key could not be stored.
    #[error("the signing key could not be stored")]
    Commit(#[from] CommitError),
    /// The stored key was sealed under another master key.
    #[error("AIBOS_MASTER_KEY does not open signing key {kid}: it is not the key that this database was set up with")]
    Sealed {
        /// Which key.
        kid: String,
        /// Why.
        #[source]
        cause: SealError,
    },
    /// What it signed is there, the key is not.
    #[error("the record {0} is gone from the database, but not what its key signed: restore it from a backup")]
    Missing(String),
    /// No key pair can be made, or a stored one is none.
    #[error("signing key {0} is not an Ed25519 key pair")]
    Pair(String),
}

/// How a key is stored.
#[derive(Serialize, Deserialize)]
pub(super) struct Record {
    kid: String,
    /// Raw public key, base64url.
    public_key: String,
    /// PKCS#8, sealed for the record's own key, base64url.
    private_key_sealed: String,
    created_at: Timestamp,
}

/// A key that signs and verifies.
#[derive(Clone)]
pub struct SigningKey {
    /// Names the key in tokens.
    pub kid: String,
    /// Signs.
    pub signing: EncodingKey,
    /// Verifies.
    pub verifying: DecodingKey,
    public_key: String,
}

/// A public key as clients see it (RFC 8037).
#[derive(Debug, Serialize, JsonSchema)]
pub struct PublicKey {
    /// Key type: always `OKP`.
    pub kty: &'static str,
    /// Curve: always `Ed25519`.
    pub crv: &'static str,
    /// The public key, base64url.
    pub x: String,
    /// Always `sig`.
    #[serde(rename = "use")]
    pub purpose: &'static str,
    /// Always `EdDSA`.
    pub alg: &'static str,
    /// Names the key in the header of a token.
    pub kid: String,
}

impl SigningKey {
    /// The public part.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey {
            kty: "OKP",
            crv: "Ed25519",
            x: self.public_key.clone(),
            purpose: "sig",
            alg: "EdDSA",
            kid: self.kid.clone(),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// The stored keys, or a first one. Of several kernels that start at once on an empty database one makes the key.
pub async fn load_or_create(
    storage: &Storage,
    committer: &Committer,
    clock: &Clock,
    master: &MasterKey,
) -> Result<Vec<SigningKey>, KeyError> {
    loop {
        let work = Work::new(storage.clone());
        let keys = load_with(&work, master).await?;
        if !keys.is_empty() {
            return Ok(keys);
        }
        let (key, record) = generate(clock, master)?;
        work.save(Space::kernel(TenantId::PLATFORM).key(format!("{PREFIX}{}", record.kid)), &record)?;
        let context = Context::operator(clock);
        work.note(context.entry("key.create", Party::new("signing_key", &record.kid), Outcome::Success));
        match committer.commit(work.finish()).await? {
            Verdict::Committed(_) => return Ok(vec![key]),
            Verdict::Conflicted(_) => {}
        }
    }
}

/// The stored keys, oldest first.
pub async fn load(storage: &Storage, master: &MasterKey) -> Result<Vec<SigningKey>, KeyError> {
    load_with(&Work::new(storage.clone()), master).await
}

async fn load_with(work: &Work, master: &MasterKey) -> Result<Vec<SigningKey>, KeyError> {
    let space = Space::kernel(TenantId::PLATFORM);
    let scan = Scan { space, prefix: PREFIX.into(), after: None, limit: KEYS_MAX };
    let records = work.load_page::<Record>(&scan).await?;
    // The ids are UUIDv7, so the order of the keys is that of their making.
    records.into_iter().map(|(_, record)| open(&record, master)).collect()
}

pub(super) fn generate(clock: &Clock, master: &MasterKey) -> Result<(SigningKey, Record), KeyError> {
    let kid = id::uuid(clock).to_string();
    let pair = Ed25519KeyPair::generate().map_err(|_| KeyError::Pair(kid.clone()))?;
    let private = pair.to_pkcs8v1().map_err(|_| KeyError::Pair(kid.clone()))?;
    let sealed = master
        .seal(&format!("{PREFIX}{kid}"), private.as_ref())
        .map_err(|cause| KeyError::Sealed { kid: kid.clone(), cause })?;
    let record = Record {
        kid,
        public_key: URL_SAFE_NO_PAD.encode(pair.public_key().as_ref()),
        private_key_sealed: URL_SAFE_NO_PAD.encode(sealed),
        created_at: clock.now(),
    };
    Ok((key(&record, private.as_ref())?, record))
}

fn open(record: &Record, master: &MasterKey) -> Result<SigningKey, KeyError> {
    let private = URL_SAFE_NO_PAD
        .decode(&record.private_key_sealed)
        .map_err(|_| SealError::Open)
        .and_then(|sealed| master.open(&format!("{PREFIX}{}", record.kid), &sealed))
        .map_err(|cause| KeyError::Sealed { kid: record.kid.clone(), cause })?;
    key(record, &private)
}

fn key(record: &Record, private: &[u8]) -> Result<SigningKey, KeyError> {
    let verifying =
        DecodingKey::from_ed_components(&record.public_key).map_err(|_| KeyError::Pair(record.kid.clone()))?;
    Ok(SigningKey {
        kid: record.kid.clone(),
        signing: EncodingKey::from_ed_der(private),
        verifying,
        public_key: record.public_key.clone(),
    })
}
