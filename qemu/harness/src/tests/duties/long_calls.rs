// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Long calls that are one change: to make the file a program, or immutable, or to freeze the
//! filesystem, waits until they are over, so that they need not repeat the duties. The duties of a
//! copy, which is many changes, are in `copy::steps`.

use std::os::fd::AsRawFd;

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, Context, Failure, Outcome};
use crate::fileattr::{set_flags, APPEND, IMMUTABLE};
use crate::filesystem::{Btrfs, Feature, Tmpfs, Xfs};
use crate::frozen::{ioctl, FIFREEZE, FITHAW};
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::process::{as_user, Child};
use crate::stall::Stall;
use crate::sys::{check, chmod, chown, lstat, sleep_ms, File};
use crate::tests::fallocate::fallocate;

const BEFORE: &str = "looks before it has the lock only";
const AT_ONCE: &str = "allocates one extent, at once";

pub const CASES: &[Case] = &[
    case!(a_write_that_waits_for_its_buffer_is_one_change),
    case!(a_filesystem_is_frozen_after_a_write_that_waits).needs(&[Feature::Reflinkfs]),
    case!(a_long_fallocate_is_one_change)
        .except(Xfs, AT_ONCE)
        .except(Btrfs, AT_ONCE),
    case!(a_truncation_that_waited_takes_what_was_given_meanwhile).needs(&[Feature::Reflinkfs]),
    case!(a_punch_that_waited_leaves_what_may_only_grow)
        .except(Tmpfs, BEFORE)
        .except(Xfs, BEFORE)
        .except(Btrfs, BEFORE),
];

/// Writes two blocks, and runs `meanwhile` while the write waits for the second one.
fn write_two(file: &File, meanwhile: impl FnOnce() -> Outcome) -> Outcome {
    let (stall, first) = (Stall::new()?, blocks(2, 1));
    // Addresses, as they are sent to another thread.
    let parts = [first.as_ptr() as usize, stall.buffer().at(0) as usize];
    let write = || {
        let parts = parts.map(|base| libc::iovec {
            iov_base: base as *mut libc::c_void,
            iov_len: BLOCK,
        });
        // SAFETY: two vectors that describe a block each, which live until the call is over.
        check(unsafe { libc::pwritev(file.as_raw_fd(), parts.as_ptr(), 2, 0) } as i64)
    };
    let written = stall.during(write, b'w', meanwhile)?;
    expect_eq(written, Ok(2 * BLOCK), "bytes written")?;
    let mut whole = first;
    whole.extend([b'w'; BLOCK]);
    file.expect_contents(&whole, "the written bytes")
}

fn a_write_that_waits_for_its_buffer_is_one_change(t: &Test) -> Outcome {
    let file = t.create("file")?;
    let (path, mut waiting) = (file.path.clone(), Vec::new());
    write_two(&file, || {
        waiting.push(Child::spawn(|| chmod(&path, 0o4755).or_fail("chmod"))?);
        waiting.push(Child::spawn(|| {
            set_flags(&file, IMMUTABLE).or_fail("FS_IOC_SETFLAGS")
        })?);
        sleep_ms(100);
        let waits = waiting.iter().all(|child| !child.is_over());
        expect(waits, "chmod and FS_IOC_SETFLAGS wait")
    })?;
    // One of them may come first, and make the other fail.
    let ended: Vec<_> = waiting.into_iter().map(Child::join).collect();
    set_flags(&file, 0).or_fail("FS_IOC_SETFLAGS of none")?;
    expect(ended[1].is_ok(), "it became immutable")?;
    let is_program = lstat(&path).or_fail("lstat")?.st_mode & 0o4000 != 0;
    expect_eq(is_program, ended[0].is_ok(), "whether the bit is set")
}

fn a_filesystem_is_frozen_after_a_write_that_waits(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "4M")])?;
    let file = fs.create("file")?;
    let mut freezing = None;
    let written = write_two(&file, || {
        let child = Child::spawn(|| ioctl(&fs.root, FIFREEZE).or_fail("FIFREEZE"))?;
        sleep_ms(100);
        let waits = !child.is_over();
        freezing = Some(child);
        expect(waits, "FIFREEZE waits")
    });
    let frozen = freezing.map_or(Ok(()), Child::join);
    frozen.and_then(|()| ioctl(&fs.root, FITHAW).or_fail("FITHAW"))?;
    written
}

/// The VFS checks set-id bits before it waits for the lock; they are set by a call that waited
/// before it.
fn a_truncation_that_waited_takes_what_was_given_meanwhile(t: &Test) -> Outcome {
    for i in 0..5 {
        let file = t.create(&format!("file-{i}"))?;
        let (path, mut waiting) = (file.path.clone(), Vec::new());
        chown(&path, 1000, 1000).or_fail("chown")?;
        chmod(&path, 0o777).or_fail("chmod")?;
        write_two(&file, || {
            waiting.push(Child::spawn(|| chmod(&path, 0o4777).or_fail("chmod"))?);
            sleep_ms(50);
            waiting.push(Child::spawn(|| {
                as_user(1000, 1000, || file.truncate(2 * BLOCK64))
            })?);
            sleep_ms(100);
            let waits = waiting.iter().all(|child| !child.is_over());
            expect(waits, "chmod and ftruncate wait")
        })?;
        waiting.into_iter().try_for_each(Child::join)?;
        // The first waiter nearly always gets the lock first.
        if lstat(&path).or_fail("lstat")?.st_mode & 0o4000 == 0 {
            return Ok(());
        }
    }
    Err(Failure::new("a truncated file is still set-user-ID"))
}

/// The VFS checks the flag before the filesystem has the lock; it is set by a call that waited
/// before.
fn a_punch_that_waited_leaves_what_may_only_grow(t: &Test) -> Outcome {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    for i in 0..5 {
        let file = t.create(&format!("file-{i}"))?;
        let mut waiting = Vec::new();
        write_two(&file, || {
            waiting.push(Child::spawn(|| {
                set_flags(&file, APPEND).or_fail("FS_IOC_SETFLAGS")
            })?);
            sleep_ms(50);
            waiting.push(Child::spawn(|| {
                fallocate(&file, mode, 0, BLOCK64).or_fail("fallocate")
            })?);
            sleep_ms(100);
            let waits = waiting.iter().all(|child| !child.is_over());
            expect(waits, "FS_IOC_SETFLAGS and fallocate wait")
        })?;
        let ended: Vec<_> = waiting.into_iter().map(Child::join).collect();
        set_flags(&file, 0).or_fail("FS_IOC_SETFLAGS of none")?;
        // The first waiter nearly always gets the lock first.
        if ended[1].is_err() {
            return ended.into_iter().next().unwrap_or(Ok(()));
        }
    }
    Err(Failure::new("a file that may only grow was punched"))
}

/// The number of tries to make a change in the middle of a call.
const TRIES: usize = 30;

fn a_long_fallocate_is_one_change(t: &Test) -> Outcome {
    const BLOCKS: u64 = 8192;
    for i in 0..TRIES {
        let file = t.create(&format!("file-{i}"))?;
        let call = Child::spawn(|| fallocate(&file, 0, 0, BLOCKS * BLOCK64).or_fail("fallocate"))?;
        while file.data_blocks()? == 0 && !call.is_over() {
            std::hint::spin_loop();
        }
        let before = file.data_blocks()?;
        chmod(&file.path, 0o4755).or_fail("chmod")?;
        let after = file.data_blocks()?;
        call.join()?;
        expect_eq(file.stat()?.st_mode & 0o7777, 0o4755, "the mode")?;
        expect_eq(file.data_blocks()?, after, "blocks since it is a program")?;
        if before > 0 && before < BLOCKS {
            return Ok(());
        }
        file.truncate(0)?;
    }
    Err(Failure::new("the change never came into the middle"))
}
