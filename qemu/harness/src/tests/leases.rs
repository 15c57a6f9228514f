// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Leases: the holder gets a signal before another process opens the file.

use std::os::fd::AsRawFd;
use std::path::Path;

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Outcome, Sys};
use crate::filesystem::CLONES;
use crate::process::{as_user, count_signals, in_child, signals_seen, Child};
use crate::sys::{
    check, chmod, link, new_clone, pipe, read_all, rename, sleep_ms, truncate, write_all, File,
};
use crate::wait::eventually;

pub const CASES: &[Case] = &[
    case!(leases_are_taken_shown_and_given_back),
    case!(a_lease_is_refused_to_who_is_not_alone),
    case!(opening_breaks_a_lease),
    case!(truncation_waits_until_the_lease_is_given_back),
    case!(an_open_waits_until_the_lease_is_given_back),
    case!(a_lease_that_is_not_given_back_is_taken),
    case!(a_lease_ends_with_its_file),
    case!(renaming_links_and_modes_break_no_lease),
    case!(a_lease_is_for_the_owner),
    case!(a_clone_of_a_leased_file_has_no_lease).needs(CLONES),
    case!(a_delegation_of_a_directory_is_broken_by_a_new_name),
];

const F_SETLEASE: i32 = 1024;
const F_GETLEASE: i32 = 1025;
const F_GETDELEG: i32 = 1024 + 15;
const F_SETDELEG: i32 = 1024 + 16;
const READ: i32 = libc::F_RDLCK;
const WRITE: i32 = libc::F_WRLCK;
const NONE: i32 = libc::F_UNLCK;

fn set_lease(file: &impl AsRawFd, kind: i32) -> Sys {
    // SAFETY: plain call on an open descriptor.
    check(unsafe { libc::fcntl(file.as_raw_fd(), F_SETLEASE, kind) }).map(|_| ())
}

#[track_caller]
fn expect_lease(file: &impl AsRawFd, kind: i32, what: &str) -> Outcome {
    // SAFETY: plain call on an open descriptor.
    let seen = check(unsafe { libc::fcntl(file.as_raw_fd(), F_GETLEASE) }).or_fail("F_GETLEASE")?;
    expect_eq(
        seen as i32,
        kind,
        format_args!("{what}: the lease (0 read, 1 write, 2 none)"),
    )
}

fn try_open(path: &Path, flags: i32) -> Sys {
    File::open(path, flags | libc::O_NONBLOCK).map(drop)
}

/// Waits for a counted signal.
#[track_caller]
fn wait_for_signal(what: &str) -> Outcome {
    eventually(format_args!("{what}: SIGIO comes"), || {
        Ok(signals_seen() > 0)
    })
}

/// The time that the kernel waits for a lease to be released.
struct BreakTime(String);

impl BreakTime {
    const FILE: &'static str = "/proc/sys/fs/lease-break-time";

    fn set(seconds: u32) -> Outcome<Self> {
        let before = std::fs::read_to_string(Self::FILE).or_fail(Self::FILE)?;
        std::fs::write(Self::FILE, seconds.to_string()).or_fail(Self::FILE)?;
        Ok(Self(before))
    }
}

impl Drop for BreakTime {
    fn drop(&mut self) {
        let _ = std::fs::write(Self::FILE, &self.0);
    }
}

fn leases_are_taken_shown_and_given_back(t: &Test) -> Outcome {
    let path = t.create("file")?.path.clone();
    let file = File::open(&path, libc::O_RDONLY).or_fail("open")?;
    expect_lease(&file, NONE, "at first")?;
    for kind in [READ, WRITE, READ, NONE] {
        set_lease(&file, kind).or_fail("F_SETLEASE")?;
        expect_lease(&file, kind, "after F_SETLEASE")?;
    }
    expect_errno(set_lease(&file, 77), libc::EINVAL, "an unknown lease")?;
    expect_errno(set_lease(&file, NONE), libc::EAGAIN, "giving back none")?;
    let dir = File::open(&t.dir, libc::O_RDONLY).or_fail("open")?;
    expect_errno(
        set_lease(&dir, READ),
        libc::EINVAL,
        "a lease on a directory",
    )
}

fn a_lease_is_refused_to_who_is_not_alone(t: &Test) -> Outcome {
    let writer = t.create("file")?;
    let reader = writer.reopen(libc::O_RDONLY)?;
    expect_errno(
        set_lease(&reader, READ),
        libc::EAGAIN,
        "to read, open for writing elsewhere",
    )?;
    expect_errno(
        set_lease(&writer, WRITE),
        libc::EAGAIN,
        "to write, open elsewhere",
    )?;
    expect_errno(
        set_lease(&writer, READ),
        libc::EAGAIN,
        "to read, for one that can write",
    )?;
    let path = writer.path.clone();
    drop(writer);
    set_lease(&reader, READ).or_fail("to read, without a writer")?;
    let other = File::open(&path, libc::O_RDONLY).or_fail("open by another reader")?;
    set_lease(&other, READ).or_fail("a second one to read")?;
    expect_errno(
        set_lease(&other, WRITE),
        libc::EAGAIN,
        "to write, with two readers",
    )?;
    drop(reader);
    set_lease(&other, WRITE).or_fail("to write, alone")
}

fn opening_breaks_a_lease(t: &Test) -> Outcome {
    let path = t.create("file")?.path.clone();
    count_signals(libc::SIGIO);
    for (kind, flags, left) in [
        (READ, libc::O_WRONLY, NONE),
        (READ, libc::O_RDWR | libc::O_TRUNC, NONE),
        (WRITE, libc::O_RDONLY, READ),
        (WRITE, libc::O_WRONLY, NONE),
    ] {
        let file = File::open(&path, libc::O_RDONLY).or_fail("open")?;
        set_lease(&file, kind).or_fail("F_SETLEASE")?;
        let what = format!("lease {kind}, open({flags:#o})");
        in_child(|| expect_errno(try_open(&path, flags), libc::EAGAIN, &what))?;
        wait_for_signal(&what)?;
        expect_lease(&file, left, "being broken, the type it may have")?;
        set_lease(&file, left).or_fail("F_SETLEASE of the rest")?;
        in_child(|| try_open(&path, flags).or_fail(&what))?;
        expect_eq(signals_seen(), 0, "signals after the lease was released")?;
    }
    let file = File::open(&path, libc::O_RDONLY).or_fail("open")?;
    set_lease(&file, READ).or_fail("F_SETLEASE")?;
    in_child(|| try_open(&path, libc::O_RDONLY).or_fail("a reader and a lease to read"))?;
    expect_eq(signals_seen(), 0, "signals for a reader")
}

fn truncation_waits_until_the_lease_is_given_back(t: &Test) -> Outcome {
    let path = t.create_with("file", b"some data")?.path.clone();
    count_signals(libc::SIGIO);
    let file = File::open(&path, libc::O_RDONLY).or_fail("open")?;
    set_lease(&file, READ).or_fail("F_SETLEASE")?;
    let child = Child::spawn(|| truncate(&path, 4).or_fail("truncate"))?;
    wait_for_signal("truncate")?;
    sleep_ms(20);
    expect(!child.is_over(), "truncate waits")?;
    file.expect_contents(b"some data", "while the lease is held")?;
    set_lease(&file, NONE).or_fail("F_SETLEASE")?;
    child.join()?;
    file.expect_contents(b"some", "after the lease was released")
}

fn an_open_waits_until_the_lease_is_given_back(t: &Test) -> Outcome {
    let path = t.create_with("file", b"before")?.path.clone();
    count_signals(libc::SIGIO);
    let file = File::open(&path, libc::O_RDWR).or_fail("open")?;
    set_lease(&file, WRITE).or_fail("F_SETLEASE")?;
    let child = Child::spawn(|| {
        let seen = File::open(&path, libc::O_RDONLY).or_fail("open")?;
        seen.expect_contents(b"behind", "the contents that the waiter sees")
    })?;
    wait_for_signal("open")?;
    file.write_at(b"behind", 0)?;
    expect(!child.is_over(), "open waits")?;
    set_lease(&file, NONE).or_fail("F_SETLEASE")?;
    child.join()
}

fn a_lease_that_is_not_given_back_is_taken(t: &Test) -> Outcome {
    let path = t.create("file")?.path.clone();
    count_signals(libc::SIGIO);
    let _time = BreakTime::set(1)?;
    let file = File::open(&path, libc::O_RDONLY).or_fail("open")?;
    set_lease(&file, READ).or_fail("F_SETLEASE")?;
    in_child(|| {
        File::open(&path, libc::O_WRONLY)
            .map(drop)
            .or_fail("open that waits")
    })?;
    expect_lease(&file, NONE, "after the time was over")
}

fn a_lease_ends_with_its_file(t: &Test) -> Outcome {
    let path = t.create("file")?.path.clone();
    let file = File::open(&path, libc::O_RDONLY).or_fail("open")?;
    set_lease(&file, WRITE).or_fail("F_SETLEASE")?;
    drop(file);
    try_open(&path, libc::O_RDWR).or_fail("open after the holder closed it")?;
    // An open that tried meanwhile would have the file open, and a write lease requires a single
    // opener.
    let (ready, input) = pipe()?;
    let child = Child::spawn(|| {
        let file = File::open(&path, libc::O_RDONLY).or_fail("open")?;
        set_lease(&file, WRITE).or_fail("F_SETLEASE")?;
        write_all(&input, b"!")?;
        loop {
            sleep_ms(1000);
        }
    })?;
    drop(input);
    if read_all(&ready, 1)?.is_empty() {
        return child.join();
    }
    expect_errno(
        try_open(&path, libc::O_RDWR),
        libc::EAGAIN,
        "open, leased by another process",
    )?;
    child.kill(libc::SIGKILL);
    child.end()?;
    try_open(&path, libc::O_RDWR).or_fail("open after the holder was killed")
}

fn renaming_links_and_modes_break_no_lease(t: &Test) -> Outcome {
    let path = t.create("file")?.path.clone();
    count_signals(libc::SIGIO);
    let file = File::open(&path, libc::O_RDONLY).or_fail("open")?;
    set_lease(&file, WRITE).or_fail("F_SETLEASE")?;
    link(&path, t.path("link")).or_fail("link")?;
    rename(&path, t.path("renamed")).or_fail("rename")?;
    chmod(t.path("renamed"), 0o600).or_fail("chmod")?;
    crate::sys::unlink(t.path("renamed")).or_fail("unlink")?;
    expect_eq(signals_seen(), 0, "signals")?;
    expect_lease(&file, WRITE, "after all that")?;
    // Each of its names refers to the same file.
    let opened = try_open(&t.path("link"), libc::O_RDONLY);
    expect_errno(opened, libc::EAGAIN, "open by another name")
}

fn a_lease_is_for_the_owner(t: &Test) -> Outcome {
    let path = t.create("file")?.path.clone();
    as_user(1000, 1000, || {
        let file = File::open(&path, libc::O_RDONLY).or_fail("open")?;
        expect_errno(
            set_lease(&file, READ),
            libc::EACCES,
            "a lease on root's file",
        )
    })?;
    crate::sys::chown(&path, 1000, 1000).or_fail("chown")?;
    as_user(1000, 1000, || {
        let file = File::open(&path, libc::O_RDONLY).or_fail("open")?;
        set_lease(&file, READ).or_fail("a lease on one's own")
    })
}

fn a_clone_of_a_leased_file_has_no_lease(t: &Test) -> Outcome {
    let path = t.create_with("file", b"data")?.path.clone();
    count_signals(libc::SIGIO);
    let file = File::open(&path, libc::O_RDONLY).or_fail("open")?;
    set_lease(&file, READ).or_fail("F_SETLEASE")?;
    let clone = new_clone(&file, t.path("clone"))?;
    clone.write_at(b"mine", 0)?;
    try_open(&clone.path, libc::O_RDWR | libc::O_TRUNC).or_fail("open of the clone")?;
    expect_eq(signals_seen(), 0, "signals")?;
    expect_lease(&file, READ, "of the source")?;
    expect_lease(&clone, NONE, "of the clone")
}

fn a_delegation_of_a_directory_is_broken_by_a_new_name(t: &Test) -> Outcome {
    let path = t.mkdir("dir")?;
    File::create(path.join("there"))?;
    let dir = File::open(&path, libc::O_RDONLY).or_fail("open")?;
    // struct delegation: flags, kind, padding.
    let set = |kind: i32| {
        let words = [0u32, kind as u32 & 0xffff];
        // SAFETY: the kernel reads two words.
        check(unsafe { libc::fcntl(dir.as_raw_fd(), F_SETDELEG, words.as_ptr()) }).map(|_| ())
    };
    let get = || -> Outcome<u32> {
        let mut words = [0u32; 2];
        // SAFETY: the kernel stores two words.
        check(unsafe { libc::fcntl(dir.as_raw_fd(), F_GETDELEG, words.as_mut_ptr()) })
            .or_fail("F_GETDELEG")?;
        Ok(words[1] & 0xffff)
    };
    count_signals(libc::SIGIO);
    for name in ["new", "there"] {
        set(READ).or_fail("F_SETDELEG")?;
        expect_eq(get()?, READ as u32, "the delegation")?;
        let child = Child::spawn(|| match name {
            "new" => File::create(path.join(name)).map(drop),
            _ => crate::sys::unlink(path.join(name)).or_fail("unlink"),
        })?;
        wait_for_signal(name)?;
        sleep_ms(10);
        expect(!child.is_over(), format_args!("{name}: the change waits"))?;
        set(NONE).or_fail("F_SETDELEG of none")?;
        child.join()?;
    }
    Ok(())
}
