//! `GET /livez` and `GET /readyz`.

use serde_json::json;
use suite::kernel::TestKernel;

on_both_kernels!(a_full_disk_is_no_place_to_send_work_to);

async fn a_full_disk_is_no_place_to_send_work_to(mut test: TestKernel) {
    for path in ["/livez", "/readyz"] {
        assert_eq!(test.anonymous().get(path).await.expect(200), json!({ "status": "ok" }));
    }
    test.restart_with(|config| config.disk_free_min = |size| size + 1).await;
    let refused = test.anonymous().get("/readyz").await.refused(503, "STORAGE_UNAVAILABLE");
    assert_eq!(refused["failing"], "disk");
    test.anonymous().get("/livez").await.done(200);
}
