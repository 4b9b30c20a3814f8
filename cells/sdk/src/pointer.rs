//! Where in a JSON text an error is. serde knows the line and column of an error but not the field, so this walks the
//! text up to there and keeps the path of what is open. The answer is a JSON Pointer (RFC 6901).

use crate::FieldError;

/// The field that a `serde_json` error is about, with a message that names no Rust type.
pub(crate) fn locate(text: &[u8], error: &serde_json::Error) -> FieldError {
    let message = error.to_string();
    let message = match message.rfind(" at line ") {
        Some(end) => message.get(..end).unwrap_or(&message),
        None => &message,
    };
    let mut pointer = pointer_at(text.get(..offset(text, error)).unwrap_or(text));
    if let Some(name) = missing_field(message) {
        pointer.push('/');
        pointer.push_str(&escape(name));
    }
    FieldError::new(pointer, readable(message))
}

/// How many bytes serde had read.
fn offset(text: &[u8], error: &serde_json::Error) -> usize {
    let before: usize =
        text.split_inclusive(|byte| *byte == b'\n').take(error.line().saturating_sub(1)).map(<[u8]>::len).sum();
    before.saturating_add(error.column()).min(text.len())
}

fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

fn readable(message: &str) -> String {
    let mut readable = message.to_owned();
    for integer in ["i64", "u64", "i32", "u32", "u16", "u8"] {
        readable = readable.replace(&format!("expected {integer}"), "expected an integer");
    }
    readable
}

/// One open object or array.
enum Level {
    /// The key that was read last, none before the first one and after a comma.
    Object(Option<String>),
    Array(usize),
}

/// The path of what was being read when the text ended here.
fn pointer_at(text: &[u8]) -> String {
    let mut levels: Vec<Level> = Vec::new();
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'{' => levels.push(Level::Object(None)),
            b'[' => levels.push(Level::Array(0)),
            b'}' | b']' => {
                levels.pop();
            }
            b',' => match levels.last_mut() {
                Some(Level::Object(key)) => *key = None,
                Some(Level::Array(index)) => *index = index.saturating_add(1),
                None => {}
            },
            b'"' => {
                let (string, after) = split_string(rest);
                rest = after;
                if let Some(Level::Object(key @ None)) = levels.last_mut() {
                    *key = Some(string);
                }
            }
            _ => {}
        }
    }
    levels.iter().fold(String::new(), |path, level| match level {
        Level::Object(None) => path,
        Level::Object(Some(key)) => format!("{path}/{}", escape(key)),
        Level::Array(index) => format!("{path}/{index}"),
    })
}

/// The string whose opening quote was just read, unescaped, and what follows its closing quote.
fn split_string(text: &[u8]) -> (String, &[u8]) {
    let mut escaped = false;
    let end = text.iter().position(|byte| {
        let closes = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        closes
    });
    let (inside, after) = match end {
        Some(end) => (text.get(..end).unwrap_or_default(), text.get(end.saturating_add(1)..).unwrap_or_default()),
        None => (text, &[][..]),
    };
    let quoted = [b"\"", inside, b"\""].concat();
    let string = serde_json::from_slice(&quoted).unwrap_or_else(|_| String::from_utf8_lossy(inside).into_owned());
    (string, after)
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Order {
        #[expect(dead_code, reason = "only its type matters")]
        amount: i64,
        #[expect(dead_code, reason = "only its type matters")]
        #[serde(default)]
        lines: Vec<Line>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Line {
        #[expect(dead_code, reason = "only its type matters")]
        #[serde(rename = "a/b")]
        name: String,
    }

    fn refused(text: &str) -> (String, String) {
        let error = serde_json::from_str::<Order>(text).expect_err("it must be refused");
        let located = locate(text.as_bytes(), &error);
        (located.pointer, located.message)
    }

    #[test]
    fn each_error_points_at_its_field() {
        for (text, pointer) in [
            (r#"{"amount": 1.5}"#, "/amount"),
            (r#"{"amount": 1e3, "lines": []}"#, "/amount"),
            (r#"{"amount": 1000000000000000000000000000}"#, "/amount"),
            ("{\n  \"amount\":\n \"7\"}", "/amount"),
            (r#"{"amount": [1]}"#, "/amount"),
            (r#"{"lines": []}"#, "/amount"),
            (r#"{"amount": 1, "amount": 2}"#, "/amount"),
            (r#"{"amount": 1, "x~y/z": 2}"#, "/x~0y~1z"),
            (r#"{"amount": 1, "lines": [{"a/b": "\"}"}, {}]}"#, "/lines/1/a~1b"),
            (r#"{"amount": 1, "lines": [{"a/b": 1}]}"#, "/lines/0/a~1b"),
            (r#"{"amount": 1, "lines": 3}"#, "/lines"),
            (r#"{"amount": 1"#, "/amount"),
            ("[]", ""),
            ("", ""),
        ] {
            assert_eq!(refused(text).0, pointer, "{text}");
        }
    }

    #[test]
    fn messages_name_no_rust_type_and_no_column() {
        assert_eq!(refused(r#"{"amount": 1.5}"#).1, "invalid type: floating point `1.5`, expected an integer");
    }

    proptest::proptest! {
        #[test]
        fn any_text_has_a_pointer(text in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            if let Err(error) = serde_json::from_slice::<Order>(&text) {
                let _pointer = locate(&text, &error);
            }
        }
    }
}
