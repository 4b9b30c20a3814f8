//! Logs and metrics of the process. Metrics have fixed label sets: never a tenant or an id.

use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

static METRICS: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Upper bounds of the duration histograms, in seconds.
const SECONDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];
/// Upper bounds of the batch sizes.
const SIZES: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Starts collecting metrics; later calls do nothing.
pub fn start_metrics() {
    METRICS.get_or_init(|| {
        let builder = PrometheusBuilder::new().set_buckets(&SECONDS).and_then(|builder| {
            builder
                .set_buckets_for_metric(metrics_exporter_prometheus::Matcher::Full("commit_batch_size".into()), &SIZES)
        });
        let handle = builder.and_then(PrometheusBuilder::install_recorder);
        handle.inspect(keep_up).map_err(|cause| tracing::error!(%cause, "no metrics")).ok()
    });
}

/// Folds samples into buckets also while nobody asks for them, or they would pile up.
fn keep_up(handle: &PrometheusHandle) {
    let handle = handle.clone();
    let thread = std::thread::Builder::new().name("metrics".into()).spawn(move || {
        loop {
            std::thread::sleep(Duration::from_secs(5));
            handle.run_upkeep();
        }
    });
    if let Err(cause) = thread {
        tracing::error!(%cause, "metrics will grow without a reader");
    }
}

/// All metrics in the Prometheus text format.
#[must_use]
pub fn metrics_text() -> String {
    METRICS.get().and_then(Option::as_ref).map(PrometheusHandle::render).unwrap_or_default()
}

/// Starts logging to standard error, filtered by `RUST_LOG`; `info` when it is not set.
pub fn start_logs(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // A line that cannot be written, on a full disk or into a pipe that nobody reads any more, is lost. Reported, it would be
    // by `eprintln!`, which panics, and take whoever logged with it: the committer, for one.
    let logs =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    let started = match format {
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
        LogFormat::Pretty => logs.with_target(false).try_init(),
    };
    if let Err(cause) = started {
        tracing::debug!(%cause, "logging was started before");
    }
}
