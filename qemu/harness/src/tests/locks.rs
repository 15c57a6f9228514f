// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Advisory locks: of POSIX, of open file descriptions, of flock(2).

use std::os::fd::AsRawFd;

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Outcome, Sys};
use crate::filesystem::CLONES;
use crate::pattern::blocks;
use crate::process::{in_child, Child};
use crate::sys::{check, clone_file, new_clone, sleep_ms, File};

pub const CASES: &[Case] = &[
    case!(posix_locks_keep_other_processes_out_of_their_range),
    case!(posix_locks_end_with_the_process_and_with_any_close),
    case!(who_waits_for_a_posix_lock_gets_it),
    case!(two_who_wait_for_each_other_are_told),
    case!(locks_of_an_open_file_exclude_its_other_openings),
    case!(flock_is_shared_or_exclusive),
    case!(locks_keep_nobody_from_writing_or_cloning).needs(CLONES),
    case!(a_clone_is_not_locked).needs(CLONES),
    case!(counting_under_a_lock_loses_nothing),
];

fn lock(file: &impl AsRawFd, command: i32, kind: i32, start: i64, len: i64) -> Sys {
    let mut range = range(kind, start, len);
    // SAFETY: the range is valid during the call.
    check(unsafe { libc::fcntl(file.as_raw_fd(), command, &mut range) }).map(|_| ())
}

fn range(kind: i32, start: i64, len: i64) -> libc::flock {
    // SAFETY: a lock of zeros is a valid value.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = kind as i16;
    range.l_whence = libc::SEEK_SET as i16;
    range.l_start = start;
    range.l_len = len;
    range
}

/// Returns the conflicting lock: (kind, start, length, process).
fn holder(
    file: &impl AsRawFd,
    kind: i32,
    start: i64,
    len: i64,
) -> Outcome<Option<(i32, i64, i64, i32)>> {
    let mut range = range(kind, start, len);
    // SAFETY: the range is valid during the call.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &mut range) })
        .or_fail("F_GETLK")?;
    Ok(match i32::from(range.l_type) {
        UNLOCK => None,
        kind => Some((kind, range.l_start, range.l_len, range.l_pid)),
    })
}

const SHARED: i32 = libc::F_RDLCK;
const EXCLUSIVE: i32 = libc::F_WRLCK;
const UNLOCK: i32 = libc::F_UNLCK;

fn posix_locks_keep_other_processes_out_of_their_range(t: &Test) -> Outcome {
    let file = t.create("file")?;
    lock(&file, libc::F_SETLK, EXCLUSIVE, 100, 50).or_fail("F_SETLK")?;
    lock(&file, libc::F_SETLK, SHARED, 1000, 0).or_fail("F_SETLK to the end")?;
    // SAFETY: plain call.
    let own = unsafe { libc::getpid() };
    in_child(|| {
        let file = file.reopen(libc::O_RDWR)?;
        let locked = |kind, start, len| lock(&file, libc::F_SETLK, kind, start, len);
        expect_errno(locked(SHARED, 149, 1), libc::EAGAIN, "the last byte")?;
        expect_errno(locked(EXCLUSIVE, 0, 0), libc::EAGAIN, "everything")?;
        expect_errno(
            locked(EXCLUSIVE, 1 << 40, 1),
            libc::EAGAIN,
            "far behind the end",
        )?;
        locked(EXCLUSIVE, 0, 100).or_fail("before it")?;
        locked(EXCLUSIVE, 150, 850).or_fail("between")?;
        locked(SHARED, 1 << 40, 1).or_fail("sharing")?;
        let seen = holder(&file, EXCLUSIVE, 120, 5)?;
        expect_eq(seen, Some((EXCLUSIVE, 100, 50, own)), "what F_GETLK says")?;
        expect_eq(holder(&file, SHARED, 5000, 5)?, None, "for one that shares")
    })?;
    lock(&file, libc::F_SETLK, UNLOCK, 110, 10).or_fail("unlocking the middle")?;
    in_child(|| {
        let file = file.reopen(libc::O_RDWR)?;
        lock(&file, libc::F_SETLK, EXCLUSIVE, 110, 10).or_fail("the middle")?;
        expect_errno(
            lock(&file, libc::F_SETLK, EXCLUSIVE, 109, 1),
            libc::EAGAIN,
            "before it",
        )?;
        expect_errno(
            lock(&file, libc::F_SETLK, EXCLUSIVE, 120, 1),
            libc::EAGAIN,
            "behind it",
        )
    })
}

fn posix_locks_end_with_the_process_and_with_any_close(t: &Test) -> Outcome {
    let file = t.create("file")?;
    in_child(|| lock(&file, libc::F_SETLK, EXCLUSIVE, 0, 0).or_fail("F_SETLK"))?;
    lock(&file, libc::F_SETLK, EXCLUSIVE, 0, 0).or_fail("after the process ended")?;
    drop(file.reopen(libc::O_RDONLY)?);
    in_child(|| {
        let file = file.reopen(libc::O_RDWR)?;
        lock(&file, libc::F_SETLK, EXCLUSIVE, 0, 0).or_fail("after any descriptor was closed")
    })
}

fn who_waits_for_a_posix_lock_gets_it(t: &Test) -> Outcome {
    let file = t.create_with("file", b"before")?;
    lock(&file, libc::F_SETLK, EXCLUSIVE, 0, 6).or_fail("F_SETLK")?;
    let waits = Child::spawn(|| {
        let file = file.reopen(libc::O_RDWR)?;
        lock(&file, libc::F_SETLKW, EXCLUSIVE, 3, 100).or_fail("F_SETLKW")?;
        file.expect_contents(b"behind", "once it has the lock")
    })?;
    sleep_ms(30);
    expect(!waits.is_over(), "F_SETLKW waits")?;
    file.write_at(b"behind", 0)?;
    lock(&file, libc::F_SETLK, UNLOCK, 0, 0).or_fail("unlock")?;
    waits.join()
}

fn two_who_wait_for_each_other_are_told(t: &Test) -> Outcome {
    let file = t.create("file")?;
    let told = t.create("told")?;
    lock(&file, libc::F_SETLK, EXCLUSIVE, 0, 1).or_fail("F_SETLK")?;
    // The second process gets EDEADLK, and releases its lock, so that the other gets it.
    let ask = |file: &File, own, wanted| {
        let asked = lock(file, libc::F_SETLKW, EXCLUSIVE, wanted, 1);
        if asked.is_err() {
            expect_errno(
                asked,
                libc::EDEADLK,
                "waiting for a process that waits for us",
            )?;
            lock(file, libc::F_SETLK, UNLOCK, own, 1).or_fail("unlock")?;
        }
        Ok(asked.is_err())
    };
    let other = Child::spawn(|| {
        let file = file.reopen(libc::O_RDWR)?;
        lock(&file, libc::F_SETLK, EXCLUSIVE, 1, 1).or_fail("F_SETLK")?;
        if ask(&file, 1, 0)? {
            told.write_at(b"told", 0)?;
        }
        Ok(())
    })?;
    while holder(&file, EXCLUSIVE, 1, 1)?.is_none() {
        expect(!other.is_over(), "the other still runs")?;
        sleep_ms(1);
    }
    let we = ask(&file, 0, 1)?;
    other.join()?;
    let other = told.read_at(0, 4)? == b"told";
    expect(we != other, "exactly one of the two gets EDEADLK")
}

fn locks_of_an_open_file_exclude_its_other_openings(t: &Test) -> Outcome {
    let one = t.create("file")?;
    let other = one.reopen(libc::O_RDWR)?;
    lock(&one, libc::F_OFD_SETLK, EXCLUSIVE, 0, 10).or_fail("F_OFD_SETLK")?;
    let refused = lock(&other, libc::F_OFD_SETLK, SHARED, 5, 1);
    expect_errno(
        refused,
        libc::EAGAIN,
        "by another opening in the same process",
    )?;
    let refused = lock(&other, libc::F_SETLK, EXCLUSIVE, 5, 1);
    expect_errno(refused, libc::EAGAIN, "a POSIX lock")?;
    // A process that inherits the descriptor has its lock, too.
    in_child(|| {
        lock(&one, libc::F_OFD_SETLK, EXCLUSIVE, 0, 20).or_fail("by an heir of the descriptor")
    })?;
    drop(one.reopen(libc::O_RDWR)?);
    let refused = lock(&other, libc::F_OFD_SETLK, SHARED, 15, 1);
    expect_errno(
        refused,
        libc::EAGAIN,
        "the child's, which did not end with it",
    )?;
    drop(one);
    lock(&other, libc::F_OFD_SETLK, EXCLUSIVE, 0, 0).or_fail("after the last close")
}

fn flock(file: &impl AsRawFd, operation: i32) -> Sys {
    // SAFETY: plain call on an open descriptor.
    check(unsafe { libc::flock(file.as_raw_fd(), operation | libc::LOCK_NB) }).map(|_| ())
}

fn flock_is_shared_or_exclusive(t: &Test) -> Outcome {
    let one = t.create("file")?;
    let other = one.reopen(libc::O_RDONLY)?;
    flock(&one, libc::LOCK_SH).or_fail("LOCK_SH")?;
    flock(&other, libc::LOCK_SH).or_fail("a second LOCK_SH")?;
    expect_errno(flock(&one, libc::LOCK_EX), libc::EAGAIN, "LOCK_EX of two")?;
    drop(other);
    flock(&one, libc::LOCK_EX).or_fail("LOCK_EX, alone")?;
    in_child(|| {
        let other = one.reopen(libc::O_RDONLY)?;
        expect_errno(
            flock(&other, libc::LOCK_SH),
            libc::EAGAIN,
            "LOCK_SH elsewhere",
        )
    })?;
    // A directory can be locked as well.
    let dir = File::open(&t.dir, libc::O_RDONLY).or_fail("open")?;
    let again = File::open(&t.dir, libc::O_RDONLY).or_fail("open")?;
    flock(&dir, libc::LOCK_EX).or_fail("LOCK_EX of a directory")?;
    expect_errno(flock(&again, libc::LOCK_SH), libc::EAGAIN, "LOCK_SH of it")?;
    flock(&dir, libc::LOCK_UN).or_fail("LOCK_UN")?;
    flock(&again, libc::LOCK_SH).or_fail("LOCK_SH after LOCK_UN")
}

fn locks_keep_nobody_from_writing_or_cloning(t: &Test) -> Outcome {
    let data = blocks(1, 10);
    let file = t.create_with("file", &data)?;
    lock(&file, libc::F_SETLK, EXCLUSIVE, 0, 0).or_fail("F_SETLK")?;
    flock(&file, libc::LOCK_EX).or_fail("flock")?;
    in_child(|| {
        let other = file.reopen(libc::O_RDWR)?;
        new_clone(&other, t.path("clone"))?.expect_contents(&data, "a clone")?;
        other.write_at(b"changed", 0)?;
        other.truncate(7)?;
        let source = t.create_with("source", &blocks(2, 10))?;
        clone_file(&source, &other).or_fail("FICLONE into it")
    })?;
    file.expect_contents(&blocks(2, 10), "what others made of it")
}

fn a_clone_is_not_locked(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(1, 2))?;
    lock(&file, libc::F_SETLK, EXCLUSIVE, 0, 0).or_fail("F_SETLK")?;
    flock(&file, libc::LOCK_EX).or_fail("flock")?;
    let clone = new_clone(&file, t.path("clone"))?;
    in_child(|| {
        let clone = clone.reopen(libc::O_RDWR)?;
        lock(&clone, libc::F_SETLK, EXCLUSIVE, 0, 0).or_fail("F_SETLK of the clone")?;
        flock(&clone, libc::LOCK_EX).or_fail("flock of the clone")
    })
}

fn counting_under_a_lock_loses_nothing(t: &Test) -> Outcome {
    let turns = t.rounds(200);
    type Step = fn(&File, bool) -> Sys;
    let kinds: [(&str, Step); 3] = [
        ("POSIX", |f, on| {
            lock(
                f,
                libc::F_SETLKW,
                [UNLOCK, EXCLUSIVE][usize::from(on)],
                0,
                8,
            )
        }),
        ("open file", |f, on| {
            lock(
                f,
                libc::F_OFD_SETLKW,
                [UNLOCK, EXCLUSIVE][usize::from(on)],
                0,
                8,
            )
        }),
        ("flock", |f, on| {
            let operation = [libc::LOCK_UN, libc::LOCK_EX][usize::from(on)];
            // SAFETY: plain call on an open descriptor.
            check(unsafe { libc::flock(f.as_raw_fd(), operation) }).map(|_| ())
        }),
    ];
    for (name, step) in kinds {
        let file = t.create_with("counter", &0u64.to_le_bytes())?;
        let children = (0..3).map(|_| {
            Child::spawn(|| {
                let file = file.reopen(libc::O_RDWR)?;
                for _ in 0..turns {
                    step(&file, true).or_fail(name)?;
                    let seen = file.read_at(0, 8)?;
                    let count = u64::from_le_bytes(seen.try_into().expect("8 bytes"));
                    file.write_at(&(count + 1).to_le_bytes(), 0)?;
                    step(&file, false).or_fail(name)?;
                }
                Ok(())
            })
        });
        let children = children.collect::<Outcome<Vec<_>>>()?;
        children.into_iter().try_for_each(Child::join)?;
        file.expect_contents(&(3 * turns as u64).to_le_bytes(), name)?;
    }
    Ok(())
}
