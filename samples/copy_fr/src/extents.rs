// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Checks whether blocks are shared, by `FS_IOC_FIEMAP`.

use crate::{sys, Cloned, Mode};
use reflink_sys::FIEMAP_FLAG_SYNC;
use std::{ops::Range, os::fd::BorrowedFd};

/// The most FIEMAP calls.
const ROUNDS: usize = 1024;

/// Returns whether a call that did `len` bytes from `pos` on shared their blocks. It may have
/// copied instead.
pub(crate) fn shared(file: BorrowedFd<'_>, pos: Option<u64>, len: usize, mode: Mode) -> Cloned {
    if len == 0 || mode == Mode::Copy {
        return Cloned::No;
    }
    let end = pos.and_then(|pos| pos.checked_add(len as u64));
    let (Some(pos), Some(end)) = (pos, end) else {
        return Cloned::Unknown;
    };
    if !sys::tells_what_is_shared(file) {
        return Cloned::Unknown;
    }
    let answer = fiemap(file, pos..end, 0);
    // If the range's old blocks were shared, the filesystem may report those until it has written
    // the copy back.
    if mode == Mode::Auto && matches!(answer, Cloned::Yes | Cloned::Some) {
        return fiemap(file, pos..end, FIEMAP_FLAG_SYNC);
    }
    answer
}

fn fiemap(file: BorrowedFd<'_>, mut range: Range<u64>, flags: u32) -> Cloned {
    let (mut shared, mut own, mut last) = (false, false, false);
    let mut rounds = 0..ROUNDS;
    while range.start < range.end && !last {
        let extents = sys::fiemap(file, range.clone(), flags);
        let (Some(_), Ok(extents)) = (rounds.next(), extents) else {
            return Cloned::Unknown;
        };
        if extents.is_empty() {
            break;
        }
        for extent in extents {
            // Unwritten blocks count as a hole.
            if extent.shared() {
                shared = true;
            } else if !extent.unwritten() {
                own = true;
            }
            last = extent.last();
            range.start = extent.logical.saturating_add(extent.length);
        }
        if shared && own {
            return Cloned::Some;
        }
    }
    match (shared, own) {
        (true, _) => Cloned::Yes,
        (false, true) => Cloned::No,
        (false, false) => Cloned::Unknown,
    }
}
