//! Route patterns: `/payments/{id}`, `/files/{*rest}`. The same rules as the gateway's: a parameter is one segment
//! that is not empty, the rest is one segment or more.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::percent;

/// What one segment of a pattern asks for. The order is the order in which patterns are tried.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Literal,
    Parameter,
    Rest,
}

fn kind(segment: &str) -> (Kind, &str) {
    match segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
        None => (Kind::Literal, segment),
        Some(name) => match name.strip_prefix('*') {
            None => (Kind::Parameter, name),
            Some(name) => (Kind::Rest, name),
        },
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').unwrap_or(path).split('/')
}

/// The segments of a request's path, decoded; none when one is not UTF-8 or badly encoded.
pub(crate) fn decode_segments(path: &str) -> Option<Vec<Cow<'_, str>>> {
    segments(path).map(percent::decode).collect()
}

/// May the pattern fit this undecoded path? A cheap look at what stands before the first parameter, which settles most
/// routes of a table; it never says no to a path that fits.
pub(crate) fn may_fit(pattern: &str, path: &str) -> bool {
    for (expected, found) in pattern.bytes().zip(path.bytes()) {
        if expected == b'{' || found == b'%' {
            return true;
        }
        if expected != found {
            return false;
        }
    }
    true
}

/// Does the pattern fit this path?
pub(crate) fn fits(pattern: &str, path: &[Cow<'_, str>]) -> bool {
    let mut path = path.iter();
    for segment in segments(pattern) {
        let Some(value) = path.next() else {
            return false;
        };
        match kind(segment) {
            (Kind::Literal, text) if text == value.as_ref() => {}
            (Kind::Literal, _) => return false,
            (Kind::Parameter, _) if value.is_empty() => return false,
            (Kind::Parameter, _) => {}
            (Kind::Rest, _) => return !value.is_empty(),
        }
    }
    path.next().is_none()
}

/// The parameters of a path that fits the pattern.
pub(crate) fn parameters<'pattern>(pattern: &'pattern str, path: &[Cow<'_, str>]) -> Vec<(&'pattern str, String)> {
    segments(pattern)
        .enumerate()
        .filter_map(|(index, segment)| match kind(segment) {
            (Kind::Literal, _) => None,
            (Kind::Parameter, name) => Some((name, path.get(index).map(Cow::to_string).unwrap_or_default())),
            (Kind::Rest, name) => Some((name, path.get(index..).unwrap_or_default().join("/"))),
        })
        .collect()
}

/// Orders patterns so that the more specific one comes first.
pub(crate) fn by_specificity(a: &str, b: &str) -> Ordering {
    segments(a).map(|segment| kind(segment).0).cmp(segments(b).map(|segment| kind(segment).0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(pattern: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
        let segments = decode_segments(path)?;
        fits(pattern, &segments).then(|| parameters(pattern, &segments))
    }

    #[test]
    fn a_pattern_takes_exactly_its_segments() {
        assert_eq!(matched("/a/b", "/a/b"), Some(vec![]));
        assert_eq!(matched("/a/b", "/a"), None);
        assert_eq!(matched("/a/b", "/a/b/"), None);
        assert_eq!(matched("/a/{id}", "/a/"), None);
        assert_eq!(matched("/a/{id}/c", "/a/7/c"), Some(vec![("id", "7".to_owned())]));
    }

    #[test]
    fn a_cheap_look_never_refuses_what_fits() {
        let paths = ["/a", "/a/b", "/a/b/c", "/a/%62", "/%61/b", "/b", "/", "/a/"];
        for pattern in ["/a", "/a/b", "/a/{id}", "/{id}/b", "/a/{*rest}", "/a/b/{id}"] {
            for path in paths {
                assert!(matched(pattern, path).is_none() || may_fit(pattern, path), "{pattern} {path}");
            }
        }
    }

    #[test]
    fn the_rest_is_never_empty() {
        assert_eq!(matched("/a/{*rest}", "/a/b/c%20d"), Some(vec![("rest", "b/c d".to_owned())]));
        assert_eq!(matched("/a/{*rest}", "/a/"), None);
        assert_eq!(matched("/a/{*rest}", "/a"), None);
    }

    #[test]
    fn the_first_differing_segment_decides() {
        assert_eq!(by_specificity("/a/b", "/a/{b}"), Ordering::Less);
        assert_eq!(by_specificity("/a/{b}", "/a/{*b}"), Ordering::Less);
        assert_eq!(by_specificity("/{a}/b", "/a/{*b}"), Ordering::Greater);
    }
}
