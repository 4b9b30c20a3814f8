//! Route patterns: `/payments/{id}/capture`, with `{name}` for one segment and `{*rest}` for the rest. Two patterns that
//! could match one path are told apart nowhere else; they are refused.

use std::borrow::Cow;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A parsed route pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    One,
    Rest,
}

/// Prefixes of the kernel's own paths.
pub const RESERVED: [&str; 9] =
    ["api", "cells", "docs", "console", "openapi.json", "metrics", "livez", "readyz", ".well-known"];

impl Pattern {
    /// Parses a pattern, or says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix('/').ok_or_else(|| format!("route {text:?} must start with /"))?;
        if text.len() > 256 {
            return Err("a route has at most 256 characters".into());
        }
        let mut segments = Vec::new();
        for part in rest.split('/') {
            if segments.contains(&Segment::Rest) {
                return Err(format!("route {text:?}: {{*rest}} must be the last segment"));
            }
            segments.push(segment(text, part)?);
        }
        Ok(Self { text: text.to_owned(), segments })
    }

    /// The text as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the first segment is one of the kernel's own.
    #[must_use]
    pub fn reserved(&self) -> bool {
        match self.segments.first() {
            Some(Segment::Literal(first)) => RESERVED.contains(&first.as_str()),
            // A parameter in the first place would match the kernel's paths too.
            Some(Segment::One | Segment::Rest) | None => true,
        }
    }

    /// Whether some path matches both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let mut mine = self.segments.iter();
        let mut others = other.segments.iter();
        loop {
            match (mine.next(), others.next()) {
                (None, None) | (Some(Segment::Rest), Some(_)) | (Some(_), Some(Segment::Rest)) => return true,
                (Some(Segment::Literal(a)), Some(Segment::Literal(b))) if a != b => return false,
                (Some(_), Some(_)) => {}
                (Some(_), None) | (None, Some(_)) => return false,
            }
        }
    }

    /// Whether a path, split and decoded, matches.
    #[must_use]
    pub fn matches(&self, path: &[String]) -> bool {
        let mut parts = path.iter();
        for segment in &self.segments {
            match (segment, parts.next()) {
                (Segment::Literal(literal), Some(part)) if literal == part => {}
                (Segment::One, Some(part)) if !part.is_empty() => {}
                (Segment::Rest, Some(_)) => return true,
                (Segment::Literal(_) | Segment::One | Segment::Rest, _) => return false,
            }
        }
        parts.next().is_none()
    }
}

fn segment(text: &str, part: &str) -> Result<Segment, String> {
    let Some(name) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) else {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        return if (!part.is_empty() || text == "/") && part != "." && part != ".." && part.chars().all(plain) {
            Ok(Segment::Literal(part.to_owned()))
        } else {
            Err(format!("route {text:?}: segment {part:?} must be letters, digits, - . _ ~, or {{name}}"))
        };
    };
    let (name, segment) = match name.strip_prefix('*') {
        Some(name) => (name, Segment::Rest),
        None => (name, Segment::One),
    };
    if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        Ok(segment)
    } else {
        Err(format!("route {text:?}: a parameter is {{name}} or {{*name}} with letters, digits and _"))
    }
}

/// A path split into decoded segments; none when it is not absolute, not valid percent-encoding, or tries to climb.
#[must_use]
pub fn split_path(path: &str) -> Option<Vec<String>> {
    path.strip_prefix('/')?
        .split('/')
        .map(|part| {
            let decoded = decode(part)?;
            // An encoded slash or a dot segment could mean one path here and another one in the cell.
            (!decoded.contains('/') && decoded != "." && decoded != "..").then_some(decoded)
        })
        .collect()
}

/// The path that [`split_path`] splits, decoded; as it is when there is nothing to decode.
#[must_use]
pub fn decode_path(path: &str) -> Option<Cow<'_, str>> {
    let climbs = || path.split('/').any(|part| part == "." || part == "..");
    if path.starts_with('/') && !path.contains('%') && !climbs() {
        return Some(Cow::Borrowed(path));
    }
    split_path(path).map(|segments| Cow::Owned(format!("/{}", segments.join("/"))))
}

fn decode(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlap(a: &str, b: &str) -> bool {
        let (a, b) = (Pattern::parse(a).unwrap(), Pattern::parse(b).unwrap());
        assert_eq!(a.overlaps(&b), b.overlaps(&a));
        a.overlaps(&b)
    }

    fn matches(pattern: &str, path: &str) -> bool {
        split_path(path).is_some_and(|path| Pattern::parse(pattern).unwrap().matches(&path))
    }

    #[test]
    fn overlapping_patterns_are_found() {
        assert!(overlap("/a/{x}", "/a/b"));
        assert!(overlap("/a/{x}/c", "/a/b/{y}"));
        assert!(overlap("/a/{*rest}", "/a/b/c"));
        assert!(overlap("/{x}", "/{*rest}"));
        assert!(!overlap("/a/{x}", "/a"));
        assert!(!overlap("/a/{x}/c", "/a/{x}/d"));
        assert!(!overlap("/a/b", "/a/c"));
        assert!(!overlap("/a/{*rest}", "/a"));
    }

    #[test]
    fn paths_match_by_decoded_segments() {
        assert!(matches("/payments/status/{id}", "/payments/status/4%32"));
        assert!(matches("/payments/process", "/payments/%70rocess"));
        assert!(!matches("/payments/{id}", "/payments/"));
        assert!(!matches("/payments/{id}", "/payments/a%2Fb"));
        assert!(!matches("/payments/{*rest}", "/payments/../x"));
        assert!(!matches("/payments/{id}", "/payments/%zz"));
        assert!(!matches("/payments/{id}", "/payments/%ff"));
        assert!(matches("/payments/{*rest}", "/payments/a/b"));
    }

    #[test]
    fn bad_patterns_are_refused_with_a_sentence() {
        for bad in ["", "a", "/a//b", "/{*rest}/b", "/{}", "/{a-b}", "/a b", "/ä", "/a/../b", "/."] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_kernels_own_paths_are_reserved() {
        assert!(Pattern::parse("/api/v2").unwrap().reserved());
        assert!(Pattern::parse("/{x}").unwrap().reserved());
        assert!(!Pattern::parse("/payments").unwrap().reserved());
    }
}
