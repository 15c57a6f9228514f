// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Mappings of a bomb: as much of it as a process has addresses for.

use super::{Caller, Piece};
use crate::failure::Sys;
use crate::mapping::{Mapping, READ, WRITE};
use crate::pattern::{BLOCK, BLOCK64};
use crate::sys::{check, read_to, write_from};

pub use super::NEEDS;

/// The largest mapping, in bytes.
const MOST: u64 = 1 << 45;

fn map(caller: &Caller<'_>, piece: Piece, most: u64, flags: i32) -> Sys<Mapping> {
    let offset = piece.offset / BLOCK64 * BLOCK64;
    let len = piece.len.min(most).next_multiple_of(BLOCK64) as usize;
    Mapping::try_new(&caller.bomb.file, offset, len, READ | WRITE, flags)
}

/// Lets the kernel load and store some bytes, so that there is no signal behind the end.
fn touch(caller: &Caller<'_>, map: &Mapping) {
    for part in 0..16 {
        let at = map.at(map.len() / 16 * part / BLOCK * BLOCK);
        let _ = write_from(&caller.pipe.1, at, 1);
        let _ = read_to(&caller.pipe.0, at, 1);
    }
}

pub fn touch_shared(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    touch(caller, &map(caller, piece, MOST, libc::MAP_SHARED)?);
    Ok(0)
}

pub fn touch_private(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    let flags = libc::MAP_PRIVATE | libc::MAP_NORESERVE;
    touch(caller, &map(caller, piece, MOST, flags)?);
    Ok(0)
}

/// Populates a part only, as each of its pages takes an entry in a page table.
pub fn populate(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
    map(caller, piece, 256 << 20, flags).map(|map| map.len())
}

fn advise(caller: &Caller<'_>, piece: Piece, most: u64, advice: i32) -> Sys<usize> {
    let map = map(caller, piece, most, libc::MAP_SHARED)?;
    touch(caller, &map);
    map.advise(advice).map(|()| 0)
}

pub fn madvise_populate_read(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    advise(caller, piece, 256 << 20, libc::MADV_POPULATE_READ)
}

pub fn madvise_populate_write(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    advise(caller, piece, 256 << 20, libc::MADV_POPULATE_WRITE)
}

pub fn madvise_remove(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    advise(caller, piece, MOST, libc::MADV_REMOVE)
}

/// Gives advice that does not change the file.
pub fn madvise_others(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    const ADVICE: &[i32] = &[
        libc::MADV_WILLNEED,
        libc::MADV_DONTNEED,
        libc::MADV_COLD,
        libc::MADV_PAGEOUT,
        libc::MADV_RANDOM,
        libc::MADV_SEQUENTIAL,
        libc::MADV_HUGEPAGE,
        libc::MADV_MERGEABLE,
        libc::MADV_DONTFORK,
        libc::MADV_NORMAL,
    ];
    let map = map(caller, piece, MOST, libc::MAP_SHARED)?;
    for advice in ADVICE {
        touch(caller, &map);
        let _ = map.advise(*advice);
    }
    Ok(0)
}

pub fn msync(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    let map = map(caller, piece, MOST, libc::MAP_SHARED)?;
    touch(caller, &map);
    for flags in [libc::MS_SYNC, libc::MS_ASYNC, libc::MS_INVALIDATE] {
        map.sync(flags)?;
    }
    Ok(0)
}

/// Calls mincore(2) on a part, as it takes a byte for each page.
pub fn mincore(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    let map = map(caller, piece, 1 << 30, libc::MAP_SHARED)?;
    touch(caller, &map);
    let mut pages = vec![0; map.len() / BLOCK];
    // SAFETY: there is a byte for each page.
    check(unsafe { libc::mincore(map.at(0).cast(), map.len(), pages.as_mut_ptr()) })
}

/// Locks a part, up to the limit on locked memory.
pub fn mlock(caller: &Caller<'_>, piece: Piece) -> Sys<usize> {
    let map = map(caller, piece, 256 << 20, libc::MAP_SHARED)?;
    // SAFETY: within this mapping.
    check(unsafe { libc::mlock(map.at(0).cast(), map.len()) })
}
