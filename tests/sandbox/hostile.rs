//! The hostile suite: guests and byte strings that mean harm. Each is refused when it is uploaded, or stopped when it is
//! called, with its documented code; the host lives, the neighbour answers as before, and nothing is written.

use http::Method;
use serde_json::{Value, json};
use suite::actor::Actor;
use suite::cell::Guest;
use suite::core::{Core, HARMLESS};
use suite::kernel::TestKernel;

use super::traces::Traces;
use super::variant::{patient_probe, renamed};

on_both_kernels!(every_hostile_guest_is_refused_or_stopped);

/// What becomes of it.
#[derive(Clone, Copy)]
enum End {
    /// The upload is refused for this reason.
    Refused(&'static str),
    /// Its call ends with this status and code, and this limit where one is named.
    Stopped(u16, &'static str, Option<&'static str>),
}

use End::{Refused, Stopped};

const TRAPPED: End = Stopped(503, "CELL_TRAPPED", None);
const FUEL: End = Stopped(503, "FUEL_EXHAUSTED", None);
const MEMORY: End = Stopped(503, "MEMORY_EXCEEDED", None);
const TIME: End = Stopped(504, "CELL_TIMEOUT", None);
const BAD: End = Stopped(502, "BAD_RESPONSE", None);
const OUTPUT: End = Stopped(502, "OUTPUT_EXCEEDED", None);
const NO_COMPONENT: End = Refused("NOT_A_COMPONENT");
const NO_START: End = Refused("CANNOT_START");

const fn over(limit: &'static str) -> End {
    Stopped(503, "LIMIT_EXCEEDED", Some(limit))
}

const MANIFEST: &str = "[cell]\nname = \"hostile\"\nversion = \"1.0.0\"\npermission = \"hostile.use\"\n\n[limits]\n\
    fuel = 50_000_000\ntimeout_ms = 30000\n\n[capabilities]\nstate = true\npublish = [\"hostile.*\"]\n";

/// Byte strings that are no component at all.
fn byte_strings() -> Vec<(&'static str, Vec<u8>, End)> {
    let component = |rest: &[u8]| [b"\0asm\x0d\0\x01\0", rest].concat();
    let core = |text: &str| wat::parse_str(text).expect("the text is WebAssembly");
    vec![
        ("nothing", Vec::new(), NO_COMPONENT),
        ("a text", b"fn main() {}".to_vec(), NO_COMPONENT),
        ("an archive", b"PK\x03\x04\x14\0\0\0\x08\0".to_vec(), NO_COMPONENT),
        ("machine code", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec(), NO_COMPONENT),
        ("half a header", b"\0asm\x0d".to_vec(), NO_COMPONENT),
        ("a core module", core("(module)"), NO_COMPONENT),
        ("a component of another version", b"\0asm\x0e\0\x01\0".to_vec(), NO_COMPONENT),
        ("a section that is cut short", component(b"\x07\x40"), NO_COMPONENT),
        ("a section of 4 GiB", component(b"\x01\xff\xff\xff\xff\x0f"), NO_COMPONENT),
        ("a length without end", component(b"\x01\xff\xff\xff\xff\xff\xff\xff"), NO_COMPONENT),
        ("an unknown section", component(b"\x7f\x00"), NO_COMPONENT),
        ("noise", component(&(0..=255).map(|byte: u8| byte.wrapping_mul(167)).collect::<Vec<_>>()), NO_COMPONENT),
        ("a component in a component, 200 deep", nested(200), Refused("MISSING_EXPORT")),
        ("a component without a handler", core("(component)"), Refused("MISSING_EXPORT")),
        (
            "a handler of another shape",
            core(
                r#"(component (core module $m (func (export "f"))) (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i "f"))) (instance $h (export "handle" (func $f)))
            (export "aibos:cell/handler@1.0.0" (instance $h)))"#,
            ),
            NO_START,
        ),
        (
            "an import of the host's files",
            core(r#"(component (import "host:files/all@1.0.0" (instance (export "read" (func)))))"#),
            Refused("MISSING_EXPORT"),
        ),
        (
            "40 instances of a module",
            core(&format!("(component (core module $m) {})", "(core instance (instantiate $m))".repeat(40))),
            NO_COMPONENT,
        ),
        (
            "20 tables",
            core(&format!(
                "(component (core module $m {}) (core instance (instantiate $m)))",
                "(table 1 funcref)".repeat(20)
            )),
            NO_COMPONENT,
        ),
        (
            "three memories",
            core("(component (core module $m (memory 1) (memory 1) (memory 1)) (core instance (instantiate $m)))"),
            NO_COMPONENT,
        ),
    ]
}

/// A component in a component, and so on: section 4, its length in LEB128, the next.
fn nested(depth: u32) -> Vec<u8> {
    let mut inner = b"\0asm\x0d\0\x01\0".to_vec();
    for _ in 0..depth {
        let (low, high) = (inner.len() % 128, inner.len() / 128);
        let length = [u8::try_from(low | 128).unwrap(), u8::try_from(high).unwrap()];
        inner = [b"\0asm\x0d\0\x01\0\x04", &length[..], &inner].concat();
    }
    inner
}

/// What happens at start-up, before any call.
fn starters() -> Vec<(&'static str, Core, End)> {
    let starting = |items: &'static str| Core { items, ..HARMLESS };
    vec![
        ("start-up that loops", starting("(func $s (loop (br 0))) (start $s)"), NO_START),
        ("start-up that traps", starting("(func $s unreachable) (start $s)"), NO_START),
        ("start-up that recurses", starting("(func $s (call $s)) (start $s)"), NO_START),
        (
            "start-up that takes memory",
            starting("(func $s (drop (memory.grow (i32.const 2000)))) (start $s)"),
            NO_START,
        ),
        (
            "start-up that takes a table",
            starting(
                "(table $t 1 funcref) (func $s (drop (table.grow $t (ref.null func) (i32.const 50000)))) (start $s)",
            ),
            NO_START,
        ),
        ("data outside memory", starting(r#"(data (i32.const 131070) "four")"#), NO_START),
        ("elements outside the table", starting("(table 1 funcref) (func $f) (elem (i32.const 1) $f)"), NO_START),
        ("more memory than granted", Core { memory: "600", ..HARMLESS }, NO_START),
        ("more memory than any cell may have", Core { memory: "5000", ..HARMLESS }, NO_COMPONENT),
        ("a table of a million elements", starting("(table 1000000 funcref)"), NO_COMPONENT),
    ]
}

/// A handler that does this.
fn doing(handle: &'static str) -> Core {
    Core { handle, ..HARMLESS }
}

/// A handler with tables or functions beside it.
fn with(items: &'static str, handle: &'static str) -> Core {
    Core { items, handle, ..HARMLESS }
}

/// Code that takes without end.
fn takers() -> Vec<(&'static str, Core, End)> {
    vec![
        ("a loop", doing("(loop (br 0)) unreachable"), FUEL),
        ("a recursion", with("(func $f (result i32) (i32.add (call $f) (i32.const 1)))", "(call $f)"), over("stack")),
        (
            "a recursion of two",
            with(
                "(func $a (result i32) (i32.add (call $b) (i32.const 1))) (func $b (result i32) (i32.mul (call $a) (i32.const 3)))",
                "(call $a)",
            ),
            over("stack"),
        ),
        (
            "a recursion through a table",
            with(
                "(type $r (func (result i32))) (table 1 funcref) (elem (i32.const 0) $f)
            (func $f (type $r) (i32.add (call_indirect (type $r) (i32.const 0)) (i32.const 1)))",
                "(call $f)",
            ),
            over("stack"),
        ),
        (
            "a recursion with many arguments",
            with(
                "(func $f (param f64 f64 f64 f64 f64 f64 f64 f64) (result i32) (i32.add (call $f (local.get 7) (local.get 6) (local.get 5) (local.get 4) (local.get 3) (local.get 2) (local.get 1) (local.get 0)) (i32.const 1)))",
                "(call $f (f64.const 1) (f64.const 2) (f64.const 3) (f64.const 4) (f64.const 5) (f64.const 6) (f64.const 7) (f64.const 8))",
            ),
            over("stack"),
        ),
        ("memory, page by page", doing("(loop (drop (memory.grow (i32.const 1))) (br 0)) unreachable"), MEMORY),
        ("memory, all at once", doing("(drop (memory.grow (i32.const 60000))) unreachable"), MEMORY),
        ("more memory than there are addresses", doing("(drop (memory.grow (i32.const -1))) unreachable"), MEMORY),
        (
            "table elements, step by step",
            with(
                "(table $t 1 funcref)",
                "(loop (drop (table.grow $t (ref.null func) (i32.const 1000))) (br 0)) unreachable",
            ),
            over("table"),
        ),
        (
            "table elements, all at once",
            with("(table $t 1 funcref)", "(drop (table.grow $t (ref.null func) (i32.const 30000))) unreachable"),
            over("table"),
        ),
    ]
}

/// Code that breaks a rule of WebAssembly.
fn breakers() -> Vec<(&'static str, Core, End)> {
    vec![
        ("unreachable code", doing("unreachable"), TRAPPED),
        (
            "a division by zero",
            doing("(i32.div_u (i32.const 1) (local.get 2))  (drop) (i32.div_u (i32.const 1) (i32.const 0))"),
            TRAPPED,
        ),
        ("a division that overflows", doing("(i32.div_s (i32.const 0x80000000) (i32.const -1))"), TRAPPED),
        ("a number that is none", doing("(i32.trunc_f64_s (f64.const nan))"), TRAPPED),
        ("a read outside memory", doing("(i32.load (i32.const -4))"), TRAPPED),
        ("a write outside memory", doing("(i32.store (i32.const 0x7ffffff0) (i32.const 1)) (i32.const 16)"), TRAPPED),
        (
            "a copy outside memory",
            doing("(memory.copy (i32.const 0) (i32.const 131000) (i32.const 1000)) (i32.const 16)"),
            TRAPPED,
        ),
        (
            "a fill outside memory",
            doing("(memory.fill (i32.const 131000) (i32.const 0) (i32.const 1000)) (i32.const 16)"),
            TRAPPED,
        ),
        (
            "a fill of 2 GiB",
            doing("(memory.fill (i32.const 0) (i32.const 0) (i32.const 0x7fffffff)) (i32.const 16)"),
            FUEL,
        ),
        (
            "100 million table elements",
            with("(table $t 1 funcref)", "(drop (table.grow $t (ref.null func) (i32.const 100000000))) unreachable"),
            FUEL,
        ),
        (
            "a call of nothing",
            with("(type $r (func (result i32))) (table 1 funcref)", "(call_indirect (type $r) (i32.const 0))"),
            TRAPPED,
        ),
        (
            "a call of another type",
            with(
                "(type $r (func (result i32))) (table 1 funcref) (func $f) (elem (i32.const 0) $f)",
                "(call_indirect (type $r) (i32.const 0))",
            ),
            TRAPPED,
        ),
        (
            "a call outside the table",
            with("(type $r (func (result i32))) (table 1 funcref)", "(call_indirect (type $r) (i32.const 7000))"),
            TRAPPED,
        ),
    ]
}

/// The parts of a guest that the host calls by itself.
fn servants() -> Vec<(&'static str, Core, End)> {
    vec![
        ("an allocator that points nowhere", Core { realloc: "(i32.const -16)", ..HARMLESS }, TRAPPED),
        ("an allocator that is askew", Core { realloc: "(i32.const 8193)", ..HARMLESS }, TRAPPED),
        ("an allocator that traps", Core { realloc: "unreachable", ..HARMLESS }, TRAPPED),
        ("an allocator that loops", Core { realloc: "(loop (br 0)) unreachable", ..HARMLESS }, FUEL),
        (
            "a clean-up that traps",
            with(
                r#"(func (export "cabi_post_aibos:cell/handler@1.0.0#handle") (param i32) unreachable)"#,
                "(i32.const 16)",
            ),
            TRAPPED,
        ),
        (
            "a clean-up that loops",
            with(
                r#"(func (export "cabi_post_aibos:cell/handler@1.0.0#handle") (param i32) (loop (br 0)))"#,
                "(i32.const 16)",
            ),
            FUEL,
        ),
    ]
}

/// Answers that lie. The response is status, headers, body, effect, from address 16.
fn liars() -> Vec<(&'static str, Core, End)> {
    let answering = |handle: &'static str| Core { memory: "20", handle, ..HARMLESS };
    vec![
        ("an answer nowhere", answering("(i32.const -8)"), TRAPPED),
        ("an answer that is askew", answering("(i32.const 17)"), TRAPPED),
        ("a status of 0", answering("(i32.const 1024)"), BAD),
        ("a status of 42", answering("(i32.store16 (i32.const 16) (i32.const 42)) (i32.const 16)"), BAD),
        ("a status of 101", answering("(i32.store16 (i32.const 16) (i32.const 101)) (i32.const 16)"), BAD),
        ("a status of 65535", answering("(i32.store16 (i32.const 16) (i32.const 65535)) (i32.const 16)"), BAD),
        ("an effect that there is not", answering("(i32.store8 (i32.const 36) (i32.const 9)) (i32.const 16)"), TRAPPED),
        ("65 headers", answering("(i32.store (i32.const 20) (i32.const 1024)) (i32.store (i32.const 24) (i32.const 65)) (i32.const 16)"), BAD),
        ("headers without end", answering("(i32.store (i32.const 20) (i32.const 1024)) (i32.store (i32.const 24) (i32.const 0x0fffffff)) (i32.const 16)"), TRAPPED),
        ("a header without a name", answering("(i32.store (i32.const 20) (i32.const 1024)) (i32.store (i32.const 24) (i32.const 1)) (i32.const 16)"), BAD),
        ("a header of 20 KB", answering("(i32.store (i32.const 20) (i32.const 1024)) (i32.store (i32.const 24) (i32.const 1))
            (memory.fill (i32.const 20000) (i32.const 120) (i32.const 20000)) (i32.store (i32.const 1024) (i32.const 20000)) (i32.store (i32.const 1028) (i32.const 1))
            (i32.store (i32.const 1032) (i32.const 20000)) (i32.store (i32.const 1036) (i32.const 20000)) (i32.const 16)"), BAD),
        ("a header with a second line", answering(r"(i32.store (i32.const 20) (i32.const 1024)) (i32.store (i32.const 24) (i32.const 1))
            (i32.store (i32.const 2000) (i32.const 0x780a7878)) (i32.store (i32.const 1024) (i32.const 2000)) (i32.store (i32.const 1028) (i32.const 1))
            (i32.store (i32.const 1032) (i32.const 2000)) (i32.store (i32.const 1036) (i32.const 4)) (i32.const 16)"), BAD),
        ("a header that is no text", answering("(i32.store (i32.const 20) (i32.const 1024)) (i32.store (i32.const 24) (i32.const 1))
            (i32.store (i32.const 2000) (i32.const 0xffffffff)) (i32.store (i32.const 1024) (i32.const 2000)) (i32.store (i32.const 1028) (i32.const 4)) (i32.const 16)"), TRAPPED),
        ("a body nowhere", answering("(i32.store (i32.const 28) (i32.const -16)) (i32.store (i32.const 32) (i32.const 8)) (i32.const 16)"), TRAPPED),
        ("a body of 4 GiB", answering("(i32.store (i32.const 32) (i32.const -1)) (i32.const 16)"), TRAPPED),
        ("a body of 1 MiB and a byte", answering("(i32.store (i32.const 32) (i32.const 1048577)) (i32.const 16)"), OUTPUT),
        ("a body as large as its memory", Core { memory: "500", ..answering("(i32.store (i32.const 32) (i32.const 32000000)) (i32.const 16)") }, TRAPPED),
    ]
}

const LOG: &str = r#"(import "aibos:cell/log@1.0.0" "write" (func $log (param i32 i32 i32)))"#;
const NOW: &str = r#"(import "aibos:cell/context@1.0.0" "now-ms" (func $now (result i64)))"#;
const ID: &str = r#"(import "aibos:cell/context@1.0.0" "new-id" (func $id (param i32)))"#;
const PUT: &str = r#"(import "aibos:cell/state@1.0.0" "put" (func $put (param i32 i32 i32 i32 i32)))"#;
const ADD: &str = r#"(import "aibos:cell/state@1.0.0" "add" (func $add (param i32 i32 i64 i32)))"#;
const PUBLISH: &str =
    r#"(import "aibos:cell/events@1.0.0" "publish" (func $publish (param i32 i32 i32 i32 i32 i32 i32 i32)))"#;

/// Too much asked of the host.
fn askers() -> Vec<(&'static str, Core, End)> {
    let asking = |imports: &'static str, handle: &'static str| Core { imports, handle, ..HARMLESS };
    vec![
        (
            "log lines without end",
            asking(LOG, "(loop (call $log (i32.const 1) (i32.const 16) (i32.const 0)) (br 0)) unreachable"),
            over("log"),
        ),
        (
            "a log line from nowhere",
            asking(LOG, "(call $log (i32.const 1) (i32.const -16) (i32.const 8)) (i32.const 16)"),
            TRAPPED,
        ),
        (
            "a log line that is no text",
            asking(
                LOG,
                "(i32.store (i32.const 2000) (i32.const -1)) (call $log (i32.const 1) (i32.const 2000) (i32.const 4)) (i32.const 16)",
            ),
            TRAPPED,
        ),
        (
            "a log level that there is not",
            asking(LOG, "(call $log (i32.const 77) (i32.const 16) (i32.const 0)) (i32.const 16)"),
            TRAPPED,
        ),
        (
            "a log line of 30 MB",
            Core {
                memory: "500",
                ..asking(LOG, "(call $log (i32.const 1) (i32.const 64) (i32.const 30000000)) (i32.const 16)")
            },
            TRAPPED,
        ),
        ("host calls without end", asking(NOW, "(loop (drop (call $now)) (br 0)) unreachable"), over("host_calls")),
        ("an id to nowhere", asking(ID, "(call $id (i32.const -16)) (i32.const 16)"), TRAPPED),
        (
            "writes without end",
            asking(
                ADD,
                "(i32.store8 (i32.const 2000) (i32.const 107)) (loop (call $add (i32.const 2000) (i32.const 1) (i64.const 1) (i32.const 3000)) (br 0)) unreachable",
            ),
            over("writes"),
        ),
        (
            "bytes without end",
            Core {
                memory: "10",
                ..asking(
                    PUT,
                    "(i32.store8 (i32.const 2000) (i32.const 107)) (loop (call $put (i32.const 2000) (i32.const 1) (i32.const 4096) (i32.const 262144) (i32.const 3000)) (br 0)) unreachable",
                )
            },
            over("write_bytes"),
        ),
        (
            "events without end",
            Core {
                items: r#"(data (i32.const 2000) "hostile.event")  (data (i32.const 2020) "{}")"#,
                realloc: "(i32.const 40000)",
                ..asking(
                    PUBLISH,
                    "(loop (call $publish (i32.const 2000) (i32.const 13) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 2020) (i32.const 2) (i32.const 3000)) (br 0)) unreachable",
                )
            },
            over("host_calls"),
        ),
    ]
}

fn hostile() -> Vec<(&'static str, Guest, End)> {
    let guest = |component: Vec<u8>| Guest { manifest: MANIFEST.to_owned(), component };
    let mut all: Vec<_> = byte_strings().into_iter().map(|(what, bytes, end)| (what, guest(bytes), end)).collect();
    let cores = [starters(), takers(), breakers(), servants(), liars(), askers()].into_iter().flatten();
    all.extend(cores.map(|(what, core, end)| (what, guest(core.component()), end)));
    // With fuel for hours, time ends it.
    let endless = |guest: Guest| guest.with("50_000_000", "10_000_000_000").with("30000", "200");
    let endless_loop = Core { handle: "(loop (br 0)) unreachable", ..HARMLESS };
    all.push(("a loop with fuel for hours", endless(guest(endless_loop.component())), TIME));
    let endless_start = Core { items: "(func $s (loop (br 0))) (start $s)", ..HARMLESS };
    all.push(("start-up with fuel for hours", endless(guest(endless_start.component())), NO_START));
    all
}

/// What the neighbour answers.
async fn neighbour(anna: &Actor) -> (Value, String) {
    let pong = anna.get("/cells/neighbour/probe/ping").await.expect(200);
    (pong, anna.get("/cells/neighbour/probe/state/kept").await.text)
}

/// Uploads a guest and calls it; answers what is wrong about its end.
async fn judge(olga: &Actor, anna: &Actor, guest: &Guest, end: End) -> Option<String> {
    let upload = guest.upload(olga, "?activate=true").await;
    match end {
        Refused(reason) => {
            let reasons = &upload.json["reasons"][0];
            (upload.status != 422 || reasons["code"] != reason).then(|| format!("expected {reason}: {}", upload.text))
        }
        Stopped(..) if upload.status != 201 => Some(format!("was not accepted: {}", upload.text)),
        Stopped(status, code, limit) => {
            let path = format!("/cells/{}/call", upload.json["name"].as_str().unwrap());
            let reply = anna.send(Method::POST, &path, Some(&json!({}))).await;
            let as_expected = reply.status == status
                && reply.json["code"] == code
                && reply.json.get("limit").and_then(Value::as_str) == limit;
            (!as_expected).then(|| format!("expected {status} {code} {limit:?}: {} {}", reply.status, reply.text))
        }
    }
}

async fn every_hostile_guest_is_refused_or_stopped(test: TestKernel) {
    let olga = test.owner().await;
    renamed(patient_probe(), "neighbour").install(&olga).await;
    let anna = test.tenant("acme").await;
    anna.put("/cells/neighbour/probe/state/kept", &json!("as it was")).await.done(204);
    let calm = neighbour(&anna).await;
    let (hostile, mut wrong) = (hostile(), Vec::new());
    assert!(hostile.len() >= 40, "{} hostile guests", hostile.len());
    let mut cells = 1;
    for (number, (what, guest, end)) in hostile.iter().enumerate() {
        let name = format!("hostile-{number}");
        let guest = guest.clone().with("\"hostile\"", &format!("\"{name}\""));
        if let Some(fault) = judge(&olga, &anna, &guest, *end).await {
            wrong.push(format!("{what}: {fault}"));
        }
        cells += usize::from(matches!(end, Stopped(..)));
        assert_eq!(neighbour(&anna).await, calm, "after {what}");
        assert_eq!(Traces::of(&test, &anna, &[&name]).await, Traces::default(), "{what} wrote nothing");
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), hostile.len(), wrong.join("\n"));
    let listed = olga.get("/api/v1/cells?limit=200").await.expect(200)["data"].as_array().unwrap().len();
    assert_eq!(listed, cells, "what was refused left no cell behind");
    test.anonymous().get("/livez").await.done(200);
}
