//! `cell.toml`: whatever the text, it is refused with reasons or keeps every rule of a manifest.
#![no_main]

use aibos::cell::manifest::Manifest;
use aibos::limit;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Manifest::parse(text) {
        Err(faults) => assert!(!faults.is_empty() && faults.iter().all(|fault| !fault.is_empty())),
        Ok(manifest) => keeps_its_rules(&manifest),
    }
});

fn keeps_its_rules(manifest: &Manifest) {
    let limits = &manifest.limits;
    assert!((1..=limit::FUEL_MAX).contains(&limits.fuel));
    assert!((1..=limit::TIMEOUT_MS_MAX).contains(&limits.timeout_ms));
    assert!((1..=limit::MEMORY_MB_MAX).contains(&limits.memory_mb));
    assert!((1..=limit::OUTPUT_KB_MAX).contains(&limits.output_kb));
    assert!((1..=limit::CONCURRENCY_MAX).contains(&limits.concurrency));
    assert!(manifest.trigger.http.iter().all(|trigger| !trigger.route.reserved()));
    assert!(manifest.permissions().all(|name| !name.starts_with("kernel.")));
    assert!(manifest.state.reads.contains(&manifest.state.format));
    for origin in &manifest.capabilities.outbound {
        let again = origin.to_string().parse::<aibos::cell::outbound::Origin>();
        assert_eq!(again.as_ref(), Ok(origin), "an origin is read as it is written");
    }
}
