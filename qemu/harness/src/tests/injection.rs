// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Having the kernel refuse memory, or an access to user memory, to this thread; and counting how often
//! it could.

use std::path::Path;

use crate::failure::{expect, Context, Outcome, Sys};
use crate::sys::File;

/// More points than any call has.
const MANY: usize = 100_000;

/// How many calls are counted.
const TRIES: usize = 5;

/// Has the kernel refuse something to this thread.
pub(super) struct Injection(File);

impl Injection {
    pub fn new() -> Outcome<Self> {
        let control =
            File::open("/proc/thread-self/fail-nth", libc::O_RDWR).or_fail("open fail-nth")?;
        // The probability stays zero: none of this concerns anybody who does not ask for it.
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
        // Once before: what fails may be a page of this process's own memory, of its stack for
        // example, which it shares with its parent until it writes there.
        drop(injection.nth(1, open)?);
        let (opened, failed) = injection.nth(1, open)?;
        expect(
            failed && opened.is_err(),
            "the first thing that can fail when a file is opened fails",
        )?;
        Ok(injection)
    }

    /// Makes a call of which the nth thing that can fail fails. What it gave, and whether there
    /// was an nth thing.
    pub fn nth<T>(&self, n: usize, call: impl FnOnce() -> T) -> Outcome<(T, bool)> {
        let text = n.to_string();
        self.0.write_at(text.as_bytes(), 0)?;
        let result = call();
        // While a failure is still to come, it may be that of this very read.
        let mut left = [0; 1];
        let failed = matches!(self.0.try_pread(&mut left, 0), Ok(1)) && left[0] == b'0';
        while self.0.try_pwrite(b"0", 0).is_err() {}
        Ok((result, failed))
    }

    /// How many things can fail in a call: the memory it allocates, and accesses to user memory. Now
    /// and then the kernel allocates something for itself, so that the least of some calls counts;
    /// each is made in a scene of its own.
    pub fn points<S>(
        &self,
        scene: impl Fn() -> Outcome<S>,
        call: impl Fn(&S) -> Sys,
    ) -> Outcome<usize> {
        // What reading the rest takes itself.
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
        Ok(MANY - left.or_fail("what is left of fail-nth")?)
    }
}
