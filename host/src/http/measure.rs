//! The metrics of requests. Each thread keeps the handles that it has used: in the process's table, which all threads share,
//! a look-up makes its key anew and takes a lock.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use http::{Method, StatusCode};
use metrics::{Counter, Histogram, Label, SharedString};

/// The labels of a request; as many as there are in the table, which forgets none either.
#[derive(PartialEq, Eq, Hash)]
struct Labels {
    method: &'static str,
    /// The template of its route.
    route: SharedString,
    status: StatusCode,
}

struct Handles {
    duration: Histogram,
    total: Counter,
}

thread_local! {
    static USED: RefCell<HashMap<Labels, Handles>> = RefCell::default();
}

/// Counts a request that was answered.
pub(super) fn answered(method: &Method, route: SharedString, status: StatusCode, took: Duration) {
    let labels = Labels { method: known(method), route, status };
    USED.with_borrow_mut(|used| {
        let handles = used.entry(labels).or_insert_with_key(Handles::new);
        handles.duration.record(took.as_secs_f64());
        handles.total.increment(1);
    });
}

impl Handles {
    fn new(labels: &Labels) -> Self {
        let labels = vec![
            Label::from_static_parts("method", labels.method),
            Label::new("route", labels.route.clone()),
            Label::new("status", labels.status.as_str().to_owned()),
        ];
        let duration = metrics::histogram!("api_request_duration_seconds", labels.clone());
        Self { duration, total: metrics::counter!("api_request_total", labels) }
    }
}

/// The method as a label: a client may send any word.
fn known(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}
