// SPDX-License-Identifier: GPL-2.0

//! `reflinkfs_map`: clones of a map by sparse keys, each against a model of its own.

use crate::{
    rounds,
    store::{
        accesses,
        Map,
        MapNodes,
        NewItem,
        Prefix, //
    },
    support::counted::{
        Counted,
        Live,
        Sorted, //
    },
    support::diverge::{
        self,
        Side as _, //
    },
    support::random::Random, //
};
use core::ops::ControlFlow;
use kernel::{
    macros::kunit_tests,
    prelude::*, //
};

/// Keys that begin alike differ from this one in few bits.
const PREFIX: u64 = 0x1234_5678_9abc_def0;

/// Returns a key: a small one, a large one, one that begins as many others do, or any. There are
/// few enough of each kind that they come again.
fn key(random: &mut Random) -> u64 {
    match random.below(6) {
        0 => random.below(24) as u64,
        1 => u64::MAX - random.below(24) as u64,
        2 => PREFIX ^ random.below(16) as u64,
        3 => PREFIX ^ 1 << random.below(64),
        4 => (random.below(8) as u64) << 61 | random.below(2) as u64,
        _ => (random.below(40) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
    }
}

/// Sets a value, with the nodes that this takes. Returns whether there was one.
pub(super) fn insert(
    map: &mut Map<Counted, ()>,
    key: u64,
    item: NewItem<Counted, ()>,
) -> Result<bool> {
    let mut nodes = MapNodes::new();
    while !nodes.has(map.nodes_to_insert(key)) {
        nodes.fill(GFP_KERNEL, || Ok(()))?;
    }
    Ok(map.insert(key, item, &mut nodes)?.is_some())
}

/// Removes a value, with the nodes that this takes. Returns whether there was one.
pub(super) fn remove(map: &mut Map<Counted, ()>, key: u64) -> Result<bool> {
    let mut nodes = MapNodes::new();
    while !nodes.has(map.nodes_to_remove(key)) {
        nodes.fill(GFP_KERNEL, || Ok(()))?;
    }
    Ok(map.remove(key, &mut nodes)?.is_some())
}

/// A map, and what it should hold.
struct Side {
    map: Map<Counted, ()>,
    model: Sorted,
}

/// Returns the first key that is not below `from`, and its value.
fn first_from(map: &Map<Counted, ()>, from: u64) -> Option<(u64, u64)> {
    let mut first = None;
    map.for_each_from(from, |item| {
        first = Some((item.key(), item.value().get()));
        ControlFlow::Break(())
    });
    first
}

impl diverge::Side for Side {
    fn new() -> Self {
        Self {
            map: Map::new(),
            model: Sorted::new(),
        }
    }

    fn try_clone(&self) -> Result<Self> {
        Ok(Self {
            map: self.map.clone(),
            model: self.model.try_clone()?,
        })
    }

    fn key(random: &mut Random) -> u64 {
        key(random)
    }

    fn insert(&mut self, live: &Live, key: u64, value: u64) -> Result {
        let item = NewItem::new(live.value(value), GFP_KERNEL)?;
        check_eq!(item.value().map(Counted::get), Some(value));
        let was_there = insert(&mut self.map, key, item)?;
        check_eq!(was_there, self.model.insert(key, value)?.is_some());
        Ok(())
    }

    fn remove(&mut self, key: u64) -> Result {
        let was_there = remove(&mut self.map, key)?;
        check_eq!(was_there, self.model.remove(key).is_some(), "key {key:#x}");
        Ok(())
    }

    /// Checks that the map holds what it should and nothing else.
    fn check(&self, random: &mut Random) -> Result {
        check_eq!(self.map.is_empty(), self.model.items().is_empty());
        let mut from = Some(0);
        for item in self.model.items() {
            let found = from.and_then(|from| first_from(&self.map, from));
            check_eq!(found, Some(*item), "from {from:#x?}");
            self.check_at(item.0)?;
            self.check_at(item.0.wrapping_add(1))?;
            self.check_at(item.0 ^ 1 << random.below(64))?;
            self.check_prefix(item.0, 2 * random.below(32) as u32)?;
            from = item.0.checked_add(1);
        }
        if let Some(from) = from {
            check_eq!(first_from(&self.map, from), None, "from {from:#x}");
        }
        (0..8).try_for_each(|_| self.check_at(key(random)))?;
        (0..8).try_for_each(|_| self.check_prefix(key(random), 2 * random.below(32) as u32))?;
        self.check_at(random.next())
    }
}

impl Side {
    /// Removes all keys, in any order.
    fn remove_all(&mut self, random: &mut Random) -> Result {
        while let Some(&(first, _)) = self.model.items().first() {
            let near = key(random);
            self.remove(self.model.first_from(near).map_or(first, |item| item.0))?;
        }
        check!(self.map.is_empty());
        Ok(())
    }

    fn check_at(&self, key: u64) -> Result {
        let found = self.map.get(key).map(Counted::get);
        check_eq!(found, self.model.get(key), "key {key:#x}");
        let found = first_from(&self.map, key);
        check_eq!(found, self.model.first_from(key), "from {key:#x}");
        Ok(())
    }

    /// Checks how many keys begin as `key` does.
    fn check_prefix(&self, key: u64, shift: u32) -> Result {
        let items = self.model.items().iter();
        let mut expected = items.filter(|(other, _)| other >> shift == key >> shift);
        let found = self.map.find_prefix(key, shift);
        let (first, second) = (expected.next(), expected.next());
        match (&found, first, second) {
            (Prefix::None, None, _) => (),
            (Prefix::One(item), Some(first), None) => {
                check_eq!((item.key(), item.value().get()), *first);
            }
            (Prefix::Many, Some(_), Some(_)) => (),
            _ => check!(
                false,
                "{first:?} and {second:?} begin as {key:#x} from {shift} on"
            ),
        }
        Ok(())
    }

    /// Checks that the map has the shape that its keys alone determine: that it costs as many
    /// accesses to nodes as one that was made of the keys in their order.
    fn check_shape(&self, live: &Live, random: &mut Random) -> Result {
        let mut fresh = Self::new();
        for (key, value) in self.model.items() {
            fresh.insert(live, *key, *value)?;
        }
        let cost = |map: &Map<Counted, ()>, key| {
            let before = accesses().0;
            map.get(key);
            let middle = accesses().0;
            first_from(map, key);
            (middle - before, accesses().0 - middle)
        };
        let keys = self.model.items().iter().map(|item| item.0);
        for key in Iterator::chain(keys, [key(random), random.next()]) {
            check_eq!(cost(&self.map, key), cost(&fresh.map, key), "key {key:#x}");
        }
        Ok(())
    }
}

/// Some maps, many of them clones of one another.
struct History {
    live: Live,
    sides: KVec<Side>,
    /// The last value. Each is used once.
    value: u64,
}

impl History {
    fn new(sides: usize) -> Result<Self> {
        let mut history = Self {
            live: Live::new()?,
            sides: KVec::new(),
            value: 0,
        };
        for _ in 0..sides {
            history.sides.push(Side::new(), GFP_KERNEL)?;
        }
        Ok(history)
    }

    fn step(&mut self, random: &mut Random) -> Result {
        let (side, other) = (
            random.below(self.sides.len()),
            random.below(self.sides.len()),
        );
        let near = key(random);
        match random.below(18) {
            0..=9 => {
                self.value += 1;
                self.sides[side].insert(&self.live, near, self.value)
            }
            10..=14 => {
                let there = self.sides[side].model.first_from(near);
                let there = there.filter(|_| !random.one_in(4));
                self.sides[side].remove(there.map_or(near, |item| item.0))
            }
            15 | 16 => {
                self.sides[side] = self.sides[other].try_clone()?;
                Ok(())
            }
            _ if random.one_in(4) => self.sides[side].remove_all(random),
            _ => Ok(()),
        }
    }

    /// Checks each map, and that exactly the values live that one has.
    fn check(&self, random: &mut Random) -> Result {
        let mut values = KVec::new();
        for side in &self.sides {
            side.check(random)?;
            for item in side.model.items() {
                values.push(item.1, GFP_KERNEL)?;
            }
        }
        values.sort_unstable();
        let distinct = values.chunk_by(|a, b| a == b).count();
        check_eq!(self.live.count(), distinct as i64);
        Ok(())
    }
}

/// A history of `steps` steps of `sides` maps, which are looked at after each `every` steps.
fn history(seed: u64, sides: usize, steps: usize, every: usize) -> Result {
    let mut random = Random::new(seed);
    let mut history = History::new(sides)?;
    for step in 1..=steps {
        history
            .step(&mut random)
            .and_then(|()| match step % every {
                0 => history.check(&mut random),
                _ => Ok(()),
            })
            .inspect_err(|_| pr_err!("seed {seed:#x}, step {step} of {steps}, {sides} maps\n"))?;
    }
    for side in &history.sides {
        side.check_shape(&history.live, &mut random)?;
    }
    for side in 0..sides {
        history.sides[side].remove_all(&mut random)?;
        history.check(&mut random)?;
    }
    check_eq!(history.live.count(), 0);
    Ok(())
}

#[kunit_tests(reflinkfs_map)]
mod tests {
    use super::*;

    #[test]
    fn one_map() -> Result {
        for seed in 0..rounds(8) as u64 {
            history(seed, 1, 150, 1)?;
        }
        Ok(())
    }

    #[test]
    fn several_clones() -> Result {
        for seed in 100..100 + rounds(8) as u64 {
            history(seed, 4, 200, 3)?;
        }
        Ok(())
    }

    #[test]
    fn many_clones() -> Result {
        for seed in 200..200 + rounds(4) as u64 {
            history(seed, 12, 800, 40)?;
        }
        Ok(())
    }

    #[test]
    fn a_clone_costs_one_reference() -> Result {
        let live = Live::new()?;
        let mut side = Side::new();
        let mut random = Random::new(1);
        for value in 0..300 {
            side.insert(&live, random.next(), value)?;
        }
        let before = accesses().0;
        let clone = side.map.clone();
        check_eq!(accesses().0 - before, 1);
        drop(clone);
        check_eq!(live.count(), 300);
        Ok(())
    }

    #[test]
    fn keys_that_begin_alike() -> Result {
        let live = Live::new()?;
        let mut random = Random::new(1);
        // They part in each bit, from the first to the last.
        for bit in 0..64 {
            let mut side = Side::new();
            side.insert(&live, PREFIX, 0)?;
            let alone = side.try_clone()?;
            side.insert(&live, PREFIX ^ 1 << bit, 1)?;
            side.check(&mut random)?;
            side.check_shape(&live, &mut random)?;
            side.remove(PREFIX ^ 1 << bit)?;
            side.check(&mut random)?;
            side.check_shape(&live, &mut random)?;
            alone.check(&mut random)?;
            drop(side);
            check_eq!(live.count(), 1, "bit {bit}");
        }
        check_eq!(live.count(), 0);
        Ok(())
    }

    #[test]
    fn replacing_in_place() -> Result {
        let live = Live::new()?;
        let mut random = Random::new(1);
        let mut side = Side::new();
        for value in 0..100 {
            side.insert(&live, key(&mut random), value)?;
        }
        let keys = side.model.try_clone()?;
        for (key, value) in keys.items() {
            side.insert(&live, *key, value + 1000)?;
            check_eq!(live.count(), keys.items().len() as i64);
        }
        side.check(&mut random)?;
        side.check_shape(&live, &mut random)
    }

    #[test]
    fn dropping_a_map_drops_its_values() -> Result {
        let live = Live::new()?;
        let mut random = Random::new(1);
        let mut side = Side::new();
        for value in 0..100 {
            side.insert(&live, key(&mut random), value)?;
        }
        let clone = side.try_clone()?;
        let count = live.count();
        drop(side);
        check_eq!(live.count(), count);
        clone.check(&mut random)?;
        drop(clone);
        check_eq!(live.count(), 0);
        Ok(())
    }

    #[test]
    fn clones_diverge_in_threads() -> Result {
        diverge::clones_diverge_in_threads::<Side>()
    }
}
