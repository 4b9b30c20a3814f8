//! The trap that `tok_trap` asks for: a real one, in a function whose name shows in the backtrace, after the charge was
//! staged, so that a payment with this token also shows that nothing of it is kept.

/// Executes the instruction `unreachable`, which no guest code can catch.
#[cfg(target_family = "wasm")]
#[inline(never)]
pub(crate) fn stop_as_the_token_asks() -> ! {
    core::arch::wasm32::unreachable()
}

/// There is no sandbox to trap in natively.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn stop_as_the_token_asks() -> ! {
    std::process::abort()
}
