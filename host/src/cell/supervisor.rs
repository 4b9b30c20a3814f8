//! Takes a failing cell out of its callers' way. Failures are strikes against one version of a cell: those of one tenant cut
//! that tenant off first, and only when several tenants are struck does the version stop answering everybody. A breaker lets
//! one call through after a pause that doubles each time; a version that keeps failing for everybody is to be quarantined.
//! All of it is in memory: a restarted kernel gives every cell another chance, except where a quarantine was recorded.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::manifest::Failure;
use super::version::CellVersion;
use crate::id::TenantId;
use crate::limit;

/// Watches the calls of one cell, across its versions.
#[derive(Debug, Default)]
pub struct Supervisor {
    /// Whether there is any ward: calls of a cell without strikes look no further.
    troubled: AtomicBool,
    wards: Mutex<HashMap<Watched, Ward>>,
}

/// Whose calls of which version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Watched {
    version: String,
    calls: Calls,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Calls {
    Everybodys,
    /// None for calls without a token.
    OfTenant(Option<TenantId>),
}

/// Strikes, and what follows from them.
#[derive(Debug, Default)]
struct Ward {
    /// When, and by a call of which tenant; oldest first.
    strikes: VecDeque<(Timestamp, Option<TenantId>)>,
    open: Option<Open>,
}

/// A breaker that lets nothing through but a probe.
#[derive(Debug)]
struct Open {
    until: Timestamp,
    /// Times in a row that it opened.
    times: u32,
    probing: bool,
    /// Whose call failed last: the same tenant again says nothing new about the others.
    struck_by: Option<TenantId>,
}

/// How a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Breaker {
    /// Calls pass.
    Closed,
    /// The next call, or the one that runs, is a probe.
    HalfOpen,
    /// Calls are refused.
    Open,
}

/// A breaker refuses the call.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    /// Seconds until a probe is let through.
    pub retry_after_s: u64,
}

/// How an admitted call ended, as far as the supervisor is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The cell did its work.
    Fine,
    /// The cell failed.
    Strike,
}

/// What has to be done about a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing.
    Nothing,
    /// Its version keeps failing for everybody.
    Quarantine,
    /// The new version is worse than the one it is tried against.
    EndCanary,
}

/// An admitted call. Dropped without a verdict, it says nothing about the cell.
#[derive(Debug)]
pub struct Pass {
    supervisor: Arc<Supervisor>,
    version: Arc<CellVersion>,
    tenant: Option<TenantId>,
    trial: Option<(Side, Arc<Trial>)>,
    probes: Vec<Calls>,
}

impl Supervisor {
    /// Lets a call pass, or says when to try again.
    pub fn admit(
        self: &Arc<Self>,
        version: &Arc<CellVersion>,
        tenant: Option<TenantId>,
        trial: Option<(Side, Arc<Trial>)>,
        now: Timestamp,
    ) -> Result<Pass, Refused> {
        let probes = self.probes(version, tenant, now)?;
        Ok(Pass { supervisor: Arc::clone(self), version: Arc::clone(version), tenant, trial, probes })
    }

    /// The breakers that this call probes, all of which it has now to itself.
    fn probes(&self, version: &CellVersion, tenant: Option<TenantId>, now: Timestamp) -> Result<Vec<Calls>, Refused> {
        if !self.troubled.load(Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        let mut wards = self.lock();
        let mut probes = Vec::new();
        for calls in [Calls::OfTenant(tenant), Calls::Everybodys] {
            let watched = Watched { version: version.reference.version.clone(), calls };
            let Some(ward) = wards.get(&watched) else { continue };
            if ward.is_over(&version.manifest.failure, now) {
                wards.remove(&watched);
                continue;
            }
            match &ward.open {
                Some(open) if now < open.until => return Err(Refused { retry_after_s: seconds(open.until, now) }),
                Some(open) if open.probing => return Err(Refused { retry_after_s: 1 }),
                Some(_) => probes.push(calls),
                None => {}
            }
        }
        for calls in &probes {
            set_probing(&mut wards, version, *calls, Probing::Yes);
        }
        Ok(probes)
    }

    /// How the worst breaker of a version stands, a single tenant's included.
    #[must_use]
    pub fn breaker(&self, version: &CellVersion, now: Timestamp) -> Breaker {
        let wards = self.lock();
        let rule = &version.manifest.failure;
        let watched = wards
            .iter()
            .filter(|(watched, ward)| watched.version == version.reference.version && !ward.is_over(rule, now));
        let breakers = watched
            .filter_map(|(_, ward)| ward.open.as_ref())
            .map(|open| if now < open.until { Breaker::Open } else { Breaker::HalfOpen });
        breakers.max().unwrap_or(Breaker::Closed)
    }

    /// Forgets every strike and closes every breaker.
    pub fn clear(&self) {
        let mut wards = self.lock();
        wards.clear();
        self.troubled.store(false, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Watched, Ward>> {
        self.wards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn strike(&self, pass: &Pass, now: Timestamp) -> Judgement {
        let rule = &pass.version.manifest.failure;
        let mut wards = self.lock();
        self.troubled.store(true, Ordering::Relaxed);
        make_room(&mut wards, rule, now);
        let mut judgement = Judgement::Nothing;
        for (calls, threshold) in [
            (Calls::OfTenant(pass.tenant), rule.strikes),
            // One tenant alone never stops the cell for the others.
            (Calls::Everybodys, rule.strikes.max(2)),
        ] {
            let watched = Watched { version: pass.version.reference.version.clone(), calls };
            if calls != Calls::Everybodys && wards.len() >= limit::WARDS_MAX && !wards.contains_key(&watched) {
                continue;
            }
            let ward = wards.entry(watched).or_default();
            let probed = pass.probes.contains(&calls);
            let times = ward.strike(now, pass.tenant, probed, threshold, rule, calls);
            if calls == Calls::Everybodys && times > limit::BREAKER_OPENINGS_MAX {
                judgement = Judgement::Quarantine;
            }
        }
        judgement
    }

    fn succeeded(&self, pass: &Pass) {
        let mut wards = self.lock();
        for calls in &pass.probes {
            wards.remove(&Watched { version: pass.version.reference.version.clone(), calls: *calls });
        }
        self.troubled.store(!wards.is_empty(), Ordering::Relaxed);
    }
}

impl Ward {
    /// Counts a strike; says how often in a row the breaker has opened, when it just did.
    fn strike(
        &mut self,
        now: Timestamp,
        tenant: Option<TenantId>,
        probed: bool,
        threshold: u32,
        rule: &Failure,
        calls: Calls,
    ) -> u32 {
        if let Some(open) = &mut self.open {
            // Calls that began before it opened say nothing new.
            if !probed {
                return 0;
            }
            let others = calls != Calls::Everybodys || (tenant.is_some() && tenant != open.struck_by);
            if others {
                open.times = open.times.saturating_add(1);
                open.struck_by = tenant;
            }
            open.probing = false;
            open.until = later(now, pause_ms(rule, open.times));
            return open.times;
        }
        // Anybody can make calls without a token.
        if calls == Calls::Everybodys && tenant.is_none() {
            return 0;
        }
        let window = SignedDuration::from_secs(i64::from(rule.window_s));
        self.strikes.retain(|(at, _)| now.duration_since(*at) <= window);
        let of_tenant = self.strikes.iter().filter(|(_, other)| *other == tenant).count();
        let most = if calls == Calls::Everybodys { threshold.div_ceil(2) as usize } else { usize::MAX };
        if of_tenant < most {
            self.strikes.push_back((now, tenant));
        }
        if self.strikes.len() < threshold as usize {
            return 0;
        }
        self.strikes.clear();
        self.open = Some(Open { until: later(now, pause_ms(rule, 1)), times: 1, probing: false, struck_by: tenant });
        1
    }

    /// Whether its last strike is long past: also a breaker that nobody came to probe.
    fn is_over(&self, rule: &Failure, now: Timestamp) -> bool {
        let window = SignedDuration::from_secs(i64::from(rule.window_s));
        let last = self.open.as_ref().map(|open| open.until).or_else(|| self.strikes.back().map(|(at, _)| *at));
        last.is_none_or(|last| now.duration_since(last) > window)
    }
}

impl Pass {
    /// Says how the call ended.
    #[must_use]
    pub fn judge(mut self, verdict: Verdict, now: Timestamp) -> Judgement {
        if let Some((side, trial)) = &self.trial {
            trial.count(*side, verdict);
        }
        let judgement = match verdict {
            Verdict::Fine => {
                if !self.probes.is_empty() {
                    self.supervisor.succeeded(&self);
                }
                Judgement::Nothing
            }
            Verdict::Strike => self.supervisor.strike(&self, now),
        };
        self.probes.clear();
        match judgement {
            // A new version is taken back rather than the cell taken out of service.
            Judgement::Quarantine if matches!(self.trial, Some((Side::Canary, _))) => Judgement::EndCanary,
            judgement => judgement,
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.probes.is_empty() {
            return;
        }
        let mut wards = self.supervisor.lock();
        for calls in &self.probes {
            set_probing(&mut wards, &self.version, *calls, Probing::No);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Probing {
    Yes,
    No,
}

fn set_probing(wards: &mut HashMap<Watched, Ward>, version: &CellVersion, calls: Calls, probing: Probing) {
    let watched = Watched { version: version.reference.version.clone(), calls };
    if let Some(open) = wards.get_mut(&watched).and_then(|ward| ward.open.as_mut()) {
        open.probing = probing == Probing::Yes;
    }
}

/// Forgets wards whose strikes are long past, once there are many.
fn make_room(wards: &mut HashMap<Watched, Ward>, rule: &Failure, now: Timestamp) {
    if wards.len() >= limit::WARDS_MAX {
        wards.retain(|_, ward| !ward.is_over(rule, now));
    }
}

/// The pause doubles with each opening, within the bounds of the manifest.
fn pause_ms(rule: &Failure, times: u32) -> u64 {
    let [shortest, longest] = rule.backoff_ms;
    let factor = 1_u64.checked_shl(times.saturating_sub(1)).unwrap_or(u64::MAX);
    shortest.saturating_mul(factor).clamp(shortest, longest.max(shortest))
}

fn later(now: Timestamp, ms: u64) -> Timestamp {
    let pause = SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX));
    now.saturating_add(pause).unwrap_or(now)
}

fn seconds(until: Timestamp, now: Timestamp) -> u64 {
    let ms = u64::try_from(until.duration_since(now).as_millis()).unwrap_or(0);
    ms.div_ceil(1000).max(1)
}

/// Which of two versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The version that most tenants use.
    Active,
    /// The version that is tried.
    Canary,
}

/// Two versions side by side: calls and failures of each since the canary began.
#[derive(Debug, Default)]
pub struct Trial {
    active: [AtomicU64; 2],
    canary: [AtomicU64; 2],
}

impl Trial {
    fn count(&self, side: Side, verdict: Verdict) {
        let [calls, failures] = match side {
            Side::Active => &self.active,
            Side::Canary => &self.canary,
        };
        calls.fetch_add(1, Ordering::Relaxed);
        // A request that fails on both versions says nothing about the new one: see `failed_alone`.
        if verdict == Verdict::Strike && side == Side::Active {
            failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a call that the canary failed at and the active version then did.
    #[must_use]
    pub fn failed_alone(&self) -> Judgement {
        let [_, failures] = &self.canary;
        failures.fetch_add(1, Ordering::Relaxed);
        if self.is_worse() { Judgement::EndCanary } else { Judgement::Nothing }
    }

    /// Whether the canary fails clearly more often: at least [`limit::CANARY_FAILURES_MIN`] times, and by more than five
    /// calls of a hundred.
    fn is_worse(&self) -> bool {
        let [[calls, failures], [canary_calls, canary_failures]] = self.counts();
        let (calls, canary_calls) = (u128::from(calls.max(1)), u128::from(canary_calls.max(1)));
        canary_failures >= limit::CANARY_FAILURES_MIN
            && u128::from(canary_failures) * calls * 100
                > u128::from(failures) * canary_calls * 100 + calls * canary_calls * 5
    }

    /// Calls and failures, of the active version and of the canary.
    #[must_use]
    pub fn counts(&self) -> [[u64; 2]; 2] {
        [&self.active, &self.canary].map(|side| side.each_ref().map(|count| count.load(Ordering::Relaxed)))
    }
}
