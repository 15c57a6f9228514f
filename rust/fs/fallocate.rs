// SPDX-License-Identifier: GPL-2.0

//! `fallocate(2)`: allocating, punching holes, zeroing. Collapsing and inserting ranges are in
//! `shift.rs`.
//!
//! To add a mode: `CONTRIBUTING.md` has a list.

use super::{
    block_of, blocks_for, clear::Clearing, offset_in_block, room::Room, shift::shift, truncate,
    BlocksGuard, Changing, Charge, ChargedBlock, LockedInode, ReflinkFs,
};
use crate::{
    compat::EOPNOTSUPP,
    store::{
        Lookup,
        Prealloc, //
    },
    vfs::{
        cond_resched_killable,
        file_operations as mode,
        File,
        MAX_LFS_FILESIZE, //
    },
};
use core::ops::Range;
use kernel::prelude::*;

/// How many blocks are inserted under one hold of `invalidate_lock`.
const STEP_BLOCKS: usize = 16;

/// What is to be done with a range.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Allocate all of it, so that no write there fails with `ENOSPC`.
    Allocate,
    /// Free its blocks: it reads as zeros.
    PunchHole,
    /// Make it read as zeros, with all of it allocated.
    ZeroRange,
    /// As [`Mode::Allocate`], and share none of it any more.
    UnshareRange,
    /// Remove it from the file: what follows moves to its place.
    CollapseRange,
    /// Insert a hole of its length: what is there moves up.
    InsertRange,
}

impl Mode {
    /// Returns what `FALLOC_FL_*` ask for, if it is one of these.
    fn new(mode: u32) -> Option<Self> {
        match mode & !mode::FALLOC_FL_KEEP_SIZE {
            mode::FALLOC_FL_ALLOCATE_RANGE => Some(Self::Allocate),
            mode::FALLOC_FL_PUNCH_HOLE => Some(Self::PunchHole),
            mode::FALLOC_FL_ZERO_RANGE => Some(Self::ZeroRange),
            mode::FALLOC_FL_UNSHARE_RANGE => Some(Self::UnshareRange),
            mode::FALLOC_FL_COLLAPSE_RANGE => Some(Self::CollapseRange),
            mode::FALLOC_FL_INSERT_RANGE => Some(Self::InsertRange),
            _ => None,
        }
    }
}

/// `fallocate(2)` of `bytes`, which are not empty. Compare `xfs_file_fallocate`.
///
/// # Errors
///
/// `EOPNOTSUPP`, `EINVAL`, `EFBIG`, `EPERM`, `ETXTBSY`; `ENOSPC` where there is not the room that
/// is asked for; `EDQUOT`, `EINTR`, `ENOMEM`.
pub(crate) fn fallocate(file: &File<ReflinkFs>, flags: u32, bytes: Range<u64>) -> Result {
    let mode = Mode::new(flags).ok_or(EOPNOTSUPP)?;
    let inode = file.inode().lock();
    let (len, old_size) = (bytes.end - bytes.start, inode.size());
    let is_aligned = offset_in_block(bytes.start) == 0 && offset_in_block(len) == 0;
    let size = match mode {
        Mode::CollapseRange | Mode::InsertRange if !is_aligned => return Err(EINVAL),
        // Only truncation may remove the end.
        Mode::CollapseRange if bytes.end >= old_size => return Err(EINVAL),
        Mode::CollapseRange => old_size - len,
        Mode::InsertRange if len > MAX_LFS_FILESIZE - old_size => return Err(EFBIG),
        Mode::InsertRange if bytes.start >= old_size => return Err(EINVAL),
        Mode::InsertRange => old_size + len,
        Mode::Allocate | Mode::PunchHole | Mode::ZeroRange | Mode::UnshareRange => {
            let keeps = flags & mode::FALLOC_FL_KEEP_SIZE != 0;
            old_size.max(if keeps { 0 } else { bytes.end })
        }
    };
    if size > old_size {
        inode.newsize_ok(size)?;
    }
    // The VFS has checked this before it had the lock.
    if inode.is_append_only() && mode != Mode::Allocate {
        return Err(EPERM);
    }
    change(&Changing::begin(&inode, file)?, mode, bytes, size)
}

/// Which places of a range get new blocks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fill {
    /// Holes: unwritten blocks.
    Holes,
    /// Holes, and shared blocks: copies of these.
    HolesAndShared,
}

/// Makes the change. The size is `size` afterwards.
fn change(inode: &Changing<'_>, mode: Mode, bytes: Range<u64>, size: u64) -> Result {
    let blocks = block_of(bytes.start)..blocks_for(bytes.end);
    let (clears, fills) = match mode {
        Mode::CollapseRange => return shift(inode, blocks.end, blocks.start, size),
        Mode::InsertRange => return shift(inode, blocks.start, blocks.end, size),
        Mode::Allocate => (false, Some(Fill::Holes)),
        Mode::PunchHole => (true, None),
        // Clearing drops shared blocks, so that they take as much room as holes.
        Mode::ZeroRange => (true, Some(Fill::HolesAndShared)),
        Mode::UnshareRange => (false, Some(Fill::HolesAndShared)),
    };
    let mut charge = Charge::empty(inode);
    if let Some(places) = fills {
        charge = Charge::new(inode, holes(inode, &blocks, places)?)?;
    }
    if clears {
        let freed = Room::new(inode.blocks().pool()).retry(|room| {
            let lock = BlocksGuard::lock(inode)?;
            Ok(Clearing::prepare(lock.get(), bytes.clone(), room)?.commit(false))
        })?;
        // What goes here comes again below, so that its charge is not given back first.
        charge.merge(freed.charge);
    }
    if let Some(places) = fills {
        fill(inode, blocks, places, &mut charge)?;
    }
    truncate::extend(inode, size)
}

/// Returns how many holes there are in a range. Checks that there is room for all that `places`
/// names. Takes no more steps than there are free blocks, and owned blocks.
///
/// # Errors
///
/// `ENOSPC`; `EINTR` if a fatal signal is pending.
fn holes(inode: &LockedInode, blocks: &Range<u64>, places: Fill) -> Result<u64> {
    let file_blocks = inode.blocks();
    let holes = blocks.end - blocks.start - file_blocks.blocks_in(blocks.clone());
    file_blocks.pool().check_room(holes)?;
    if places == Fill::Holes {
        return Ok(holes);
    }
    let mut room = holes;
    let mut index = blocks.start;
    while let Some(extent) = file_blocks.extent(index) {
        if extent.index >= blocks.end {
            break;
        }
        index = extent.index + extent.len;
        if extent.shared {
            room += index.min(blocks.end) - extent.index.max(blocks.start);
            file_blocks.pool().check_room(room)?;
        }
        cond_resched_killable()?;
    }
    Ok(holes)
}

/// Inserts new blocks in `places` of a range. Takes what they cost from `charge`.
fn fill<'a>(
    inode: &'a LockedInode,
    blocks: Range<u64>,
    places: Fill,
    charge: &mut Charge<'a>,
) -> Result {
    let file_blocks = inode.blocks();
    let mut prealloc = Prealloc::new();
    let mut start = blocks.start;
    while start < blocks.end {
        if places == Fill::Holes {
            // Skips blocks, of which there may be many.
            start = file_blocks.next_hole(start);
        }
        let end = blocks.end.min(start.saturating_add(STEP_BLOCKS as u64));
        if start < end {
            fill_step(inode, start..end, places, charge, &mut prealloc)?;
        }
        start = end.max(start);
        cond_resched_killable()?;
    }
    Ok(())
}

/// As [`fill`], for up to [`STEP_BLOCKS`] blocks. Allocates all of them first, so that no fault
/// waits for memory.
fn fill_step<'a>(
    inode: &'a LockedInode,
    blocks: Range<u64>,
    places: Fill,
    charge: &mut Charge<'a>,
    prealloc: &mut Prealloc,
) -> Result {
    let file_blocks = inode.blocks();
    let mut news = [const { None }; STEP_BLOCKS];
    for (index, new) in blocks.clone().zip(&mut news) {
        let old = file_blocks.lookup(index);
        let advance = match old {
            Lookup::Hole => charge.split(1),
            Lookup::Shared(_) if places == Fill::HolesAndShared => Charge::empty(inode),
            _ => continue,
        };
        let mut block = ChargedBlock::new(inode, &old, advance)?;
        match old.block() {
            Some(old) if !file_blocks.is_unwritten(index) => block.bytes().copy_block(&old)?,
            _ => block.fill_unwritten(),
        }
        *new = Some(block);
    }
    if news.iter().all(Option::is_none) {
        return Ok(());
    }
    file_blocks.prealloc(blocks.start, blocks.end - 1, prealloc);
    let mut lock = BlocksGuard::lock(inode)?;
    for (index, new) in blocks.zip(news) {
        let mut new = new;
        while let Some(block) = new.take() {
            // A fault may have given the file an owned block meanwhile, and nothing else can have.
            if lock.get().blocks().lookup(index).needs_no_block() {
                break;
            }
            // The old block, or the zeros that stand for a hole, may be mapped.
            lock.unmap(index..index + 1);
            new = block.insert(lock.get(), index, prealloc)?;
            if new.is_some() {
                drop(lock);
                prealloc.fill(file_blocks.pool())?;
                lock = BlocksGuard::lock(inode)?;
            }
        }
    }
    Ok(())
}
