// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The module copy_fr is loaded and unloaded while programs make calls, and leaves no trace.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use libc::{EINVAL, EWOULDBLOCK};

use super::flags::{
    copy, copy_all, flag_name, range, Disk, COPY, DEDUP, FLAGS, REFLINK, WRONG_FLAGS,
};
use crate::case::{case, worker, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Errno, Failure, Outcome, Sys};
use crate::filesystem::{Reflinkfs, Xfs};
use crate::pattern::{blocks, BLOCK};
use crate::process::Child;
use crate::runner::KernelLog;
use crate::sys::{c_path, check, sleep_ms, File};
use crate::wait::eventually;

pub const CASES: &[Case] = &[
    case!(without_the_module_the_kernel_is_as_before),
    case!(loading_takes_less_than_a_second),
    case!(the_module_is_loaded_once),
    case!(a_system_call_that_something_else_redirects_is_ebusy),
    case!(loading_and_unloading_under_traffic_gives_old_or_new_results),
    case!(unloading_is_refused_while_a_call_sleeps),
    case!(unloading_is_refused_while_the_counters_are_open),
];

/// A test module that hooks the same system call, and handles no call.
const RIVAL: &str = "copy_fr_rival";

fn load_module(name: &str) -> Sys {
    let file = File::open(format!("/run/vm/modules/{name}.ko"), libc::O_RDONLY)?;
    // SAFETY: the parameters are an empty string.
    let result =
        unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) };
    check(result).map(|_| ())
}

fn unload_module(name: &str) -> Sys {
    let name = c_path(name.as_ref());
    // SAFETY: the name is NUL-terminated.
    let result = unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) };
    check(result).map(|_| ())
}

fn load() -> Sys {
    load_module("copy_fr")
}

fn unload() -> Sys {
    unload_module("copy_fr")
}

fn is_loaded() -> bool {
    std::path::Path::new("/sys/module/copy_fr/parameters/active").exists()
}

/// Loads the module when dropped, whatever the test did.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        for _ in 0..100 {
            if is_loaded() || load().is_ok() {
                return;
            }
            sleep_ms(50);
        }
    }
}

fn unloaded() -> Outcome<Restored> {
    expect(is_loaded(), "copy_fr is loaded when the tests begin")?;
    unload().or_fail("unloading copy_fr")?;
    Ok(Restored)
}

fn without_the_module_the_kernel_is_as_before(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(1, 3))?;
    let to = t.create_with("to", &blocks(1, 3))?;
    let dir = File::open(&t.dir, libc::O_RDONLY).or_fail("open")?;
    let there = t.create_elsewhere("there", b"")?;
    let expect_old = || -> Outcome {
        for flags in FLAGS.into_iter().chain(WRONG_FLAGS) {
            // The flag is refused before the files are checked.
            for (what, from, to) in [
                ("files", &source, &to),
                ("a directory", &dir, &to),
                ("another filesystem", &source, &there),
                ("one file", &source, &source),
            ] {
                for len in [0, BLOCK, usize::MAX] {
                    let result = copy(from, to, range(0, 0, len), flags);
                    let what = format!("{}, {what}, {len} bytes", flag_name(flags));
                    expect_errno(result, EINVAL, what)?;
                }
            }
        }
        let copied = copy(&source, &to, range(0, 0, BLOCK), 0).or_fail("no flag")?;
        expect_eq(copied, BLOCK, "bytes copied without a flag")?;
        to.expect_contents(&blocks(1, 3), "the destination")
    };
    let restored = unloaded()?;
    expect_old()?;
    expect(
        !std::path::Path::new("/sys/kernel/debug/copy_fr").exists(),
        "nothing is left in debugfs",
    )?;
    drop(restored);
    expect(is_loaded(), "it can be loaded again")?;
    for flags in [COPY, REFLINK, DEDUP] {
        if flags == COPY || t.filesystem.can_share() {
            copy_all(&source, &to, range(0, 0, BLOCK), flags)?;
        }
    }
    let _restored = unloaded()?;
    expect_old()
}

fn loading_takes_less_than_a_second(t: &Test) -> Outcome {
    let mut took = Vec::new();
    for _ in 0..3 {
        let restored = unloaded()?;
        let started = Instant::now();
        load().or_fail("loading copy_fr")?;
        took.push(started.elapsed());
        drop(restored);
    }
    eprintln!("hook: loading copy_fr took {took:?}");
    // The debug kernel's checks of a module take long.
    let limit = Duration::from_secs(if t.settings.divisor > 1 { 10 } else { 1 });
    let fastest = took.iter().min().copied().unwrap_or_default();
    expect(fastest < limit, format_args!("loading took {took:?}"))
}

fn the_module_is_loaded_once(_: &Test) -> Outcome {
    expect_errno(load(), libc::EEXIST, "loading it once more")?;
    expect(is_loaded(), "it is still there")
}

fn a_system_call_that_something_else_redirects_is_ebusy(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(5, 1))?;
    let to = t.create("to")?;
    expect_errno(
        load_module(RIVAL),
        libc::EBUSY,
        "redirecting what copy_fr redirects",
    )?;
    copy_all(&source, &to, range(0, 0, BLOCK), COPY)?;
    let restored = unloaded()?;
    load_module(RIVAL).or_fail("loading the rival")?;
    let log = KernelLog::open();
    let refused = load();
    let said = log.news();
    unload_module(RIVAL).or_fail("unloading the rival")?;
    expect_errno(refused, libc::EBUSY, "loading copy_fr under a rival")?;
    expect(
        said.contains("copy_file_range(2) is redirected by something else"),
        format_args!("the log names the obstacle: {said}"),
    )?;
    let result = copy(&source, &to, range(0, 0, BLOCK), COPY);
    expect_errno(result, EINVAL, "a call after the refusal")?;
    drop(restored);
    copy_all(&source, &to, range(0, 0, BLOCK), COPY)
}

/// Checks a call during loading or unloading: it has the result with the module, or `EINVAL`.
fn expect_old_or_new(result: Sys<usize>, new: Sys<usize>, what: &str) -> Outcome {
    expect(
        result == new || result == Err(Errno(EINVAL)),
        format_args!("{what} returned {result:?}, neither {new:?} nor EINVAL"),
    )
}

fn loading_and_unloading_under_traffic_gives_old_or_new_results(t: &Test) -> Outcome {
    let data = blocks(2, 8);
    let _restored = Restored;
    let (loads, refusals) = (AtomicU32::new(0), AtomicU32::new(0));
    let (seen_old, seen_new) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut workers = vec![worker("loader", || match unload() {
        Ok(()) => {
            sleep_ms(5);
            load().or_fail("loading copy_fr")?;
            loads.fetch_add(1, Ordering::Relaxed);
            sleep_ms(5);
            Ok(())
        }
        Err(Errno(EWOULDBLOCK)) => {
            refusals.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
        Err(error) => Err(Failure::new(format_args!("unloading copy_fr: {error}"))),
    })];
    for (number, name) in ["caller 0", "caller 1", "caller 2"].into_iter().enumerate() {
        let source = t.create_with(&format!("source{number}"), &data)?;
        let to = t.create_with(&format!("to{number}"), &data)?;
        let different = t.create_with(&format!("different{number}"), &blocks(3, 8))?;
        let (seen_old, seen_new) = (&seen_old, &seen_new);
        workers.push(worker(name, move || {
            let whole = range(0, 0, data_len(&source)?);
            let can_share = t.filesystem.can_share();
            for flags in FLAGS {
                let result = copy(&source, &to, whole, flags);
                let new = match flags {
                    COPY => Ok(whole.len),
                    _ if can_share => Ok(whole.len),
                    _ => Err(Errno(libc::EOPNOTSUPP)),
                };
                expect_old_or_new(result, new, &flag_name(flags))?;
                let seen = if result == new { seen_new } else { seen_old };
                seen.store(true, Ordering::Relaxed);
            }
            if can_share {
                let result = copy(&source, &different, whole, DEDUP);
                expect_old_or_new(result, Err(Errno(libc::EBADE)), "a deduplication")?;
            }
            let bad = copy(&source, &to, whole, 3);
            expect_errno(bad, EINVAL, "flags = 3")?;
            let plain = copy(&source, &to, range(0, 0, BLOCK), 0).or_fail("no flag")?;
            expect_eq(plain, BLOCK, "bytes copied without a flag")?;
            to.expect_contents(&blocks(2, 8), "the destination")?;
            different.expect_contents(&blocks(3, 8), "the one that differs")?;
            // Now and then no call is in progress; otherwise the module could never be unloaded.
            sleep_ms(3);
            Ok(())
        }));
    }
    crate::case::race_for(t.settings.race * 5, workers)?;
    let (loads, refusals) = (loads.into_inner(), refusals.into_inner());
    eprintln!("hook: loaded {loads} times under traffic, unloading was refused {refusals} times");
    expect(loads > 1, format_args!("it was loaded {loads} times"))?;
    let both = seen_old.into_inner() && seen_new.into_inner();
    expect(
        both,
        "callers met both the kernel with the module and without it",
    )
}

fn data_len(file: &File) -> Outcome<usize> {
    Ok(file.size()? as usize)
}

const FIFREEZE: libc::c_ulong = 0xc004_5877;
const FITHAW: libc::c_ulong = 0xc004_5878;

/// A filesystem that blocks writes.
struct Frozen(File);

impl Frozen {
    fn new(disk: &Disk) -> Outcome<Self> {
        let root = File::open(&disk.root, libc::O_RDONLY).or_fail("open")?;
        // SAFETY: the argument is not used.
        check(unsafe { libc::ioctl(root.as_raw_fd(), FIFREEZE, 0) }).or_fail("FIFREEZE")?;
        Ok(Self(root))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // SAFETY: the argument is not used.
        unsafe { libc::ioctl(self.0.as_raw_fd(), FITHAW, 0) };
    }
}

fn unloading_is_refused_while_a_call_sleeps(t: &Test) -> Outcome {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").or_fail("osrelease")?;
    // The kernels that are built for the tests have no XFS; Debian's must have it.
    let own = kernel.contains("-reflinkfs-");
    let filesystems = if own {
        &[Reflinkfs][..]
    } else {
        &[Reflinkfs, Xfs]
    };
    for &filesystem in filesystems {
        let disk = Disk::of(t, filesystem, filesystem.name(), "loop")?;
        expect_refused_under_calls(disk).or_fail(filesystem.name())?;
    }
    Ok(())
}

fn expect_refused_under_calls(disk: Disk) -> Outcome {
    let data = blocks(4, 8);
    let source = disk.create_with("source", &data)?;
    let to = disk.create_with("to", &data)?;
    for flags in FLAGS {
        let name = flag_name(flags);
        let frozen = Frozen::new(&disk)?;
        let child = Child::spawn(|| copy_all(&source, &to, range(0, 0, data.len()), flags))?;
        expect_asleep(&child)?;
        expect_errno(
            unload(),
            EWOULDBLOCK,
            format_args!("unloading it under {name}"),
        )?;
        expect(
            !child.is_over(),
            format_args!("{name} still sleeps: {}", child.said()),
        )?;
        expect(is_loaded(), "it is still loaded")?;
        drop(frozen);
        child.join()?;
        to.expect_contents(&data, &name)?;
    }
    // A call that is killed while it sleeps releases the module, too.
    let frozen = Frozen::new(&disk)?;
    let child = Child::spawn(|| copy_all(&source, &to, range(0, 0, data.len()), COPY))?;
    expect_asleep(&child)?;
    child.kill(libc::SIGKILL);
    sleep_ms(100);
    drop(frozen);
    child.wait_for(Duration::from_secs(20))?;
    let _restored = Restored;
    unload().or_fail("unloading it when no call is in progress")?;
    let result = copy(&source, &to, range(0, 0, BLOCK), COPY);
    expect_errno(result, EINVAL, "a call afterwards")?;
    drop((source, to));
    disk.unmount()
}

/// Waits until a process sleeps in the kernel, in copy_file_range.
fn expect_asleep(child: &Child) -> Outcome {
    eventually("the call sleeps", || {
        expect(
            !child.is_over(),
            format_args!("it is over: {}", child.said()),
        )?;
        let path = format!("/proc/{}/syscall", child.pid());
        let said = std::fs::read_to_string(&path).unwrap_or_default();
        Ok(said.starts_with(&format!("{} ", libc::SYS_copy_file_range)))
    })
}

fn unloading_is_refused_while_the_counters_are_open(_t: &Test) -> Outcome {
    let _restored = Restored;
    for name in ["copy", "reflink", "dedup"] {
        let path = format!("/sys/kernel/debug/copy_fr/{name}");
        let counters = File::open(&path, libc::O_RDONLY).or_fail("open of the counters")?;
        expect_errno(
            unload(),
            EWOULDBLOCK,
            format_args!("unloading, {name} open"),
        )?;
        let text = counters.read_at(0, 10)?;
        expect(text.starts_with(b"whole "), "they can be read")?;
        drop(counters);
    }
    unload().or_fail("unloading, all closed")?;
    load().or_fail("loading")
}
