// SPDX-License-Identifier: GPL-2.0

//! Makes an allocation of the current thread fail, by `fail_nth`.

use kernel::task::Task;

/// The number of allocations until one fails, 0 for never.
///
/// Allocations that may wait count only where debugfs says so, which `qemu/lib/kunit.sh` sets.
struct Countdown(*mut u32);

impl Countdown {
    fn new() -> Self {
        let task = Task::current_raw();
        // SAFETY: The thread that runs here is live; only the place is computed.
        Self(unsafe { &raw mut (*task).fail_nth })
    }

    fn set(&self, n: u32) {
        // SAFETY: A `Countdown` does not leave the thread it is of (`nth` below), which is live as
        // long as it runs. C reads and writes the integer from that thread, with `READ_ONCE` and
        // `WRITE_ONCE`.
        unsafe { self.0.write_volatile(n) };
    }

    fn get(&self) -> u32 {
        // SAFETY: As in `set`, it is the current thread's, which is live.
        unsafe { self.0.read_volatile() }
    }
}

/// Makes a call of which the `n`th allocation fails. Returns its result, and whether there was an
/// `n`th one.
pub(crate) fn nth<T>(n: u32, call: impl FnOnce() -> T) -> (T, bool) {
    let countdown = Countdown::new();
    countdown.set(n);
    let result = call();
    let failed = countdown.get() == 0;
    countdown.set(0);
    (result, failed)
}
