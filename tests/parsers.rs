//! Every parser that reads what strangers send, fed with mutations of good input: none panics, and what it accepts keeps its
//! rules. `PROPTEST_CASES=1000000 tests/run parsers` runs as long as you like.

use std::fmt::Debug;

use aibos::cell::manifest::Manifest;
use aibos::cell::pattern::{Pattern, split_path};
use aibos::cell::signature::Signature;
use aibos::cell::translate;
use aibos::cell::version::CellVersion;
use aibos::clock::Clock;
use aibos::context::Context;
use aibos::limit;
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use suite::cell::Guest;
use suite::core::{Core, HARMLESS};
use suite::snapshot;

/// One change of a text or of bytes.
#[derive(Clone, Debug)]
enum Edit {
    Replace(Index, u8),
    Insert(Index, Vec<u8>),
    Delete(Index, usize),
    Copy(Index, Index, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Replace(at, byte)),
        (any::<Index>(), vec(any::<u8>(), 1..12)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (any::<Index>(), 1..40_usize).prop_map(|(at, length)| Edit::Delete(at, length)),
        (any::<Index>(), any::<Index>(), 1..60_usize).prop_map(|(from, to, length)| Edit::Copy(from, to, length)),
    ]
}

fn edited(good: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for edit in edits {
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len();
        match edit {
            Edit::Replace(at, byte) => bytes[at.index(length)] = *byte,
            Edit::Insert(at, more) => {
                let at = at.index(length);
                bytes.splice(at..at, more.iter().copied());
            }
            Edit::Delete(at, some) => {
                let at = at.index(length);
                bytes.drain(at..length.min(at + some));
            }
            Edit::Copy(from, to, some) => {
                let from = from.index(length);
                let copied = bytes[from..length.min(from + some)].to_vec();
                let to = to.index(length);
                bytes.splice(to..to, copied);
            }
        }
    }
    bytes
}

fn manifest(text: &str) -> Result<(), TestCaseError> {
    match Manifest::parse(text) {
        Err(faults) => prop_assert!(faults.iter().all(|fault| !fault.is_empty()) && !faults.is_empty()),
        Ok(manifest) => {
            let limits = &manifest.limits;
            prop_assert!((1..=limit::FUEL_MAX).contains(&limits.fuel));
            prop_assert!((1..=limit::TIMEOUT_MS_MAX).contains(&limits.timeout_ms));
            prop_assert!((1..=limit::MEMORY_MB_MAX).contains(&limits.memory_mb));
            prop_assert!((1..=limit::OUTPUT_KB_MAX).contains(&limits.output_kb));
            prop_assert!(manifest.trigger.http.iter().all(|trigger| !trigger.route.reserved()));
            prop_assert!(manifest.permissions().all(|name| !name.starts_with("kernel.")));
            prop_assert!(manifest.state.reads.contains(&manifest.state.format));
        }
    }
    Ok(())
}

fn same<T: Debug + PartialEq>(left: &T, right: &T) -> Result<(), TestCaseError> {
    prop_assert_eq!(left, right);
    Ok(())
}

/// The mutations of `tests/fuzz/component.rs` begin with these: all kinds of sections, and small.
#[test]
fn the_fuzzer_begins_with_components_that_load() {
    let importing = Core {
        imports: r#"(import "aibos:cell/context@1.0.0" "now-ms" (func $now (result i64)))
            (import "aibos:cell/state@1.0.0" "put" (func $put (param i32 i32 i32 i32 i32)))"#,
        handle: "(drop (call $now)) (i32.const 16)",
        ..HARMLESS
    };
    let composed = wat::parse_str(
        r#"(component (type $t (func (result u32))) (import "wasi:clocks/monotonic-clock@0.2.0" (instance $c (export "now" (func (result u64)))))
        (component $inner (core module $m (func (export "f") (result i32) (i32.const 1))) (core instance $i (instantiate $m))
            (func $f (result u32) (canon lift (core func $i "f"))) (instance $h (export "handle" (func $f)))
            (export "aibos:cell/handler@1.0.0" (instance $h))) (instance $o (instantiate $inner))
        (export "aibos:cell/handler@1.0.0" (instance $o "aibos:cell/handler@1.0.0")))"#,
    );
    for (name, bytes) in [
        ("harmless", HARMLESS.component()),
        ("importing", importing.component()),
        ("composed", composed.expect("the text is a component")),
    ] {
        let manifest = Manifest::parse(&Guest::probe().manifest).expect("the probe's manifest is good");
        CellVersion::load_blocking(manifest, &bytes).unwrap_or_else(|reasons| panic!("{name}: {reasons:?}"));
        snapshot::compare_bytes(&format!("tests/fuzz/seeds/component/{name}"), &bytes);
    }
}

proptest! {
    #[test]
    fn manifests(edits in vec(edit(), 0..12)) {
        let good = Guest::finance("payment-hub").manifest;
        manifest(&String::from_utf8_lossy(&edited(good.as_bytes(), &edits)))?;
    }

    #[test]
    fn text_that_is_no_manifest(text in ".*") {
        manifest(&text)?;
    }

    #[test]
    fn patterns(text in "(/([a-z{}*%.]|\\PC){0,6}){0,5}", path in "(/([a-z%.]|\\PC){0,6}){0,5}") {
        if let Ok(pattern) = Pattern::parse(&text) {
            prop_assert!(pattern.overlaps(&pattern));
            if let Some(segments) = split_path(&path) && pattern.matches(&segments) {
                prop_assert!(segments.iter().all(|segment| segment != "." && segment != ".."), "{:?}", segments);
            }
        }
    }

    #[test]
    fn signatures(text in "(ed25519:)?[0-9a-fA-F:]{0,200}|.*") {
        if let Ok(signature) = text.parse::<Signature>() {
            same(&signature.to_string().parse::<Signature>().ok(), &Some(signature))?;
        }
    }

    #[test]
    fn headers_of_clients(pairs in vec(("[a-zA-Z-]{1,20}|x-tenant-id|connection|authorization", "[ -~]{0,40}"), 0..12)) {
        let mut headers = HeaderMap::new();
        for (name, value) in &pairs {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), HeaderValue::try_from(value.as_str())) {
                headers.append(name, value);
            }
        }
        let context = Context::operator(&Clock::manual(Timestamp::UNIX_EPOCH));
        let seen = translate::request_headers(&headers, &context);
        let count = |wanted: &str| seen.iter().filter(|(name, _)| name == wanted).count();
        // The operator has no tenant, so nobody may say one for it.
        same(&[count("x-tenant-id"), count("x-user-sub"), count("authorization"), count("connection")], &[0; 4])?;
        same(&[count("x-correlation-id"), count("x-forwarded-for")], &[1; 2])?;
    }
}

proptest! {
    // Each case may be compiled.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 8))]

    #[test]
    fn components(edits in vec(edit(), 0..6)) {
        let good = Manifest::parse(&Guest::probe().manifest).expect("the probe's manifest is good");
        if let Err(reasons) = CellVersion::load_blocking(good, &edited(&HARMLESS.component(), &edits)) {
            prop_assert!(!reasons.is_empty() && reasons.iter().all(|reason| !reason.message.is_empty()));
        }
    }
}
