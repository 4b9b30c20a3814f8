//! Short texts that strangers send, and that are parsed before anybody is known: tokens, signatures, keys, routes, paths,
//! origins, ids and cursors. The first byte says which.
#![no_main]

use std::sync::LazyLock;

use aibos::auth::token::Tokens;
use aibos::cell::outbound::Origin;
use aibos::cell::pattern::{Pattern, split_path};
use aibos::cell::signature::{Signature, Signer, TrustedKeys};
use aibos::clock::Clock;
use aibos::http::input::Paging;
use aibos::id::{TenantId, UserId};
use aibos::state::Space;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

static TOKENS: LazyLock<Tokens> = LazyLock::new(|| {
    Tokens::new("https://kernel.test".into(), "kernel.test".into(), Clock::manual(Timestamp::UNIX_EPOCH), Vec::new())
});

fuzz_target!(|input: &str| {
    let Some((kind, text)) = input.split_at_checked(1) else { return };
    match kind {
        "t" => assert!(TOKENS.verify(text).is_err(), "nothing was signed"),
        "s" => {
            if let Ok(signature) = text.parse::<Signature>() {
                assert_eq!(signature.to_string().parse::<Signature>().ok(), Some(signature.clone()));
                assert!(!signature.fits("sha256:", text), "nothing was signed");
            }
        }
        "k" => drop(text.parse::<TrustedKeys>()),
        "p" => drop(Signer::read(text.as_bytes())),
        "r" => {
            let (text, path) = text.split_once('\n').unwrap_or((text, text));
            if let (Ok(pattern), Some(path)) = (Pattern::parse(text), split_path(path)) {
                assert!(pattern.overlaps(&pattern));
                assert!(!pattern.matches(&path) || path.iter().all(|segment| segment != "." && segment != ".."));
            }
        }
        "o" => {
            if let Ok(origin) = text.parse::<Origin>() {
                assert_eq!(origin.to_string().parse(), Ok(origin), "an origin is read as it is written");
            }
        }
        "c" => {
            let paging = Paging { limit: None, cursor: Some(text.to_owned()) };
            if let Ok(scan) = paging.scan::<UserId>(Space::kernel(TenantId::PLATFORM), "user/") {
                assert!(scan.after.is_some_and(|after| after.starts_with("user/") && after.len() == 41));
            }
        }
        _ => {}
    }
});
