//! Signed notes as C2SP signed-note has them: a text, an empty line, and lines of Ed25519 signatures. Whoever has the
//! verifier key can check one with any tool for such notes; nothing else of the kernel is needed.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::merkle::Hash;

/// The algorithm's number in a key: Ed25519.
const ED25519_NUMBER: u8 = 1;

/// What is wrong with a note or a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The key's text.
    #[error("the verifier key must look like NAME+8 hexadecimal digits+base64")]
    Key,
    /// No key pair.
    #[error("the private key is no Ed25519 key in PKCS#8")]
    Pair,
    /// The note's form.
    #[error("the text is no signed note: a text, an empty line and lines that begin with a dash and a name")]
    Form,
    /// Nobody known signed it.
    #[error("the note has no signature of {0}")]
    Unsigned(VerifierKey),
    /// Somebody added a line.
    #[error("the note has more than the one signature that the kernel gave it")]
    Several,
    /// The signature does not fit.
    #[error("the signature of {0} does not fit the text")]
    Signature(VerifierKey),
}

/// A public key with its name, as in `kernel.example/audit+1f0c9a2e+AY…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key: [u8; 32],
}

impl VerifierKey {
    /// A key of raw bytes; the name must be one that a note can carry.
    pub fn new(name: &str, key: [u8; 32]) -> Result<Self, NoteError> {
        let fits = !name.is_empty() && !name.contains(|c: char| c == '+' || c.is_whitespace() || c.is_control());
        if fits { Ok(Self { name: name.to_owned(), key }) } else { Err(NoteError::Key) }
    }

    /// Who signs.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first four bytes of SHA-256 of name, newline, algorithm and key.
    fn id(&self) -> [u8; 4] {
        let named = [self.name.as_bytes(), &[b'\n', ED25519_NUMBER], &self.key].concat();
        let Hash([a, b, c, d, ..]) = Hash::of(&named);
        [a, b, c, d]
    }

    /// The text of a note that this key alone signed, as the kernel's own notes are: a line more is a change.
    pub fn open_own<'a>(&self, note: &'a str) -> Result<&'a str, NoteError> {
        let (_, signatures) = note.rsplit_once("\n\n").ok_or(NoteError::Form)?;
        if signatures.matches('\n').count() == 1 { self.open(note) } else { Err(NoteError::Several) }
    }

    /// The text of a note that this key signed; others may have signed it, too.
    pub fn open<'a>(&self, note: &'a str) -> Result<&'a str, NoteError> {
        let (text, signatures) = note.rsplit_once("\n\n").ok_or(NoteError::Form)?;
        let text = note.get(..=text.len()).ok_or(NoteError::Form)?;
        let lines = signatures.strip_suffix('\n').ok_or(NoteError::Form)?;
        let mut found = None;
        for line in lines.split('\n') {
            let (name, signature) =
                line.strip_prefix("\u{2014} ").and_then(|line| line.split_once(' ')).ok_or(NoteError::Form)?;
            let bytes = STANDARD.decode(signature).map_err(|_| NoteError::Form)?;
            let (id, signature) = bytes.split_at_checked(4).ok_or(NoteError::Form)?;
            if name == self.name && id == self.id() {
                found = Some(signature.to_vec());
            }
        }
        let signature = found.ok_or_else(|| NoteError::Unsigned(self.clone()))?;
        UnparsedPublicKey::new(&ED25519, self.key)
            .verify(text.as_bytes(), &signature)
            .map_err(|_| NoteError::Signature(self.clone()))?;
        Ok(text)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = u32::from_be_bytes(self.id());
        let key = STANDARD.encode([&[ED25519_NUMBER][..], &self.key].concat());
        write!(f, "{}+{id:08x}+{key}", self.name)
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;
    fn from_str(text: &str) -> Result<Self, NoteError> {
        let (name, rest) = text.trim().split_once('+').ok_or(NoteError::Key)?;
        let (_, encoded) = rest.split_once('+').ok_or(NoteError::Key)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| NoteError::Key)?;
        let key = bytes.strip_prefix(&[ED25519_NUMBER]).and_then(|key| key.try_into().ok()).ok_or(NoteError::Key)?;
        let parsed = Self::new(name, key)?;
        // The id in the middle is a checksum of the rest.
        if parsed.to_string() == text.trim() { Ok(parsed) } else { Err(NoteError::Key) }
    }
}

/// Signs notes under a name.
pub struct Signer {
    pair: Ed25519KeyPair,
    verifier: VerifierKey,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

impl Signer {
    /// A signer of a private key in PKCS#8.
    pub fn new(name: &str, private: &[u8]) -> Result<Self, NoteError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(private).map_err(|_| NoteError::Pair)?;
        let key = pair.public_key().as_ref().try_into().map_err(|_| NoteError::Pair)?;
        Ok(Self { verifier: VerifierKey::new(name, key)?, pair })
    }

    /// The key that verifies what this one signs.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Signs a text, which ends in a newline.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        let signature = self.pair.sign(text.as_bytes());
        let signature = STANDARD.encode([&self.verifier.id()[..], signature.as_ref()].concat());
        format!("{text}\n\u{2014} {} {signature}\n", self.verifier.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_what_go_signed() {
        // The example of golang.org/x/mod/sumdb/note, which defines the format.
        let key: VerifierKey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW".parse().unwrap();
        let text = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n";
        let note = format!(
            "{text}\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
        );
        assert_eq!(key.open(&note).unwrap(), text);
    }

    #[test]
    fn refuses_every_changed_bit() {
        let private = Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap();
        let signer = Signer::new("kernel.test/audit", private.as_ref()).unwrap();
        let key: VerifierKey = signer.verifier().to_string().parse().unwrap();
        let note = signer.sign("kernel.test/audit\n7\nroot\n");
        assert_eq!(key.open(&note).unwrap(), "kernel.test/audit\n7\nroot\n");
        let another = format!("{note}{}", note.lines().last().unwrap().replace("kernel", "witness")) + "\n";
        assert!(key.open_own(&note).is_ok() && key.open(&another).is_ok());
        assert_eq!(key.open_own(&another), Err(NoteError::Several));
        for bit in 0..note.len() * 8 {
            let mut bytes = note.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(changed) = String::from_utf8(bytes) {
                assert!(key.open(&changed).is_err(), "bit {bit}: {changed}");
            }
        }
        let other =
            Signer::new("kernel.test/audit", Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap().as_ref());
        assert!(matches!(other.unwrap().verifier().open(&note), Err(NoteError::Unsigned(_))));
        for wrong in ["", "a", "a+b", "a+00000000+AQ==", &signer.verifier().to_string().replace("kernel", "Kernel")] {
            assert_eq!(wrong.parse::<VerifierKey>(), Err(NoteError::Key), "{wrong}");
        }
        assert!(VerifierKey::new("a b", [0; 32]).is_err() && VerifierKey::new("a+b", [0; 32]).is_err());
    }
}
