//! Names that people choose, parsed once: whoever holds one of these types holds a valid name.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::permission;

/// A text is not such a name; the sentence says what one looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidName(&'static str);

macro_rules! names {
    ($($(#[$doc:meta])* $type:ident, $parse:ident, $schema:tt, $rule:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                $parse(text).map(Self).ok_or(InvalidName($rule))
            }
        }

        impl std::str::FromStr for $type {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )+};
}

names! {
    /// Names a tenant in a sign-in, for example `acme`.
    Slug, slug,
    { "type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" },
    "must be 1 to 63 lower-case letters, digits and hyphens, with no hyphen at either end";

    /// An e-mail address, in lower case: it names a user within its tenant.
    Email, email,
    { "type": "string", "format": "email", "maxLength": 254 },
    "must be an e-mail address of at most 254 characters, like ann@example.com";

    /// What a user is called on a screen.
    DisplayName, display,
    { "type": "string", "minLength": 1, "maxLength": 128 },
    "must be 1 to 128 characters, without control characters";

    /// What a tenant is called on a screen.
    TenantName, display,
    { "type": "string", "minLength": 1, "maxLength": 128 },
    "must be 1 to 128 characters, without control characters";

    /// Names a role within its tenant.
    RoleName, role,
    { "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$" },
    "must be 1 to 64 letters, digits, spaces, dots, hyphens and underscores, beginning with a letter or digit";

    /// A permission, of the kernel or of a cell that may not be uploaded yet.
    PermissionName, dotted,
    { "type": "string", "pattern": "^[a-z][a-z0-9_-]*(\\.[a-z][a-z0-9_-]*){1,5}$", "maxLength": 128 },
    "must be two to six lower-case words with dots between, like finance.payment.read";
}

impl Slug {
    /// The slug as a screen name, until somebody gives a better one.
    #[must_use]
    pub fn to_name(&self) -> TenantName {
        TenantName(self.0.clone())
    }
}

impl RoleName {
    /// The name by which it is unique.
    #[must_use]
    pub fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

fn slug(text: String) -> Option<String> {
    let allowed = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    let ends = !text.starts_with('-') && !text.ends_with('-');
    (allowed && ends && (1..=63).contains(&text.len())).then_some(text)
}

#[expect(clippy::needless_pass_by_value, reason = "one signature for all names")]
fn email(text: String) -> Option<String> {
    let (local, domain) = text.rsplit_once('@')?;
    let lengths = text.len() <= 254 && (1..=64).contains(&local.len()) && !domain.is_empty();
    let plain = !text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '@' && local.contains('@'));
    let dots = !domain.starts_with('.') && !domain.ends_with('.') && !domain.contains("..");
    (lengths && plain && dots).then(|| text.to_lowercase())
}

fn display(text: String) -> Option<String> {
    let fits = (1..=128).contains(&text.chars().count()) && !text.trim().is_empty();
    (fits && !text.chars().any(char::is_control)).then_some(text)
}

fn role(text: String) -> Option<String> {
    let first = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let allowed = text.chars().all(|c| c.is_ascii_alphanumeric() || " ._-".contains(c));
    (first && allowed && text.len() <= 64 && !text.ends_with(' ')).then_some(text)
}

fn dotted(text: String) -> Option<String> {
    permission::valid_name(&text).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok<T: TryFrom<String>>(text: &str) -> bool {
        T::try_from(text.to_owned()).is_ok()
    }

    #[test]
    fn slugs() {
        assert!(ok::<Slug>("acme") && ok::<Slug>("a") && ok::<Slug>("a-1"));
        for wrong in ["", "-a", "a-", "A", "a_b", "a b", &"a".repeat(64)] {
            assert!(!ok::<Slug>(wrong), "{wrong}");
        }
    }

    #[test]
    fn emails_are_folded() {
        assert_eq!("Ann@Example.com".parse::<Email>().unwrap().as_str(), "ann@example.com");
        assert!(ok::<Email>("root@localhost"));
        for wrong in ["", "ann", "@x", "ann@", "a b@x.y", "a@b@c", "a@.x", "a@x.", "a@x..y", "a\u{7f}@x"] {
            assert!(!ok::<Email>(wrong), "{wrong}");
        }
    }

    #[test]
    fn roles_and_permissions() {
        assert!(ok::<RoleName>("Finance clerk 2"));
        assert!(!ok::<RoleName>("") && !ok::<RoleName>(" a") && !ok::<RoleName>("a ") && !ok::<RoleName>("a/b"));
        assert!(ok::<PermissionName>("finance.payment.read"));
        assert!(!ok::<PermissionName>("finance") && !ok::<PermissionName>("*") && !ok::<PermissionName>("a.B"));
    }
}
