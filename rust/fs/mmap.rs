// SPDX-License-Identifier: GPL-2.0

//! Faults in mappings of files.

use super::{
    blocks_for,
    events,
    file_blocks::{
        BlocksLock,
        SharedBlocksGuard, //
    },
    BlocksGuard,
    Charge,
    ChargedBlock,
    Inode,
    ReflinkFs, //
};
use crate::{
    dax::{
        self,
        Associated, //
    },
    store::{
        block::BlockRef,
        Lookup,
        Prealloc, //
    },
    trace,
    vfs::{
        cond_resched_killable,
        Fault,
        InvalidateSharedGuard,
        VmFault,
        VmOperations, //
    },
};
use core::{
    mem::discriminant,
    ops::Range, //
};
use kernel::prelude::*;

/// A mapping of a regular file.
pub(super) struct Mapping;

impl VmOperations<ReflinkFs> for Mapping {
    fn fault(fault: &mut Fault<'_, ReflinkFs>) -> VmFault {
        let (inode, index, write) = (fault.inode(), fault.pgoff(), fault.writes_file());
        let result = if write { store(fault) } else { load(fault) };
        let outcome = result.as_ref().map(drop).map_err(|err| *err);
        trace::fault(
            inode.super_block().s_dev(),
            inode.ino(),
            index,
            write,
            outcome,
        );
        result.unwrap_or_else(VmFault::from)
    }
}

/// Maps an owned block writable; makes one if there is none.
fn store(fault: &mut Fault<'_, ReflinkFs>) -> Result<VmFault> {
    let (inode, index) = (fault.inode(), fault.pgoff());
    if inode.is_immutable() {
        return Err(EPERM);
    }
    let _guard = fault.start_write()?;
    let mut lock = SharedBlocksGuard::lock(inode)?;
    let mut made = false;
    loop {
        // It may have become immutable since the fault began; then everything was unmapped.
        if index >= blocks_for(inode.size()) || inode.is_immutable() {
            return Ok(VmFault::SIGBUS);
        }
        let own = lock.blocks().owned(index, 1, |_| true);
        let own: Associated<1> = Associated::new(fault, index, own);
        if let Some(result) = dax::map_writable(fault, &lock, own) {
            // If this block had to be made, so do those after it.
            if !made {
                map_writable_around(fault, &lock);
            }
            return Ok(result);
        }
        if lock.blocks().set_written(index, 1) > 0 {
            continue;
        }
        drop(lock);
        lock = make_owned(inode, index)?;
        made = true;
    }
}

/// Maps the block that there is, read-only.
fn load(fault: &mut Fault<'_, ReflinkFs>) -> Result<VmFault> {
    let (inode, index) = (fault.inode(), fault.pgoff());
    let mut lock = inode.invalidate_lock_shared();
    let mut full = false;
    loop {
        if index >= blocks_for(inode.size()) {
            return Ok(VmFault::SIGBUS);
        }
        let block = match inode.blocks().lookup(index) {
            Lookup::Hole if fault.may_map_zero_page() => {
                let result = fault.map_zero_page(&lock);
                map_around(fault, &lock);
                return Ok(result);
            }
            Lookup::Hole => match inode.info().zero_block.get() {
                Some(zeros) if !zeros.refcount_high() => Some(zeros),
                None if !full => {
                    drop(lock);
                    match inode.info().zero_block.alloc(inode.blocks().pool()) {
                        Err(ENOSPC) => full = true,
                        result => result?,
                    }
                    lock = inode.invalidate_lock_shared();
                    continue;
                }
                // That of the mount: to read a hole takes no room.
                _ => {
                    let mount = inode.super_block().info();
                    let zeros = mount.zero_block();
                    if zeros.is_none() {
                        drop(lock);
                        mount.replace_zero_block()?;
                        cond_resched_killable()?;
                        lock = inode.invalidate_lock_shared();
                        continue;
                    }
                    zeros
                }
            },
            Lookup::Owned(block) | Lookup::Unwritten(block) => Some(block),
            Lookup::Shared(block) | Lookup::WasShared(block) => {
                Some(block).filter(|block| !block.refcount_high())
            }
        };
        if let Some(block) = block {
            let result = dax::map(fault, &lock, &block);
            map_around(fault, &lock);
            return Ok(result);
        }
        drop(lock);
        lock = make_owned(inode, index)?.into_lock();
    }
}

/// How many blocks around the one that was asked for are mapped with it, as with the kernel's
/// `fault_around_bytes`.
const FAULT_AROUND_BLOCKS: usize = 16;

/// The window for sequential access, which is detected by a fault on an index that is a multiple of
/// it.
const FAULT_AROUND_SEQ_BLOCKS: u64 = 64;

/// Returns the blocks around the one that was asked for that are to be mapped too.
fn around(fault: &Fault<'_, ReflinkFs>) -> Range<u64> {
    let n = match fault.pgoff() % FAULT_AROUND_SEQ_BLOCKS {
        0 => FAULT_AROUND_SEQ_BLOCKS,
        _ => FAULT_AROUND_BLOCKS as u64,
    };
    let around = fault.around(n);
    around.start..around.end.min(blocks_for(fault.inode().size()))
}

/// Returns whether a block may be mapped with one that was asked for.
fn may_come_along(block: &BlockRef) -> bool {
    !block.refcount_high() && !block.is_poisoned()
}

/// Maps the blocks around the one that was asked for, too; holes only when they are asked for.
fn map_around(fault: &mut Fault<'_, ReflinkFs>, lock: &InvalidateSharedGuard<'_, ReflinkFs>) {
    let file_blocks = fault.inode().blocks();
    let Range { start, end } = around(fault);
    let mut first = start;
    while first < end {
        let mut blocks = [const { None }; FAULT_AROUND_BLOCKS];
        let n = FAULT_AROUND_BLOCKS.min((end - first) as usize);
        let n = file_blocks.get_blocks(first, &mut blocks[..n]);
        for block in &mut blocks {
            *block = block.take().filter(may_come_along);
        }
        dax::map_around(fault, lock, first, &blocks[..n]);
        first += n as u64;
    }
}

/// As [`map_around`], writable: the blocks that can be written in place, but for those that are
/// unwritten, and would count as written then.
///
/// The time of the last write is that of the fault, as it is for more stores to one block.
fn map_writable_around(fault: &mut Fault<'_, ReflinkFs>, lock: &SharedBlocksGuard<'_>) {
    let file_blocks = lock.blocks();
    let around = around(fault);
    for first in around.clone().step_by(FAULT_AROUND_BLOCKS) {
        let n = FAULT_AROUND_BLOCKS.min((around.end - first) as usize);
        let own = Associated::<FAULT_AROUND_BLOCKS>::new(
            fault,
            first,
            file_blocks.owned(first, n, may_come_along),
        );
        dax::map_writable_around(fault, lock, first, own);
    }
}

/// Makes sure that the file has an owned block at `index`, which may be unwritten, if that lies
/// within it. That stays so while the returned lock is held: were it dropped in between, a process
/// that clones the file again and again could keep another from storing to it for ever.
///
/// What is needed is allocated before the lock is taken, so that waiting for memory holds up
/// neither faults nor readers.
///
/// # Errors
///
/// `ENOSPC`, `EDQUOT`, `ENOMEM`; `EIO` if the file's block is poisoned; `EINTR` if a fatal signal
/// is pending.
fn make_owned(inode: &Inode, index: u64) -> Result<SharedBlocksGuard<'_>> {
    let mut prealloc = Prealloc::new();
    loop {
        let lock = SharedBlocksGuard::lock(inode)?;
        let expected = lock.blocks().lookup(index);
        if expected.needs_no_block() || index >= blocks_for(inode.size()) {
            return Ok(lock);
        }
        drop(lock);
        let block = ChargedBlock::new(inode, &expected, Charge::empty(inode))?;
        inode.blocks().prepare_insert(index, &mut prealloc)?;
        let exclusive = BlocksGuard::lock(inode)?;
        if index >= blocks_for(inode.size()) {
            return Ok(exclusive.downgrade());
        }
        let old = exclusive.get().blocks().lookup(index);
        if discriminant(&old) == discriminant(&expected) {
            drop(expected);
            if !old.is_hole() {
                events::cow(inode, index, 1);
            }
            if insert_copy(exclusive.get(), index, old.block(), block, &mut prealloc)? {
                return Ok(exclusive.downgrade());
            }
        }
        // Another kind of block takes another charge, or none: starts again.
        drop(exclusive);
        cond_resched_killable()?;
    }
}

/// Puts `block` in at `index`, with the bytes of `old`, in the place of that, or of a hole. Returns
/// whether `prealloc` had what that takes.
fn insert_copy(
    lock: BlocksLock<'_, '_>,
    index: u64,
    old: Option<BlockRef>,
    block: ChargedBlock<'_>,
    prealloc: &mut Prealloc,
) -> Result<bool> {
    // For a hole the zeros may be mapped, which stand for others, too.
    if !old.as_ref().is_some_and(BlockRef::has_no_other_ref) {
        lock.unmap(index..index + 1);
    }
    match old {
        Some(old) => block.bytes().copy_block(&old)?,
        None => block.zero_around(0, 0),
    }
    Ok(block.insert(lock, index, prealloc)?.is_none())
}
