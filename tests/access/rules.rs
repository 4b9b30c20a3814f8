//! Who may call what, as a checked-in table: a change of an access rule is a change of that file.

use std::fmt::Write;

use aibos::http::router;
use aibos::rbac::permission::Scope;
use aibos::rbac::permit::Rule;
use suite::snapshot;

#[test]
fn the_checked_in_table_is_current() {
    let mut table = router::table();
    table.sort_by_key(|route| (route.path, route.method.to_string()));
    let mut text = String::new();
    for route in table {
        let rule = match route.rule {
            Rule::Public => "public".to_owned(),
            Rule::SignedIn => "signed in".to_owned(),
            Rule::Needs(permission, Scope::Tenant) => permission.to_owned(),
            Rule::Needs(permission, Scope::Platform) => format!("{permission} (system tenant only)"),
        };
        writeln!(text, "{:<6} {:<40} {rule}", route.method.as_str(), route.path).unwrap();
    }
    snapshot::compare("tests/access/rules.txt", &text);
}
