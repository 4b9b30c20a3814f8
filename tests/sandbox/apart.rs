//! Components are compiled in a process of their own: what it says reaches the author as ever, and how it ends reaches
//! nobody else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use suite::cell::Guest;
use suite::database::Backend;
use suite::kernel::{TestKernel, program, text};

async fn compiling_by(compiler: &Path) -> TestKernel {
    let compiler = Some(compiler.to_owned());
    TestKernel::start_with(Backend::Sqlite, |config| config.compiler = compiler).await
}

/// The probe with bytes that only the compiler looks at: a function that leaves nothing where a number is promised.
fn broken() -> Guest {
    let component = wat::parse_str("(component (core module (func (result i32))))").expect("text of a component");
    Guest { component, ..Guest::probe() }.version("1.0.1")
}

/// A program that ends as `script` says, whatever it is asked for.
fn ending(test: &TestKernel, script: &str) -> PathBuf {
    let path = test.config().data_dir.join("compiler");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path
}

#[tokio::test]
async fn a_component_is_compiled_by_another_process() {
    let test = compiling_by(&program()).await;
    let olga = test.owner().await;
    Guest::probe().install(&olga).await;
    test.anonymous().get("/probe/ping").await.done(200);

    let here = TestKernel::start(Backend::Sqlite).await;
    let expected = broken().upload(&here.owner().await, "").await.refused(422, "CELL_REJECTED");
    let problem = broken().upload(&olga, "").await.refused(422, "CELL_REJECTED");
    assert_eq!(problem["reasons"], expected["reasons"], "an author reads the same wherever it was compiled");
    assert!(text(&problem["reasons"][0]["message"]).contains("type mismatch"), "{problem}");
}

#[tokio::test]
async fn only_what_the_compiler_says_or_dies_of_speaks_against_a_component() {
    let mut test = TestKernel::start(Backend::Sqlite).await;
    Guest::probe().install(&test.owner().await).await;
    for (number, (script, says)) in [
        ("cat >/dev/null; kill -6 $$", Some("signal: 6")),
        ("kill -24 $$", Some("signal: 24")),
        ("exit 101", Some("exit status: 101")),
        ("cat >/dev/null; echo too odd >&2; exit 65", Some(": too odd")),
        // What it wrote is no code of this engine.
        ("cat >/dev/null; echo code", Some("not valid")),
        ("kill -9 $$", Some("ended twice (signal: 9")),
        ("cat >/dev/null; kill -15 $$", Some("try again")),
        // Once is not twice: the second time there is another program, and so it is compiled in place.
        ("test -e \"$0.once\" && exit 2; touch \"$0.once\"; kill -9 $$", None),
        // Another program altogether.
        ("echo what is this >&2; exit 2", None),
        ("exit 127", None),
    ]
    .into_iter()
    .enumerate()
    {
        let compiler = ending(&test, script);
        test.stop().await;
        test.start_again(|config| config.compiler = Some(compiler)).await;
        let olga = test.owner().await;
        let component = wat::parse_str(format!("(component (core module {}))", "(func)".repeat(number))).unwrap();
        let other = Guest { component, ..Guest::probe() }.version("1.0.1");
        // It has no handler, so it is refused in any case; the question is by whom.
        let problem = other.upload(&olga, "").await.refused(422, "CELL_REJECTED");
        let message = text(&problem["reasons"][0]["message"]);
        match says {
            Some(says) => assert!(message.contains(says), "{script}: {message}"),
            None => assert_eq!(problem["reasons"][0]["code"], "MISSING_EXPORT", "{script}: {message}"),
        }
        test.anonymous().get("/probe/ping").await.done(200);
    }
}

#[tokio::test]
async fn without_another_process_it_is_compiled_here() {
    let test = compiling_by(Path::new("/nonexistent/aibos")).await;
    Guest::probe().install(&test.owner().await).await;
    test.anonymous().get("/probe/ping").await.done(200);
}
