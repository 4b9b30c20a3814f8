//! What is remembered: keys and values, versioned, apart for each tenant and each space (a cell, or the kernel itself).
//! The kernel keeps its own records (users, roles, cells, routes) here too, so one commit path, one conflict rule and one
//! checker serve both.

pub mod committer;
mod layer;
mod queue;
pub mod record;
pub mod unit;
pub mod work;

use std::sync::Arc;

use bytes::Bytes;

use crate::id::TenantId;
use crate::limit;

/// The space in which the kernel keeps its own records; no cell may bear this name.
pub const KERNEL_SPACE: &str = "kernel";

/// The commit sequence at which a value was written. Global, so a key that was deleted and made again never bears an old
/// version.
pub type Version = i64;

/// Where keys live: one tenant's part of one cell, or of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Space {
    /// The owner.
    pub tenant: TenantId,
    /// A cell's name, or [`KERNEL_SPACE`].
    pub name: Arc<str>,
}

impl Space {
    /// The kernel's own records of a tenant.
    #[must_use]
    pub fn kernel(tenant: TenantId) -> Self {
        Self { tenant, name: Arc::from(KERNEL_SPACE) }
    }

    /// A key in this space.
    #[must_use]
    pub fn key(&self, key: impl Into<String>) -> StateKey {
        StateKey { space: self.clone(), key: key.into() }
    }
}

/// A key in its space.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StateKey {
    /// Tenant and cell.
    pub space: Space,
    /// 1 to 512 bytes without control characters.
    pub key: String,
}

/// A stored value and the commit that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The bytes as they were put.
    pub value: Bytes,
    /// The commit that wrote them.
    pub version: Version,
}

/// A stored entry of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key within the scanned space.
    pub key: String,
    /// Value and version.
    pub versioned: Versioned,
}

/// A range of keys in byte order: those that start with `prefix`, after `after`, at most `limit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Tenant and cell.
    pub space: Space,
    /// May be empty.
    pub prefix: String,
    /// Exclusive lower bound.
    pub after: Option<String>,
    /// 1 or more.
    pub limit: u32,
}

impl Scan {
    /// The inclusive lower bound, and the exclusive upper bound where there is one.
    ///
    /// UTF-8 sorts by bytes like by code points, so the successor of the prefix is made by raising its last code point.
    #[must_use]
    pub fn bounds(&self) -> (String, Option<String>) {
        let lower = match &self.after {
            // U+0001 sorts before every character that a key may hold, so nothing fits between.
            Some(after) if after.as_str() >= self.prefix.as_str() => format!("{after}\u{1}"),
            Some(_) | None => self.prefix.clone(),
        };
        (lower, successor(&self.prefix))
    }

    /// Whether a key belongs to this range, its limit aside.
    #[must_use]
    pub fn covers(&self, key: &StateKey) -> bool {
        key.space == self.space
            && key.key.starts_with(&self.prefix)
            && self.after.as_ref().is_none_or(|after| key.key > *after)
    }
}

/// The smallest string above every string that starts with `prefix`.
fn successor(prefix: &str) -> Option<String> {
    let mut characters: Vec<char> = prefix.chars().collect();
    while let Some(last) = characters.pop() {
        let next = match last {
            '\u{d7ff}' => Some('\u{e000}'),
            other => char::from_u32(u32::from(other) + 1),
        };
        if let Some(next) = next {
            characters.push(next);
            return Some(characters.into_iter().collect());
        }
    }
    None
}

/// Whether a cell may use this key.
#[must_use]
pub fn valid_key(key: &str) -> bool {
    !key.is_empty() && key.len() <= limit::STATE_KEY_BYTES_MAX && !key.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(prefix: &str, after: Option<&str>) -> Scan {
        Scan {
            space: Space::kernel(TenantId::PLATFORM),
            prefix: prefix.into(),
            after: after.map(Into::into),
            limit: 10,
        }
    }

    #[test]
    fn bounds_enclose_exactly_the_prefix() {
        assert_eq!(scan("user/", None).bounds(), ("user/".into(), Some("user0".into())));
        assert_eq!(scan("user/", Some("user/7")).bounds().0, "user/7\u{1}");
        assert_eq!(scan("user/", Some("a")).bounds().0, "user/");
        assert_eq!(scan("", None).bounds(), (String::new(), None));
        assert_eq!(scan("a\u{10ffff}", None).bounds().1, Some("b".into()));
        assert_eq!(scan("\u{d7ff}", None).bounds().1, Some("\u{e000}".into()));
    }

    #[test]
    fn keys_without_control_characters_only() {
        assert!(valid_key("payment/1"));
        assert!(!valid_key(""));
        assert!(!valid_key("a\u{1}"));
        assert!(!valid_key(&"x".repeat(513)));
    }
}
