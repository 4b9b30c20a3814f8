//! `POST /api/v1/bootstrap`

use aibos::config::Secret;
use serde_json::{Value, json};
use suite::database::Backend;
use suite::kernel::{BOOTSTRAP_KEY, PASSWORD, TestKernel};

on_both_kernels!(
    makes_the_system_tenant_once,
    refuses_wrong_keys_before_looking_at_the_body,
    refuses_bad_bodies,
    only_one_of_many_at_once_wins,
);

fn body() -> Value {
    json!({ "tenant": "platform", "email": "Olga@Platform.test", "password": PASSWORD })
}

async fn makes_the_system_tenant_once(kernel: TestKernel) {
    let made = kernel.bootstrap(BOOTSTRAP_KEY, &body()).await.expect(201);
    let olga = kernel.sign_in("platform", "olga@platform.test", PASSWORD).await;
    let me = olga.get("/api/v1/auth/me").await.expect(200);
    assert_eq!(me["tenant"]["id"], made["tenant_id"]);
    assert_eq!(me["user"]["id"], made["user_id"]);
    assert_eq!(me["tenant"]["system"], true);
    assert_eq!(me["roles"][0]["name"], "owner");
    assert!(me["permissions"].as_array().unwrap().contains(&json!("kernel.cell.deploy")), "{me}");
    let entries = kernel.audit(&olga, "kernel.bootstrap").await;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["target"], json!({ "type": "tenant", "id": made["tenant_id"] }));
    assert_eq!(entries[0]["actor"]["type"], "operator");
    kernel.bootstrap(BOOTSTRAP_KEY, &body()).await.refused(409, "ALREADY_BOOTSTRAPPED");
    assert_eq!(kernel.audit(&olga, "kernel.bootstrap").await.len(), 1);
}

async fn refuses_wrong_keys_before_looking_at_the_body(kernel: TestKernel) {
    for key in ["", "wrong", &format!("{BOOTSTRAP_KEY}x")] {
        kernel.bootstrap(key, &body()).await.refused(401, "INVALID_CREDENTIALS");
        kernel.bootstrap(key, &json!({ "nonsense": 1 })).await.refused(401, "INVALID_CREDENTIALS");
    }
    kernel.anonymous().post("/api/v1/bootstrap", &body()).await.refused(401, "INVALID_CREDENTIALS");
    kernel.login("platform", "olga@platform.test", PASSWORD).await.refused(401, "INVALID_CREDENTIALS");
}

async fn refuses_bad_bodies(kernel: TestKernel) {
    let wrong = [
        ("/tenant", json!({ "tenant": "Not A Slug", "email": "a@b.c", "password": PASSWORD })),
        ("/email", json!({ "tenant": "platform", "email": "nobody", "password": PASSWORD })),
        ("/password", json!({ "tenant": "platform", "email": "a@b.c", "password": "short" })),
        ("/password", json!({ "tenant": "platform", "email": "a@b.c", "password": 12_345_678 })),
    ];
    for (pointer, body) in wrong {
        let problem = kernel.bootstrap(BOOTSTRAP_KEY, &body).await.invalid(pointer);
        assert!(!problem.to_string().contains("short"), "a password never comes back: {problem}");
    }
    let unknown = json!({ "tenant": "platform", "email": "a@b.c", "password": PASSWORD, "admin": true });
    kernel.bootstrap(BOOTSTRAP_KEY, &unknown).await.refused(400, "VALIDATION_ERROR");
    kernel.owner().await;
}

async fn only_one_of_many_at_once_wins(kernel: TestKernel) {
    let body = body();
    let asked = (0..8).map(|_| kernel.bootstrap(BOOTSTRAP_KEY, &body));
    let mut statuses: Vec<u16> = Vec::new();
    let mut waiting: Vec<_> = asked.map(Box::pin).collect();
    // All are on their way before the first is waited for.
    std::future::poll_fn(|context| {
        waiting.retain_mut(|asked| match asked.as_mut().poll(context) {
            std::task::Poll::Ready(reply) => {
                statuses.push(reply.status);
                false
            }
            std::task::Poll::Pending => true,
        });
        if waiting.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
}

#[tokio::test]
async fn without_a_configured_key_there_is_no_bootstrap() {
    let kernel = TestKernel::start_with(Backend::Sqlite, |config| config.bootstrap_key = None).await;
    kernel.bootstrap("", &body()).await.refused(401, "INVALID_CREDENTIALS");
    let kernel =
        TestKernel::start_with(Backend::Sqlite, |config| config.bootstrap_key = Some(Secret::new("other".into())))
            .await;
    kernel.bootstrap(BOOTSTRAP_KEY, &body()).await.refused(401, "INVALID_CREDENTIALS");
    let body = body();
    kernel.bootstrap("other", &body).await.done(201);
}
