// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Extents of a file, from `FS_IOC_FIEMAP`.

use std::os::fd::AsRawFd;

use reflink_sys::FS_IOC_FIEMAP;
pub use reflink_sys::{
    FiemapExtent, FIEMAP_FLAG_CACHE as FLAG_CACHE, FIEMAP_FLAG_SYNC as FLAG_SYNC,
    FIEMAP_FLAG_XATTR as FLAG_XATTR,
};

use crate::failure::{expect, expect_eq, Context, Outcome, Sys};
use crate::pattern::BLOCK64;
use crate::sys::{check, File};

/// Makes one call, and returns (`fm_mapped_extents`, the extents that were filled in).
pub fn fiemap(
    file: &impl AsRawFd,
    start: u64,
    length: u64,
    flags: u32,
    room: u32,
) -> Sys<(u32, Vec<FiemapExtent>)> {
    Ok(reflink_sys::fiemap(file, start, length, flags, room)?)
}

/// Makes a call that claims memory for this many extents, without any.
pub fn fiemap_claiming(file: &impl AsRawFd, room: u32) -> Sys {
    // `struct fiemap`: the whole file, no flags.
    let mut header = [0, u64::MAX, 0, u64::from(room)];
    // The kernel must refuse the count before it stores an extent.
    fiemap_at(file, header.as_mut_ptr().cast())
}

/// Makes a call with any pointer.
pub fn fiemap_at(file: &impl AsRawFd, argument: *mut u8) -> Sys {
    // SAFETY: the kernel checks the pointer itself and answers EFAULT.
    check(unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP, argument) }).map(|_| ())
}

/// Returns all extents of a file, after a sync, so that disk filesystems have allocated them.
#[track_caller]
pub fn extents(file: &File) -> Outcome<Vec<FiemapExtent>> {
    file.sync()?;
    let (count, extents) =
        fiemap(file, 0, u64::MAX, FLAG_SYNC, 1000).or_fail("FS_IOC_FIEMAP of the whole file")?;
    expect(
        count <= 1000,
        format_args!("{count} extents, more than fit"),
    )?;
    for pair in extents.windows(2) {
        expect(
            pair[0].end() <= pair[1].logical,
            format_args!("extents out of order or overlapping: {pair:x?}"),
        )?;
    }
    let size = file.size()?.next_multiple_of(BLOCK64);
    Ok(extents.into_iter().filter(|e| e.logical < size).collect())
}

/// A block of a file, as FIEMAP reports it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Block {
    Hole,
    Private(u64),
    Shared(u64),
}

impl Block {
    pub fn physical(self) -> Option<u64> {
        match self {
            Self::Hole => None,
            Self::Private(physical) | Self::Shared(physical) => Some(physical),
        }
    }
}

/// Returns all blocks of a file, from 0 to its end.
#[track_caller]
pub fn block_map(file: &File) -> Outcome<Vec<Block>> {
    let count = file.size()?.div_ceil(BLOCK64) as usize;
    let mut map = vec![Block::Hole; count];
    for extent in extents(file)? {
        for (i, block) in map
            .iter_mut()
            .enumerate()
            .skip((extent.logical / BLOCK64) as usize)
        {
            let at = i as u64 * BLOCK64;
            if at >= extent.end() {
                break;
            }
            let physical = extent.physical + (at - extent.logical);
            *block = if extent.shared() {
                Block::Shared(physical)
            } else {
                Block::Private(physical)
            };
        }
    }
    Ok(map)
}

/// Returns a block map with one letter for each block: `.` hole, `p` private, `s` shared.
#[track_caller]
pub fn letters(file: &File) -> Outcome<String> {
    Ok(block_map(file)?
        .iter()
        .map(|block| match block {
            Block::Hole => '.',
            Block::Private(_) => 'p',
            Block::Shared(_) => 's',
        })
        .collect())
}

#[track_caller]
pub fn expect_letters(file: &File, expected: &str, what: &str) -> Outcome {
    expect_eq(
        letters(file)?,
        expected,
        format_args!("{what}: blocks (. hole, p private, s shared)"),
    )
}

/// Expects `count` blocks at `a_block` of one file and `b_block` of the other to be the same
/// blocks, marked shared.
#[track_caller]
pub fn expect_shared(a: &File, a_block: usize, b: &File, b_block: usize, count: usize) -> Outcome {
    let (a_map, b_map) = (block_map(a)?, block_map(b)?);
    for i in 0..count {
        let (x, y) = (a_map.get(a_block + i), b_map.get(b_block + i));
        expect(
            matches!((x, y), (Some(Block::Shared(x)), Some(Block::Shared(y))) if x == y),
            format_args!(
                "block {} of {} and block {} of {} should be one shared block, but are {x:x?} and {y:x?}",
                a_block + i,
                a.path.display(),
                b_block + i,
                b.path.display()
            ),
        )?;
    }
    Ok(())
}

/// Expects the files to have no block in common.
#[track_caller]
pub fn expect_nothing_shared(a: &File, b: &File) -> Outcome {
    let (a_map, b_map) = (block_map(a)?, block_map(b)?);
    for (i, block) in a_map.iter().enumerate() {
        if let Some(physical) = block.physical() {
            let other = b_map.iter().position(|b| b.physical() == Some(physical));
            expect(
                other.is_none(),
                format_args!("block {i} and block {other:?} of the other file are one: {block:x?}"),
            )?;
        }
    }
    Ok(())
}
