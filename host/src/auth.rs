//! Who is calling: passwords, sessions and access tokens. Whether they may is decided by `rbac`.

pub mod actor;
pub mod checkpoint_key;
pub mod password;
pub mod seal;
pub mod session;
pub mod signing_key;
pub mod throttle;
pub mod token;

use std::sync::atomic::{AtomicI64, Ordering};

use http::HeaderValue;

use crate::auth::actor::Actor;
use crate::auth::password::{PasswordError, Passwords};
use crate::auth::seal::MasterKey;
use crate::auth::signing_key::KeyError;
use crate::auth::throttle::Throttle;
use crate::auth::token::{TokenError, Tokens};
use crate::clock::Clock;
use crate::limit;
use crate::state::committer::Committer;
use crate::state::work::WorkError;
use crate::storage::Storage;

/// What identity needs to know of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Seals the private keys.
    pub master_key: MasterKey,
    /// `iss` of the tokens.
    pub issuer: String,
    /// `aud` of the tokens.
    pub audience: String,
}

/// Why identity cannot start.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// There is no signing key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Passwords cannot be hashed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// A token of our own is not accepted.
    #[error("the self-test of access tokens failed")]
    SelfTest(#[source] TokenError),
}

/// Tokens and passwords.
#[derive(Debug)]
pub struct Identity {
    /// Makes and checks access tokens.
    pub tokens: Tokens,
    /// Hashes and checks passwords.
    pub passwords: Passwords,
    /// Slows down guessing.
    pub throttle: Throttle,
    clock: Clock,
    master_key: MasterKey,
    /// When the keys were last read again for an unknown `kid`, in milliseconds.
    reloaded_at_ms: AtomicI64,
}

impl Identity {
    /// Reads the signing keys, or makes the first one, and proves that tokens work.
    pub async fn start(
        storage: &Storage,
        committer: &Committer,
        clock: &Clock,
        settings: Settings,
    ) -> Result<Self, IdentityError> {
        let keys = signing_key::load_or_create(storage, committer, clock, &settings.master_key).await?;
        let tokens = Tokens::new(settings.issuer, settings.audience, clock.clone(), keys);
        tokens.self_test().map_err(IdentityError::SelfTest)?;
        Ok(Self {
            tokens,
            passwords: Passwords::start().await?,
            throttle: Throttle::default(),
            clock: clock.clone(),
            master_key: settings.master_key,
            reloaded_at_ms: AtomicI64::new(i64::MIN),
        })
    }

    /// The actor that an `Authorization` header stands for; anonymous when it is absent or not valid.
    pub async fn authenticate(&self, storage: &Storage, header: Option<&HeaderValue>) -> Result<Actor, WorkError> {
        let Some(token) = header.and_then(bearer) else { return Ok(Actor::Anonymous) };
        let mut answer = self.tokens.verify(token);
        if matches!(answer, Err(TokenError::UnknownKey(_))) && self.reload_is_due() {
            self.reload(storage).await?;
            answer = self.tokens.verify(token);
        }
        Ok(answer.unwrap_or_else(|cause| {
            tracing::debug!(%cause, "an access token was not accepted");
            Actor::Anonymous
        }))
    }

    /// Whose token it is, if it is one of a known key. Asks nobody whether its session still holds.
    #[must_use]
    pub fn bearer(&self, header: &HeaderValue) -> Option<Actor> {
        self.tokens.verify(bearer(header)?).ok()
    }

    /// Another kernel on the same database may have made a key since; asked at most every few seconds, because anybody
    /// can write any `kid` into a token.
    fn reload_is_due(&self) -> bool {
        let now = self.clock.now().as_millisecond();
        let pause = i64::try_from(limit::KEY_RELOAD_PAUSE.as_millis()).unwrap_or(i64::MAX);
        self.reloaded_at_ms
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| (now.saturating_sub(last) >= pause).then_some(now))
            .is_ok()
    }

    async fn reload(&self, storage: &Storage) -> Result<(), WorkError> {
        match signing_key::load(storage, &self.master_key).await {
            Ok(keys) => {
                self.tokens.replace_keys(keys);
                Ok(())
            }
            Err(KeyError::Work(cause)) => Err(cause),
            Err(cause) => {
                tracing::error!(error = &cause as &dyn std::error::Error, "the signing keys cannot be read again");
                Ok(())
            }
        }
    }
}

/// The token of a `Bearer` header.
fn bearer(header: &HeaderValue) -> Option<&str> {
    let (scheme, token) = header.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
