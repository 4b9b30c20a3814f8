//! Opaque list cursors: the last key of a page in hexadecimal, so that nobody takes it for something to build by hand.

use crate::percent::hex_digit;

/// The longest position that is accepted, in bytes. A state key is at most 512; a cell may put sums beside it, such as one
/// for each of the 165 currencies. Twice as much fits into a URL, which may have 64 KiB.
pub const POSITION_MAX: usize = 8 * 1024;

/// The cursor of a position in a list, which is at most [`POSITION_MAX`] bytes long.
#[must_use]
pub fn encode(position: &str) -> String {
    position
        .bytes()
        .flat_map(|byte| [byte >> 4, byte & 0x0f])
        .filter_map(|digit| char::from_digit(u32::from(digit), 16))
        .collect()
}

/// The position of a cursor; none for text that [`encode`] never made.
#[must_use]
pub fn decode(cursor: &str) -> Option<String> {
    if cursor.is_empty() || cursor.len() > POSITION_MAX * 2 {
        return None;
    }
    let (pairs, rest) = cursor.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let bytes =
        pairs.iter().map(|[high, low]| Some(hex_digit(*high)? << 4 | hex_digit(*low)?)).collect::<Option<Vec<u8>>>()?;
    let position = String::from_utf8(bytes).ok()?;
    (!position.chars().any(char::is_control)).then_some(position)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_cursor_is_refused() {
        for bad in ["", "a", "zz", "ff", "0a", "é"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_cursor_gives_its_position_back(position in "[!-~]{1,100}") {
            prop_assert_eq!(decode(&encode(&position)), Some(position));
        }
    }
}
