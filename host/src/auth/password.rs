//! Passwords: Argon2id with 19 MiB, two passes, one lane (OWASP's first choice), a few at once, on blocking threads. Each
//! check takes a turn, so the memory that passwords can claim is bounded whatever arrives.

use std::fmt;
use std::sync::Arc;

use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limit;

const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Why there is no answer about a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too many wait for a turn.
    #[error("too many passwords are being checked")]
    Busy,
    /// The hash function failed.
    #[error("the password cannot be hashed: {0}")]
    Hash(String),
}

/// The text is no acceptable password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a text of 8 to 128 characters")]
pub struct InvalidPassword;

/// A password that may be set. Length only: rules about its characters make passwords worse (OWASP ASVS 5.0, 6.2.5).
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Password(String);

/// What somebody typed as their password; wrong ones included.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Attempt(String);

/// A stored hash (PHC string).
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PasswordHash(String);

impl TryFrom<String> for Password {
    type Error = InvalidPassword;

    fn try_from(text: String) -> Result<Self, InvalidPassword> {
        let (least, most) = limit::PASSWORD_LENGTH;
        if (least..=most).contains(&text.chars().count()) { Ok(Self(text)) } else { Err(InvalidPassword) }
    }
}

impl From<String> for Attempt {
    fn from(text: String) -> Self {
        Self(text)
    }
}

macro_rules! hidden {
    ($($type:ident),+) => {$(
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($type), "(…)"))
            }
        }
    )+};
}

hidden!(Password, Attempt, PasswordHash);

impl JsonSchema for Password {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Password".into()
    }
    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        let (least, most) = limit::PASSWORD_LENGTH;
        json_schema!({ "type": "string", "format": "password", "minLength": least, "maxLength": most })
    }
}

impl JsonSchema for Attempt {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Attempt".into()
    }
    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "password" })
    }
}

/// Gives turns for hashing.
#[derive(Debug)]
pub struct Passwords {
    waiting: Arc<Semaphore>,
    hashing: Arc<Semaphore>,
    /// Checked in place of the hash of a user that does not exist, so that it takes the same time.
    decoy: PasswordHash,
}

/// The right to hash one password.
#[derive(Debug)]
pub struct Turn {
    _waiting: OwnedSemaphorePermit,
    _hashing: OwnedSemaphorePermit,
    decoy: PasswordHash,
}

impl Passwords {
    /// Ready to hash. Makes the decoy, which takes as long as one password.
    pub async fn start() -> Result<Self, PasswordError> {
        let mut random = [0; 32];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| PasswordError::Hash("no random numbers".into()))?;
        let decoy = tokio::task::spawn_blocking(move || hash(&random)).await.map_err(stopped)??;
        Ok(Self {
            waiting: Arc::new(Semaphore::new(limit::PASSWORDS_WAITING_MAX)),
            hashing: Arc::new(Semaphore::new(limit::PASSWORD_HASHES_MAX)),
            decoy,
        })
    }

    /// Waits for a turn, if not too many wait already.
    pub async fn turn(&self) -> Result<Turn, PasswordError> {
        let waiting = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| PasswordError::Busy)?;
        let hashing = Arc::clone(&self.hashing).acquire_owned().await.map_err(stopped)?;
        Ok(Turn { _waiting: waiting, _hashing: hashing, decoy: self.decoy.clone() })
    }

    /// The hash of a new password.
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, PasswordError> {
        let turn = self.turn().await?;
        turn.run(move |_| hash(password.0.as_bytes())).await
    }
}

impl Turn {
    /// Whether a password is the stored one. Takes the same time when nothing is stored.
    pub async fn matches(self, attempt: Attempt, stored: Option<PasswordHash>) -> Result<bool, PasswordError> {
        self.run(move |decoy| {
            let hash = stored.as_ref().unwrap_or(decoy);
            let same = hasher()?.verify_password(attempt.0.as_bytes(), hash.0.as_str()).is_ok();
            Ok(same && stored.is_some())
        })
        .await
    }

    /// Hashes on a blocking thread; the turn ends with the work, also when nobody waits for its answer any more.
    async fn run<T, F>(self, work: F) -> Result<T, PasswordError>
    where
        T: Send + 'static,
        F: FnOnce(&PasswordHash) -> Result<T, PasswordError> + Send + 'static,
    {
        tokio::task::spawn_blocking(move || work(&self.decoy)).await.map_err(stopped)?
    }
}

fn hasher() -> Result<Argon2<'static>, PasswordError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(failed)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash(password: &[u8]) -> Result<PasswordHash, PasswordError> {
    let hash = hasher()?.hash_password(password).map_err(failed)?;
    Ok(PasswordHash(hash.to_string()))
}

fn failed(cause: impl fmt::Display) -> PasswordError {
    PasswordError::Hash(cause.to_string())
}

fn stopped(_cause: impl fmt::Debug) -> PasswordError {
    PasswordError::Hash("the kernel is stopping".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_stored_password_matches() {
        let passwords = Passwords::start().await.unwrap();
        let stored = passwords.hash(Password::try_from("correct horse".to_owned()).unwrap()).await.unwrap();
        assert!(stored.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", stored.0);
        for (attempt, expected) in [("correct horse", true), ("correct horsf", false), ("", false)] {
            let attempt = Attempt(attempt.to_owned());
            let turn = passwords.turn().await.unwrap();
            assert_eq!(turn.matches(attempt.clone(), Some(stored.clone())).await, Ok(expected));
            let turn = passwords.turn().await.unwrap();
            assert_eq!(turn.matches(attempt, None).await, Ok(false), "there is nothing to match");
        }
    }

    #[test]
    fn lengths_count_characters() {
        assert!(Password::try_from("é".repeat(8)).is_ok());
        assert!(Password::try_from("a".repeat(7)).is_err());
        assert!(Password::try_from("a".repeat(129)).is_err());
        assert_eq!(format!("{:?}", Attempt("secret".into())), "Attempt(…)");
    }
}
