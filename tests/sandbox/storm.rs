//! A storm of failures or denials leaves its first entries and one count, not an entry for each request. What succeeds is
//! written one by one, however much of it there is.

use aibos::audit::storm::Ending;
use jiff::SignedDuration;
use serde_json::{Value, json};
use suite::actor::Actor;
use suite::kernel::{TestKernel, text};

use super::variant::anna_with_a_probe;

on_both_kernels!(
    a_storm_of_traps_is_counted,
    a_storm_of_denials_is_counted_when_the_kernel_stops,
    what_succeeds_is_written_one_by_one,
);

const STORM: u64 = 30;

async fn reports(olga: &Actor) -> usize {
    olga.get("/api/v1/cells/probe/traps").await.expect(200)["data"].as_array().unwrap().len()
}

async fn a_storm_of_traps_is_counted(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    let olga = test.owner().await;
    let zoe = test.tenant("zenith").await;
    let began = test.clock.now();
    for _ in 0..STORM {
        anna.post("/probe/panic", &json!({})).await.refused(503, "CELL_TRAPPED");
        test.pass(SignedDuration::from_secs(1));
    }
    assert_eq!(test.audit(&anna, "cell.call").await.len(), 5, "the first few are written at once");
    assert_eq!(reports(&olga).await, 5, "a report goes with its entry");
    assert_eq!(olga.get("/api/v1/cells/probe").await.expect(200)["counters"]["traps"], STORM, "all are counted");
    anna.post("/probe/recurse", &json!({})).await.refused(503, "LIMIT_EXCEEDED");
    zoe.post("/probe/panic", &json!({})).await.refused(503, "CELL_TRAPPED");
    assert_eq!(test.audit(&anna, "cell.call").await.len(), 6, "another end is another kind");
    assert_eq!(test.audit(&zoe, "cell.call").await.len(), 1, "another tenant, too");

    test.kernel.write_storms(Ending::Closed).await;
    assert_eq!(test.audit(&anna, "cell.call").await.len(), 6, "the window is still open");
    test.pass(SignedDuration::from_mins(1));
    test.kernel.write_storms(Ending::Closed).await;
    let entries = test.audit(&anna, "cell.call").await;
    assert_eq!(entries.len(), 7);
    let summary = &entries[0];
    assert_eq!((text(&summary["outcome"]), text(&summary["details"]["outcome"])), ("failure", "trapped"));
    assert_eq!(summary["details"]["count"], STORM - 5);
    let at = |seconds| json!(began.checked_add(SignedDuration::from_secs(seconds)).unwrap());
    assert_eq!((&summary["details"]["first_at"], &summary["details"]["last_at"]), (&at(5), &at(29)));
    assert_eq!((&summary["actor"]["id"], &summary["target"]["id"]), (&json!(anna.id), &json!("probe")));
    assert_eq!(test.audit(&zoe, "cell.call").await.len(), 1, "nothing was held back there");

    anna.post("/probe/panic", &json!({})).await.refused(503, "CELL_TRAPPED");
    assert_eq!((test.audit(&anna, "cell.call").await.len(), reports(&olga).await), (8, 8), "a new window begins");
}

async fn a_storm_of_denials_is_counted_when_the_kernel_stops(mut test: TestKernel) {
    let anna = test.tenant("acme").await;
    for _ in 0..STORM {
        anna.get("/api/v1/chaos/faults").await.refused(403, "FORBIDDEN");
    }
    anna.post("/api/v1/cells/probe/activate", &json!({ "version": "1.0.0" })).await.refused(403, "FORBIDDEN");
    assert_eq!(test.audit(&anna, "authz.deny").await.len(), 6, "five of the storm, one of its own kind");
    test.restart().await;
    let anna = anna.at(&test.url());
    let entries = test.audit(&anna, "authz.deny").await;
    let counts: Vec<&Value> = entries.iter().filter_map(|entry| entry["details"].get("count")).collect();
    assert_eq!((entries.len(), counts), (7, vec![&json!(STORM - 5)]));
    assert_eq!(entries[0]["details"]["missing_permissions"], json!(["kernel.chaos.inject"]));
}

async fn what_succeeds_is_written_one_by_one(test: TestKernel) {
    let anna = anna_with_a_probe(&test).await;
    for _ in 0..STORM {
        anna.post("/probe/add/n", &json!({})).await.done(200);
    }
    let entries = test.audit(&anna, "cell.call").await;
    assert_eq!(u64::try_from(entries.len()).unwrap(), STORM);
    assert!(entries.iter().all(|entry| entry["details"].get("count").is_none()));
}
