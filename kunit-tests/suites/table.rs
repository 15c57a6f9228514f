// SPDX-License-Identifier: GPL-2.0

//! `reflinkfs_table`: clones of a table by dense numbers, each against a model of its own.

use crate::{
    rounds,
    store::{
        accesses,
        Table,
        TableNodes, //
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
use kernel::{
    macros::kunit_tests,
    prelude::*, //
};

/// How many values a leaf has.
const FANOUT: u64 = 16;

/// The most levels of a table: 16 of four bits are 64.
const MAX_HEIGHT: u32 = 16;

/// Returns the first number that needs a table of height `height`, which is above 1.
fn first_of(height: u32) -> u64 {
    1 << (4 * (height - 1))
}

/// Returns a number: as inodes have, one at the end of what a table of some height covers, or the
/// last ones.
fn number(random: &mut Random) -> u64 {
    match random.below(8) {
        0..=3 => random.below(3 * FANOUT as usize) as u64,
        4 => random.below(8) as u64 * FANOUT * FANOUT + random.below(4) as u64,
        5 | 6 => {
            let end = first_of(2 + random.below(MAX_HEIGHT as usize - 1) as u32);
            end - 2 + random.below(4) as u64
        }
        _ => u64::MAX - random.below(4) as u64,
    }
}

/// Inserts a value, with the nodes that this takes.
pub(super) fn insert(table: &mut Table<Counted, ()>, number: u64, value: Counted) -> Result {
    let mut nodes = TableNodes::new();
    while !nodes.has(table.nodes_to_insert(number)) {
        nodes.fill(GFP_KERNEL, || Ok(()))?;
    }
    table.insert(number, value, &mut nodes)?;
    Ok(())
}

/// Removes a value, with the nodes that this takes.
pub(super) fn remove(table: &mut Table<Counted, ()>, number: u64) -> Result<Option<Counted>> {
    let mut nodes = TableNodes::new();
    while !nodes.has(table.nodes_to_remove(number)) {
        nodes.fill(GFP_KERNEL, || Ok(()))?;
    }
    table.remove(number, &mut nodes)
}

/// A table, and what it should hold.
struct Side {
    table: Table<Counted, ()>,
    model: Sorted,
}

impl diverge::Side for Side {
    fn new() -> Self {
        Self {
            table: Table::new(),
            model: Sorted::new(),
        }
    }

    fn try_clone(&self) -> Result<Self> {
        Ok(Self {
            table: self.table.clone(),
            model: self.model.try_clone()?,
        })
    }

    fn key(random: &mut Random) -> u64 {
        number(random)
    }

    fn insert(&mut self, live: &Live, number: u64, value: u64) -> Result {
        insert(&mut self.table, number, live.value(value))?;
        self.model.insert(number, value)?;
        Ok(())
    }

    fn remove(&mut self, number: u64) -> Result {
        let old = remove(&mut self.table, number)?;
        let expected = self.model.remove(number);
        check_eq!(old.as_ref().map(Counted::get), expected, "at {number:#x}");
        Ok(())
    }

    fn check(&self, random: &mut Random) -> Result {
        for item in self.model.items() {
            self.check_at(item.0)?;
            self.check_at(item.0.wrapping_add(1))?;
            self.check_at(item.0 ^ 1 << random.below(64))?;
        }
        (0..8).try_for_each(|_| self.check_at(number(random)))?;
        self.check_at(random.next())
    }

    fn discard(mut self) -> Result {
        self.clear()
    }
}

impl Side {
    fn of(live: &Live, numbers: impl IntoIterator<Item = u64>) -> Result<Self> {
        let mut side = Self::new();
        for number in numbers {
            side.insert(live, number, number ^ 5)?;
        }
        Ok(side)
    }

    fn remove_all(&mut self, random: &mut Random) -> Result {
        while let Some(&(first, _)) = self.model.items().first() {
            let near = number(random);
            self.remove(self.model.first_from(near).map_or(first, |item| item.0))?;
        }
        self.check_has_no_nodes()
    }

    fn clear(&mut self) -> Result {
        self.table.clear(|| ());
        self.model = Sorted::new();
        self.check_has_no_nodes()
    }

    fn check_has_no_nodes(&self) -> Result {
        let before = accesses().0;
        check!(self.table.get(0).is_none());
        check_eq!(accesses().0, before);
        Ok(())
    }

    fn check_at(&self, number: u64) -> Result {
        let found = self.table.get(number).map(Counted::get);
        check_eq!(found, self.model.get(number), "at {number:#x}");
        Ok(())
    }
}

/// A history of `steps` steps of `sides` tables, which are looked at after each `every` steps.
fn history(seed: u64, sides: usize, steps: usize, every: usize) -> Result {
    let live = Live::new()?;
    let mut random = Random::new(seed);
    let mut all = KVec::new();
    for _ in 0..sides {
        all.push(Side::new(), GFP_KERNEL)?;
    }
    for step in 1..=steps {
        change(&mut all, &live, &mut random, step as u64)
            .and_then(|()| match step % every {
                0 => all.iter().try_for_each(|side| side.check(&mut random)),
                _ => Ok(()),
            })
            .inspect_err(|_| pr_err!("seed {seed:#x}, step {step} of {steps}, {sides} tables\n"))?;
        if sides == 1 {
            check_eq!(live.count(), all[0].model.items().len() as i64);
        }
    }
    for side in &mut all {
        match random.below(2) {
            0 => side.remove_all(&mut random)?,
            _ => side.clear()?,
        }
    }
    check_eq!(live.count(), 0);
    Ok(())
}

/// One step.
fn change(all: &mut [Side], live: &Live, random: &mut Random, value: u64) -> Result {
    let (side, other) = (random.below(all.len()), random.below(all.len()));
    let near = number(random);
    match random.below(20) {
        0..=10 => all[side].insert(live, near, value),
        11..=15 => {
            let there = all[side].model.first_from(near);
            let there = there.filter(|_| !random.one_in(4));
            all[side].remove(there.map_or(near, |item| item.0))
        }
        16 | 17 => {
            all[side] = all[other].try_clone()?;
            Ok(())
        }
        18 if random.one_in(4) => all[side].remove_all(random),
        19 if random.one_in(4) => all[side].clear(),
        _ => Ok(()),
    }
}

#[kunit_tests(reflinkfs_table)]
mod tests {
    use super::*;

    #[test]
    fn one_table() -> Result {
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
    fn it_grows_with_its_highest_number() -> Result {
        let live = Live::new()?;
        let mut random = Random::new(1);
        let mut side = Side::of(&live, [0, FANOUT - 1])?;
        let cost = |side: &Side, number| {
            let before = accesses().0;
            side.table.get(number);
            accesses().0 - before
        };
        check_eq!(cost(&side, 0), 1);
        let mut clones = KVec::new();
        for height in 2..=MAX_HEIGHT {
            clones.push(side.try_clone()?, GFP_KERNEL)?;
            // Beyond it there is nothing to be looked at.
            check_eq!(cost(&side, first_of(height)), 0, "height {height}");
            side.insert(&live, first_of(height), u64::from(height))?;
            side.check(&mut random)?;
            check_eq!(cost(&side, 0), u64::from(height));
            check_eq!(cost(&side, first_of(height)), u64::from(height));
        }
        side.insert(&live, u64::MAX, 0)?;
        check_eq!(cost(&side, u64::MAX), u64::from(MAX_HEIGHT));
        side.check(&mut random)?;
        clones
            .iter()
            .try_for_each(|clone| clone.check(&mut random))?;
        side.remove_all(&mut random)?;
        clones
            .iter()
            .try_for_each(|clone| clone.check(&mut random))?;
        // It begins anew.
        side.insert(&live, 1, 1)?;
        check_eq!(cost(&side, 1), 1);
        Ok(())
    }

    #[test]
    fn a_clone_costs_one_reference() -> Result {
        let live = Live::new()?;
        let side = Side::of(&live, 0..1000)?;
        let before = accesses().0;
        let clone = side.table.clone();
        check_eq!(accesses().0 - before, 1);
        drop(clone);
        check_eq!(live.count(), 1000);
        Ok(())
    }

    #[test]
    fn a_value_moves_out_of_an_unshared_leaf() -> Result {
        let live = Live::new()?;
        let mut side = Side::of(&live, 0..100)?;
        let value = remove(&mut side.table, 7)?;
        check_eq!(live.count(), 100);
        drop(value);
        check_eq!(live.count(), 99);
        Ok(())
    }

    #[test]
    fn clearing_takes_steps() -> Result {
        const LEAVES: u64 = 100;
        let live = Live::new()?;
        let mut side = Side::of(&live, Iterator::chain(0..LEAVES * FANOUT, [u64::MAX]))?;
        let (mut before, mut steps) = (live.count(), 0);
        let mut most = 0;
        side.table.clear(|| {
            steps += 1;
            most = most.max(before - live.count());
            before = live.count();
        });
        check_eq!(live.count(), 0);
        check!(steps > LEAVES, "{steps} steps");
        check!(most <= FANOUT as i64, "{most} values in one step");
        side.check_has_no_nodes()?;
        check!(side.table.get(u64::MAX).is_none());
        // It can be used again.
        insert(&mut side.table, 3, live.value(3))?;
        check_eq!(side.table.get(3).map(Counted::get), Some(3));
        Ok(())
    }

    #[test]
    fn clearing_leaves_what_is_shared() -> Result {
        let live = Live::new()?;
        let mut random = Random::new(1);
        let mut side = Side::of(&live, 0..10 * FANOUT)?;
        let clone = side.try_clone()?;
        // One leaf, and a new one, are its own.
        side.insert(&live, 5, 1000)?;
        side.insert(&live, 20 * FANOUT, 1000)?;
        check_eq!(live.count(), (11 * FANOUT + 1) as i64);
        side.clear()?;
        check_eq!(live.count(), (10 * FANOUT) as i64);
        clone.check(&mut random)?;
        // All of it is shared.
        let mut again = clone.try_clone()?;
        again.clear()?;
        check_eq!(live.count(), (10 * FANOUT) as i64);
        clone.check(&mut random)
    }

    #[test]
    fn clones_diverge_in_threads() -> Result {
        diverge::clones_diverge_in_threads::<Side>()
    }
}
