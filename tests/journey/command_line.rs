//! The command line against a running kernel: what an author and an operator type, in the order in which they type it.

use aibos::cell::signature::Signer;
use aibos::command::{Arguments, Failure, run};
use clap::Parser;
use serde_json::Value;
use suite::cell::Guest;
use suite::kernel::TestKernel;

/// Runs `aibos WORDS…`, in this process.
async fn aibos(words: &[&str]) -> Result<(), Failure> {
    let words = std::iter::once("aibos").chain(words.iter().copied());
    run(Arguments::try_parse_from(words).expect("the words are a command")).await
}

async fn refusal(words: &[&str]) -> String {
    aibos(words).await.expect_err("it is refused").0
}

async fn an_operator_loads_a_cell_and_makes_it_fail(test: TestKernel) {
    let operator = test.owner().await;
    let url = test.url();
    let token = operator.token.clone().unwrap();
    let directory = std::env::temp_dir().join(format!("aibos-cli-{}", operator.id));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("probe.wasm").display().to_string();
    let probe = Guest::probe();
    std::fs::write(&file, &probe.component).unwrap();
    std::fs::write(directory.join("cell.toml"), &probe.manifest).unwrap();

    aibos(&["cell", "check", &file]).await.unwrap();
    let anonymous = refusal(&["cell", "push", &file, "--url", &url]).await;
    assert!(anonymous.starts_with("401 UNAUTHENTICATED"), "{anonymous}");
    let signed_in = ["--url", url.as_str(), "--token", token.as_str()];
    for words in [
        &["cell", "push", file.as_str()][..],
        &["cell", "activate", "probe", "1.0.0"],
        &["cell", "list"],
        &["cell", "inspect", "probe"],
        &["chaos", "inject", "probe", "--at", "start"],
        &["chaos", "list", "--json"],
    ] {
        aibos(&[words, &signed_in].concat()).await.unwrap();
    }
    operator.post("/probe/echo", &Value::Null).await.refused(503, "CELL_TRAPPED");
    aibos(&[&["chaos", "clear", "probe"][..], &signed_in].concat()).await.unwrap();
    operator.post("/probe/echo", &Value::Null).await.done(200);

    let value = directory.join("value").display().to_string();
    std::fs::write(&value, "s3cr3t\n").unwrap();
    for words in [
        &["cell", "secret", "set", "probe", "API_KEY", "--file", value.as_str()][..],
        &["cell", "secret", "list", "probe"],
    ] {
        aibos(&[words, &signed_in].concat()).await.unwrap();
    }
    let revealed = operator.post("/probe/secret/API_KEY", &Value::Null).await.expect(200);
    assert_eq!(revealed["value"], "s3cr3t");
    aibos(&[&["cell", "secret", "remove", "probe", "API_KEY"][..], &signed_in].concat()).await.unwrap();
    assert_eq!(operator.get("/api/v1/cells/probe/secrets").await.expect(200)["data"], serde_json::json!([]));

    let missing = refusal(&[&["cell", "activate", "probe", "9.9.9"][..], &signed_in].concat()).await;
    assert!(missing.starts_with("404 NOT_FOUND"), "{missing}");
    std::fs::write(&file, "not a component").unwrap();
    refusal(&["cell", "check", &file]).await;
    std::fs::remove_dir_all(&directory).unwrap();
}

async fn an_author_signs_what_is_pushed(mut test: TestKernel) {
    let operator = test.owner().await;
    let directory = std::env::temp_dir().join(format!("aibos-sign-{}", operator.id));
    std::fs::create_dir_all(&directory).unwrap();
    let path = |name: &str| directory.join(name).display().to_string();
    let (file, key) = (path("probe.wasm"), path("author.pem"));
    let probe = Guest::probe();
    std::fs::write(&file, &probe.component).unwrap();
    std::fs::write(path("cell.toml"), &probe.manifest).unwrap();

    let missing = refusal(&["cell", "sign", &file, "--key", &key]).await;
    assert!(missing.contains("author.pem"), "{missing}");
    aibos(&["cell", "sign", "--generate", &key]).await.unwrap();
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&key).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
    let again = refusal(&["cell", "sign", "--generate", &key]).await;
    assert!(again.contains("never overwritten"), "{again}");

    let signer = Signer::read(&std::fs::read(&key).unwrap()).unwrap();
    let trusted = format!("author={}", signer.key()).parse().unwrap();
    test.restart_with(|config| config.cell_keys = trusted).await;
    let url = test.url();
    let token = operator.token.clone().unwrap();
    let push = ["cell", "push", file.as_str(), "--activate", "--url", url.as_str(), "--token", token.as_str()];
    let unsigned = refusal(&push).await;
    assert!(unsigned.contains("BAD_SIGNATURE") && unsigned.contains("aibos cell sign --key FILE"), "{unsigned}");
    aibos(&["cell", "sign", &directory.display().to_string(), "--key", &key]).await.unwrap();
    aibos(&push).await.unwrap();
    test.anonymous().get("/probe/ping").await.done(200);
    std::fs::remove_dir_all(&directory).unwrap();
}

on_both_kernels!(an_operator_loads_a_cell_and_makes_it_fail, an_author_signs_what_is_pushed);
