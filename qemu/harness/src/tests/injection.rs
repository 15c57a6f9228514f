// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Fault injection: lets allocations, and accesses to user memory, fail for this thread, and counts
//! them.

use std::path::Path;

use crate::failure::{expect, Context, Outcome, Sys};
use crate::sys::File;

/// More failure points than any call has.
const MANY: usize = 100_000;

/// The number of counted calls.
const TRIES: usize = 5;

/// Fault injection for this thread.
pub(super) struct Injection(File);

impl Injection {
    pub fn new() -> Outcome<Self> {
        let control =
            File::open("/proc/thread-self/fail-nth", libc::O_RDWR).or_fail("open fail-nth")?;
        // The probability stays zero: fail-nth affects only threads that ask for it.
        for (name, value) in [
            ("failslab/ignore-gfp-wait", "N"),
            ("failslab/verbose", "0"),
            ("fail_page_alloc/ignore-gfp-wait", "N"),
            ("fail_page_alloc/ignore-gfp-highmem", "N"),
            ("fail_page_alloc/min-order", "0"),
            ("fail_page_alloc/verbose", "0"),
            ("fail_usercopy/verbose", "0"),
        ] {
            let path = Path::new("/sys/kernel/debug").join(name);
            std::fs::write(&path, value).or_fail(format_args!("write {}", path.display()))?;
        }
        let injection = Self(control);
        let open = || File::open("/dev/null", libc::O_RDONLY);
        // Makes a call before: a failing allocation may be for a page of this process, of its stack
        // for example, which it shares with its parent until it writes to it.
        drop(injection.nth(1, open)?);
        let (opened, failed) = injection.nth(1, open)?;
        expect(
            failed && opened.is_err(),
            "the first thing that can fail when a file is opened fails",
        )?;
        Ok(injection)
    }

    /// Makes a call in which the nth failure point fails. Returns its result, and whether there was
    /// an nth point.
    pub fn nth<T>(&self, n: usize, call: impl FnOnce() -> T) -> Outcome<(T, bool)> {
        let text = n.to_string();
        self.0.write_at(text.as_bytes(), 0)?;
        let result = call();
        // A failure that is still to come may hit this very read.
        let mut left = [0; 1];
        let failed = matches!(self.0.try_pread(&mut left, 0), Ok(1)) && left[0] == b'0';
        while self.0.try_pwrite(b"0", 0).is_err() {}
        Ok((result, failed))
    }

    /// Returns the number of failure points of a call: allocations and accesses to user memory. The
    /// kernel sometimes allocates for itself, so returns the least of several calls; each is made
    /// in a new scene.
    pub fn points<S>(
        &self,
        scene: impl Fn() -> Outcome<S>,
        call: impl Fn(&S) -> Sys,
    ) -> Outcome<usize> {
        // The failure points of reading the rest.
        let own = self.points_once(|| Ok(()))?;
        let mut least = usize::MAX;
        for _ in 0..TRIES {
            let scene = scene()?;
            least = least.min(self.points_once(|| call(&scene))?);
        }
        Ok(least.saturating_sub(own))
    }

    fn points_once(&self, call: impl FnOnce() -> Sys) -> Outcome<usize> {
        self.0.write_at(MANY.to_string().as_bytes(), 0)?;
        let result = call();
        let mut text = [0; 16];
        let read = self.0.try_pread(&mut text, 0);
        self.0.write_at(b"0", 0)?;
        result.or_fail("the call whose allocations are counted")?;
        let len = read.or_fail("read fail-nth")?;
        let left = String::from_utf8_lossy(&text[..len])
            .trim()
            .parse::<usize>();
        Ok(MANY - left.or_fail("the rest of fail-nth")?)
    }
}
