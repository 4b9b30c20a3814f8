//! Checked-in files that a test compares with what the code makes. `UPDATE=1 tests/run NAME` writes them anew.

use std::path::Path;
use std::{env, fs};

/// Compares a file of the repository with what it should hold.
#[track_caller]
pub fn compare(path: &str, expected: &str) {
    let present = String::from_utf8_lossy(&present(path, expected.as_bytes())).into_owned();
    for (number, (present, expected)) in present.lines().zip(expected.lines()).enumerate() {
        assert_eq!(present, expected, "{path}, line {}: if the change is meant, run with UPDATE=1", number + 1);
    }
    assert_eq!(present, expected, "{path} is shorter or longer: if the change is meant, run with UPDATE=1");
}

/// The same for a file that is no text.
#[track_caller]
pub fn compare_bytes(path: &str, expected: &[u8]) {
    assert!(present(path, expected) == expected, "{path} differs: if the change is meant, run with UPDATE=1");
}

/// What the file holds; what it should hold, if it may be written.
fn present(path: &str, expected: &[u8]) -> Vec<u8> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    if env::var_os("UPDATE").is_some() {
        fs::create_dir_all(file.parent().expect("a file stands in a directory")).expect("the directory can be made");
        fs::write(&file, expected).expect("the file can be written");
    }
    fs::read(&file).unwrap_or_default()
}
