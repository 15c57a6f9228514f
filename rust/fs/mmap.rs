// SPDX-License-Identifier: GPL-2.0

//! Faults in mappings of files.

use super::{blocks_for, ChargedBlock, Inode, ReflinkFs};
use crate::{
    store::{Lookup, Reserve},
    vfs::{mapping::InvalidateShared, Fault, FaultResult, MappingOperations},
};
use kernel::prelude::*;

impl MappingOperations for ReflinkFs {
    fn fault(fault: &mut Fault<'_, Self>) -> FaultResult {
        let writing = if fault.writes_file() {
            match fault.start_write() {
                Ok(guard) => Some(guard),
                Err(err) => return err.into(),
            }
        } else {
            None
        };
        let (inode, index) = (fault.inode(), fault.index());
        loop {
            let lock = inode.invalidate_shared();
            if index >= blocks_for(inode.size()) {
                return FaultResult::SIGBUS;
            }
            // It may have become so since the fault began; then everything was unmapped.
            if writing.is_some() && inode.is_immutable() {
                return FaultResult::SIGBUS;
            }
            let block = match inode.data().lookup(index) {
                Lookup::Private(block) if writing.is_some() => {
                    // It may have been lent out until it was known to be mapped writable.
                    let still_own = || matches!(inode.data().lookup(index), Lookup::Private(_));
                    match fault.map_writable(&lock, &block, still_own) {
                        Some(result) => return result,
                        None => None,
                    }
                }
                Lookup::Hole if writing.is_none() => inode.super_block().data().zeros(),
                Lookup::Private(block) if writing.is_none() => Some(block),
                Lookup::Shared(block) | Lookup::Unshared(block)
                    if writing.is_none() && !block.is_crowded() =>
                {
                    Some(block)
                }
                _ => None,
            };
            match block {
                Some(block) if fault.makes_copy() => return fault.copy(&lock, block),
                Some(block) => {
                    let result = fault.map(&lock, &block);
                    map_around(fault, &lock);
                    return result;
                }
                None => drop(lock),
            }
            if let Err(err) = make_private(inode, index) {
                return err.into();
            }
        }
    }
}

/// How many blocks around the one that was asked for are mapped for a reader, as with the kernel's
/// `fault_around_bytes`.
const NEAR: u64 = 16;

/// How many are mapped for somebody who goes through the file from one block to the next, which is
/// who faults at the first of so many, as all before were mapped at once.
const FAR: u64 = 64;

/// Maps the blocks around the one that was asked for, too; holes only when they are asked for.
fn map_around(fault: &mut Fault<'_, ReflinkFs>, lock: &InvalidateShared<'_, ReflinkFs>) {
    let (inode, asked) = (fault.inode(), fault.index());
    let n = if asked % FAR == 0 { FAR } else { NEAR };
    let mut first = asked - asked % n;
    let end = (first + n).min(blocks_for(inode.size()));
    while first < end {
        let mut blocks = [const { None }; NEAR as usize];
        let n = inode.data().read(first, &mut blocks) as u64;
        for (index, block) in (first..end.min(first + n)).zip(blocks) {
            let Some(block) = block.filter(|block| index != asked && !block.is_crowded()) else {
                continue;
            };
            if !fault.map_around(lock, index, &block) {
                return;
            }
        }
        first += n;
    }
}

/// Makes sure that the file has a block of its own at `index`, if that lies within it.
///
/// # Errors
///
/// `ENOSPC`, `EDQUOT`, `ENOMEM`.
fn make_private(inode: &Inode, index: u64) -> Result {
    let lock = inode.invalidate();
    if index >= blocks_for(inode.size()) {
        return Ok(());
    }
    let old = inode.data().lookup(index);
    if let Lookup::Private(_) = old {
        return Ok(());
    }
    let block = ChargedBlock::new(inode, &old, inode.no_charge())?;
    // The old block, or the zeros that stand for a hole, may be mapped.
    lock.unmap(index..index + 1);
    match old.block() {
        Some(old) => block.bytes().copy_from(0, &old, 0, usize::MAX),
        None => block.bytes().zero(0, usize::MAX),
    }
    block.insert(&lock, index, &mut Reserve::new())
}
