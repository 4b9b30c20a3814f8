//! Faults from outside: the real `aibos` under load is killed, its database crashes, stands still, loses connections, runs
//! full. After each fault an offline checker holds what the clients wrote down against what the database holds.
//!
//! Here is the short form that every run of the tests includes. `tests/fault/run` is the long one.

mod beside;
mod campaign;
mod checker;
mod cluster;
mod data;
mod journal;
mod load;
mod operation;
mod process;
mod random;

use std::time::{Duration, Instant};

use suite::database::Backend;

use campaign::{Campaign, Disk, Fault, Tally};
use random::Random;

/// Clients of the short form.
const FEW: u64 = 8;
/// Clients of the long form.
const MANY: u64 = 32;
/// After so many faults the long form begins anew on an empty database, so that young books are hit, too.
const FAULTS_PER_DATABASE: u64 = 25;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kernel_on_a_file_loses_nothing() {
    let mut campaign = Campaign::begin(None, FEW, 1).await;
    for fault in [Fault::Kill, Fault::Kill, Fault::Terminate, Fault::Kill] {
        campaign.suffer(fault, None).await;
    }
    campaign.sweep_file().await;
    // And had it lost something, that would have been found.
    let findings = campaign.lose_commits().await;
    for sentence in ["is not there", "the head went back", "the audit log does not begin with what it was"] {
        assert!(findings.iter().any(|finding| finding.contains(sentence)), "{sentence:?} is not in {findings:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kernel_on_a_full_disk_refuses_and_recovers() {
    fill_disk(FEW, 2).await;
}

async fn fill_disk(clients: u64, seed: u64) -> Tally {
    let directory = campaign::directory(seed);
    let disk = Disk::prepare(&directory);
    let mut campaign = Campaign::begin_in(directory, None, clients, seed).await;
    campaign.fill_disk(&disk).await;
    campaign.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kernel_on_a_server_loses_nothing() {
    let cluster = campaign::cluster(Backend::Postgres, 3);
    let mut campaign = Campaign::begin(cluster.as_ref(), FEW, 3).await;
    for fault in [Fault::Kill, Fault::CutCommits, Fault::Kill, Fault::ServerCrash, Fault::ServerPause] {
        campaign.suffer(fault, cluster.as_ref()).await;
    }
    campaign.sweep_server(7).await;
    campaign.end().await;
}

/// The long form: `tests/fault/run` sets what it reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes; tests/fault/run"]
async fn long() {
    let (kills, seed) = (number("AIBOS_FAULT_KILLS"), number("AIBOS_FAULT_SEED"));
    let backend = match setting("AIBOS_FAULT_BACKEND").as_str() {
        "sqlite" => Backend::Sqlite,
        "postgres" => Backend::Postgres,
        other => panic!("AIBOS_FAULT_BACKEND={other}: must be sqlite or postgres"),
    };
    let begun = Instant::now();
    let cluster = campaign::cluster(backend, seed);
    let mut random = Random::new(seed);
    let (mut killed, mut sum) = (0, Tally::default());
    while killed < kills {
        let mut campaign = Campaign::begin(cluster.as_ref(), MANY, random.next()).await;
        let mut other = 0;
        for number in 0..FAULTS_PER_DATABASE.min(kills - killed) {
            campaign.suffer(Fault::Kill, cluster.as_ref()).await;
            killed += 1;
            // Among the kills, one of the other faults each fifth time.
            if number % 5 == 4 {
                campaign.suffer(fault(backend, other), cluster.as_ref()).await;
                other += 1;
            }
        }
        match backend {
            Backend::Sqlite => campaign.sweep_file().await,
            Backend::Postgres => _ = campaign.sweep_server(1).await,
        }
        add(&mut sum, &campaign.end().await);
        if backend == Backend::Sqlite {
            add(&mut sum, &fill_disk(MANY, random.next()).await);
        }
        report(backend, killed, &sum, begun.elapsed());
    }
}

fn fault(backend: Backend, number: usize) -> Fault {
    match backend {
        Backend::Sqlite => Fault::Terminate,
        Backend::Postgres => {
            [Fault::CutCommits, Fault::ServerCrash, Fault::Terminate, Fault::ServerPause, Fault::CutCommits][number % 5]
        }
    }
}

fn add(sum: &mut Tally, some: &Tally) {
    sum.faults += some.faults;
    sum.sent += some.sent;
    sum.acknowledged += some.acknowledged;
    sum.lost += some.lost;
    sum.slowest_start = sum.slowest_start.max(some.slowest_start);
}

fn report(backend: Backend, killed: u64, sum: &Tally, took: Duration) {
    let Tally { faults, sent, acknowledged, lost, slowest_start } = sum;
    println!(
        "{backend:?}: {killed} kills among {faults} faults, {sent} requests, {acknowledged} acknowledged, {lost} without a \
         reply, slowest start {} ms, 0 violations, {} s",
        slowest_start.as_millis(),
        took.as_secs()
    );
}

fn number(name: &str) -> u64 {
    setting(name).parse().unwrap_or_else(|_| panic!("{name} must be a number"))
}

fn setting(name: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "a setting of the tests, not of the kernel")]
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: start tests/fault/run"))
}
