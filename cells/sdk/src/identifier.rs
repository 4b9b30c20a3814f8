//! Text that may stand between the slashes of a state key.

/// 1 to 64 characters of `A-Z a-z 0-9 . _ : -`. What passes holds no `/`, so that keys built from it cannot run into
/// each other's prefix, and no control character.
#[must_use]
pub fn is_identifier(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::is_identifier;

    #[test]
    fn only_harmless_characters_pass() {
        for good in ["a", "acme:eu-1.main_2", &"x".repeat(64)] {
            assert!(is_identifier(good), "{good}");
        }
        for bad in ["", "a/b", "a b", "é", "a\n", "a%2Fb", &"x".repeat(65)] {
            assert!(!is_identifier(bad), "{bad}");
        }
    }
}
