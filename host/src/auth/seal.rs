//! Sealing: what the kernel must keep secret in the database (private keys, later the secrets of cells) is encrypted with
//! AES-256-GCM under the operator's master key, which is never stored. The purpose of a sealed text is authenticated with
//! it, so one cannot be put in the place of another.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;

/// Format of a sealed text: this byte, a random nonce, the ciphertext with its tag.
const FORMAT: u8 = 1;

/// Why something cannot be sealed or opened. Which of the reasons it was is deliberately not told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The cipher failed.
    #[error("the text cannot be sealed")]
    Seal,
    /// Another master key, another purpose, or changed bytes.
    #[error("the sealed text does not open with this master key")]
    Open,
}

/// The text of a master key is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 64 hexadecimal digits; `openssl rand -hex 32` makes one")]
pub struct InvalidMasterKey;

/// The operator's key over everything that is sealed.
#[derive(Clone)]
pub struct MasterKey([u8; 32]);

impl MasterKey {
    /// A key of 32 random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A key of its own for another purpose than sealing: HMAC-SHA256 of the purpose. It says nothing about this key.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let mut derived = [0; 32];
        let tag = hmac::sign(&key, format!("aibos-derived-key-v1\n{purpose}\n").as_bytes());
        derived.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        derived
    }

    /// Encrypts a text for one purpose, for example `signing-key/0197…`.
    pub fn seal(&self, purpose: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, &self.0).map_err(|_| SealError::Seal)?;
        let mut body = plain.to_vec();
        let nonce = cipher.seal_in_place_append_tag(Aad::from(purpose), &mut body).map_err(|_| SealError::Seal)?;
        let mut sealed = vec![FORMAT];
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&body);
        Ok(sealed)
    }

    /// Decrypts a text that was sealed for this purpose.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let rest = sealed.strip_prefix(&[FORMAT]).ok_or(SealError::Open)?;
        let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or(SealError::Open)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Open)?;
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, &self.0).map_err(|_| SealError::Open)?;
        let mut body = body.to_vec();
        let plain = cipher.open_in_place(nonce, Aad::from(purpose), &mut body).map_err(|_| SealError::Open)?;
        Ok(plain.to_vec())
    }
}

impl FromStr for MasterKey {
    type Err = InvalidMasterKey;

    fn from_str(text: &str) -> Result<Self, InvalidMasterKey> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(InvalidMasterKey);
        }
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| InvalidMasterKey)?;
            if digits.starts_with('+') {
                return Err(InvalidMasterKey);
            }
            *byte = u8::from_str_radix(digits, 16).map_err(|_| InvalidMasterKey)?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_unchanged_text_of_its_purpose_and_key() {
        let key = MasterKey::new([7; 32]);
        let sealed = key.seal("signing-key/1", b"private").unwrap();
        assert_eq!(key.open("signing-key/1", &sealed).unwrap(), b"private");
        assert_eq!(key.open("signing-key/2", &sealed), Err(SealError::Open));
        assert_eq!(MasterKey::new([8; 32]).open("signing-key/1", &sealed), Err(SealError::Open));
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            assert_eq!(key.open("signing-key/1", &changed), Err(SealError::Open), "byte {position}");
        }
        assert_eq!(key.open("signing-key/1", &[]), Err(SealError::Open));
    }

    #[test]
    fn a_derived_key_depends_on_key_and_purpose() {
        let (key, other) = (MasterKey::new([7; 32]), MasterKey::new([8; 32]));
        assert_eq!(key.derive("a"), key.derive("a"));
        assert_ne!(key.derive("a"), key.derive("b"));
        assert_ne!(key.derive("a"), other.derive("a"));
        assert_ne!(key.derive("a"), [7; 32]);
    }

    #[test]
    fn the_same_text_is_never_sealed_to_the_same_bytes() {
        let key = MasterKey::new([7; 32]);
        assert_ne!(key.seal("p", b"x").unwrap(), key.seal("p", b"x").unwrap());
    }

    #[test]
    fn reads_64_hexadecimal_digits_only() {
        assert!("0123456789abcdefABCDEF0123456789abcdef0123456789abcdef0123456789".parse::<MasterKey>().is_ok());
        for wrong in ["", "00", &"g".repeat(64), &"+1".repeat(32), &"é".repeat(32), &"0".repeat(65)] {
            assert!(wrong.parse::<MasterKey>().is_err(), "{wrong}");
        }
    }
}
