// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The ioctls before fallocate(2), which the kernel still has.

use std::os::fd::AsRawFd;

use crate::case::{case, Case, Test};
use crate::failure::{expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::Tmpfs;
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::sys::check;

pub const CASES: &[Case] = &[case!(they_do_as_fallocate_does)];

/// `struct space_resv`, of which the kernel uses these fields.
#[repr(C)]
#[derive(Default)]
struct SpaceReservation {
    kind: i16,
    whence: i16,
    start: i64,
    len: i64,
    rest: [u32; 6],
}

fn they_do_as_fallocate_does(t: &Test) -> Outcome {
    const RESVSP: libc::c_ulong = 0x4030_5828;
    const UNRESVSP: libc::c_ulong = 0x4030_5829;
    const RESVSP64: libc::c_ulong = 0x4030_582a;
    const UNRESVSP64: libc::c_ulong = 0x4030_582b;
    const ZERO_RANGE: libc::c_ulong = 0x4030_5839;
    let mut model = blocks(1, 4);
    let file = t.create_with("file", &model)?;
    file.seek(BLOCK64 as i64, libc::SEEK_SET).or_fail("lseek")?;
    let call = |number, whence: i32, start: u64, len: u64| {
        let range = SpaceReservation {
            whence: whence as i16,
            start: start as i64,
            len: len as i64,
            ..SpaceReservation::default()
        };
        // SAFETY: `range` has the layout that the kernel reads.
        check(unsafe { libc::ioctl(file.as_raw_fd(), number, &range) }).map(|_| ())
    };
    let (set, current, end) = (libc::SEEK_SET, libc::SEEK_CUR, libc::SEEK_END);
    // Allocates, and keeps the size.
    for (number, whence) in [(RESVSP, set), (RESVSP64, end)] {
        call(number, whence, 2 * BLOCK64, 4 * BLOCK64).or_fail("FS_IOC_RESVSP")?;
        file.expect_contents(&model, "after FS_IOC_RESVSP")?;
    }
    // Punches a hole, from the position on.
    for (number, whence, start, hole) in [(UNRESVSP, current, 0, 1), (UNRESVSP64, set, BLOCK64, 1)]
    {
        call(number, whence, start, BLOCK64).or_fail("FS_IOC_UNRESVSP")?;
        model[hole * BLOCK..(hole + 1) * BLOCK].fill(0);
        file.expect_contents(&model, "after FS_IOC_UNRESVSP")?;
        expect_eq(
            file.seek(0, libc::SEEK_HOLE).or_fail("SEEK_HOLE")?,
            BLOCK64,
            "the first hole",
        )?;
    }
    let zeroed = call(ZERO_RANGE, set, 2 * BLOCK64 + 5, BLOCK64);
    if t.filesystem == Tmpfs {
        expect_errno(zeroed, libc::EOPNOTSUPP, "FS_IOC_ZERO_RANGE")?;
    } else {
        zeroed.or_fail("FS_IOC_ZERO_RANGE")?;
        model[2 * BLOCK + 5..3 * BLOCK + 5].fill(0);
    }
    file.expect_contents(&model, "after FS_IOC_ZERO_RANGE")?;
    for (what, whence, start, len) in [
        ("an unknown whence", 3, 0, BLOCK64),
        ("a negative start", set, -1i64 as u64, BLOCK64),
        ("a negative length", set, 0, -1i64 as u64),
    ] {
        expect_errno(call(RESVSP, whence, start, len), libc::EINVAL, what)?;
    }
    file.expect_contents(&model, "after a refusal")
}
