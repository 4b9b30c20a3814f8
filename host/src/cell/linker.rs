//! Links exactly what a manifest grants. An import without its grant is refused when the component is loaded, with the line
//! of `cell.toml` that would grant it.

use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime_wasi_http::WasiHttp;
use wasmtime_wasi_http::p2::bindings;

use super::binding::aibos::cell as interface;
use super::capability;
use super::manifest::{Capabilities, Manifest};
use super::outbound;
use super::rejection::{Reason, ReasonCode};
use super::store::CellStore;

/// An interface of `aibos:cell` and when it is granted.
struct Capability {
    interface: &'static str,
    /// The line of `[capabilities]` that grants it; empty when it always is.
    line: &'static str,
    granted: fn(&Capabilities) -> bool,
    link: fn(&mut Linker<CellStore>) -> wasmtime::Result<()>,
}

/// Every capability, one line each.
const CAPABILITIES: [Capability; 8] = [
    Capability {
        interface: "context",
        line: "",
        granted: |_| true,
        link: |linker| interface::context::add_to_linker::<_, HasSelf<_>>(linker, |store| store),
    },
    Capability {
        interface: "log",
        line: "",
        granted: |_| true,
        link: |linker| interface::log::add_to_linker::<_, HasSelf<_>>(linker, |store| store),
    },
    Capability {
        interface: "audit",
        line: "",
        granted: |_| true,
        link: |linker| interface::audit::add_to_linker::<_, HasSelf<_>>(linker, |store| store),
    },
    Capability {
        interface: "state",
        line: "state = true",
        granted: |capabilities| capabilities.state,
        link: |linker| interface::state::add_to_linker::<_, HasSelf<_>>(linker, |store| store),
    },
    Capability {
        interface: "events",
        line: "publish = [\"TYPE.*\"]",
        granted: |capabilities| !capabilities.publish.is_empty(),
        link: |linker| interface::events::add_to_linker::<_, HasSelf<_>>(linker, |store| store),
    },
    Capability {
        interface: "calls",
        line: "calls = [\"CELL\"]",
        granted: |capabilities| !capabilities.calls.is_empty(),
        link: capability::calls::add_to_linker,
    },
    Capability {
        interface: "config",
        line: "config = [\"NAME\"]",
        granted: |capabilities| !capabilities.config.is_empty(),
        link: |linker| interface::config::add_to_linker::<_, HasSelf<_>>(linker, |store| store),
    },
    Capability {
        interface: "secrets",
        line: "secrets = [\"NAME\"]",
        granted: |capabilities| !capabilities.secrets.is_empty(),
        link: |linker| interface::secrets::add_to_linker::<_, HasSelf<_>>(linker, |store| store),
    },
];

/// A linker with what the manifest grants, and WASI with nothing behind it.
pub fn linker(engine: &Engine, manifest: &Manifest) -> wasmtime::Result<Linker<CellStore>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    let options = bindings::LinkOptions::default();
    bindings::http::types::add_to_linker::<_, WasiHttp>(&mut linker, &(&options).into(), CellStore::guest_http)?;
    outbound::explain_broken_bodies(&mut linker)?;
    outbound::add_to_linker(&mut linker)?;
    for capability in CAPABILITIES.iter().filter(|capability| (capability.granted)(&manifest.capabilities)) {
        (capability.link)(&mut linker)?;
    }
    Ok(linker)
}

/// Refuses imports that no manifest could grant, and those that this one does not.
pub fn check_imports(engine: &Engine, component: &Component, manifest: &Manifest) -> Result<(), Vec<Reason>> {
    let kind = component.component_type();
    let reasons: Vec<Reason> =
        kind.imports(engine).filter_map(|(name, item)| judge(engine, name, &item.ty, manifest)).collect();
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

fn judge(engine: &Engine, name: &str, item: &ComponentItem, manifest: &Manifest) -> Option<Reason> {
    let unknown = |message: String| Some(Reason::new(ReasonCode::UnknownImport, message));
    let ComponentItem::ComponentInstance(instance) = item else {
        return unknown(format!("the import {name} is not an interface of WASI or aibos:cell"));
    };
    // An interface that is imported only for its types needs no grant.
    let functions =
        instance.exports(engine).filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_))).count();
    let (package, version) = name.split_once('@').unwrap_or((name, ""));
    match package.split_once('/') {
        Some(("aibos:cell", _)) if functions == 0 => None,
        Some(("aibos:cell", interface)) => judge_own(name, interface, version, manifest),
        Some(
            ("wasi:io" | "wasi:cli" | "wasi:clocks" | "wasi:random" | "wasi:filesystem" | "wasi:sockets", _)
            | ("wasi:http", "types" | "outgoing-handler"),
        ) => (!version.starts_with("0.2.")).then(|| {
            Reason::new(ReasonCode::UnknownImport, format!("the import {name} must be of WASI 0.2, not {version}"))
        }),
        _ => unknown(format!("the import {name} is not known to this host; it offers WASI 0.2 and aibos:cell@1.0.0")),
    }
}

fn judge_own(name: &str, interface: &str, version: &str, manifest: &Manifest) -> Option<Reason> {
    let Some(capability) = CAPABILITIES.iter().find(|capability| capability.interface == interface) else {
        let nearest = CAPABILITIES.iter().min_by_key(|known| distance(known.interface, interface));
        let hint = nearest.map(|known| format!("; did you mean {}?", known.interface)).unwrap_or_default();
        return Some(Reason::new(ReasonCode::UnknownImport, format!("the import {name} does not exist{hint}")));
    };
    if !version.starts_with("1.") {
        return Some(Reason::new(
            ReasonCode::UnknownImport,
            format!("the import {name} has another major version than this host's aibos:cell@1.0.0"),
        ));
    }
    (!(capability.granted)(&manifest.capabilities)).then(|| {
        Reason::new(
            ReasonCode::DeniedCapability,
            format!("the import {name} is not granted; add `{}` to [capabilities] in cell.toml", capability.line),
        )
    })
}

/// Edit distance (Levenshtein) of two short names.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (y, above) in b.chars().zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(x != y)).min(left + 1).min(above + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}
