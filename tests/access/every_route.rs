//! Walks the URL table: strangers get 401, users without the permission 403 with an audit entry, holders get in.

use aibos::http::operation::Route;
use aibos::http::router;
use aibos::rbac::permission::Scope;
use aibos::rbac::permit::Rule;
use serde_json::json;
use suite::kernel::TestKernel;

on_both_kernels!(
    strangers_are_refused,
    users_without_the_permission_are_refused_and_audited,
    holders_of_the_permission_get_in,
    platform_routes_are_closed_to_other_tenants,
);

fn guarded() -> Vec<Route> {
    router::table().into_iter().filter(|route| route.rule != Rule::Public).collect()
}

/// The path with parameters that name nothing.
fn path(route: &Route) -> String {
    let fill = |segment: &str| match segment.strip_prefix('{') {
        Some(name) if name.contains("id") => "0197e6a8-0000-7000-8000-000000000000".to_owned(),
        Some(_) => "nothing".to_owned(),
        None => segment.to_owned(),
    };
    route.path.split('/').map(fill).collect::<Vec<_>>().join("/")
}

async fn strangers_are_refused(kernel: TestKernel) {
    kernel.owner().await;
    for route in guarded() {
        let reply = kernel.anonymous().send(route.method.clone(), &path(&route), None).await;
        let problem = reply.refused(401, "UNAUTHENTICATED");
        assert!(problem.get("missing_permissions").is_none(), "{problem}");
    }
}

async fn users_without_the_permission_are_refused_and_audited(kernel: TestKernel) {
    let olga = kernel.owner().await;
    let nobody = kernel.user(&olga, "nobody", &[]).await;
    for route in guarded() {
        let reply = nobody.send(route.method.clone(), &path(&route), None).await;
        let Rule::Needs(permission, _) = route.rule else {
            assert!(!matches!(reply.status, 401 | 403), "{}: {}", route.name, reply.text);
            continue;
        };
        let problem = reply.refused(403, "FORBIDDEN");
        assert_eq!(problem["missing_permissions"], json!([permission]), "{}", route.name);
        let entry = &kernel.audit(&olga, "authz.deny").await[0];
        assert_eq!(entry["actor"], json!({ "type": "user", "id": nobody.id }));
        assert_eq!(entry["target"], json!({ "type": "operation", "id": route.name }));
        assert_eq!(entry["outcome"], "denied");
        assert_eq!(entry["correlation_id"], problem["correlation_id"]);
        assert_eq!(entry["details"]["required_permissions"], json!([permission]));
        assert_eq!(entry["details"]["missing_permissions"], json!([permission]));
    }
}

async fn holders_of_the_permission_get_in(kernel: TestKernel) {
    let olga = kernel.owner().await;
    let mut permissions: Vec<&str> = guarded()
        .iter()
        .filter_map(|route| match route.rule {
            Rule::Needs(permission, _) => Some(permission),
            Rule::Public | Rule::SignedIn => None,
        })
        .collect();
    permissions.sort_unstable();
    permissions.dedup();
    for (number, permission) in permissions.into_iter().enumerate() {
        let holder = kernel.user(&olga, &format!("holder{number}"), &[permission]).await;
        for route in guarded() {
            let Rule::Needs(needed, _) = route.rule else { continue };
            let reply = holder.send(route.method.clone(), &path(&route), None).await;
            let refused = reply.json["code"] == "FORBIDDEN";
            assert_eq!(refused, needed != permission, "{} with {permission}: {}", route.name, reply.text);
        }
    }
}

async fn platform_routes_are_closed_to_other_tenants(kernel: TestKernel) {
    let anna = kernel.tenant("acme").await;
    for route in guarded() {
        let reply = anna.send(route.method.clone(), &path(&route), None).await;
        let platform = matches!(route.rule, Rule::Needs(_, Scope::Platform));
        let refused = reply.json["code"] == "FORBIDDEN";
        assert_eq!(refused, platform, "{} by the owner of another tenant: {}", route.name, reply.text);
    }
}
