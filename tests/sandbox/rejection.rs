//! What an author reads when a cell will not load, word for word in `rejection.txt`; and nothing has changed.

use std::fmt::Write;

use serde_json::Value;
use suite::actor::Actor;
use suite::cell::Guest;
use suite::kernel::{TestKernel, text};
use suite::snapshot;

use super::variant::renamed;

on_both_kernels!(an_author_reads_what_to_change, a_version_never_changes, an_upload_that_is_cut_short_is_refused);

const MANIFEST: &str = "[cell]\nname = \"shop\"\nversion = \"1.0.0\"\npermission = \"shop.use\"\n";
const COMPONENT: &[u8] = b"\0asm\x0d\x00\x01\x00";

fn shop(manifest: &str, component: &[u8]) -> Guest {
    Guest { manifest: manifest.to_owned(), component: component.to_vec() }
}

/// The minimal manifest with a line of `[cell]` replaced.
fn identity(from: &str, to: &str) -> Guest {
    shop(&MANIFEST.replace(from, to), COMPONENT)
}

/// The minimal manifest with more tables.
fn with(tables: &str) -> Guest {
    shop(&format!("{MANIFEST}\n{tables}\n"), COMPONENT)
}

/// The probe with a name inside its component replaced by one of the same length.
fn importing(from: &str, to: &str) -> Guest {
    let mut probe = renamed(Guest::probe(), "shop");
    let (from, to) = (from.as_bytes(), to.as_bytes());
    assert_eq!(from.len(), to.len());
    let places: Vec<usize> =
        probe.component.windows(from.len()).enumerate().filter(|(_, part)| *part == from).map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    for place in places {
        probe.component[place..place + to.len()].copy_from_slice(to);
    }
    probe
}

/// The probe whose manifest grants less than it imports.
fn granting_less(line: &str) -> Guest {
    renamed(Guest::probe(), "shop").with(line, "")
}

fn trigger(route: &str, methods: &str, permission: &str) -> Guest {
    with(&format!("[[trigger.http]]\nroute = \"{route}\"\nmethods = [{methods}]\npermission = \"{permission}\""))
}

fn bad_components() -> Vec<(&'static str, Guest)> {
    vec![
        ("a text file", shop(MANIFEST, b"fn main() {}\n")),
        ("an empty file", shop(MANIFEST, b"")),
        ("seven bytes", shop(MANIFEST, b"\0asm\x0d\0\x01")),
        ("a component cut short", shop(MANIFEST, b"\0asm\x0d\0\x01\0\x07\x40")),
        ("an unknown section", shop(MANIFEST, b"\0asm\x0d\0\x01\0\x7f\x00")),
        ("a core module", shop(MANIFEST, b"\0asm\x01\0\0\0")),
        ("machine code", shop(MANIFEST, b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0")),
        ("a component without a handler", shop(MANIFEST, COMPONENT)),
        ("an interface that does not exist", importing("aibos:cell/state@1.0.0", "aibos:cell/stale@1.0.0")),
        ("an interface of another world", importing("aibos:cell/state@1.0.0", "acme:shop/basket@1.0.0")),
        ("an interface of a later major version", importing("aibos:cell/state@1.0.0", "aibos:cell/state@2.0.0")),
        ("an unknown part of the standard world", importing("aibos:cell/state@1.0.0", "wasi:http/typed@0.2.12")),
        ("a later standard world", importing("aibos:cell/state@1.0.0", "wasi:http/types@0.3.10")),
        ("state that is not granted", granting_less("state = true\n")),
        ("calls that are not granted", granting_less("calls = [\"probe-callee\"]\n")),
        ("events that are not granted", granting_less("publish = [\"probe.*\"]\n")),
        (
            "nothing that is granted",
            granting_less("state = true\npublish = [\"probe.*\"]\ncalls = [\"probe-callee\"]\n"),
        ),
    ]
}

fn bad_manifests() -> Vec<(&'static str, Guest)> {
    vec![
        ("no manifest at all", shop("", COMPONENT)),
        ("a manifest that is no TOML", shop("name: shop\n", COMPONENT)),
        ("an unknown key", identity("version", "colour = \"red\"\nversion")),
        ("an unknown table", with("[secrets]\nkey = \"x\"")),
        ("no permission", identity("permission = \"shop.use\"\n", "")),
        ("a version that is none", identity("1.0.0", "1.0")),
        ("a name in capitals", identity("\"shop\"", "\"Shop\"")),
        ("a name that climbs", identity("\"shop\"", "\"../shop\"")),
        ("the kernel's own name", identity("\"shop\"", "\"kernel\"")),
        ("a permission of one word", identity("shop.use", "use")),
        ("a permission of the kernel", identity("shop.use", "kernel.cell.deploy")),
        ("a route of the kernel", trigger("/api/v1/shop", "\"GET\"", "shop.use")),
        ("a route that takes every path", trigger("/{*all}", "\"GET\"", "shop.use")),
        ("a route without a slash", trigger("shop", "\"GET\"", "shop.use")),
        ("a route that goes on after its rest", trigger("/shop/{*rest}/more", "\"GET\"", "shop.use")),
        ("a route without methods", trigger("/shop", "", "shop.use")),
        ("an unknown method", trigger("/shop", "\"get\", \"FETCH\"", "shop.use")),
        ("a route with a permission of the kernel", trigger("/shop", "\"GET\"", "kernel.user.write")),
        ("no fuel", with("[limits]\nfuel = 0")),
        (
            "too much of everything",
            with(
                "[limits]\nfuel = 10_000_000_001\ntimeout_ms = 30001\nmemory_mb = 257\noutput_kb = 16385\nconcurrency = 1001",
            ),
        ),
        ("a limit below zero", with("[limits]\nmemory_mb = -1")),
        ("an unknown limit", with("[limits]\nmemory = 32")),
        ("an unknown capability", with("[capabilities]\nnetwork = true")),
        ("an event type that is none", with("[capabilities]\npublish = [\"*\", \"Shop\"]")),
        ("a callee that is none", with("[capabilities]\ncalls = [\"Ledger!\"]")),
        ("a caller that is none", with("[[trigger.call]]\nroute = \"/sell\"\ncallers = [\"*\"]")),
        ("a state that it cannot read", with("[state]\nformat = 2\nreads = [1]")),
        ("a schedule of four fields", with("[[trigger.cron]]\nschedule = \"0 * * *\"\nname = \"sweep\"")),
    ]
}

/// Everything that a refused upload must not change.
async fn platform(test: &TestKernel, olga: &Actor) -> (Value, Value, usize) {
    let cells = olga.get("/api/v1/cells").await.expect(200);
    let page = olga.get("/api/v1/audit?limit=20").await.expect(200);
    // This reading leaves an entry, too.
    let newest = page["data"].as_array().expect("a list").iter().find(|entry| entry["action"] != "audit.read").cloned();
    let newest = newest.expect("a change is among the newest");
    (cells, newest, test.audit(olga, "cell.upload").await.len())
}

/// The reasons of a refusal, one line each and more for a TOML error, which shows the place.
fn sentences(problem: &Value) -> String {
    let mut lines = String::new();
    for reason in problem["reasons"].as_array().expect("reasons") {
        let message = text(&reason["message"]).replace('\n', "\n        ");
        writeln!(lines, "    {}: {message}", text(&reason["code"])).unwrap();
    }
    lines
}

async fn an_author_reads_what_to_change(test: TestKernel) {
    let olga = test.owner().await;
    let mut told = String::new();
    for (what, guest) in bad_components().into_iter().chain(bad_manifests()) {
        let before = platform(&test, &olga).await;
        let problem = guest.upload(&olga, "?activate=true").await.refused(422, "CELL_REJECTED");
        let first = text(&problem["reasons"][0]["message"]);
        assert_eq!(problem["detail"], format!("The cell would not run: {first}"));
        assert_eq!(platform(&test, &olga).await, before, "{what}");
        write!(told, "{what}\n{}", sentences(&problem)).unwrap();
    }
    olga.get("/api/v1/cells/shop").await.refused(404, "NOT_FOUND");
    snapshot::compare("tests/sandbox/rejection.txt", &told);
}

async fn a_version_never_changes(test: TestKernel) {
    let olga = test.owner().await;
    let probe = Guest::probe();
    let made = probe.upload(&olga, "").await.expect(201);
    let without_changes = |mut uploaded: Value| {
        uploaded.as_object_mut().unwrap().remove("changes");
        uploaded
    };
    let before = platform(&test, &olga).await;
    let digest = text(&made["digest"]);
    let mut other_bytes = probe.clone();
    // A custom section of one byte at the end: the same code, other content.
    other_bytes.component.extend(b"\0\x02\x01x");
    for other in [other_bytes, probe.clone().with("fuel = 50_000_000", "fuel = 50_000_001")] {
        let problem = other.upload(&olga, "?activate=true").await.refused(409, "VERSION_EXISTS");
        let detail = format!("probe 1.0.0 exists with other content ({digest}); raise the version in cell.toml.");
        assert_eq!(problem["detail"], detail);
        assert_eq!(platform(&test, &olga).await, before);
    }
    assert_eq!(probe.upload(&olga, "").await.expect(201), made, "the same content is the same version");
    assert_eq!(platform(&test, &olga).await, before);
    assert_eq!(olga.get("/api/v1/cells/probe").await.expect(200)["state"], "stopped");
    let version = olga.get("/api/v1/cells/probe/versions").await.expect(200)["data"][0].clone();
    assert_eq!(version, without_changes(made));
}

async fn an_upload_that_is_cut_short_is_refused(test: TestKernel) {
    let olga = test.owner().await;
    let whole = renamed(Guest::probe(), "shop");
    let length = whole.component.len();
    for kept in [9, length / 4, length / 2, length - 1] {
        let mut short = whole.clone();
        short.component.truncate(kept);
        let before = platform(&test, &olga).await;
        let problem = short.upload(&olga, "?activate=true").await.refused(422, "CELL_REJECTED");
        assert_eq!(problem["reasons"][0]["code"], "NOT_A_COMPONENT", "{kept} of {length} bytes: {problem}");
        assert_eq!(platform(&test, &olga).await, before);
    }
}
