//! `GET /.well-known/jwks.json`

use serde_json::json;
use suite::kernel::TestKernel;

on_both_kernels!(publishes_the_public_half_only);

async fn publishes_the_public_half_only(mut kernel: TestKernel) {
    let reply = kernel.anonymous().get("/.well-known/jwks.json").await;
    assert_eq!(reply.header("cache-control"), "public, max-age=300");
    let keys = reply.expect(200);
    let key = keys["keys"][0].as_object().unwrap();
    let mut members: Vec<&String> = key.keys().collect();
    members.sort();
    assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x"], "and no `d`");
    assert_eq!(key["x"].as_str().unwrap().len(), 43);
    assert_eq!(
        [&key["kty"], &key["crv"], &key["alg"], &key["use"]],
        [&json!("OKP"), &json!("Ed25519"), &json!("EdDSA"), &json!("sig")]
    );
    kernel.restart().await;
    assert_eq!(kernel.anonymous().get("/.well-known/jwks.json").await.expect(200), keys);
}
