//! Real processes side by side: two kernels that write to one server while somebody follows the events, and `aibos verify`
//! and `aibos backup` beside kernels that serve.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use reqwest::Client;
use serde_json::{Value, json};
use suite::database::{Backend, Database};
use tokio::task::JoinSet;

use super::campaign::{directory, execute};
use super::data::Data;
use super::load::Merchant;
use super::process::{Kernel, Site};
use super::random::Random;

/// Clients that write through each kernel, and what each of them makes.
const CLIENTS: u64 = 4;
const PAYMENTS: u64 = 25;

/// A seeded database with so many kernels, and somebody who pays.
async fn serve(place: PathBuf, database: &str, kernels: u64) -> (Vec<(Site, Kernel)>, Arc<Merchant>) {
    let mut random = Random::new(kernels + 60);
    let first = Site::prepare(place, database.to_owned(), &mut random).await;
    let merchant = Merchant::new("", "demo", "owner@demo.example", &first.password("demo"));
    let mut sites = vec![first];
    for _ in 1..kernels {
        sites.push(sites[0].beside(&mut random));
    }
    let mut running = Vec::new();
    for site in sites {
        let (kernel, _) = site.start().await;
        running.push((site, kernel));
    }
    merchant.sign_in(&Client::new(), &running[0].0.url()).await;
    (running, Arc::new(merchant))
}

async fn pay(http: &Client, url: &str, merchant: &Merchant, key: &str) {
    let body = json!({ "amount": 500, "currency": "EUR", "source": "tok_ok", "destination": "shop" });
    let request = http.post(format!("{url}/payments/process")).bearer_auth(merchant.token());
    let reply = request.header("idempotency-key", key).json(&body).send().await.expect("the kernel answers");
    assert_eq!(reply.status(), 201, "{key} at {url}");
}

/// Follows the log through all kernels in turn until it stays at its end; answers the ids in the order in which they came.
async fn follow(http: Client, urls: Vec<String>, merchant: Arc<Merchant>, done: Arc<AtomicBool>) -> Vec<String> {
    let mut ids = Vec::new();
    for url in urls.iter().cycle() {
        let ended = done.load(Ordering::SeqCst);
        let path = format!("{url}/api/v1/events?limit=200&after={}", ids.len());
        let page = http.get(path).bearer_auth(merchant.token()).send().await.expect("the kernel answers");
        let page: Value = page.json().await.expect("JSON");
        let events = page["data"].as_array().unwrap_or_else(|| panic!("no page: {page}"));
        for event in events {
            assert_eq!(
                event["sequence"].as_u64(),
                Some(ids.len() as u64 + 1),
                "a gap, or a late commit was passed over"
            );
            ids.push(event["id"].as_str().expect("an id").to_owned());
        }
        if ended && events.is_empty() {
            break;
        }
    }
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_misses_nothing_of_two_kernels() {
    let database = Database::fresh(Backend::Postgres).await;
    let (running, merchant) = serve(directory(61), database.url(), 2).await;
    let urls: Vec<String> = running.iter().map(|(site, _)| site.url()).collect();
    let (http, done) = (Client::new(), Arc::new(AtomicBool::new(false)));
    let mut readers = JoinSet::new();
    for order in [urls.clone(), urls.iter().rev().cloned().collect()] {
        readers.spawn(follow(http.clone(), order, Arc::clone(&merchant), Arc::clone(&done)));
    }
    let mut writers = JoinSet::new();
    let written = Arc::new(AtomicU64::new(0));
    for client in 0..CLIENTS * 2 {
        let url = urls[usize::try_from(client % 2).unwrap()].clone();
        let (http, merchant, written) = (http.clone(), Arc::clone(&merchant), Arc::clone(&written));
        writers.spawn(async move {
            for number in 0..PAYMENTS {
                pay(&http, &url, &merchant, &format!("beside-{client}-{number}")).await;
                written.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    // While both write: the real command, on the server that they share.
    let (code, said) = running[0].0.answer(&["verify", "--json"]).await;
    assert_eq!(code, Some(0), "{said}");
    while let Some(ended) = writers.join_next().await {
        ended.expect("a writer ends well");
    }
    done.store(true, Ordering::SeqCst);
    let payments = written.load(Ordering::SeqCst);
    let data = Data::read(database.url()).await.expect("the database can be read");
    let tenant = data.events.iter().find(|event| event.kind == "payment.succeeded").expect("a payment").tenant;
    let log: Vec<_> = data.events.iter().filter(|event| event.tenant == tenant).collect();
    assert_eq!(log.len() as u64, 2 * payments);
    assert!(log.is_sorted_by_key(|event| (event.commit, event.sequence)), "sequences follow commits");
    while let Some(followed) = readers.join_next().await {
        let ids = followed.expect("a reader ends well");
        assert!(ids.iter().eq(log.iter().map(|event| &event.id)), "what was followed is the log");
    }
    end(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_and_backup_work_beside_a_kernel() {
    let place = directory(62);
    let url = format!("sqlite://{}", place.join("data/kernel.db").display());
    let (running, merchant) = serve(place, &url, 1).await;
    let site = &running[0].0;
    let http = Client::new();
    for number in 0..20 {
        pay(&http, &site.url(), &merchant, &format!("alone-{number}")).await;
    }
    let (code, said) = site.answer(&["verify"]).await;
    assert!(code == Some(0) && said.contains("20 payments"), "{code:?}: {said}");
    let copy = site.directory.join("copy.db").display().to_string();
    let (code, said) = site.answer(&["backup", &copy]).await;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = site.answer(&["backup", &copy]).await;
    assert_eq!(code, Some(1), "{said}");
    execute(&url, "update state set value = x'37' where space = 'ledger' and key = 'total/EUR/debits/low'").await;
    let (code, said) = site.answer(&["verify"]).await;
    assert!(code == Some(1) && said.contains("trial balance in EUR"), "{code:?}: {said}");
    let (code, _) = site.answer(&["verify", "--unknown"]).await;
    assert_eq!(code, Some(2));
    end(running).await;
}

async fn end(running: Vec<(Site, Kernel)>) {
    let mut place = PathBuf::new();
    for (site, kernel) in running {
        kernel.kill().await;
        place = site.directory;
    }
    fs::remove_dir_all(place).expect("the directory that they share can be removed");
}
