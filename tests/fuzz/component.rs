//! The bytes of an upload: parsed, compiled, judged and linked as an upload is, and never called. The run bounds its length
//! (`-max_len`) and its time (`-timeout`): a component that takes longer than its size explains is a finding.
#![no_main]

use std::sync::LazyLock;

use aibos::cell::manifest::Manifest;
use aibos::cell::version::CellVersion;
use libfuzzer_sys::fuzz_target;

/// Everything is granted, so that every import is looked at.
static MANIFEST: LazyLock<Manifest> = LazyLock::new(|| {
    let text = "[cell]\nname = \"fuzz\"\nversion = \"1.0.0\"\npermission = \"fuzz.use\"\n[capabilities]\nstate = true\n\
        publish = [\"fuzz.*\"]\ncalls = [\"other\"]\nconfig = [\"A\"]\nsecrets = [\"B\"]\n\
        outbound = [\"https://rates.example.com\"]\n";
    Manifest::parse(text).expect("the manifest is good")
});

fuzz_target!(|bytes: &[u8]| {
    match CellVersion::load_blocking(MANIFEST.clone(), bytes) {
        Err(reasons) => assert!(!reasons.is_empty() && reasons.iter().all(|reason| !reason.message.is_empty())),
        Ok(version) => assert_eq!(&*version.name, "fuzz"),
    }
});
