//! The Ed25519 key that signs checkpoints of the audit log. The first start of a kernel on an empty database makes it; its
//! private part is sealed under the master key. Its name is the log's origin, fixed when it is made, because it stands in
//! everything that was ever signed.

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::seal::{MasterKey, SealError};
use super::signing_key::KeyError;
use crate::audit::note::{Signer, VerifierKey};
use crate::audit::{Outcome, Party};
use crate::clock::Clock;
use crate::context::Context;
use crate::id::TenantId;
use crate::state::committer::Committer;
use crate::state::unit::Verdict;
use crate::state::work::{Work, WorkError};
use crate::state::{Space, StateKey};
use crate::storage::Storage;

/// The record, in the platform's space, and what its private part is sealed for.
const RECORD: &str = "checkpoint-key";

/// How the key is stored.
#[derive(Serialize, Deserialize)]
struct Record {
    /// The name with the public key, as verifiers take it.
    verifier_key: String,
    /// PKCS#8, sealed, base64url.
    private_key_sealed: String,
    created_at: Timestamp,
}

fn place() -> StateKey {
    Space::kernel(TenantId::PLATFORM).key(RECORD)
}

/// The key, or a first one. Of several kernels that start at once on an empty database one makes it.
pub async fn load_or_create(
    storage: &Storage,
    committer: &Committer,
    clock: &Clock,
    master: &MasterKey,
    issuer: &str,
) -> Result<Signer, KeyError> {
    loop {
        let work = Work::new(storage.clone());
        if let Some(record) = work.load::<Record>(&place()).await? {
            return open(&record, master);
        }
        // Another key would turn everything that was ever signed into the work of a stranger.
        if storage.audit_end().await.map_err(WorkError::from)?.1.is_some() {
            return Err(KeyError::Missing(RECORD.into()));
        }
        let bad = || KeyError::Pair(RECORD.into());
        let private = Ed25519KeyPair::generate().and_then(|pair| pair.to_pkcs8v1()).map_err(|_| bad())?;
        let signer = Signer::new(&origin(issuer), private.as_ref()).map_err(|_| bad())?;
        let sealed = master.seal(RECORD, private.as_ref()).map_err(sealed)?;
        let record = Record {
            verifier_key: signer.verifier().to_string(),
            private_key_sealed: URL_SAFE_NO_PAD.encode(sealed),
            created_at: clock.now(),
        };
        work.save(place(), &record)?;
        let target = Party::new("checkpoint_key", signer.verifier());
        work.note(Context::operator(clock).entry("key.create", target, Outcome::Success));
        match committer.commit(work.finish()).await? {
            Verdict::Committed(_) => return Ok(signer),
            Verdict::Conflicted(_) => {}
        }
    }
}

/// The public part, which needs no master key; none before a kernel has started on the database.
pub async fn public(storage: &Storage) -> Result<Option<VerifierKey>, WorkError> {
    let record: Option<Record> = Work::new(storage.clone()).load(&place()).await?;
    Ok(record.and_then(|record| record.verifier_key.parse().ok()))
}

fn open(record: &Record, master: &MasterKey) -> Result<Signer, KeyError> {
    let private = URL_SAFE_NO_PAD
        .decode(&record.private_key_sealed)
        .map_err(|_| SealError::Open)
        .and_then(|bytes| master.open(RECORD, &bytes))
        .map_err(sealed)?;
    let bad = || KeyError::Pair(RECORD.into());
    let public: VerifierKey = record.verifier_key.parse().map_err(|_| bad())?;
    let signer = Signer::new(public.name(), &private).map_err(|_| bad())?;
    if *signer.verifier() == public { Ok(signer) } else { Err(bad()) }
}

fn sealed(cause: SealError) -> KeyError {
    KeyError::Sealed { kid: RECORD.into(), cause }
}

/// The issuer without its scheme, as the specification of checkpoints advises.
fn origin(issuer: &str) -> String {
    let bare = issuer.split_once("://").map_or(issuer, |(_, rest)| rest).trim_matches('/');
    let fits = |c: char| if c == '+' || c.is_whitespace() || c.is_control() { '-' } else { c };
    format!("{}/audit", bare.chars().map(fits).collect::<String>())
}
