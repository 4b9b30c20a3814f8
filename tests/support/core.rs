//! Cells written as WebAssembly text. What a compiler would never emit can be written here: answers that point nowhere,
//! allocators that lie, code that runs at start-up.

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A world in which everything is optional but the handler.
const WORLD: &str = "package test:hostile;
world guest {
    import aibos:cell/context@1.0.0;
    import aibos:cell/log@1.0.0;
    import aibos:cell/audit@1.0.0;
    import aibos:cell/state@1.0.0;
    import aibos:cell/events@1.0.0;
    export aibos:cell/handler@1.0.0;
}";

/// The parts of a core module; what is not given is harmless.
#[derive(Clone, Copy, Debug)]
pub struct Core {
    /// Imports, in text.
    pub imports: &'static str,
    /// Memory in pages.
    pub memory: &'static str,
    /// The body of `cabi_realloc`: old pointer, old size, alignment, new size.
    pub realloc: &'static str,
    /// Tables, functions, segments.
    pub items: &'static str,
    /// The body of `handle`: answers the address of a response.
    pub handle: &'static str,
}

/// Answers 200 without a body, from the response at address 16.
pub const HARMLESS: Core = Core {
    imports: "",
    memory: "2",
    realloc: "(local $at i32) (local.set $at (global.get $free))
        (global.set $free (i32.and (i32.add (i32.add (global.get $free) (local.get 3)) (i32.const 7)) (i32.const -8)))
        (local.get $at)",
    items: "",
    handle: "(i32.const 16)",
};

impl Core {
    /// The text of the module.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { imports, memory, realloc, items, handle } = self;
        let parameters = "i32 ".repeat(11);
        format!(
            r#"(module
                {imports}
                (memory (export "memory") {memory})
                (global $free (mut i32) (i32.const 8192))
                (data (i32.const 16) "\c8")
                {items}
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {realloc})
                (func (export "aibos:cell/handler@1.0.0#handle") (param {parameters}) (result i32) {handle}))"#
        )
    }

    /// The component.
    #[must_use]
    pub fn component(&self) -> Vec<u8> {
        let text = self.text();
        let mut module = wat::parse_str(&text).unwrap_or_else(|cause| panic!("{cause}\n{text}"));
        let mut resolve = Resolve::default();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests lie in the workspace");
        resolve.push_dir(root.join("wit")).expect("wit/ can be read");
        let package = resolve.push_str("hostile.wit", WORLD).expect("the world is understood");
        let world = resolve.select_world(&[package], Some("guest")).expect("the world is there");
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("the world fits in");
        let mut encoder =
            ComponentEncoder::default().validate(false).module(&module).expect("the module fits the world");
        encoder.encode().unwrap_or_else(|cause| panic!("{cause:#}\n{text}"))
    }
}
