// SPDX-License-Identifier: GPL-2.0

//! Forking a mount: `-o fork=PATH`.
//!
//! The records are shared in O(1) ([`memfs::fork`]). Only files that were mapped writable are looked
//! at: stores through mappings must fault, and blocks that something else may store to, such as a
//! device, stay with the base. Of these the fork gets duplicates, as a clone does.

use super::{
    file_blocks::{
        BlocksGuard,
        ALL, //
    },
    referenced::Referenced,
    room::Room,
    Inode,
    ReflinkFs,
    Transaction, //
};
use crate::{
    memfs::{
        self,
        fork::Forking, //
    },
    vfs::{
        cond_resched_killable,
        SuperBlock, //
    },
};
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

/// Makes `fork`, a new superblock without inodes, a fork of `base`.
///
/// # Errors
///
/// `ENOMEM`; `ENOSPC` where a block has to be duplicated, and there is no room; `EINTR` if a fatal
/// signal is pending. Nothing has changed.
pub(super) fn fork(base: &SuperBlock<ReflinkFs>, fork: &SuperBlock<ReflinkFs>) -> Result {
    let info = base.info();
    let mut referenced = Referenced::new();
    let mut room = Room::new(&info.pool);
    loop {
        let mut unsaved = None;
        let result = room.retry(|room| {
            referenced.reserve()?;
            memfs::fork::fork(base, fork, |forking| {
                info.mapped.for_each(|inode| {
                    cond_resched_killable()?;
                    stop_stores(forking, inode, &mut referenced, room, &mut unsaved)
                })
            })
        });
        match unsaved {
            // Its record gets a copy, with the times as they are.
            Some(inode) => drop(Transaction::begin([&*inode])?),
            None => return result,
        }
    }
}

/// Has every store through a mapping of a file fault, and its times in its record. If some of its
/// blocks may be stored to nevertheless, the fork gets duplicates of them. Fails with `EAGAIN` where
/// there is no record for the times, which is noted in `unsaved`.
fn stop_stores(
    forking: &mut Forking<'_, ReflinkFs>,
    inode: &Inode,
    referenced: &mut Referenced,
    room: &mut Room<'_>,
    unsaved: &mut Option<ARef<Inode>>,
) -> Result {
    if !forking.has(inode) {
        return Ok(());
    }
    let Some(transaction) = forking.begin(inode) else {
        // Nothing of it is mapped writable, as nothing is its own.
        if !forking.is_saved(inode) {
            *unsaved = Some(inode.into());
            return Err(EAGAIN);
        }
        return Ok(());
    };
    let guard = BlocksGuard::within(transaction, inode);
    let lock = guard.get();
    referenced.scan(forking.lock(inode), lock, &ALL, &ALL, room)?;
    if referenced.owned_in_snapshot.is_empty() {
        return Ok(());
    }
    let mut tree = referenced.snapshot(lock.blocks(), &ALL, room.nodes(false))?;
    for &index in &referenced.owned_in_snapshot {
        if let Some(old) = lock.blocks().lookup(index).block() {
            let duplicate = Referenced::duplicate(inode, index, &old, room)?;
            tree.insert(index, duplicate, room.nodes(false))?;
        }
    }
    drop(guard);
    forking.keep(inode, tree)
}
