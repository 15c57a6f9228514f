// SPDX-License-Identifier: GPL-2.0

//! Faults in mappings of files.

use super::{blocks_for, ChargedBlock, Inode, ReflinkFs};
use crate::{
    store::{block::BlockRef, Lookup, Prealloc},
    vfs::{
        go_on,
        mapping::{Associate, InvalidateShared},
        Fault, FaultResult, Invalidate, MappingOperations,
    },
};
use core::{mem::discriminant, ops::Range};
use kernel::prelude::*;

impl MappingOperations for ReflinkFs {
    fn fault(fault: &mut Fault<'_, Self>) -> FaultResult {
        if fault.writes_file() {
            store(fault).unwrap_or_else(FaultResult::from)
        } else {
            load(fault).unwrap_or_else(FaultResult::from)
        }
    }
}

/// Maps a block that is the file's own, writable.
fn store(fault: &mut Fault<'_, ReflinkFs>) -> Result<FaultResult> {
    let _guard = fault.start_write()?;
    let (inode, index) = (fault.inode(), fault.index());
    let mut made = false;
    loop {
        let lock = inode.invalidate_shared();
        // It may have become immutable since the fault began; then everything was unmapped.
        if index >= blocks_for(inode.size()) || inode.is_immutable() {
            return Ok(FaultResult::SIGBUS);
        }
        let own =
            |show: &Associate<'_, 1>| inode.data().with_exclusive_array(index, 1, |_| true, show);
        if let Some(result) = fault.map_writable(&lock, own) {
            // Where this one had to be made, those after it are to be, too.
            if !made {
                map_writable_around(fault, &lock);
            }
            return Ok(result);
        }
        if inode.data().set_written(index, 1) > 0 {
            continue;
        }
        drop(lock);
        make_exclusive(inode, index)?;
        made = true;
    }
}

/// Maps whatever block there is, read-only.
fn load(fault: &mut Fault<'_, ReflinkFs>) -> Result<FaultResult> {
    let (inode, index) = (fault.inode(), fault.index());
    let mut full = false;
    loop {
        let lock = inode.invalidate_shared();
        if index >= blocks_for(inode.size()) {
            return Ok(FaultResult::SIGBUS);
        }
        let block = match inode.data().lookup(index) {
            Lookup::Hole if fault.may_map_zero_page() => {
                let result = fault.map_zero_page(&lock);
                map_around(fault, &lock);
                return Ok(result);
            }
            Lookup::Hole => match inode.data().zero_block() {
                Some(zeros) => Some(zeros).filter(|zeros| !zeros.refcount_high()),
                // Those of the mount: to read a hole takes no room.
                None if full => inode.super_block().data().zero_block(),
                None => {
                    drop(lock);
                    match inode.data().alloc_zero_block() {
                        Err(ENOSPC) => full = true,
                        result => result?,
                    }
                    continue;
                }
            },
            Lookup::Exclusive(block) | Lookup::Unwritten(block) => Some(block),
            Lookup::Shared(block) | Lookup::WasShared(block) => {
                Some(block).filter(|block| !block.refcount_high())
            }
        };
        match block {
            Some(block) => {
                let result = fault.map(&lock, &block);
                map_around(fault, &lock);
                return Ok(result);
            }
            None => drop(lock),
        }
        make_exclusive(inode, index)?;
    }
}

/// How many blocks around the one that was asked for are mapped with it, as with the kernel's
/// `fault_around_bytes`.
const NEAR: usize = 16;

/// How many are mapped for somebody who goes through the file from one block to the next, which is
/// who faults at the first of so many, as all before were mapped at once.
const FAR: u64 = 64;

/// The blocks around the one that was asked for that are to be mapped too.
fn around(fault: &Fault<'_, ReflinkFs>) -> Range<u64> {
    let n = match fault.index() % FAR {
        0 => FAR,
        _ => NEAR as u64,
    };
    let around = fault.around(n);
    around.start..around.end.min(blocks_for(fault.inode().size()))
}

/// Whether a block may be mapped with one that was asked for.
fn may_come_along(block: &BlockRef) -> bool {
    !block.refcount_high() && !block.is_poisoned()
}

/// Maps the blocks around the one that was asked for, too; holes only when they are asked for.
fn map_around(fault: &mut Fault<'_, ReflinkFs>, lock: &InvalidateShared<'_, ReflinkFs>) {
    let Range { start, end } = around(fault);
    let mut first = start;
    while first < end {
        let mut blocks = [const { None }; NEAR];
        let n = NEAR.min((end - first) as usize);
        let n = fault.inode().data().read(first, &mut blocks[..n]);
        for block in &mut blocks {
            *block = block.take().filter(may_come_along);
        }
        fault.map_around(lock, first, &blocks[..n]);
        first += n as u64;
    }
}

/// As [`map_around`], writable: the blocks that can be written in place, but for those that are
/// unwritten, and would count as written then.
///
/// The time of the last write is that of the fault, as it is for more stores to one block.
fn map_writable_around(fault: &mut Fault<'_, ReflinkFs>, lock: &InvalidateShared<'_, ReflinkFs>) {
    let data = fault.inode().data();
    let around = around(fault);
    for first in around.clone().step_by(NEAR) {
        let n = NEAR.min((around.end - first) as usize);
        let own =
            |show: &Associate<'_, NEAR>| data.with_exclusive_array(first, n, may_come_along, show);
        fault.map_writable_around(lock, first, own);
    }
}

/// Makes sure that the file has a block of its own at `index`, if that lies within it.
///
/// What is needed is allocated before the lock is taken: who waits for memory does not hold up others
/// who fault or read.
///
/// # Errors
///
/// `ENOSPC`, `EDQUOT`, `ENOMEM`; `EIO` where what the file has is poisoned; `EINTR` where the process is
/// to end.
fn make_exclusive(inode: &Inode, index: u64) -> Result {
    let mut prealloc = Prealloc::new();
    loop {
        let expected = inode.data().lookup(index);
        if let Lookup::Exclusive(_) | Lookup::Unwritten(_) = expected {
            return Ok(());
        }
        let block = ChargedBlock::new(inode, &expected, inode.no_charge())?;
        inode.data().prepare_insert(index, &mut prealloc)?;
        let lock = inode.invalidate();
        if index >= blocks_for(inode.size()) {
            return Ok(());
        }
        let old = inode.data().lookup(index);
        if discriminant(&old) == discriminant(&expected) {
            drop(expected);
            return insert_copy(&lock, index, old.block(), block, &mut prealloc);
        }
        // It takes another room, or none.
        drop(lock);
        go_on()?;
    }
}

/// Puts `block` in at `index`, with the bytes of `old`, in the place of that, or of a hole.
fn insert_copy(
    lock: &Invalidate<'_, ReflinkFs>,
    index: u64,
    old: Option<BlockRef>,
    block: ChargedBlock<'_>,
    prealloc: &mut Prealloc,
) -> Result {
    // For a hole the zeros may be mapped, which stand for others, too.
    if !old.as_ref().is_some_and(BlockRef::has_only_store_ref) {
        lock.unmap(index..index + 1);
    }
    match old {
        Some(old) => block.bytes().copy_from(0, &old, 0, usize::MAX)?,
        None => block.zero_around(0, 0),
    }
    block.insert(lock, index, prealloc)
}
