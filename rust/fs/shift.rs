// SPDX-License-Identifier: GPL-2.0

//! `FALLOC_FL_COLLAPSE_RANGE`, `FALLOC_FL_INSERT_RANGE`: moves the rest of a file, by whole blocks.

use super::{
    blocks_for,
    file_blocks::{
        self,
        BlocksLock,
        Replaced, //
    },
    referenced::Referenced,
    room::Room,
    BlocksGuard,
    Changing,
    ChargedTree, //
};
use crate::{
    store::{
        Prealloc,
        Tree, //
    },
    vfs::cond_resched_killable, //
};
use kernel::prelude::*;

/// How often the blocks are moved without `invalidate_lock`, where stores change the file
/// meanwhile.
const TRIES: usize = 4;

/// How many steps they are moved in with the lock held, after that.
const LOCKED_STEPS: u64 = 1 << 10;

/// Moves the blocks from `from` on to `to`: leaves a hole between the two, or removes what was
/// there. The size is `size` afterwards.
///
/// Blocks move as subtrees where both indexes are congruent modulo their span, one by one
/// otherwise. As that takes long, faults do not wait for it; where one has changed the file
/// meanwhile it is done anew.
///
/// # Errors
///
/// `ENOMEM`; `ENOSPC` where there is no room for a node, or a duplicate; `EINTR` if a fatal signal
/// is pending; `EBUSY` if the file changes faster than its blocks can be moved. The file is as it
/// was.
pub(crate) fn shift(inode: &Changing<'_>, from: u64, to: u64, size: u64) -> Result {
    let file_blocks = inode.blocks();
    file_blocks.check_room_to_share(from..file_blocks::ALL.end, to)?;
    let mut shift = Shift {
        inode,
        from,
        to,
        size,
        room: Room::new(file_blocks.pool()),
        referenced: Referenced::new(),
    };
    let mut tries = 0;
    loop {
        let (mut lock, tail) = shift.take_tail()?;
        let moved = if tries < TRIES {
            drop(lock);
            let moved = moved(&tail, (from, to), &mut Prealloc::on_demand(), u64::MAX)?;
            lock = BlocksGuard::lock(inode)?;
            moved
        } else {
            match moved(&tail, (from, to), shift.room.nodes(false), LOCKED_STEPS) {
                Err(_) if shift.room.is_short() => {
                    drop(lock);
                    shift.room.fill()?;
                    continue;
                }
                moved => moved?,
            }
        };
        while shift.is_still(&tail) {
            match shift.commit(lock.get(), &moved) {
                Err(_) if shift.room.is_short() => drop(lock),
                result => {
                    drop(lock);
                    // After the lock, as what was replaced may be large.
                    return result.map(drop);
                }
            }
            shift.room.fill()?;
            lock = BlocksGuard::lock(inode)?;
        }
        tries += 1;
    }
}

/// Returns the blocks of `tail` where they are to be.
///
/// # Errors
///
/// `EBUSY` where that takes more than `steps`; those of `nodes`.
fn moved(
    tail: &Tree,
    (from, to): (u64, u64),
    nodes: &mut Prealloc,
    mut steps: u64,
) -> Result<Tree> {
    let (mut tree, len) = (tail.edit_empty(), file_blocks::ALL.end - from);
    let stop = cond_resched_killable;
    match tree.share_bounded(to, tail, from, len, nodes, &mut steps, stop)? {
        done if done < len => Err(EBUSY),
        _ => Ok(tree),
    }
}

/// A move of the blocks from `from` on to `to`.
struct Shift<'a> {
    inode: &'a Changing<'a>,
    from: u64,
    to: u64,
    size: u64,
    room: Room<'a>,
    /// The referenced blocks of the tail, which carry their index: they do not move. Duplicates go
    /// instead, as a page cache would forget the page.
    referenced: Referenced,
}

impl<'a> Shift<'a> {
    /// Returns the first index of which the block changes.
    fn first(&self) -> u64 {
        self.from.min(self.to)
    }

    /// Returns a tree with the blocks that move or go, but for the referenced ones, and
    /// `invalidate_lock`. Only these count as shared while it exists.
    fn take_tail(&mut self) -> Result<(BlocksGuard<'a>, Tree)> {
        let tail = self.first()..file_blocks::ALL.end;
        let (inode, referenced) = (self.inode, &mut self.referenced);
        self.room.retry(|room| {
            referenced.reserve()?;
            let lock = BlocksGuard::lock(inode)?;
            referenced.scan(inode, lock.get(), &tail, &tail, room)?;
            let nodes = room.nodes(false);
            let mut tree = lock.get().blocks().edit_from(tail.start, nodes)?;
            for &index in &referenced.wanted {
                tree.remove(index, index + 1, nodes)?;
            }
            Ok((lock, tree))
        })
    }

    /// Returns whether the file has the blocks of `tail` still, and those that are left out of it.
    fn is_still(&self, tail: &Tree) -> bool {
        let mut at = self.first();
        let mut is_same = |end| {
            let range = core::mem::replace(&mut at, end + 1)..end;
            self.inode.blocks().is_same(tail, range)
        };
        self.referenced.wanted.iter().all(|&index| is_same(index)) && is_same(file_blocks::ALL.end)
    }

    /// Puts `moved` in the place of the tail, with duplicates of the referenced blocks. Returns what
    /// was replaced.
    fn commit<'l>(&mut self, lock: BlocksLock<'_, 'l>, moved: &Tree) -> Result<Replaced<'l>> {
        let file_blocks = lock.blocks();
        let tail = self.first()..file_blocks::ALL.end;
        // Stores to referenced blocks went on.
        lock.unmap(tail.clone());
        let nodes = self.room.nodes(false);
        let mut tree = file_blocks.edit(nodes)?;
        tree.remove(tail.start, u64::MAX, nodes)?;
        let len = tail.end - tail.start;
        tree.share_range(tail.start, moved, tail.start, len, nodes, || Ok(()))?;
        for &index in self
            .referenced
            .wanted
            .iter()
            .filter(|&&index| index >= self.from)
        {
            let Some(old) = file_blocks.lookup(index).block() else {
                continue;
            };
            // The other stays counted as long as it is referred to.
            let duplicate = self.room.block(false)?;
            duplicate.bytes().copy_block(&old)?;
            tree.insert(
                index - self.from + self.to,
                duplicate,
                self.room.nodes(false),
            )?;
        }
        let tree = ChargedTree::new(lock, tree)?;
        // Nothing fails from here on. A reader must find no hole where the end was: so the end
        // moves down first, and up last.
        if self.size < self.inode.size() {
            self.inode.set_size(self.size);
            // As truncation does: what lies beyond the end is in no private mapping either.
            lock.unmap_even_cows(blocks_for(self.size)..file_blocks::ALL.end);
        }
        let replaced = tree.commit();
        self.inode.set_size(self.size);
        Ok(replaced)
    }
}
