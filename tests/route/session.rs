//! Signing in, and what a user sees and changes of themselves.

use aibos::audit::storm::Ending;
use jiff::SignedDuration;
use serde_json::{Value, json};
use suite::actor::Actor;
use suite::kernel::{PASSWORD, TestKernel};

on_both_kernels!(
    every_failed_sign_in_looks_the_same,
    a_token_says_who_and_expires,
    tokens_survive_a_restart,
    forged_tokens_are_refused,
    guessing_is_slowed_down_and_forgiven,
    me_shows_effective_permissions,
    a_password_change_ends_other_sessions,
    many_sign_ins_at_once,
);

async fn every_failed_sign_in_looks_the_same(kernel: TestKernel) {
    let olga = kernel.owner().await;
    let anna = kernel.tenant("acme").await;
    let bob = kernel.user(&anna, "bob", &[]).await;
    anna.patch(&format!("/api/v1/users/{}", bob.id), &json!({ "status": "disabled" })).await.done(200);
    kernel.user(&kernel.tenant("gone").await, "carl", &[]).await;
    suspend(&olga, "gone").await;
    anna.post("/api/v1/users", &json!({ "email": "dora@acme.test" })).await.done(201);
    let failures = [
        ("nowhere", "owner@acme.test", PASSWORD, "unknown_tenant"),
        ("Not a slug", "owner@acme.test", PASSWORD, "unknown_tenant"),
        ("acme", "nobody@acme.test", PASSWORD, "unknown_user"),
        ("acme", "not an address", PASSWORD, "unknown_user"),
        ("acme", "owner@acme.test", "wrong password", "wrong_password"),
        ("acme", "owner@acme.test", "", "wrong_password"),
        ("acme", "dora@acme.test", PASSWORD, "wrong_password"),
        ("acme", "bob@acme.test", PASSWORD, "user_disabled"),
        ("gone", "carl@gone.test", PASSWORD, "tenant_suspended"),
    ];
    let mut details = Vec::new();
    for (tenant, email, password, _) in failures {
        let problem = kernel.login(tenant, email, password).await.refused(401, "INVALID_CREDENTIALS");
        details.push(problem["detail"].clone());
    }
    details.dedup();
    assert_eq!(details.len(), 1, "the reply does not say what was wrong: {details:?}");
    let mut reasons: Vec<Value> = denied(&kernel.audit(&anna, "auth.login").await);
    let operators = denied(&kernel.audit(&olga, "auth.login").await);
    assert_eq!(operators, ["unknown_tenant", "unknown_tenant"], "only the operator reads of tenants that do not exist");
    reasons.reverse();
    let expected: Vec<&str> =
        failures.iter().filter(|failure| failure.0 == "acme").map(|(.., reason)| *reason).collect();
    assert_eq!(reasons, expected);
}

async fn a_token_says_who_and_expires(kernel: TestKernel) {
    let olga = kernel.owner().await;
    let reply = kernel.login("platform", "OLGA@platform.test", PASSWORD).await.expect(200);
    assert_eq!(reply["token_type"], "Bearer");
    assert_eq!(reply["expires_in"], 600);
    let token = reply["access_token"].as_str().unwrap();
    let (header, claims) = (part(token, 0), part(token, 1));
    assert_eq!(header["typ"], "at+jwt");
    assert_eq!(header["alg"], "EdDSA");
    assert_eq!(claims["iss"], "https://kernel.test");
    assert_eq!(claims["aud"], "kernel.test");
    assert_eq!(claims["sub"].as_str(), Some(olga.id.as_str()));
    assert_eq!(claims["tid"].as_str(), Some(olga.tenant_id.as_str()));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 600);
    let mut names: Vec<&String> = claims.as_object().unwrap().keys().collect();
    names.sort();
    assert_eq!(names, ["aud", "client_id", "exp", "iat", "iss", "jti", "sid", "sub", "tid"], "and nothing about roles");
    let keys = kernel.anonymous().get("/.well-known/jwks.json").await.expect(200);
    assert_eq!(keys["keys"][0]["kid"], header["kid"]);
    let entry = kernel.audit(&olga, "auth.login").await.remove(0);
    assert_eq!(entry["outcome"], "success");
    assert_eq!(entry["actor"], json!({ "type": "user", "id": olga.id }));
    assert_eq!(entry["details"]["session_id"], claims["sid"]);

    let me = Actor::with_token(&kernel.url(), token.to_owned());
    kernel.pass(SignedDuration::from_secs(599));
    me.get("/api/v1/auth/me").await.done(200);
    kernel.pass(SignedDuration::from_secs(1));
    me.get("/api/v1/auth/me").await.refused(401, "UNAUTHENTICATED");
}

async fn tokens_survive_a_restart(mut kernel: TestKernel) {
    let olga = kernel.owner().await;
    kernel.restart().await;
    olga.at(&kernel.url()).get("/api/v1/auth/me").await.done(200);
    kernel.login("platform", "olga@platform.test", PASSWORD).await.done(200);
    kernel.stop().await;
    let mut config = kernel.config();
    config.master_key = aibos::auth::seal::MasterKey::new([43; 32]);
    let error = kernel.try_start(config).await.expect_err("another master key does not open the signing key");
    let sentence = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
    assert!(sentence.contains("AIBOS_MASTER_KEY"), "{sentence}");
}

async fn forged_tokens_are_refused(kernel: TestKernel) {
    let olga = kernel.owner().await;
    let token = olga.token.clone().unwrap();
    let pieces: Vec<&str> = token.split('.').collect();
    let mut claims = part(&token, 1);
    claims["sub"] = json!(aibos::id::uuid(&kernel.clock));
    let other_claims = encode(&claims);
    let unsigned = encode(&json!({ "alg": "none", "typ": "at+jwt", "kid": part(&token, 0)["kid"] }));
    let symmetric = encode(&json!({ "alg": "HS256", "typ": "at+jwt", "kid": part(&token, 0)["kid"] }));
    let forged = [
        String::new(),
        "x".into(),
        "a.b.c".into(),
        format!("{}.{}.", pieces[0], pieces[1]),
        format!("{}.{other_claims}.{}", pieces[0], pieces[2]),
        format!("{unsigned}.{}.", pieces[1]),
        format!("{symmetric}.{}.{}", pieces[1], pieces[2]),
        token[..token.len() - 2].to_owned(),
    ];
    for forged in forged {
        Actor::with_token(&kernel.url(), forged).get("/api/v1/auth/me").await.refused(401, "UNAUTHENTICATED");
    }
    let basic = kernel.anonymous().with_header("authorization", &format!("Basic {token}"));
    basic.get("/api/v1/auth/me").await.refused(401, "UNAUTHENTICATED");
    let lower = kernel.anonymous().with_header("authorization", &format!("bearer {token}"));
    lower.get("/api/v1/auth/me").await.done(200);
}

async fn guessing_is_slowed_down_and_forgiven(kernel: TestKernel) {
    let olga = kernel.owner().await;
    let guess = async || kernel.login("platform", "olga@platform.test", "a wrong guess").await;
    for _ in 0..6 {
        guess().await.refused(401, "INVALID_CREDENTIALS");
    }
    let reply = kernel.login("platform", "olga@platform.test", PASSWORD).await;
    assert_eq!(reply.header("retry-after"), "1");
    reply.refused(429, "RATE_LIMITED");
    kernel.login("platform", "someone@else.test", "a wrong guess").await.refused(401, "INVALID_CREDENTIALS");
    kernel.pass(SignedDuration::from_secs(1));
    guess().await.refused(401, "INVALID_CREDENTIALS");
    assert_eq!(guess().await.header("retry-after"), "2", "it doubles");
    kernel.pass(SignedDuration::from_secs(2));
    kernel.login("platform", "olga@platform.test", PASSWORD).await.done(200);
    for _ in 0..5 {
        guess().await.refused(401, "INVALID_CREDENTIALS");
    }
    kernel.kernel.write_storms(Ending::All).await;
    let entries = kernel.audit(&olga, "auth.login").await;
    let counts = entries.iter().filter(|entry| entry["outcome"] == "denied").map(|entry| entry["details"].get("count"));
    let counts: u64 = counts.map(|count| count.map_or(1, |count| count.as_u64().unwrap())).sum();
    assert_eq!(counts, 13, "an attempt that was made to wait is no attempt; those of one kind are counted");
    assert_eq!(denied(&entries).len(), 7, "five guesses, one of somebody else, one count");
}

async fn me_shows_effective_permissions(kernel: TestKernel) {
    let olga = kernel.owner().await;
    kernel.anonymous().get("/api/v1/auth/me").await.refused(401, "UNAUTHENTICATED");
    let ada = kernel.user(&olga, "ada", &["kernel.audit.read", "finance.payment.read"]).await;
    let me = ada.get("/api/v1/auth/me").await.expect(200);
    assert_eq!(me["permissions"], json!(["finance.payment.read", "kernel.audit.read"]));
    assert_eq!(me["roles"][0]["name"], "ada role");
    assert_eq!(me["user"]["email"], "ada@platform.test");
    let anna = kernel.tenant("acme").await;
    let me = anna.get("/api/v1/auth/me").await.expect(200);
    assert_eq!(me["tenant"]["system"], false);
    let held = me["permissions"].as_array().unwrap();
    assert!(held.contains(&json!("kernel.user.write")) && !held.contains(&json!("kernel.tenant.read")), "{me}");
}

async fn a_password_change_ends_other_sessions(kernel: TestKernel) {
    let olga = kernel.owner().await;
    let other = kernel.sign_in("platform", "olga@platform.test", PASSWORD).await;
    let change = |current: &str, new: &str| json!({ "current": current, "new": new });
    let path = "/api/v1/auth/password";
    kernel.anonymous().post(path, &change(PASSWORD, "another password")).await.refused(401, "UNAUTHENTICATED");
    olga.post(path, &change("not it", "another password")).await.refused(401, "INVALID_CREDENTIALS");
    olga.post(path, &change(PASSWORD, "short")).await.invalid("/new");
    other.get("/api/v1/auth/me").await.done(200);
    olga.post(path, &change(PASSWORD, "another password")).await.done(204);
    olga.get("/api/v1/auth/me").await.done(200);
    other.get("/api/v1/auth/me").await.refused(401, "UNAUTHENTICATED");
    kernel.login("platform", "olga@platform.test", PASSWORD).await.refused(401, "INVALID_CREDENTIALS");
    kernel.login("platform", "olga@platform.test", "another password").await.done(200);
    let outcomes: Vec<Value> =
        kernel.audit(&olga, "auth.password").await.into_iter().map(|entry| entry["outcome"].clone()).collect();
    assert_eq!(outcomes, ["success", "denied"]);
}

async fn many_sign_ins_at_once(kernel: TestKernel) {
    kernel.owner().await;
    let mut signing_in = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let anonymous = kernel.anonymous();
        signing_in.spawn(async move {
            let body = json!({ "tenant": "platform", "email": "olga@platform.test", "password": PASSWORD });
            anonymous.post("/api/v1/auth/login", &body).await
        });
    }
    for reply in signing_in.join_all().await {
        reply.done(200);
    }
}

async fn suspend(olga: &Actor, slug: &str) {
    let tenants = olga.get("/api/v1/tenants").await.expect(200);
    let tenant = tenants["data"].as_array().unwrap().iter().find(|tenant| tenant["slug"] == slug).unwrap();
    let path = format!("/api/v1/tenants/{}", tenant["id"].as_str().unwrap());
    olga.patch(&path, &json!({ "status": "suspended" })).await.done(200);
}

fn denied(entries: &[Value]) -> Vec<Value> {
    entries
        .iter()
        .filter(|entry| entry["outcome"] == "denied")
        .map(|entry| entry["details"]["reason"].clone())
        .collect()
}

fn part(token: &str, index: usize) -> Value {
    let piece = token.split('.').nth(index).unwrap();
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, piece).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn encode(value: &Value) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, value.to_string())
}
