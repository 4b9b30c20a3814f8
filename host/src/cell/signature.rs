//! Who vouches for a version: an Ed25519 signature (RFC 8032) over the component's digest and the manifest, and the keys that
//! the operator trusts. Checked at upload and again whenever a version is loaded, so that a changed database brings no code
//! in either.
//!
//! What is signed is the text of [`message`]: three lines, each ended by a line feed.
//!
//! ```text
//! aibos-cell-signature-v1
//! sha256:HEX          of the component
//! sha256:HEX          of the text of cell.toml
//! ```
//!
//! A signature is written `ed25519:PUBLIC_KEY:SIGNATURE`, both in hexadecimal digits. It names its key, so it can be checked
//! for itself also where no key is trusted.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::rejection::{Reason, ReasonCode};
use super::version::digest_of;

/// First line of every signed message: a signature made for something else is none here.
const DOMAIN: &str = "aibos-cell-signature-v1";
/// First word of a written signature.
const SCHEME: &str = "ed25519";
const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";

/// A signature and the public key that it names. Not checked yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signature {
    key: PublicKey,
    bytes: [u8; 64],
}

/// The text is no signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a signature is one line, ed25519:PUBLIC_KEY:SIGNATURE in hexadecimal digits; `aibos cell sign` writes it to NAME.sig"
)]
pub struct InvalidSignature;

/// A public key. Its text is 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl Signature {
    /// The key that it names.
    #[must_use]
    pub fn key(&self) -> PublicKey {
        self.key
    }

    /// Whether it was made by its key for this component and manifest.
    #[must_use]
    pub fn fits(&self, digest: &str, manifest: &str) -> bool {
        let message = message(digest, manifest);
        UnparsedPublicKey::new(&ED25519, self.key.0).verify(message.as_bytes(), &self.bytes).is_ok()
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}:{}:{}", self.key, hex(&self.bytes))
    }
}

impl FromStr for Signature {
    type Err = InvalidSignature;

    fn from_str(text: &str) -> Result<Self, InvalidSignature> {
        let mut parts = text.trim().split(':');
        let parsed = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(SCHEME), Some(key), Some(bytes), None) => unhex(key).zip(unhex(bytes)),
            _ => None,
        };
        let (key, bytes) = parsed.ok_or(InvalidSignature)?;
        Ok(Self { key: PublicKey(key), bytes })
    }
}

impl TryFrom<String> for Signature {
    type Error = InvalidSignature;
    fn try_from(text: String) -> Result<Self, InvalidSignature> {
        text.parse()
    }
}

impl From<Signature> for String {
    fn from(signature: Signature) -> Self {
        signature.to_string()
    }
}

/// The text that is signed.
#[must_use]
pub fn message(digest: &str, manifest: &str) -> String {
    format!("{DOMAIN}\n{digest}\n{}\n", digest_of(manifest.as_bytes()))
}

/// The keys of `AIBOS_CELL_KEYS`. Without any, every version is taken, signed or not.
#[derive(Clone, Debug, Default)]
pub struct TrustedKeys(Vec<TrustedKey>);

#[derive(Clone, Debug)]
struct TrustedKey {
    name: Option<String>,
    key: PublicKey,
}

impl fmt::Display for TrustedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} ({})", self.key),
            None => self.key.fmt(f),
        }
    }
}

impl FromStr for TrustedKeys {
    type Err = String;

    /// Keys separated by commas: 64 hexadecimal digits each, with a name and `=` before them if you like.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut keys = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, digits) = match part.split_once('=') {
                Some((name, digits)) => (Some(name.trim().to_owned()), digits.trim()),
                None => (None, part),
            };
            let key = unhex(digits).map(PublicKey).ok_or_else(|| {
                format!(
                    "{part}: must be the 64 hexadecimal digits of an Ed25519 public key, as `aibos cell sign --generate \
                     FILE` prints them; several are separated by commas, each may have a name: ci=HEX"
                )
            })?;
            keys.push(TrustedKey { name, key });
        }
        if keys.is_empty() { Err("names no key; leave it unset to take unsigned cells".into()) } else { Ok(Self(keys)) }
    }
}

impl TrustedKeys {
    /// Refuses a version that nobody trusted vouches for, and a signature that is not of this version.
    pub fn check(&self, digest: &str, manifest: &str, signature: Option<&Signature>) -> Result<(), Reason> {
        let refuse = |message: String| Err(Reason::new(ReasonCode::BadSignature, message));
        let Some(signature) = signature else {
            return if self.0.is_empty() {
                Ok(())
            } else {
                refuse(format!(
                    "the cell is not signed, and this kernel takes only cells signed by {}; sign it with `aibos cell sign \
                     --key FILE`, then push it with NAME.sig beside NAME.wasm",
                    self.names()
                ))
            };
        };
        if !signature.fits(digest, manifest) {
            return refuse(
                "the signature is not of this component with this cell.toml: one of them was changed after it was signed; \
                 sign them again with `aibos cell sign --key FILE`"
                    .into(),
            );
        }
        if !self.0.is_empty() && !self.0.iter().any(|trusted| trusted.key == signature.key) {
            return refuse(format!(
                "the cell is signed by {}, and this kernel trusts only {}; sign it with `aibos cell sign --key FILE` and \
                 another key, or let the operator add this one to AIBOS_CELL_KEYS",
                signature.key,
                self.names()
            ));
        }
        Ok(())
    }

    fn names(&self) -> String {
        self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// A private key, as an author or a build server holds it. The kernel has none.
pub struct Signer(Ed25519KeyPair);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signer").field(&self.key()).finish()
    }
}

impl Signer {
    /// A new key.
    pub fn generate() -> Result<Self, String> {
        Ed25519KeyPair::generate().map(Self).map_err(|_| "the system has no randomness".into())
    }

    /// Reads a key file: PKCS#8 in PEM or DER, as `openssl genpkey -algorithm ed25519` writes it, or a seed of 64
    /// hexadecimal digits.
    pub fn read(file: &[u8]) -> Result<Self, String> {
        let pair = match std::str::from_utf8(file).ok().map(str::trim) {
            Some(text) if text.starts_with(PEM_BEGIN) => {
                let body = text.trim_start_matches(PEM_BEGIN).trim_end_matches(PEM_END);
                let body: String = body.chars().filter(|c| !c.is_whitespace()).collect();
                STANDARD.decode(body).ok().and_then(|der| Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).ok())
            }
            Some(text) => unhex::<32>(text).and_then(|seed| Ed25519KeyPair::from_seed_unchecked(&seed).ok()),
            None => Ed25519KeyPair::from_pkcs8_maybe_unchecked(file).ok(),
        };
        pair.map(Self).ok_or_else(|| {
            "is no Ed25519 private key; expected PKCS#8 (PEM or DER) or a seed of 64 hexadecimal digits; make one with \
             `aibos cell sign --generate FILE`"
                .into()
        })
    }

    /// The key as PKCS#8 in PEM.
    pub fn pem(&self) -> Result<String, String> {
        let der = self.0.to_pkcs8v1().map_err(|_| "the key cannot be written".to_owned())?;
        Ok(format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", STANDARD.encode(der.as_ref())))
    }

    /// The public key.
    #[must_use]
    pub fn key(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.iter_mut().zip(self.0.public_key().as_ref()).for_each(|(to, from)| *to = *from);
        PublicKey(bytes)
    }

    /// Signs a component with its manifest.
    #[must_use]
    pub fn sign(&self, component: &[u8], manifest: &str) -> Signature {
        let made = self.0.sign(message(&digest_of(component), manifest).as_bytes());
        let mut bytes = [0; 64];
        bytes.iter_mut().zip(made.as_ref()).for_each(|(to, from)| *to = *from);
        Signature { key: self.key(), bytes }
    }
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |text, byte| format!("{text}{byte:02x}"))
}

/// Exactly so many bytes.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "[cell]\nname = \"shop\"\n";

    fn signer() -> Signer {
        Signer::read(b"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60\n").unwrap()
    }

    #[test]
    fn the_message_and_the_key_are_those_of_the_documents() {
        // Seed and public key: RFC 8032, section 7.1, test 1.
        assert_eq!(signer().key().to_string(), "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        assert_eq!(
            message("sha256:00", "abc"),
            "aibos-cell-signature-v1\nsha256:00\n\
             sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n"
        );
    }

    #[test]
    fn a_signature_fits_its_component_and_manifest_only() {
        let signature = signer().sign(b"component", MANIFEST);
        let digest = digest_of(b"component");
        assert!(signature.fits(&digest, MANIFEST));
        assert!(!signature.fits(&digest_of(b"Component"), MANIFEST));
        assert!(!signature.fits(&digest, &MANIFEST.replace("shop", "ship")));
        let text = signature.to_string();
        assert_eq!(format!("{text}\n").parse(), Ok(signature));
        for (at, digit) in text.char_indices().filter(|(at, _)| *at > SCHEME.len()) {
            let other = if digit == '0' { "1" } else { "0" };
            let mut changed = text.clone();
            changed.replace_range(at..=at, other);
            let fits = changed.parse::<Signature>().is_ok_and(|signature| signature.fits(&digest, MANIFEST));
            assert!(!fits, "digit {at}");
        }
        for wrong in ["", "ed25519", "rsa:00:00", &text[1..], &text[..text.len() - 1], &format!("{text}:00")] {
            assert_eq!(wrong.parse::<Signature>(), Err(InvalidSignature), "{wrong}");
        }
    }

    #[test]
    fn a_private_key_is_read_in_three_forms() {
        let signer = signer();
        let pem = signer.pem().unwrap();
        let der = signer.0.to_pkcs8().unwrap();
        for file in [pem.as_bytes(), der.as_ref()] {
            assert_eq!(Signer::read(file).unwrap().key(), signer.key());
        }
        for wrong in [&b"secret"[..], b"", PEM_BEGIN.as_bytes(), &[0xff; 48]] {
            assert!(Signer::read(wrong).unwrap_err().contains("aibos cell sign --generate"));
        }
        assert!(!format!("{signer:?}").contains("9d61"), "the private part is not shown");
    }

    #[test]
    fn only_trusted_keys_vouch_once_some_are_named() {
        let (signer, other) = (signer(), Signer::generate().unwrap());
        let digest = digest_of(b"component");
        let check = |keys: &TrustedKeys, signature: Option<Signature>| {
            keys.check(&digest, MANIFEST, signature.as_ref()).map_err(|reason| reason.message)
        };
        let ours: TrustedKeys = format!("ci={}, {}", signer.key(), Signer::generate().unwrap().key()).parse().unwrap();
        assert_eq!(check(&ours, Some(signer.sign(b"component", MANIFEST))), Ok(()));
        assert!(check(&ours, None).unwrap_err().contains("not signed"));
        let stranger = check(&ours, Some(other.sign(b"component", MANIFEST))).unwrap_err();
        assert!(stranger.contains(&other.key().to_string()) && stranger.contains("ci ("), "{stranger}");
        assert!(check(&ours, Some(signer.sign(b"another", MANIFEST))).unwrap_err().contains("changed after"));
        let any = TrustedKeys::default();
        assert_eq!(check(&any, None), Ok(()));
        assert_eq!(check(&any, Some(other.sign(b"component", MANIFEST))), Ok(()));
        assert!(check(&any, Some(other.sign(b"another", MANIFEST))).is_err(), "a wrong signature is never stored");
    }

    #[test]
    fn keys_that_cannot_be_read_are_named() {
        for wrong in ["ci=", "ssh-ed25519 AAAA", &"0".repeat(63), &"g".repeat(64)] {
            let fault = wrong.parse::<TrustedKeys>().unwrap_err();
            assert!(fault.starts_with(wrong) && fault.contains("64 hexadecimal digits"), "{fault}");
        }
        assert!(" , ".parse::<TrustedKeys>().unwrap_err().contains("names no key"));
    }
}
