//! What a new version asks for that the active one did not, in sentences: what an operator wants to know before an
//! activation.

use super::manifest::{Capabilities, Limits, Manifest};
use super::outbound::Origin;

/// The differences of capabilities, limits and routes, in the order of `cell.toml`.
#[must_use]
pub fn between(active: &Manifest, new: &Manifest) -> Vec<String> {
    let mut sentences = Vec::new();
    let routes = |manifest: &Manifest| {
        let triggers = manifest.trigger.http.iter();
        triggers
            .map(|trigger| {
                format!("{} {} for {}", trigger.methods.join(","), trigger.route.as_str(), trigger.permission)
            })
            .collect::<Vec<_>>()
    };
    lists("route", &routes(active), &routes(new), &mut sentences);
    limits(&active.limits, &new.limits, &mut sentences);
    capabilities(&active.capabilities, &new.capabilities, &mut sentences);
    if active.state != new.state {
        let (old, new) = (&active.state, &new.state);
        sentences.push(format!(
            "[state] format {} instead of {}, reads {:?} instead of {:?}",
            new.format, old.format, new.reads, old.reads
        ));
    }
    sentences
}

fn limits(active: &Limits, new: &Limits, sentences: &mut Vec<String>) {
    let pairs = [
        ("fuel", active.fuel, new.fuel),
        ("timeout_ms", active.timeout_ms, new.timeout_ms),
        ("memory_mb", active.memory_mb, new.memory_mb),
        ("output_kb", active.output_kb, new.output_kb),
        ("concurrency", active.concurrency.into(), new.concurrency.into()),
    ];
    let changed = pairs.into_iter().filter(|(_, old, new)| old != new);
    sentences.extend(changed.map(|(name, old, new)| format!("[limits] {name} = {new} instead of {old}")));
}

fn capabilities(active: &Capabilities, new: &Capabilities, sentences: &mut Vec<String>) {
    match (active.state, new.state) {
        (false, true) => sentences.push("[capabilities] new: state".into()),
        (true, false) => sentences.push("[capabilities] no longer: state".into()),
        (true, true) | (false, false) => {}
    }
    for (name, old, new) in [
        ("publish", &active.publish, &new.publish),
        ("calls", &active.calls, &new.calls),
        ("config", &active.config, &new.config),
        ("secrets", &active.secrets, &new.secrets),
    ] {
        lists(&format!("[capabilities] {name}"), old, new, sentences);
    }
    let texts = |origins: &[Origin]| origins.iter().map(ToString::to_string).collect::<Vec<_>>();
    lists("[capabilities] outbound", &texts(&active.outbound), &texts(&new.outbound), sentences);
}

fn lists(what: &str, old: &[String], new: &[String], sentences: &mut Vec<String>) {
    let added = new.iter().filter(|item| !old.contains(item)).map(|item| format!("{what}, new: {item}"));
    let removed = old.iter().filter(|item| !new.contains(item)).map(|item| format!("{what}, no longer: {item}"));
    sentences.extend(added.chain(removed));
}
