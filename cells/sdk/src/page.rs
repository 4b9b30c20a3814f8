//! Lists in pages: `limit` and `cursor` in, `{"data": […], "next_cursor": … | null}` out.

use serde::Serialize;

use crate::{FieldError, cursor};

/// How many items a page holds when nobody says.
pub const LIMIT_DEFAULT: u32 = 50;
/// How many items a page holds at most.
pub const LIMIT_MAX: u32 = 200;

/// How many bytes of stored values a page holds at most, its first item apart: a page of large items is a short one instead
/// of a reply over `output_kb`.
pub const BYTES_MAX: usize = 256 * 1024;

/// Which part of a list is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// 1 to [`LIMIT_MAX`].
    pub limit: u32,
    /// The position after which the page begins; none for the first page.
    pub after: Option<String>,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listing<T> {
    /// The items.
    pub data: Vec<T>,
    /// Give it as `cursor` to get the next page; null on the last page.
    pub next_cursor: Option<String>,
}

impl Page {
    /// How many of the items of these sizes the page holds.
    #[must_use]
    pub fn fit(&self, sizes: impl Iterator<Item = usize>) -> usize {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let mut sum = 0_usize;
        let fits = |(index, size): &(usize, usize)| {
            sum = sum.saturating_add(*size);
            *index == 0 || sum <= BYTES_MAX
        };
        sizes.take(limit).enumerate().take_while(fits).count()
    }

    /// Reads the two query parameters.
    pub fn parse(limit: Option<&str>, cursor: Option<&str>) -> Result<Self, FieldError> {
        let limit =
            match limit {
                None => LIMIT_DEFAULT,
                Some(text) => text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit)).ok_or_else(|| {
                    FieldError::new("/query/limit", format!("must be an integer from 1 to {LIMIT_MAX}"))
                })?,
            };
        let after = cursor
            .map(|text| {
                cursor::decode(text)
                    .ok_or_else(|| FieldError::new("/query/cursor", "must be the next_cursor of an earlier page"))
            })
            .transpose()?;
        Ok(Self { limit, after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_has_a_default_and_bounds() {
        let limit = |text| Page::parse(text, None).map(|page| page.limit).ok();
        assert_eq!(limit(None), Some(LIMIT_DEFAULT));
        assert_eq!(limit(Some("1")), Some(1));
        assert_eq!(limit(Some("200")), Some(200));
        for bad in ["0", "201", "-1", "1.5", "", "many", "99999999999"] {
            assert_eq!(limit(Some(bad)), None, "{bad}");
        }
    }

    #[test]
    fn a_page_of_large_items_is_short_and_never_empty() {
        let page = Page::parse(Some("3"), None).expect("a limit");
        let fit = |sizes: &[usize]| page.fit(sizes.iter().copied());
        assert_eq!(fit(&[]), 0);
        assert_eq!(fit(&[1, 1]), 2);
        assert_eq!(fit(&[1, 1, 1, 1]), 3);
        assert_eq!(fit(&[BYTES_MAX - 1, 1, 1]), 2);
        assert_eq!(fit(&[BYTES_MAX + 1, 1]), 1);
        assert_eq!(fit(&[1, BYTES_MAX, 1]), 1);
    }

    #[test]
    fn a_cursor_is_one_that_we_gave() {
        let page = Page::parse(None, Some(&cursor::encode("42"))).expect("a cursor");
        assert_eq!(page.after.as_deref(), Some("42"));
        assert!(Page::parse(None, Some("42!")).is_err());
    }
}
