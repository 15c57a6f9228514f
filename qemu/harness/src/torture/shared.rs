// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Memory that a process shares with its children.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::failure::{Context, Errno, Outcome};

/// The number of workers that can report their waiting times.
pub const SLOTS: usize = 16;

/// The reports of workers in other processes, and their orders. Its initial state is all zero.
#[repr(C)]
pub struct Board {
    pub stop: AtomicBool,
    slots: [Slot; SLOTS],
}

/// The report of one worker, in nanoseconds since the board was made.
#[repr(C)]
struct Slot {
    /// The start of the current step, plus one; 0 between two steps.
    since: AtomicU64,
    longest: AtomicU64,
    steps: AtomicU64,
}

/// The board, in shared memory until this is dropped.
pub struct Shared {
    board: *const Board,
    made: Instant,
}

// SAFETY: the pointer leads to atomics, which live as long as this.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// Maps memory of zeros.
fn map(len: usize) -> Outcome<*mut libc::c_void> {
    // SAFETY: a new mapping at an address that the kernel chooses.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(Errno::last()).or_fail("mmap(MAP_SHARED | MAP_ANONYMOUS)");
    }
    Ok(start)
}

impl Shared {
    pub fn new() -> Outcome<Self> {
        let start = map(size_of::<Board>())?;
        Ok(Self {
            board: start.cast(),
            made: Instant::now(),
        })
    }

    fn board(&self) -> &Board {
        // SAFETY: the mapping is page aligned, large enough, of zeros at first, and there until
        // this is dropped.
        unsafe { &*self.board }
    }

    pub fn stop(&self) {
        self.board().stop.store(true, Ordering::SeqCst);
    }

    pub fn is_stopped(&self) -> bool {
        self.board().stop.load(Ordering::SeqCst)
    }

    fn now(&self) -> u64 {
        self.made.elapsed().as_nanos() as u64 + 1
    }

    /// Runs a step of a worker, and records its duration.
    pub fn step<T>(&self, slot: usize, step: impl FnOnce() -> T) -> T {
        let slot = &self.board().slots[slot];
        let begun = self.now();
        slot.since.store(begun, Ordering::SeqCst);
        let result = step();
        slot.longest.fetch_max(self.now() - begun, Ordering::SeqCst);
        slot.since.store(0, Ordering::SeqCst);
        slot.steps.fetch_add(1, Ordering::SeqCst);
        result
    }

    /// Returns the number of steps of a worker.
    pub fn steps(&self, slot: usize) -> u64 {
        self.board().slots[slot].steps.load(Ordering::SeqCst)
    }

    /// Returns the duration of a worker's current step so far, if it has one.
    pub fn current(&self, slot: usize) -> Option<Duration> {
        let since = self.board().slots[slot].since.load(Ordering::SeqCst);
        (since != 0).then(|| Duration::from_nanos(self.now().saturating_sub(since)))
    }

    /// Returns the duration of a worker's longest step.
    pub fn longest(&self, slot: usize) -> Duration {
        Duration::from_nanos(self.board().slots[slot].longest.load(Ordering::SeqCst))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: nothing can refer to the board any more.
        unsafe { libc::munmap(self.board.cast_mut().cast(), size_of::<Board>()) };
    }
}

/// Counters of several processes, zero at first; they are never unmapped.
pub struct Words {
    start: *const AtomicU64,
    count: usize,
}

// SAFETY: the pointer leads to atomics, which are never unmapped.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    pub fn new(count: usize) -> Outcome<Self> {
        Ok(Self {
            start: map(count * 8)?.cast(),
            count,
        })
    }

    pub fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.count);
        // SAFETY: within the mapping, aligned, and every value is a valid word.
        unsafe { &*self.start.add(index) }
    }
}
