//! Looks up what an actor may do, once for each session until something changes: a permission that was taken away is
//! missing on the very next request.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use moka::sync::Cache;
use tokio::sync::OnceCell;

use super::membership;
use super::permit::Access;
use super::refusal::Refusal;
use super::tenant::{self, Tenant};
use super::user::{self, User};
use crate::auth::actor::Actor;
use crate::auth::session::{self, Session};
use crate::limit;
use crate::state::StateKey;
use crate::state::unit::Write;
use crate::state::work::{Work, WorkError};
use crate::storage::Storage;

/// What users may do, looked up and kept until something changes.
#[derive(Debug)]
pub struct Directory {
    /// Raised by every change. What was read under an older generation is never used again.
    generation: AtomicU64,
    known: Cache<Actor, (u64, Arc<Access>)>,
    /// What is being read, by the generation in which the reading began. Who asks meanwhile waits for it: otherwise all
    /// requests under way would read the same at the moment at which it is forgotten.
    reading: Mutex<HashMap<(u64, Actor), Arc<Reading>>>,
}

/// One reading for all who ask.
type Reading = OnceCell<Result<Option<Arc<Access>>, WorkError>>;

impl Default for Directory {
    fn default() -> Self {
        let known =
            Cache::builder().max_capacity(limit::ACCESS_CACHED_MAX).time_to_live(limit::ACCESS_CACHE_LIFE).build();
        Self { generation: AtomicU64::new(0), known, reading: Mutex::default() }
    }
}

impl Directory {
    /// What an actor may do; none for an actor that is gone, disabled, of a suspended tenant, or whose session is over.
    pub async fn access(&self, storage: &Storage, actor: &Actor) -> Result<Option<Arc<Access>>, WorkError> {
        let Actor::User { .. } = actor else { return Ok(None) };
        // Taken before anything is read: a change during the reading makes its result old at once.
        let generation = self.generation.load(Ordering::SeqCst);
        if let Some((known, access)) = self.known.get(actor)
            && known == generation
        {
            metrics::counter!("cache_requests_total", "cache" => "access", "result" => "hit").increment(1);
            return Ok(Some(access));
        }
        metrics::counter!("cache_requests_total", "cache" => "access", "result" => "miss").increment(1);
        let place = (generation, actor.clone());
        let reading = Arc::clone(self.reading().entry(place.clone()).or_default());
        let read = async {
            let access = Box::pin(read(storage, actor)).await.map(|access| access.map(Arc::new));
            if let Ok(Some(access)) = &access {
                self.known.insert(actor.clone(), (generation, Arc::clone(access)));
            }
            self.reading().remove(&place);
            access
        };
        match reading.get_or_init(|| read).await {
            Ok(access) => Ok(access.clone()),
            Err(error) => Err(error.shared()),
        }
    }

    fn reading(&self) -> MutexGuard<'_, HashMap<(u64, Actor), Arc<Reading>>> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a committed write can change what somebody may do. A sign-in adds a session and takes nothing away, so it
    /// does not make everybody's access be read anew; a password change also writes the user.
    #[must_use]
    pub fn concerns(write: &Write) -> bool {
        const PREFIXES: [&str; 4] = ["tenant/", "user/", "role/", "user-role/"];
        let StateKey { key, .. } = write.key();
        let ends_session = session::is_key(key) && matches!(write, Write::Delete(_));
        ends_session || PREFIXES.iter().any(|prefix| key.starts_with(prefix))
    }

    /// Forgets everything: called after a commit with a write that [`Self::concerns`] it.
    pub fn invalidate(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }
}

/// Reads one state: a user who is removed between two statements would otherwise be somebody without permissions.
async fn read(storage: &Storage, actor: &Actor) -> Result<Option<Access>, WorkError> {
    let work = Work::new(storage.clone());
    let access = read_from(&work, actor).await?;
    if work.still_valid().await? {
        return Ok(access);
    }
    let work = Work::new(storage.clone()).pinned().await?;
    let access = read_from(&work, actor).await;
    work.unpin().await;
    access
}

async fn read_from(work: &Work, actor: &Actor) -> Result<Option<Access>, WorkError> {
    let Actor::User { user: user_id, tenant: tenant_id, session } = *actor else { return Ok(None) };
    let keys = [tenant::key(tenant_id), user::key(tenant_id, user_id), session::key(tenant_id, user_id, session)];
    work.read_many(&keys).await?;
    let [tenant_key, user_key, session_key] = keys;
    let tenant: Option<Tenant> = work.load(&tenant_key).await?;
    let user: Option<User> = work.load(&user_key).await?;
    let session: Option<Session> = work.load(&session_key).await?;
    let (Some(tenant), Some(user), Some(session)) = (tenant, user, session) else { return Ok(None) };
    let may_act = tenant.status == tenant::Status::Active
        && user.status == user::Status::Active
        && user.session_epoch == session.epoch;
    if !may_act {
        return Ok(None);
    }
    let roles = match membership::roles(work, tenant_id, user_id).await {
        Ok(roles) => roles,
        Err(Refusal::Work(cause)) => return Err(cause),
        // A role that is being removed this moment: the next request sees the end of it.
        Err(_) => Vec::new(),
    };
    Ok(Some(Access {
        user: user_id,
        tenant: tenant_id,
        system: tenant.system,
        owner: roles.iter().any(|role| role.all),
        permissions: roles.iter().flat_map(|role| &role.permissions).map(|name| Arc::from(name.as_str())).collect(),
        roles: roles.into_iter().map(|role| (role.id, role.name.into())).collect(),
    }))
}
