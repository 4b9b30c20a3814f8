//! Sessions: one record for each sign-in. A token is worth nothing without its session, so ending the session ends the
//! token, whatever its `exp` says.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{SessionId, TenantId, UserId};
use crate::limit;
use crate::state::work::{Work, WorkError};
use crate::state::{Scan, Space, StateKey};
use crate::storage::{Storage, StorageError};

/// Ended sessions that one sign-in clears away: rarely and many, because a removal makes every cached access be read anew.
const SWEEP: u32 = 50;

/// A sign-in, from login to its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Session {
    /// The `sid` of its tokens.
    pub id: SessionId,
    /// Who signed in.
    pub user_id: UserId,
    /// When.
    pub created_at: Timestamp,
    /// When its last token ends.
    pub expires_at: Timestamp,
    /// From where.
    pub client: IpAddr,
    /// The user's `session_epoch` at that time; when the user's is raised, the session is over.
    pub epoch: u32,
}

/// The key of a session.
#[must_use]
pub fn key(tenant: TenantId, user: UserId, session: SessionId) -> StateKey {
    Space::kernel(tenant).key(format!("{}{session}", prefix(user)))
}

/// The prefix of a user's sessions, oldest first.
#[must_use]
pub fn prefix(user: UserId) -> String {
    format!("session/{user}/")
}

/// Whether a key is a session's.
#[must_use]
pub fn is_key(key: &str) -> bool {
    key.starts_with("session/")
}

impl Session {
    /// When a session that begins now ends.
    #[must_use]
    pub fn end(now: Timestamp) -> Timestamp {
        now.checked_add(limit::ACCESS_TOKEN_LIFE).unwrap_or(Timestamp::MAX)
    }
}

/// Stages the removal of a user's oldest sessions once enough of them have ended. Read outside the unit of work: sign-ins
/// of one user at the same time must not conflict over it, and an ended session never comes back.
pub async fn sweep(
    storage: &Storage,
    work: &Work,
    tenant: TenantId,
    user: UserId,
    now: Timestamp,
) -> Result<(), WorkError> {
    let space = Space::kernel(tenant);
    let scan = Scan { space: space.clone(), prefix: prefix(user), after: None, limit: SWEEP };
    let oldest = storage.scan(&scan).await.map_err(WorkError::from)?;
    let mut ended = Vec::new();
    for entry in oldest {
        let session: Session = serde_json::from_slice(&entry.versioned.value).map_err(|_| corrupt(&entry.key))?;
        if session.expires_at <= now {
            ended.push(entry.key);
        }
    }
    if ended.len() < SWEEP as usize {
        return Ok(());
    }
    ended.into_iter().try_for_each(|key| work.delete(space.key(key)))
}

fn corrupt(key: &str) -> StorageError {
    StorageError::Corrupt { table: "state", what: format!("the session {key} cannot be read") }
}
