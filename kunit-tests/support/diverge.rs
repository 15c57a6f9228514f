// SPDX-License-Identifier: GPL-2.0

//! Threads that take clones of one map or table, and change them.

use crate::{
    rounds,
    support::{
        counted::Live,
        random::Random,
        threads::in_threads, //
    },
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::Mutex, //
};

/// A map or table, and what it should hold.
pub(crate) trait Side: Send + Sized + Unpin {
    fn new() -> Self;

    fn try_clone(&self) -> Result<Self>;

    /// Returns a key.
    fn key(random: &mut Random) -> u64;

    fn insert(&mut self, live: &Live, key: u64, value: u64) -> Result;

    fn remove(&mut self, key: u64) -> Result;

    /// Checks that it holds what it should and nothing else.
    fn check(&self, random: &mut Random) -> Result;

    /// Drops it.
    fn discard(self) -> Result {
        Ok(())
    }
}

/// What the threads have in common.
struct Shared<S> {
    live: Live,
    base: Pin<KBox<Mutex<S>>>,
}

/// Takes clones, changes them, and leaves some of them to others.
fn diverge<S: Side>(shared: &Shared<S>, thread: u64) -> Result {
    let mut random = Random::new(thread);
    for round in 0..rounds(40) as u64 {
        let mut side = shared.base.lock().try_clone()?;
        for step in 0..20 {
            let near = S::key(&mut random);
            if random.one_in(3) {
                side.remove(near)?;
            } else {
                side.insert(&shared.live, near, thread << 32 | round << 16 | step)?;
            }
        }
        side.check(&mut random)?;
        match random.below(3) {
            0 => {
                let old = core::mem::replace(&mut *shared.base.lock(), side);
                old.check(&mut random)?;
                old.discard()?;
            }
            1 => side.discard()?,
            _ => (),
        }
    }
    Ok(())
}

/// Has threads change clones. None sees changes of another, and no value is left in the end.
pub(crate) fn clones_diverge_in_threads<S: Side>() -> Result {
    let shared = Shared {
        live: Live::new()?,
        base: KBox::pin_init(new_mutex!(S::new()), GFP_KERNEL)?,
    };
    in_threads(4, &shared, diverge)?;
    let Shared { live, base } = shared;
    base.lock().check(&mut Random::new(1))?;
    drop(base);
    check_eq!(live.count(), 0);
    Ok(())
}
