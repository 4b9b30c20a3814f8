//! Access tokens: RFC 9068 (`at+jwt`), signed with Ed25519. They say who, never what they may do. Verified once, then
//! remembered by their hash until they expire, because a signature check costs more than a call of a cell.
//!
//! Time comes from the kernel's clock, so the library's own check of `exp` is off and done here.

use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, Header, Validation};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::actor::Actor;
use super::signing_key::SigningKey;
use crate::clock::Clock;
use crate::id::{self, SessionId, TenantId, UserId};
use crate::limit;

/// The media type in the header (RFC 9068, section 2.1).
const TYPE: &str = "at+jwt";
/// The client in whose name users sign in: the kernel's own API.
const CLIENT: &str = "aibos";
/// Clocks of two kernels may differ by so much, in seconds.
const SKEW_S: i64 = 60;

/// Why a token is not accepted. For the log; a client only learns that it must sign in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no signed access token of this kernel.
    #[error("not a valid access token: {0}")]
    Invalid(String),
    /// It names a key that is not known here.
    #[error("the key {0} is not known")]
    UnknownKey(String),
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is from the future")]
    Early,
    /// No token can be made.
    #[error("the token cannot be signed: {0}")]
    Sign(String),
}

/// Everything that a token says.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: UserId,
    client_id: String,
    tid: TenantId,
    sid: SessionId,
    jti: Uuid,
    iat: i64,
    exp: i64,
}

/// A fresh token.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The token.
    pub token: String,
    /// Its life in seconds.
    pub expires_in_s: u64,
}

/// Makes and checks access tokens.
#[derive(Debug)]
pub struct Tokens {
    issuer: String,
    audience: String,
    clock: Clock,
    keys: ArcSwap<Vec<SigningKey>>,
    validation: Validation,
    verified: Cache<[u8; 32], Verified>,
}

/// What is remembered of a token whose signature was checked.
#[derive(Clone, Debug)]
struct Verified {
    actor: Actor,
    expires_at_s: i64,
}

impl Verified {
    fn actor_at(&self, now: Timestamp) -> Result<Actor, TokenError> {
        if now.as_second() < self.expires_at_s { Ok(self.actor.clone()) } else { Err(TokenError::Expired) }
    }
}

impl Tokens {
    /// Tokens of one issuer for one audience. The last key signs.
    #[must_use]
    pub fn new(issuer: String, audience: String, clock: Clock, keys: Vec<SigningKey>) -> Self {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&issuer]);
        validation.set_audience(&[&audience]);
        validation.validate_exp = false;
        let verified =
            Cache::builder().max_capacity(limit::TOKENS_CACHED_MAX).time_to_live(limit::ACCESS_TOKEN_LIFE).build();
        Self { issuer, audience, clock, keys: ArcSwap::from_pointee(keys), validation, verified }
    }

    /// The keys that verify, oldest first.
    #[must_use]
    pub fn keys(&self) -> Arc<Vec<SigningKey>> {
        self.keys.load_full()
    }

    /// Takes other keys into use; tokens of keys that are gone are forgotten.
    pub fn replace_keys(&self, keys: Vec<SigningKey>) {
        self.keys.store(Arc::new(keys));
        self.verified.invalidate_all();
    }

    /// A token for a session.
    pub fn issue(&self, user: UserId, tenant: TenantId, session: SessionId) -> Result<Issued, TokenError> {
        let keys = self.keys();
        let key = keys.last().ok_or_else(|| TokenError::Sign("there is no key".into()))?;
        let issued_at_s = self.clock.now().as_second();
        let expires_in_s = limit::ACCESS_TOKEN_LIFE.as_secs();
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            sub: user,
            client_id: CLIENT.into(),
            tid: tenant,
            sid: session,
            jti: id::uuid(&self.clock),
            iat: issued_at_s,
            exp: issued_at_s.saturating_add_unsigned(expires_in_s),
        };
        let header = Header { typ: Some(TYPE.into()), kid: Some(key.kid.clone()), ..Header::new(Algorithm::EdDSA) };
        let token = jsonwebtoken::encode(&header, &claims, &key.signing)
            .map_err(|cause| TokenError::Sign(cause.to_string()))?;
        Ok(Issued { token, expires_in_s })
    }

    /// The user that a token stands for.
    pub fn verify(&self, token: &str) -> Result<Actor, TokenError> {
        let now = self.clock.now();
        let hash = hash(token);
        if let Some(verified) = self.verified.get(&hash) {
            return verified.actor_at(now);
        }
        let verified = self.check(token, now)?;
        let actor = verified.actor_at(now)?;
        self.verified.insert(hash, verified);
        Ok(actor)
    }

    /// Signs a token and checks it with the key's other half: a missing backend must fail now, not at the first login.
    pub fn self_test(&self) -> Result<(), TokenError> {
        let (user, tenant) = (UserId::new(&self.clock), TenantId::new(&self.clock));
        let session = SessionId::new(&self.clock);
        let actor = self.verify(&self.issue(user, tenant, session)?.token)?;
        if actor == (Actor::User { user, tenant, session }) {
            Ok(())
        } else {
            Err(TokenError::Invalid("the self-test's token came back changed".into()))
        }
    }

    /// Checks everything but the expiry.
    fn check(&self, token: &str, now: Timestamp) -> Result<Verified, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(invalid)?;
        let media = header.typ.as_deref().unwrap_or_default().to_ascii_lowercase();
        if media != TYPE && media != "application/at+jwt" {
            return Err(TokenError::Invalid(format!("its type is not {TYPE}")));
        }
        if header.alg != Algorithm::EdDSA {
            return Err(TokenError::Invalid("its algorithm is not EdDSA".into()));
        }
        let kid = header.kid.unwrap_or_default();
        let keys = self.keys.load();
        let Some(key) = keys.iter().find(|key| key.kid == kid) else {
            return Err(TokenError::UnknownKey(kid.chars().take(64).collect()));
        };
        let claims: Claims = jsonwebtoken::decode(token, &key.verifying, &self.validation).map_err(invalid)?.claims;
        if claims.iat > now.as_second().saturating_add(SKEW_S) {
            return Err(TokenError::Early);
        }
        let actor = Actor::User { user: claims.sub, tenant: claims.tid, session: claims.sid };
        Ok(Verified { actor, expires_at_s: claims.exp })
    }
}

/// SHA-256 of a token: the cache must not hold tokens that could be used.
fn hash(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn invalid(cause: jsonwebtoken::errors::Error) -> TokenError {
    TokenError::Invalid(cause.to_string())
}

#[cfg(test)]
mod tests;
