// SPDX-License-Identifier: GPL-2.0

//! `reflinkfs_names`: the names in a directory, also where many have the same hash.

use crate::{
    names::{
        Entry,
        FIRST_POSITION, //
    },
    rounds,
    store::{
        MapNodes,
        NewItem, //
    },
    support::random::Random, //
};
use core::ops::ControlFlow;
use kernel::{
    macros::kunit_tests,
    prelude::*,
    str::CString, //
};

/// The names in a directory. No copy of a node is charged.
type Names = crate::names::Names<Entry, ()>;

const S_IFREG: u32 = 0o100_000;

/// How many names may have the same hash.
const EQUALS: usize = 64;

/// Returns a name, short or longer than what is kept in an entry.
fn name(i: usize) -> Result<CString> {
    match i % 3 {
        0 => CString::try_from_fmt(fmt!("a name of more bytes than an entry has room for: {i}")),
        _ => CString::try_from_fmt(fmt!("{i}")),
    }
}

/// Returns one of a few hashes, the lowest and the highest among them.
fn hash(i: usize) -> u64 {
    [0, 1, u64::MAX, u64::MAX >> 1, 1 << 40][i % 5]
}

fn set(names: &mut Names, hash: u64, i: usize, ino: u64) -> Result {
    let name = name(i)?;
    let position = names.position_to_set(hash, name.to_bytes())?;
    let entry = NewItem::new(Entry::new(name.to_bytes(), ino, S_IFREG)?, GFP_KERNEL)?;
    let mut nodes = MapNodes::new();
    while !nodes.has(names.nodes_to_set(position)) {
        nodes.fill(GFP_KERNEL, || Ok(()))?;
    }
    names.set(position, entry, &mut nodes)?;
    Ok(())
}

fn remove(names: &mut Names, hash: u64, name: &[u8]) -> Result {
    if let Some(position) = names.position(hash, name) {
        let mut nodes = MapNodes::new();
        while !nodes.has(names.nodes_to_remove(position)) {
            nodes.fill(GFP_KERNEL, || Ok(()))?;
        }
        check!(names.remove(position, &mut nodes)?.is_some());
    }
    Ok(())
}

fn find(names: &Names, hash: u64, i: usize) -> Result<Option<u64>> {
    Ok(names.get(hash, name(i)?.to_bytes()).map(|entry| entry.ino))
}

fn lookup(names: &Names, i: usize) -> Result<Option<u64>> {
    find(names, hash(i), i)
}

/// Lists the names from `position` on: their positions and numbers.
fn list(names: &Names, position: u64) -> Result<KVec<(u64, u64)>> {
    let (mut listed, mut result) = (KVec::new(), Ok(()));
    // A clone is not changed by what comes.
    names.clone().for_each(position, |found, entry| {
        result = listed
            .push((found, entry.ino), GFP_KERNEL)
            .map_err(Error::from);
        match result {
            Ok(()) if entry.file_type == S_IFREG && found >= position => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    });
    result?;
    Ok(listed)
}

#[kunit_tests(reflinkfs_names)]
mod tests {
    use super::*;

    #[test]
    fn names_with_the_same_hash_are_told_apart() -> Result {
        let mut names = Names::new();
        for i in 0..EQUALS {
            set(&mut names, 7, i, i as u64)?;
        }
        check_eq!(set(&mut names, 7, EQUALS, 0).err(), Some(ENOSPC));
        // A name that is there can lead elsewhere.
        set(&mut names, 7, 3, 1000)?;
        for i in 0..EQUALS {
            let expected = if i == 3 { 1000 } else { i as u64 };
            check_eq!(find(&names, 7, i)?, Some(expected));
        }
        check_eq!(find(&names, 7, EQUALS)?, None);
        // Each place that becomes free is used again.
        for i in [0, 20, EQUALS - 1] {
            remove(&mut names, 7, name(i)?.to_bytes())?;
            check_eq!(find(&names, 7, i)?, None);
            set(&mut names, 7, EQUALS + i, 5)?;
            check_eq!(set(&mut names, 7, i, 0).err(), Some(ENOSPC));
        }
        check_eq!(list(&names, FIRST_POSITION)?.len(), EQUALS);
        Ok(())
    }

    #[test]
    fn positions_are_not_negative_and_behind_the_dots() -> Result {
        let mut names = Names::new();
        for i in 0..5 {
            set(&mut names, hash(i), i, i as u64)?;
        }
        let listed = list(&names, 0)?;
        check_eq!(listed.len(), 5);
        for (position, _) in &listed {
            check!((FIRST_POSITION..1 << 63).contains(position));
        }
        Ok(())
    }

    #[test]
    fn random_histories_are_those_of_a_model() -> Result {
        const NAMES: usize = 150;
        let mut random = Random::new(1);
        let mut names = Names::new();
        let mut model = [None; NAMES];
        for step in 0..rounds(20_000) {
            let i = random.below(NAMES);
            if random.one_in(2) {
                let ino = step as u64;
                set(&mut names, hash(i), i, ino)?;
                model[i] = Some(ino);
            } else {
                remove(&mut names, hash(i), name(i)?.to_bytes())?;
                model[i] = None;
            }
            check_eq!(lookup(&names, i)?, model[i]);
            if random.one_in(50) {
                for (i, ino) in model.iter().enumerate() {
                    check_eq!(lookup(&names, i)?, *ino);
                }
                let listed = list(&names, FIRST_POSITION)?;
                check_eq!(listed.len(), model.iter().flatten().count());
                // From any place, the rest is listed.
                let from = random.below(listed.len().max(1));
                if let Some((position, _)) = listed.get(from) {
                    check_eq!(list(&names, *position)?.len(), listed.len() - from);
                }
            }
            check_eq!(names.is_empty(), model.iter().all(Option::is_none));
        }
        Ok(())
    }
}
