// SPDX-License-Identifier: GPL-2.0

//! Values of which it is known how many there are, and sorted lists to compare maps with.

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
};

/// How many values there are.
#[derive(Clone)]
pub(crate) struct Live(Arc<Atomic<i64>>);

impl Live {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Arc::new(Atomic::new(0), GFP_KERNEL)?))
    }

    /// Makes a value.
    pub(crate) fn value(&self, value: u64) -> Counted {
        self.0.fetch_add(1, Relaxed);
        Counted {
            value,
            live: self.clone(),
        }
    }

    /// Returns how many values there are, of those that this made and their clones.
    pub(crate) fn count(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// A value that is counted as long as it lives.
pub(crate) struct Counted {
    value: u64,
    live: Live,
}

impl Counted {
    pub(crate) fn get(&self) -> u64 {
        self.value
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.live.value(self.value)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.live.0.fetch_sub(1, Relaxed);
    }
}

/// Keys and values in the order of the keys: what a map should hold.
pub(crate) struct Sorted(KVec<(u64, u64)>);

impl Sorted {
    pub(crate) fn new() -> Self {
        Self(KVec::new())
    }

    pub(crate) fn try_clone(&self) -> Result<Self> {
        let mut items = KVec::new();
        items.extend_from_slice(&self.0, GFP_KERNEL)?;
        Ok(Self(items))
    }

    /// Returns the keys and values.
    pub(crate) fn items(&self) -> &[(u64, u64)] {
        &self.0
    }

    fn place(&self, key: u64) -> Result<usize, usize> {
        self.0.binary_search_by_key(&key, |item| item.0)
    }

    pub(crate) fn get(&self, key: u64) -> Option<u64> {
        self.place(key).ok().map(|place| self.0[place].1)
    }

    /// Returns the first item whose key is not below `from`.
    pub(crate) fn first_from(&self, from: u64) -> Option<(u64, u64)> {
        let place = self.place(from).unwrap_or_else(|place| place);
        self.0.get(place).copied()
    }

    /// Sets a value. Returns what it was.
    pub(crate) fn insert(&mut self, key: u64, value: u64) -> Result<Option<u64>> {
        match self.place(key) {
            Ok(place) => Ok(Some(core::mem::replace(&mut self.0[place].1, value))),
            Err(place) => {
                self.0.push((key, value), GFP_KERNEL)?;
                self.0[place..].rotate_right(1);
                Ok(None)
            }
        }
    }

    /// Removes a value. Returns what it was.
    pub(crate) fn remove(&mut self, key: u64) -> Option<u64> {
        let place = self.place(key).ok()?;
        self.0.remove(place).ok().map(|item| item.1)
    }
}
