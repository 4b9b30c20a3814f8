//! A checkpoint (C2SP tlog-checkpoint): the size and the root of the log, signed. Kept elsewhere, it is what a later
//! rewriting cannot agree with.

use super::merkle::Hash;
use super::note::{NoteError, Signer, VerifierKey};

/// A state of the log that was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Entries.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

/// Why a checkpoint is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The signature.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The text.
    #[error("the signed text is no checkpoint of {0}: origin, size and root, a line each")]
    Form(String),
}

impl Checkpoint {
    /// The signed note of this state. The origin is the name of the key.
    #[must_use]
    pub fn sign(&self, signer: &Signer) -> String {
        signer.sign(&format!("{}\n{}\n{}\n", signer.verifier().name(), self.size, self.root))
    }

    /// Reads a note that this key signed. One that was kept may have been signed by witnesses, too.
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, CheckpointError> {
        Self::parse(key.open(note)?, key)
    }

    /// Reads a note as the kernel stores it, with its signature alone.
    pub fn open_own(note: &str, key: &VerifierKey) -> Result<Self, CheckpointError> {
        Self::parse(key.open_own(note)?, key)
    }

    fn parse(text: &str, key: &VerifierKey) -> Result<Self, CheckpointError> {
        let form = || CheckpointError::Form(key.name().to_owned());
        let mut lines = text.split('\n');
        let (origin, size, root) = (lines.next(), lines.next(), lines.next());
        let (Some(size), Some(root), true) = (size, root, origin == Some(key.name())) else { return Err(form()) };
        let parsed: u64 = size.parse().map_err(|_| form())?;
        if parsed.to_string() != size {
            return Err(form());
        }
        Ok(Self { size: parsed, root: root.parse().map_err(|_| form())? })
    }
}
