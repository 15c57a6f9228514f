// SPDX-License-Identifier: GPL-2.0

//! `reflinkfs_map_failing`: every allocation of a change of a map or table fails in turn, and the
//! map and its clones are as they were.

use super::{
    map,
    table, //
};
use crate::{
    store::{
        Map,
        NewItem,
        Table, //
    },
    support::counted::{
        Counted,
        Live, //
    },
    support::inject::nth,
    support::trees::FANOUT, //
};
use core::ops::ControlFlow;
use kernel::{
    macros::kunit_tests,
    prelude::*, //
};

/// More allocations than any of the changes makes.
const MANY: u32 = 100;

/// A map or table, by number.
trait Subject: Clone + Default {
    fn at(&self, key: u64) -> Option<u64>;

    /// Sets a value. May fail at an allocation of its own, too.
    fn set(&mut self, key: u64, value: Counted) -> Result;

    fn unset(&mut self, key: u64) -> Result;

    /// Returns how many values there are, if it can be told.
    fn count(&self) -> Option<usize>;
}

impl Subject for Map<Counted, ()> {
    fn at(&self, key: u64) -> Option<u64> {
        self.get(key).map(Counted::get)
    }

    fn set(&mut self, key: u64, value: Counted) -> Result {
        let item = NewItem::new(value, GFP_KERNEL)?;
        map::insert(self, key, item)?;
        Ok(())
    }

    fn unset(&mut self, key: u64) -> Result {
        map::remove(self, key)?;
        Ok(())
    }

    fn count(&self) -> Option<usize> {
        let mut found = 0;
        self.for_each_from(0, |_| {
            found += 1;
            ControlFlow::Continue(())
        });
        Some(found)
    }
}

impl Subject for Table<Counted, ()> {
    fn at(&self, key: u64) -> Option<u64> {
        self.get(key).map(Counted::get)
    }

    fn set(&mut self, key: u64, value: Counted) -> Result {
        table::insert(self, key, value)
    }

    fn unset(&mut self, key: u64) -> Result {
        table::remove(self, key)?;
        Ok(())
    }

    fn count(&self) -> Option<usize> {
        None
    }
}

/// What a change does to the value of a key.
#[derive(Clone, Copy, Debug)]
enum Change {
    Set(u64),
    Unset(u64),
}

impl Change {
    fn key(self) -> u64 {
        match self {
            Self::Set(key) | Self::Unset(key) => key,
        }
    }

    fn apply<S: Subject>(self, subject: &mut S, live: &Live) -> Result {
        match self {
            Self::Set(key) => subject.set(key, live.value(NEW)),
            Self::Unset(key) => subject.unset(key),
        }
    }
}

/// The value that changes set.
const NEW: u64 = 1 << 40;

/// Checks that the keys have these values, and that [`Change::key`] has the other one.
fn check<S: Subject>(subject: &S, keys: &[u64], key: u64, value: Option<u64>) -> Result {
    for other in keys.iter().filter(|other| **other != key) {
        check_eq!(subject.at(*other), Some(other ^ 1), "key {other:#x}");
    }
    check_eq!(subject.at(key), value, "key {key:#x}");
    let others = keys.iter().filter(|other| **other != key).count();
    let expected = others + usize::from(value.is_some());
    check_eq!(subject.count().unwrap_or(expected), expected);
    Ok(())
}

/// Makes a change with each of its allocations failing in turn, of an original with or without two
/// clones. Returns how often it failed.
fn fail_everywhere<S: Subject>(keys: &[u64], change: Change, shared: bool) -> Result<u32> {
    let key = change.key();
    let old = keys.contains(&key).then_some(key ^ 1);
    let new = match change {
        Change::Set(_) => Some(NEW),
        Change::Unset(_) => None,
    };
    for n in 1..MANY {
        let live = Live::new()?;
        let mut subject = S::default();
        for key in keys {
            subject.set(*key, live.value(key ^ 1))?;
        }
        let mut clones = KVec::new();
        if shared {
            clones.push(subject.clone(), GFP_KERNEL)?;
            clones.push(subject.clone(), GFP_KERNEL)?;
        }
        let before = live.count();
        let (result, failed) = nth(n, || change.apply(&mut subject, &live));
        if let Err(err) = result {
            check_eq!(err, ENOMEM);
            check!(failed, "refused, although all allocations succeeded");
            check(&subject, keys, key, old)?;
            if !shared {
                check_eq!(live.count(), before);
            }
            change.apply(&mut subject, &live)?;
        }
        check(&subject, keys, key, new)?;
        clones
            .iter()
            .try_for_each(|clone| check(clone, keys, key, old))?;
        drop(subject);
        clones
            .iter()
            .try_for_each(|clone| check(clone, keys, key, old))?;
        if shared {
            check_eq!(live.count(), before);
        }
        drop(clones);
        check_eq!(live.count(), 0);
        if !failed {
            return Ok(n - 1);
        }
    }
    pr_err!("still failing after {MANY} failures\n");
    Err(EINVAL)
}

/// Sets and removes each of `changed`, where `keys` are. Where they are shared, each change allocates;
/// otherwise removing does not.
fn fail_all<S: Subject>(keys: &[u64], changed: &[u64]) -> Result {
    for key in changed.iter().copied() {
        for change in [Change::Set(key), Change::Unset(key)] {
            for shared in [false, true] {
                let refused = fail_everywhere::<S>(keys, change, shared)
                    .inspect_err(|_| pr_err!("{change:?} of {keys:x?}, shared: {shared}\n"))?;
                let allocates = match change {
                    Change::Set(_) => shared,
                    // The last one of a map goes without a copy.
                    Change::Unset(_) => shared && keys.contains(&key) && keys.len() > 1,
                };
                check!(refused > 0 || !allocates, "{change:?}: nothing failed");
                if matches!(change, Change::Unset(_)) && !shared {
                    check_eq!(refused, 0, "{change:?} of what is not shared");
                }
            }
        }
    }
    Ok(())
}

/// Keys that begin alike.
const PREFIX: u64 = 0x1234_5678_9abc_def0;

#[kunit_tests(reflinkfs_map_failing)]
mod tests {
    use super::*;

    #[test]
    fn a_map_of_one() -> Result {
        fail_all::<Map<Counted, ()>>(&[PREFIX], &[PREFIX, PREFIX + 1, PREFIX ^ 1 << 63, 0])
    }

    #[test]
    fn a_map_of_keys_that_begin_alike() -> Result {
        let keys = [PREFIX, PREFIX + 1, PREFIX + 4, PREFIX ^ 1 << 40];
        let changed = [PREFIX, PREFIX + 1, PREFIX + 2, PREFIX ^ 1 << 20, PREFIX + 4];
        fail_all::<Map<Counted, ()>>(&keys, &changed)
    }

    #[test]
    fn a_map_of_many() -> Result {
        let mut keys = KVec::new();
        for i in 0..100u64 {
            keys.push(i.wrapping_mul(0x9e37_79b9_7f4a_7c15), GFP_KERNEL)?;
        }
        let changed = [keys[0], keys[50], keys[99], keys[50] ^ 1, u64::MAX];
        fail_all::<Map<Counted, ()>>(&keys, &changed)
    }

    #[test]
    fn an_empty_table() -> Result {
        fail_all::<Table<Counted, ()>>(&[], &[0, FANOUT, u64::MAX])
    }

    #[test]
    fn a_table_of_one() -> Result {
        fail_all::<Table<Counted, ()>>(&[1], &[1, 2, FANOUT, u64::MAX])
    }

    #[test]
    fn a_table_of_several_heights() -> Result {
        let keys = [0, 1, FANOUT - 1, FANOUT, FANOUT * FANOUT, 1 << 30];
        let changed = [0, 2, FANOUT, FANOUT + 1, 1 << 30, 1 << 31, 1 << 50];
        fail_all::<Table<Counted, ()>>(&keys, &changed)
    }
}
