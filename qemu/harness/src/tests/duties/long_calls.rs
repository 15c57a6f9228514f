// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Long calls that are one change: who makes the file a program, or immutable, or freezes the
//! filesystem, waits until they are over, so that nothing is owed anew. What a copy owes, which is one
//! change after the other, is in `copy::steps`.

use std::os::fd::AsRawFd;

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, Context, Failure, Outcome};
use crate::filesystem::Need;
use crate::flags_of_files::{set_flags, IMMUTABLE};
use crate::frozen::{ioctl, FIFREEZE, FITHAW};
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::process::Child;
use crate::stall::Stall;
use crate::sys::{check, chmod, lstat, sleep_ms, File};
use crate::tests::fallocate::fallocate;

pub const CASES: &[Case] = &[
    case!(a_write_that_waits_for_its_buffer_is_one_change),
    case!(a_filesystem_is_frozen_after_a_write_that_waits).needs(&[Need::Reflinkfs]),
    case!(a_long_fallocate_is_one_change),
];

/// Writes two blocks, and has `meanwhile` do something while it waits for the second one.
fn write_two(file: &File, meanwhile: impl FnOnce() -> Outcome) -> Outcome {
    let (stall, first) = (Stall::new()?, blocks(2, 1));
    // Addresses, which may go to another thread.
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
    file.expect_contents(&whole, "what was written")
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
    // One of them may come first, and forbid the other.
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

/// How often a change is tried to come into the middle of a call.
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
