//! Who has a place, and who waits for one: tenants in turn, within a tenant in the order of asking.
//!
//! When the queue is full, more comes than is done, and whoever waits in it would wait for all of it. So it is *short* for a
//! while: few may wait, the others are refused, the first ones of the longest lines first (longest queue drop with drop from
//! front: Suter, Lakshman, Stiliadis, Choudhury, INFOCOM 1998). Who would make
//! the longest line longer is refused before he joins it, where that is asked. So the flood of one tenant, or of some, costs
//! nobody else a place in the queue.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::id::TenantId;

/// How long a queue is short after it was full, and for how long it is tried after that: a burst may be over by then, and a
/// flood fills it anew within milliseconds.
const SHORT_FOR: Duration = Duration::from_millis(250);

/// Tenants that are remembered before those without calls are forgotten.
const TENANTS_KEPT: usize = 1024;

/// Whose call it is; none for that of somebody who is not signed in.
pub(super) type Whose = Option<TenantId>;

/// How many places there are, and how many may wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) places: u32,
    /// Places that one tenant may have.
    pub(super) share: u32,
    pub(super) waiting: u32,
}

/// Places and those who wait for them. `W` wakes who waits.
#[derive(Debug)]
pub(super) struct Queue<W> {
    calm: Bounds,
    short: Bounds,
    mood: Mood,
    taken: u32,
    waiting: u32,
    tickets: u64,
    lines: HashMap<Whose, Line<W>>,
    /// Each tenant of whom somebody waits, once; the first one's turn is next.
    turns: VecDeque<Whose>,
}

/// How many may come.
#[derive(Clone, Copy, Debug)]
enum Mood {
    Calm,
    /// It was full. So few may wait, and so few have a place, until then.
    Short(Instant),
    /// As many may wait again; if they are not too many until then, it is calm.
    Trial(Instant),
}

/// The calls of one tenant.
#[derive(Debug)]
struct Line<W> {
    taken: u32,
    /// In the order of their tickets.
    waiting: VecDeque<(u64, W)>,
}

impl<W> Line<W> {
    /// Who waits, and then who is under way.
    fn length(&self) -> (usize, u32) {
        (self.waiting.len(), self.taken)
    }
}

impl<W> Queue<W> {
    /// Everything is free, and nobody waits. `short` bounds it after it was full.
    pub(super) fn new(calm: Bounds, short: Bounds) -> Self {
        let (lines, turns) = (HashMap::new(), VecDeque::new());
        Self { calm, short, mood: Mood::Calm, taken: 0, waiting: 0, tickets: 0, lines, turns }
    }

    pub(super) fn taken(&self) -> u32 {
        self.taken
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> u32 {
        self.waiting
    }

    pub(super) fn is_short(&self) -> bool {
        matches!(self.mood, Mood::Short(_))
    }

    fn bounds(&self) -> Bounds {
        match self.mood {
            Mood::Calm => self.calm,
            Mood::Short(_) => self.short,
            Mood::Trial(_) => Bounds { waiting: self.calm.waiting, ..self.short },
        }
    }

    /// Whether a place is free. What a tenant holds beyond his share, because he had it when there were more places, is not
    /// counted against the others.
    fn has_places(&self) -> bool {
        let Bounds { places, share, .. } = self.bounds();
        let beyond = || self.lines.values().map(|line| line.taken.saturating_sub(share)).sum::<u32>();
        self.taken < places || self.taken < self.calm.places && self.taken - beyond() < places
    }

    fn has_share(&self, whose: Whose) -> bool {
        self.lines.get(&whose).is_none_or(|line| line.taken < self.bounds().share)
    }

    /// Whether one who comes now is refused: his line would be the longest.
    pub(super) fn refuses(&mut self, whose: Whose, now: Instant) -> bool {
        self.age(now);
        if !self.is_short() || self.waiting < self.short.waiting || self.has_share(whose) && self.has_places() {
            return false;
        }
        let own = self.lines.get(&whose).map_or((1, 0), |line| (line.waiting.len() + 1, line.taken));
        let of = |turn: &Whose| self.lines.get(turn).map(Line::length);
        self.turns.iter().filter(|turn| **turn != whose).filter_map(of).all(|other| other < own)
    }

    /// Lets more wait when it was short for long enough. There are no more places: who waits would have them first.
    fn age(&mut self, now: Instant) {
        if let Mood::Short(until) = self.mood
            && now >= until
        {
            self.mood = Mood::Trial(now + SHORT_FOR);
        }
    }

    /// Takes a place if one is free. Whoever could have it does not wait, so nobody is passed over.
    pub(super) fn take(&mut self, whose: Whose) -> bool {
        let is_free = self.has_share(whose) && self.has_places();
        if is_free {
            self.taken += 1;
            self.line(whose).taken += 1;
        }
        is_free
    }

    /// Waits, after [`Self::take`] took nothing: the ticket, and who has to go for it.
    pub(super) fn wait(&mut self, whose: Whose, waiter: W, now: Instant) -> (u64, Vec<W>) {
        self.tickets += 1;
        let ticket = self.tickets;
        let line = self.line(whose);
        line.waiting.push_back((ticket, waiter));
        if line.waiting.len() == 1 {
            self.turns.push_back(whose);
        }
        self.waiting += 1;
        self.age(now);
        if self.waiting > self.calm.waiting {
            self.mood = Mood::Short(now + SHORT_FOR);
        }
        (ticket, self.shorten())
    }

    /// The holder of a ticket waits no more. Does nothing when he was given a place or had to go.
    pub(super) fn leave(&mut self, whose: Whose, ticket: u64) -> Option<W> {
        let line = &mut self.lines.get_mut(&whose)?.waiting;
        let at = line.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()?;
        let (_, waiter) = line.remove(at)?;
        self.count();
        Some(waiter)
    }

    /// A place is free again: who has one now.
    pub(super) fn give_back(&mut self, whose: Whose, now: Instant) -> Vec<(Whose, W)> {
        self.taken -= 1;
        self.line(whose).taken -= 1;
        self.age(now);
        let is_over = matches!(self.mood, Mood::Trial(until) if now >= until);
        if is_over || self.taken == 0 && self.waiting == 0 {
            self.mood = Mood::Calm;
        }
        let mut next = Vec::new();
        while self.waiting > 0
            && self.has_places()
            && let Some(turn) = self.turns.iter().position(|whose| self.has_share(*whose))
        {
            next.extend(self.let_in(turn));
        }
        next
    }

    /// Gives a place to the first one of the line with that turn.
    fn let_in(&mut self, turn: usize) -> Option<(Whose, W)> {
        let whose = self.turns.remove(turn)?;
        let line = self.lines.get_mut(&whose)?;
        let (_, waiter) = line.waiting.pop_front()?;
        line.taken += 1;
        self.taken += 1;
        self.waiting -= 1;
        if !line.waiting.is_empty() {
            self.turns.push_back(whose);
        }
        Some((whose, waiter))
    }

    /// Drops the first ones of the longest lines, until no more wait than may.
    fn shorten(&mut self) -> Vec<W> {
        let mut gone = Vec::new();
        while self.waiting > self.bounds().waiting {
            let length = |whose: &Whose| self.lines.get(whose).map_or((0, 0), Line::length);
            let longest = self.turns.iter().map(|whose| length(whose).0).max().unwrap_or(0);
            let mut longest: Vec<Whose> =
                self.turns.iter().copied().filter(|whose| length(whose).0 == longest).collect();
            // Of equally long ones those with more under way; else who is the first in turn.
            longest.sort_by_key(|whose| Reverse(length(whose).1));
            longest.truncate(self.waiting.saturating_sub(self.bounds().waiting) as usize);
            let firsts = longest.iter().filter_map(|whose| self.lines.get_mut(whose)?.waiting.pop_front());
            gone.extend(firsts.map(|(_, waiter)| waiter));
            self.count();
        }
        gone
    }

    /// Some of those who waited have left their lines.
    fn count(&mut self) {
        let lines = &self.lines;
        let waiting = |whose: &Whose| lines.get(whose).map_or(0, |line| line.waiting.len());
        self.turns.retain(|whose| waiting(whose) > 0);
        self.waiting = self.turns.iter().map(|whose| u32::try_from(waiting(whose)).unwrap_or(u32::MAX)).sum();
    }

    fn line(&mut self, whose: Whose) -> &mut Line<W> {
        if self.lines.len() >= TENANTS_KEPT && !self.lines.contains_key(&whose) {
            self.lines.retain(|_, line| line.taken > 0 || !line.waiting.is_empty());
        }
        self.lines.entry(whose).or_insert_with(|| Line { taken: 0, waiting: VecDeque::new() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    /// Tenants by number; the first is nobody who is signed in.
    fn tenant(number: u32) -> Whose {
        (number > 0).then(|| TenantId(Uuid::from_u128(number.into())))
    }

    /// What may happen to a queue: a tenant asks, gives back, or somebody gives up; each a while after the one before.
    #[derive(Clone, Debug)]
    enum Step {
        Ask(u32),
        GiveBack(usize),
        GiveUp(usize),
    }

    fn step() -> impl Strategy<Value = (Duration, Step)> {
        let step = prop_oneof![
            3 => (0..5_u32).prop_map(Step::Ask),
            2 => any::<usize>().prop_map(Step::GiveBack),
            1 => any::<usize>().prop_map(Step::GiveUp),
        ];
        ((0..100_u64).prop_map(Duration::from_millis), step)
    }

    /// Who is under way or waits: his tenant, his ticket, and a number of his own.
    #[derive(Debug)]
    struct Crowd {
        queue: Queue<(u32, u32)>,
        under_way: Vec<u32>,
        waiting: Vec<(u32, u64, u32)>,
        asked: u32,
    }

    impl Crowd {
        fn line(&self, tenant: u32) -> usize {
            self.waiting.iter().filter(|(of, ..)| *of == tenant).count()
        }

        fn taken(&self, tenant: u32) -> u32 {
            u32::try_from(self.under_way.iter().filter(|of| **of == tenant).count()).unwrap()
        }

        fn length(&self, tenant: u32) -> (usize, u32) {
            (self.line(tenant), self.taken(tenant))
        }

        /// Takes the one out of the crowd who must be the first of his line.
        fn first_of_line(&mut self, (tenant, who): (u32, u32)) {
            let first = self.waiting.iter().position(|(of, ..)| *of == tenant).unwrap();
            assert_eq!(self.waiting.remove(first).2, who, "in the order of asking");
        }

        fn ask(&mut self, number: u32, now: Instant) {
            let refused = self.queue.refuses(tenant(number), now);
            if self.queue.take(tenant(number)) {
                assert!(!refused);
                self.under_way.push(number);
                return;
            }
            self.asked += 1;
            let (ticket, gone) = self.queue.wait(tenant(number), (number, self.asked), now);
            self.waiting.push((number, ticket, self.asked));
            let longest = (0..5).map(|of| self.length(of)).max().unwrap();
            assert!(!refused || self.length(number) == longest, "his own is the longest");
            for who in gone {
                let longest = (0..5).map(|of| self.length(of)).max().unwrap();
                assert_eq!(self.length(who.0), longest, "who goes is of the longest line");
                self.first_of_line(who);
            }
            assert!(self.waiting.len() <= self.queue.bounds().waiting as usize);
        }

        fn step(&mut self, step: &Step, now: Instant) {
            match *step {
                Step::Ask(number) => self.ask(number, now),
                Step::GiveBack(which) if !self.under_way.is_empty() => {
                    let number = self.under_way.swap_remove(which % self.under_way.len());
                    for (whose, next) in self.queue.give_back(tenant(number), now) {
                        assert_eq!(whose, tenant(next.0));
                        self.first_of_line(next);
                        self.under_way.push(next.0);
                    }
                }
                Step::GiveUp(which) if !self.waiting.is_empty() => {
                    let (number, ticket, who) = self.waiting.remove(which % self.waiting.len());
                    assert_eq!(self.queue.leave(tenant(number), ticket), Some((number, who)));
                    assert_eq!(self.queue.leave(tenant(number), ticket), None);
                }
                Step::GiveBack(_) | Step::GiveUp(_) => {}
            }
        }

        fn check(&self) {
            let (queue, bounds) = (&self.queue, self.queue.bounds());
            assert_eq!(queue.taken() as usize, self.under_way.len());
            assert_eq!(queue.waiting as usize, self.waiting.len());
            assert!(queue.taken <= queue.calm.places && queue.waiting <= queue.calm.waiting);
            let counted: u32 = (0..5).map(|number| self.taken(number).min(bounds.share)).sum();
            for number in 0..5 {
                assert!(self.taken(number) <= queue.calm.share);
                // What others have beyond their share takes nothing from him.
                let could =
                    counted < bounds.places && self.taken(number) < bounds.share && queue.taken < queue.calm.places;
                let waits = self.line(number) > 0;
                assert!(!(waits && could), "nobody waits beside a place that he may have");
                assert_eq!(queue.turns.iter().filter(|turn| **turn == tenant(number)).count(), usize::from(waits));
            }
        }

        /// Everybody goes; nothing of what was may be left.
        fn end(&mut self, now: Instant) {
            while !self.under_way.is_empty() {
                self.step(&Step::GiveBack(0), now);
            }
            self.check();
            assert!(matches!(self.queue.mood, Mood::Calm), "it is calm when nobody is there");
        }
    }

    proptest! {
        #[test]
        fn places_are_kept_and_lines_are_fair(
            steps in prop::collection::vec(step(), 0..200),
            (places, share, waiting) in (1..6_u32, 1..5_u32, 1..8_u32),
            (fewer, less) in (0..5_u32, 0..7_u32),
        ) {
            let calm = Bounds { places, share: share.min(places), waiting };
            let places = places.saturating_sub(fewer).max(1);
            let short = Bounds { places, share: calm.share.min(places), waiting: waiting.saturating_sub(less).max(1) };
            let queue = Queue::new(calm, short);
            let mut crowd = Crowd { queue, under_way: Vec::new(), waiting: Vec::new(), asked: 0 };
            let mut now = Instant::now();
            for (pause, step) in &steps {
                now += *pause;
                crowd.step(step, now);
                crowd.check();
            }
            crowd.end(now);
        }
    }

    #[test]
    fn a_full_queue_is_short_and_drops_the_first_of_the_longest_line() {
        let calm = Bounds { places: 2, share: 2, waiting: 6 };
        let mut queue = Queue::new(calm, Bounds { places: 1, share: 1, waiting: 4 });
        let now = Instant::now();
        assert!(queue.take(tenant(0)) && queue.take(tenant(4)));
        let mut gone = Vec::new();
        for (number, who) in [(1, 10), (1, 11), (2, 20), (1, 12), (1, 13), (1, 14), (1, 15), (3, 30)] {
            gone.extend(queue.wait(tenant(number), who, now).1);
        }
        assert_eq!(gone, [10, 11, 12, 13], "three for the last one of the flood, one for the third tenant");
        assert!(queue.is_short());
        let refused = |queue: &mut Queue<_>, now| [1, 2, 3, 5].map(|number| queue.refuses(tenant(number), now));
        assert_eq!(refused(&mut queue, now), [true, false, false, false]);
        assert!(queue.give_back(tenant(0), now + SHORT_FOR / 2).is_empty(), "one place, and one is under way");
        let later = now + SHORT_FOR;
        assert_eq!(refused(&mut queue, later), [false; 4], "it is tried, although nobody gave back");
        assert_eq!(queue.give_back(tenant(4), later), [(tenant(1), 14)], "with as many places");
        assert_eq!(queue.give_back(tenant(1), later), [(tenant(2), 20)]);
        assert_eq!(queue.give_back(tenant(2), later + SHORT_FOR), [(tenant(3), 30), (tenant(1), 15)], "it is calm");
    }

    #[test]
    fn what_a_flood_holds_beyond_its_share_is_not_the_others() {
        let calm = Bounds { places: 8, share: 6, waiting: 4 };
        let mut queue = Queue::new(calm, Bounds { places: 4, share: 3, waiting: 2 });
        let now = Instant::now();
        for who in 0..11 {
            if !queue.take(tenant(1)) {
                queue.wait(tenant(1), who, now);
            }
        }
        assert!(queue.is_short() && queue.taken() == 6);
        assert!(!queue.refuses(tenant(2), now) && queue.take(tenant(2)), "three of four are the flood's");
        assert!(!queue.take(tenant(2)));
    }

    #[test]
    fn floods_cost_nobody_else_a_place() {
        let bounds = Bounds { places: 4, share: 1, waiting: 5 };
        let mut queue = Queue::new(bounds, bounds);
        let now = Instant::now();
        assert!((1..5).all(|flood| queue.take(tenant(flood))));
        for round in 0..20 {
            for flood in 1..5 {
                queue.wait(tenant(flood), (flood, round), now);
            }
            assert!(round > 0 || queue.wait(tenant(5), (5, 0), now).1.is_empty());
            let calm = queue.wait(tenant(6), (6, round), now);
            assert!(calm.1.iter().all(|(whose, _)| *whose < 5), "{:?}", calm.1);
            assert_eq!(queue.leave(tenant(6), calm.0), Some((6, round)));
        }
        assert!(queue.lines[&tenant(5)].waiting.len() == 1);
    }

    #[test]
    fn tenants_without_calls_are_forgotten() {
        let bounds = Bounds { places: 2, share: 2, waiting: 1 };
        let mut queue: Queue<()> = Queue::new(bounds, bounds);
        assert!(queue.take(None));
        for number in 0..3 * TENANTS_KEPT as u128 {
            let whose = Some(TenantId(Uuid::from_u128(number)));
            assert!(queue.take(whose));
            assert!(queue.give_back(whose, Instant::now()).is_empty());
            assert!(queue.lines.len() <= TENANTS_KEPT);
        }
        assert!(queue.lines.contains_key(&None));
    }
}
