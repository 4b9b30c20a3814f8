//! Who has a place, and who waits for one: tenants in turn, within a tenant in the order of asking.
//!
//! When the queue is full, more comes than is done, and whoever waits in it would wait for all of it. So it is *short* for a
//! while: few may wait, the others are refused, the first ones of the longest lines first (longest queue drop with drop from
//! front: Suter, Lakshman, Stiliadis, Choudhury, INFOCOM 1998). A newcomer whose own line is the longest is refused himself.
//! So the flood of one tenant, or of some, costs nobody else a place in the queue.

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

impl<W> Queue<W> {
    /// Everything is free, and nobody waits. `short` bounds it after it was full.
    pub(super) fn new(calm: Bounds, short: Bounds) -> Self {
        let (lines, turns) = (HashMap::new(), VecDeque::new());
        Self { calm, short, mood: Mood::Calm, taken: 0, waiting: 0, tickets: 0, lines, turns }
    }

    pub(super) fn taken(&self) -> u32 {
        self.taken
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

    fn has_room(&self, line: &Line<W>) -> bool {
        let bounds = self.bounds();
        self.taken < bounds.places && line.taken < bounds.share
    }

    /// Whether one who comes now is refused: he would be the last of the longest line.
    pub(super) fn refuses(&self, whose: Whose) -> bool {
        let own = self.lines.get(&whose).filter(|own| !self.has_room(own)).map_or(0, |own| own.waiting.len());
        let longest = self.turns.iter().filter_map(|whose| self.lines.get(whose)).map(|line| line.waiting.len()).max();
        self.is_short() && self.waiting >= self.short.waiting && longest.is_some_and(|longest| own >= longest)
    }

    /// Takes a place if one is free. Whoever could have it does not wait, so nobody is passed over.
    pub(super) fn take(&mut self, whose: Whose) -> bool {
        self.line(whose);
        if !self.lines.get(&whose).is_some_and(|line| self.has_room(line)) {
            return false;
        }
        self.taken += 1;
        self.line(whose).taken += 1;
        true
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
        if self.waiting > self.calm.waiting {
            self.mood = Mood::Short(now + SHORT_FOR);
        }
        let mut gone = Vec::new();
        while self.waiting > self.bounds().waiting
            && let Some(waiter) = self.drop_longest()
        {
            gone.push(waiter);
        }
        (ticket, gone)
    }

    /// The holder of a ticket waits no more. Does nothing when he was given a place or had to go.
    pub(super) fn leave(&mut self, whose: Whose, ticket: u64) -> Option<W> {
        let line = &mut self.lines.get_mut(&whose)?.waiting;
        let at = line.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()?;
        let (_, waiter) = line.remove(at)?;
        self.left(whose);
        Some(waiter)
    }

    /// A place is free again: who has one now.
    pub(super) fn give_back(&mut self, whose: Whose, now: Instant) -> Vec<(Whose, W)> {
        self.taken -= 1;
        self.line(whose).taken -= 1;
        self.mood = match self.mood {
            Mood::Short(until) if now >= until => Mood::Trial(now + SHORT_FOR),
            Mood::Trial(until) if now >= until => Mood::Calm,
            mood => mood,
        };
        let mut next = Vec::new();
        for _ in 0..self.waiting {
            let Some(whose) =
                self.turns.iter().position(|whose| self.lines.get(whose).is_some_and(|line| self.has_room(line)))
            else {
                break;
            };
            next.extend(self.let_in(whose));
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

    /// Who has waited for longest in the longest line.
    fn drop_longest(&mut self) -> Option<W> {
        let length = |whose: &&Whose| self.lines.get(*whose).map_or(0, |line| line.waiting.len());
        // Of equally long ones the first, which is the last from behind.
        let longest = *self.turns.iter().rev().max_by_key(length)?;
        let (_, waiter) = self.lines.get_mut(&longest)?.waiting.pop_front()?;
        self.left(longest);
        Some(waiter)
    }

    /// One who waited has left his line.
    fn left(&mut self, whose: Whose) {
        self.waiting -= 1;
        if self.lines.get(&whose).is_none_or(|line| line.waiting.is_empty()) {
            self.turns.retain(|turn| *turn != whose);
        }
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

        /// Takes the one out of the crowd who must be the first of his line.
        fn first_of_line(&mut self, (tenant, who): (u32, u32)) {
            let first = self.waiting.iter().position(|(of, ..)| *of == tenant).unwrap();
            assert_eq!(self.waiting.remove(first).2, who, "in the order of asking");
        }

        fn ask(&mut self, number: u32, now: Instant) {
            let refused = self.queue.refuses(tenant(number));
            if self.queue.take(tenant(number)) {
                assert!(!refused);
                self.under_way.push(number);
                return;
            }
            self.asked += 1;
            let (ticket, gone) = self.queue.wait(tenant(number), (number, self.asked), now);
            self.waiting.push((number, ticket, self.asked));
            assert!(!refused || matches!(gone.as_slice(), [(of, _)] if *of == number), "one of his own goes for him");
            for who in gone {
                let longest = (0..5).map(|of| self.line(of)).max().unwrap();
                assert_eq!(self.line(who.0), longest);
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
            for number in 0..5 {
                let taken = self.under_way.iter().filter(|of| **of == number).count();
                assert!(taken <= queue.calm.share as usize);
                let could = queue.taken < bounds.places && taken < bounds.share as usize;
                let waits = self.line(number) > 0;
                assert!(!(waits && could), "nobody waits beside a place that he may have");
                assert_eq!(queue.turns.iter().filter(|turn| **turn == tenant(number)).count(), usize::from(waits));
            }
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
        }
    }

    #[test]
    fn a_full_queue_is_short_and_drops_the_first_of_the_longest_line() {
        let calm = Bounds { places: 2, share: 2, waiting: 6 };
        let mut queue = Queue::new(calm, Bounds { places: 1, share: 1, waiting: 4 });
        let now = Instant::now();
        assert!(queue.take(tenant(0)) && queue.take(tenant(0)));
        let mut gone = Vec::new();
        for (number, who) in [(1, 10), (1, 11), (2, 20), (1, 12), (1, 13), (1, 14), (1, 15), (3, 30)] {
            gone.extend(queue.wait(tenant(number), who, now).1);
        }
        assert_eq!(gone, [10, 11, 12, 13], "three for the last one of the flood, one for the third tenant");
        assert!(queue.is_short());
        assert_eq!([1, 2, 3, 4].map(|number| queue.refuses(tenant(number))), [true, false, false, false]);
        let later = now + SHORT_FOR / 2;
        assert!(queue.give_back(tenant(0), later).is_empty(), "one place, and one is under way");
        let later = now + SHORT_FOR;
        assert_eq!(queue.give_back(tenant(0), later), [(tenant(1), 14)], "it is tried with as many places");
        assert_eq!([1, 2, 3].map(|number| queue.refuses(tenant(number))), [false; 3]);
        assert_eq!(queue.give_back(tenant(1), later), [(tenant(2), 20)]);
        assert_eq!(queue.give_back(tenant(2), later + SHORT_FOR), [(tenant(3), 30), (tenant(1), 15)], "it is calm");
    }

    #[test]
    fn a_flood_costs_nobody_else_a_place() {
        let bounds = Bounds { places: 1, share: 1, waiting: 4 };
        let mut queue = Queue::new(bounds, bounds);
        let now = Instant::now();
        assert!(queue.take(tenant(0)));
        assert!(queue.wait(tenant(1), 1, now).1.is_empty());
        for who in 100..200 {
            queue.wait(tenant(2), who, now);
        }
        assert_eq!(queue.give_back(tenant(0), now), [(tenant(1), 1)]);
        assert_eq!(queue.give_back(tenant(1), now), [(tenant(2), 197)]);
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
