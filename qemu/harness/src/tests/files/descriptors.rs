// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Calls on open files besides reading and writing: syncing, locks, flags of open.

use std::os::fd::AsRawFd;

use crate::case::{case, Case, Test};
use crate::failure::{expect_eq, expect_errno, Context, Outcome};
use crate::sys::{check, read_all, write_from, File};

pub const CASES: &[Case] = &[
    case!(fsync_fdatasync_and_syncfs_succeed),
    case!(locks_and_leases_work_as_everywhere),
    case!(open_flags_are_accepted),
];

fn fsync_fdatasync_and_syncfs_succeed(t: &Test) -> Outcome {
    let file = t.create_with("file", b"data")?;
    let dir = File::open(&t.dir, libc::O_RDONLY).or_fail("open of the directory")?;
    // SAFETY: plain calls on open descriptors.
    unsafe {
        for (what, fd) in [("file", file.as_raw_fd()), ("directory", dir.as_raw_fd())] {
            check(libc::fsync(fd)).or_fail(format_args!("fsync of a {what}"))?;
            check(libc::fdatasync(fd)).or_fail(format_args!("fdatasync of a {what}"))?;
        }
        check(libc::syncfs(file.as_raw_fd())).or_fail("syncfs")?;
        let reader = file.reopen(libc::O_RDONLY)?;
        check(libc::fsync(reader.as_raw_fd())).or_fail("fsync of a read-only descriptor")?;
    }
    file.expect_contents(b"data", "after syncing")
}

fn locks_and_leases_work_as_everywhere(t: &Test) -> Outcome {
    let file = t.create_with("file", b"data")?;
    let other = file.reopen(libc::O_RDWR)?;
    let flock = |f: &File, operation| {
        // SAFETY: plain call on an open descriptor.
        check(unsafe { libc::flock(f.as_raw_fd(), operation) })
    };
    flock(&file, libc::LOCK_EX).or_fail("flock")?;
    let refused = flock(&other, libc::LOCK_EX | libc::LOCK_NB);
    expect_errno(refused, libc::EWOULDBLOCK, "a second flock")?;
    flock(&file, libc::LOCK_UN).or_fail("unlock")?;
    flock(&other, libc::LOCK_EX | libc::LOCK_NB).or_fail("flock after unlock")?;
    let record = |f: &File, kind: i32| {
        // SAFETY: a flock of zeros is a valid value.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = kind as i16;
        lock.l_len = 2;
        // SAFETY: `lock` is valid for the call.
        check(unsafe { libc::fcntl(f.as_raw_fd(), libc::F_OFD_SETLK, &lock) })
    };
    record(&file, libc::F_WRLCK).or_fail("record lock")?;
    expect_errno(
        record(&other, libc::F_RDLCK),
        libc::EAGAIN,
        "a second record lock",
    )
}

fn open_flags_are_accepted(t: &Test) -> Outcome {
    t.create_with("file", b"data")?;
    for flag in [
        libc::O_SYNC,
        libc::O_DSYNC,
        libc::O_NONBLOCK,
        libc::O_NOATIME,
        libc::O_NOCTTY,
        libc::O_NOFOLLOW,
        libc::O_LARGEFILE,
    ] {
        let file = File::open(t.path("file"), libc::O_RDWR | flag)
            .or_fail(format_args!("open with flag {flag:#o}"))?;
        file.write_at(b"data", 0)?;
        file.expect_contents(b"data", "through it")?;
    }
    let path = File::open(t.path("file"), libc::O_PATH).or_fail("open(O_PATH)")?;
    expect_errno(path.try_pread(&mut [0], 0), libc::EBADF, "pread on O_PATH")?;
    let (reader, writer) = crate::sys::pipe()?;
    write_from(&writer, b"p".as_ptr(), 1).or_fail("write")?;
    expect_eq(read_all(&reader, 1)?, b"p", "a pipe")
}
