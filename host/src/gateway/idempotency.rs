//! Idempotency keys: the same key with the same request is answered with the stored reply, byte for byte; with another
//! request it is refused. The reply is stored in the commit of its effect, so there is no moment between the two.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest;
use http::{HeaderMap, Method};

use crate::cell::manifest::Idempotency;
use crate::state::unit::ReplyKey;

/// Why a key was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The route wants one.
    #[error("an idempotency key is required")]
    Required,
    /// It is not 1 to 255 visible ASCII characters.
    #[error("the idempotency key is not valid")]
    Invalid,
}

/// The key of a request, where its route takes one.
pub fn key(headers: &HeaderMap, rule: Idempotency) -> Result<Option<String>, KeyError> {
    let given = headers.get("idempotency-key");
    match (rule, given) {
        (Idempotency::None, _) | (Idempotency::Optional, None) => Ok(None),
        (Idempotency::Required, None) => Err(KeyError::Required),
        (Idempotency::Required | Idempotency::Optional, Some(value)) => {
            let text = value.to_str().map_err(|_| KeyError::Invalid)?;
            let visible = text.chars().all(|c| c.is_ascii_graphic());
            if (1..=255).contains(&text.len()) && visible { Ok(Some(text.to_owned())) } else { Err(KeyError::Invalid) }
        }
    }
}

/// SHA-256 of method, path, query and raw body, each with its length so that none can run into the next.
#[must_use]
pub fn fingerprint(method: &Method, path: &str, query: Option<&str>, body: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [method.as_str().as_bytes(), path.as_bytes(), query.unwrap_or_default().as_bytes(), body] {
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// The keys whose first request is running.
#[derive(Debug, Default)]
pub struct Running {
    keys: Mutex<HashSet<ReplyKey>>,
}

/// Holds a key until it is dropped.
#[derive(Debug)]
pub struct RunningKey<'a> {
    running: &'a Running,
    key: ReplyKey,
}

impl Running {
    /// Takes a key; none when its first request is still running.
    pub fn take(&self, key: ReplyKey) -> Option<RunningKey<'_>> {
        let taken = self.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
        taken.then_some(RunningKey { running: self, key })
    }
}

impl Drop for RunningKey<'_> {
    fn drop(&mut self) {
        self.running.keys.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
