// SPDX-License-Identifier: GPL-2.0

//! Faults in mappings of files.

use super::{blocks_for, Inode, ReflinkFs};
use crate::{
    store::{Lookup, Reserve},
    vfs::{Fault, FaultResult, MappingOperations},
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
            let block = match inode.data().lookup(index) {
                Lookup::Private(block) if writing.is_some() => {
                    return fault.map_writable(&lock, &block);
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
                Some(block) => return fault.map(&lock, &block),
                None => drop(lock),
            }
            if let Err(err) = make_private(inode, index) {
                return err.into();
            }
        }
    }
}

/// Makes sure that the file has a block of its own at `index`, if that lies within it.
///
/// # Errors
///
/// `ENOSPC`, `ENOMEM`.
fn make_private(inode: &Inode, index: u64) -> Result {
    let data = inode.data();
    let lock = inode.invalidate();
    if index >= blocks_for(inode.size()) {
        return Ok(());
    }
    let (block, old) = match data.lookup(index) {
        Lookup::Private(_) => return Ok(()),
        Lookup::Unshared(old) => (data.pool().alloc_over()?, Some(old)),
        Lookup::Shared(old) => (data.pool().alloc()?, Some(old)),
        Lookup::Hole => (data.pool().alloc()?, None),
    };
    match old {
        Some(old) => block.bytes().copy_from(0, &old, 0, usize::MAX),
        None => block.bytes().zero(0, usize::MAX),
    }
    // The old block, or the zeros that stand for a hole, may be mapped.
    lock.unmap(index..index + 1);
    data.insert(index, block, &mut Reserve::new())
}
