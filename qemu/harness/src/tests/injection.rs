// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Fault injection: lets allocations, and accesses to user memory, fail for this thread, and counts
//! them.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::{expect, Context, Failure, Outcome, Sys};
use crate::sys::File;

/// More failure points than any call has.
const MANY: usize = 100_000;

/// The number of counted calls.
const TRIES: usize = 5;

/// Which failure points count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Points {
    /// All in the call
    All,
    /// Those in reflinkfs.ko, and in what it calls
    Module,
}

/// Whether only points of the module count.
static MODULE_ALONE: AtomicBool = AtomicBool::new(false);

/// Returns whether only points of the module count.
pub fn is_of_module() -> bool {
    MODULE_ALONE.load(Ordering::Relaxed)
}

/// The kinds of failures, by their directories.
const ATTRIBUTES: [&str; 3] = ["failslab", "fail_page_alloc", "fail_usercopy"];

/// Selects the points for all tests of the run. Called before the first.
pub fn choose(points: Points) -> Outcome {
    let write = |attribute: &str, name: &str, value: u64| {
        let path = Path::new("/sys/kernel/debug").join(attribute).join(name);
        std::fs::write(&path, value.to_string()).or_fail(format_args!("write {}", path.display()))
    };
    if Path::new("/sys/kernel/debug/failslab/require-start").exists() {
        let (start, end) = match points {
            Points::All => (0, u64::MAX),
            Points::Module => text_of_module()?,
        };
        for attribute in ATTRIBUTES {
            // The deepest that the kernel allows.
            write(attribute, "stacktrace-depth", 32)?;
            write(attribute, "require-start", start)?;
            write(attribute, "require-end", end)?;
        }
        MODULE_ALONE.store(points == Points::Module, Ordering::Relaxed);
    } else if points == Points::Module {
        return Err(Failure::new(
            "this kernel has no filter of stacks (CONFIG_FAULT_INJECTION_STACKTRACE_FILTER)",
        ));
    }
    Ok(())
}

/// Returns the addresses of the functions of reflinkfs.ko.
fn text_of_module() -> Outcome<(u64, u64)> {
    let symbols = std::fs::read_to_string("/proc/kallsyms").or_fail("read /proc/kallsyms")?;
    let functions = symbols.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (address, kind) = (words.next()?, words.next()?);
        let ours = words.next().and(words.next()) == Some("[reflinkfs]");
        (ours && kind.eq_ignore_ascii_case("t")).then(|| u64::from_str_radix(address, 16).ok())?
    });
    let (start, last) = functions.fold((u64::MAX, 0), |(start, last), address| {
        (start.min(address), last.max(address))
    });
    expect(
        start <= last,
        "reflinkfs.ko has functions in /proc/kallsyms",
    )?;
    // Up to the end of the page in which the last function begins.
    Ok((start, (last | 4095) + 1))
}

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
        if is_of_module() {
            return Ok(injection);
        }
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

    /// What is counted.
    pub fn points_of(count: usize) -> String {
        if is_of_module() {
            format!("{count} points in reflinkfs.ko")
        } else {
            format!("{count} points")
        }
    }

    /// How many things can fail in a call: the memory it allocates, and accesses to user memory. Now
    /// and then the kernel allocates something for itself, so that the least of some calls counts;
    /// each is made in a scene of its own.
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
