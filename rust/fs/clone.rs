// SPDX-License-Identifier: GPL-2.0

//! Sharing blocks between files: `FICLONE`, `FICLONERANGE`.
//!
//! With `i_rwsem` of both files held there are three steps, so that no fault waits for long:
//! [`take`] takes the source's blocks with its `invalidate_lock` held, in O(1) if there are many; a
//! tree for the destination is made of them without a lock, in any number of steps; and its blocks
//! are inserted with the destination's `invalidate_lock` held, at the index that they have in it.

use super::{
    block_of,
    blocks_for,
    remap::RemapRequest,
    room::Room,
    truncate,
    Changing,
    ChargedTree,
    Data,
    LockedInode,
    ReflinkFs, //
};
use crate::{
    store::{
        block::NewBlock,
        Prealloc,
        Tree, //
    },
    vfs::{
        cond_resched_killable,
        InvalidateGuard, //
    },
};
use core::{
    cmp::Ordering,
    ops::Range, //
};
use kernel::{
    prelude::*,
    time::{
        delay::fsleep,
        Delta, //
    },
};

/// How often a block that seems to be pinned is looked at again, if a pinned block fails the call:
/// some references last for a moment only, such as DAMON's.
pub(super) const PIN_TRIES: usize = 5;

/// More stretches than these are not unmapped one by one.
const MAX_UNMAP_RANGES: usize = 256;

/// Clones a range: [`RemapKind::Clone`](super::remap::RemapKind). Returns how many bytes.
pub(crate) fn clone(request: &RemapRequest<'_>) -> Result<u64> {
    let files = request.lock();
    let Some((to, len)) = request.prepare_clone(&files)? else {
        return Ok(0);
    };
    let span = Span {
        from_pos: request.from_pos,
        to_pos: request.to_pos,
        len,
    };
    let mut steps = u64::MAX;
    share(files.from(), &to, span, request.only_shared, &mut steps)
}

/// A range of one file that another is to share, in bytes.
///
/// Both positions are multiples of the block size; `len` is, or ends at the end of the source and
/// at or beyond that of the destination.
pub(crate) struct Span {
    pub(crate) from_pos: u64,
    pub(crate) to_pos: u64,
    pub(crate) len: u64,
}

/// Makes the bytes of the destination those of the source by sharing their blocks, and moves the
/// destination's end up where that lies beyond it. Returns how many bytes: fewer where `steps`,
/// which become fewer, do not suffice, and with `only_shared` where a block follows that is pinned.
/// Otherwise such a block is copied.
///
/// # Errors
///
/// `ENOMEM`; `EDQUOT`; `ENOSPC` where a block has to be copied; `EBUSY` where the first block is
/// pinned, with `only_shared`; `EINTR` if a fatal signal is pending. Both files are as they were.
pub(crate) fn share(
    from: &LockedInode,
    to: &Changing<'_>,
    span: Span,
    only_shared: bool,
    steps: &mut u64,
) -> Result<u64> {
    let Span { to_pos, len, .. } = span;
    let (first, to_first, n) = (block_of(span.from_pos), block_of(to_pos), blocks_for(len));
    let taken = take(from, first..first + n, only_shared)?;
    let whole =
        first == 0 && to_first == 0 && len >= from.size() && len >= to.size() && taken.len == n;

    let mut prealloc = Prealloc::on_demand();
    let (mut tree, done) = if whole {
        let mut tree = taken.tree;
        // What fallocate put beyond the end is not cloned.
        if tree.next_block(n).is_some() {
            tree.remove(n, u64::MAX, &mut prealloc)?;
        }
        (tree, n)
    } else {
        let mut tree = to.data().tree.edit_empty();
        let done = tree.share_bounded(
            to_first,
            &taken.tree,
            first,
            taken.len,
            &mut prealloc,
            steps,
            cond_resched_killable,
        )?;
        drop(taken.tree);
        (tree, done)
    };
    for (index, copy) in taken.copies {
        if index - first < done {
            tree.insert(index - first + to_first, copy, &mut prealloc)?;
        }
    }
    let len = len.min(done * super::BLOCK_SIZE as u64);
    let mut content = Some(tree);
    Room::new(to.data().tree.pool()).retry(|room| {
        let lock = to.invalidate_lock();
        if to_pos > to.size() {
            // What was stored behind the end is within the file then.
            let tail = block_of(to.size());
            lock.unmap(tail..tail + 1);
            truncate::wipe_tail(to, u64::MAX);
        }
        let tree = match &content {
            Some(content) if !whole => {
                let nodes = room.nodes(false);
                let mut tree = to.data().tree.edit(nodes)?;
                let stop = cond_resched_killable;
                tree.share(to_first, content, to_first, done, nodes, stop)?;
                Some(tree)
            }
            _ => content.take(),
        };
        // So that nothing is shared with what is dropped anyway, when the lock is.
        drop(content.take());
        let tree = ChargedTree::new(&lock, tree.ok_or(EINVAL)?)?;
        lock.unmap(to_first..to_first + done);
        drop(tree.commit());
        if to_pos + len > to.size() {
            to.set_size(to_pos + len);
        }
        Ok(())
    })?;
    Ok(len)
}

/// Blocks that another file may have from now on.
struct Taken<'a> {
    /// A tree with these at their indexes, but for those that are copied, and perhaps with others.
    tree: Tree,
    /// Copies of blocks that may still be written to through a pin, by index.
    copies: KVVec<(u64, NewBlock<'a>)>,
    /// How many blocks, from the first on.
    len: u64,
}

/// Takes the blocks in `range`: none of them is written in place any more, but those of which there
/// are copies. With `only_shared` ends before the first of which there would be one.
fn take(from: &LockedInode, range: Range<u64>, only_shared: bool) -> Result<Taken<'_>> {
    let data = &from.data().tree;
    let mut range = range;
    let snap_range = Data::range_to_snapshot(range.start, range.end - range.start);
    let mut room = Room::new(data.pool());
    let mut copies = KVVec::new();
    let mut pinned = Pinned::new();
    let mut tries = 0;
    loop {
        cond_resched_killable()?;
        let lock = from.invalidate_lock();
        unmap_writable(from, &lock, snap_range.clone());
        if !pinned.scan(from, &snap_range, &range) {
            drop(lock);
            pinned.reserve()?;
            continue;
        }
        if only_shared && !pinned.all.is_empty() {
            if tries < PIN_TRIES {
                tries += 1;
                drop(lock);
                fsleep(Delta::from_millis(1));
                continue;
            }
            range.end = pinned.all[0];
            if range.is_empty() {
                return Err(EBUSY);
            }
            pinned.all.clear();
        }
        if copies.capacity() < pinned.all.len() {
            drop(lock);
            copies.reserve(pinned.all.len(), GFP_KERNEL)?;
            continue;
        }
        match copy_pinned(from, &pinned, &snap_range, &mut copies, &mut room) {
            Ok(tree) => {
                return Ok(Taken {
                    tree,
                    copies,
                    len: range.end - range.start,
                })
            }
            Err(_) if room.is_short() => (),
            Err(err) => return Err(err),
        }
        drop(lock);
        copies.clear();
        room.fill()?;
    }
}

/// Puts copies of the blocks that are pinned into `copies`, and returns a snapshot of the file
/// without them.
///
/// # Errors
///
/// `EIO` where one is poisoned; those of `room`.
fn copy_pinned<'a>(
    from: &LockedInode,
    pinned: &Pinned,
    snap_range: &Range<u64>,
    copies: &mut KVVec<(u64, NewBlock<'a>)>,
    room: &mut Room<'a>,
) -> Result<Tree> {
    for &index in &pinned.all {
        if let Some(old) = from.data().tree.lookup(index).block() {
            let copy = room.block(false)?;
            copy.bytes().copy_block(&old)?;
            copies
                .push_within_capacity((index, copy))
                .map_err(|_| EINVAL)?;
        }
    }
    let nodes = room.nodes(false);
    let mut tree = from.data().tree.snapshot(snap_range, nodes)?;
    leave_out(&mut tree, from, &pinned.own, nodes)?;
    Ok(tree)
}

/// Removes the blocks at the indexes `own` from `tree`, a snapshot of the file's, and makes them
/// exclusive in the file again: they are pinned, and a store through a pin must reach the file.
///
/// # Errors
///
/// `ENOMEM`, `ENOSPC`.
pub(super) fn leave_out(
    tree: &mut Tree,
    file: &LockedInode,
    own: &[u64],
    prealloc: &mut Prealloc,
) -> Result {
    let mut result = Ok(());
    for &index in own {
        result = result.and_then(|()| tree.remove(index, index + 1, prealloc));
    }
    if result.is_err() {
        *tree = Tree::new(file.data().tree.pool().clone());
    }
    file.data().tree.restore_exclusive(own.iter());
    result
}

/// Removes writable mappings of the blocks in `range`, before these become shared or are compared,
/// and zeroes what was stored beyond the end of the file. Read-only mappings stay.
pub(super) fn unmap_writable(
    file: &LockedInode,
    lock: &InvalidateGuard<'_, ReflinkFs>,
    range: Range<u64>,
) {
    if file.data().dax.was_mapped() {
        let mut stretch = 0..0;
        let mut stretches = 0;
        let mut unmap = |stretch: Range<u64>| {
            stretches += 1;
            match stretches.cmp(&MAX_UNMAP_RANGES) {
                Ordering::Less => lock.unmap(stretch),
                Ordering::Equal => lock.unmap(range.clone()),
                Ordering::Greater => (),
            }
        };
        // A block that nothing else refers to is not mapped.
        let listed = file
            .data()
            .dax
            .mapped()
            .scan_pinned(range.clone(), |index| {
                if index == stretch.end {
                    stretch.end += 1;
                } else if index + 1 == stretch.start {
                    stretch.start -= 1;
                } else {
                    unmap(core::mem::replace(&mut stretch, index..index + 1));
                }
                Ok(())
            });
        unmap(stretch);
        debug_assert!(listed.is_ok());
    }
    truncate::wipe_tail(file, u64::MAX);
}

/// Blocks that may still be written to through a pin, by index.
pub(super) struct Pinned {
    /// In ascending order.
    pub(super) all: KVVec<u64>,
    /// Those that can be written in place, also some beyond the range.
    pub(super) own: KVVec<u64>,
    /// How many the last scan found, of either.
    found: usize,
}

impl Pinned {
    /// Returns one without any, and without room for any.
    pub(super) fn new() -> Self {
        Self {
            all: KVVec::new(),
            own: KVVec::new(),
            found: 0,
        }
    }

    /// Looks for those in `range`; and the own ones in `snap_range`, where stores have been
    /// stopped. Returns whether there is room for all: if not, the caller drops the lock and calls
    /// [`Pinned::reserve`].
    pub(super) fn scan(
        &mut self,
        file: &LockedInode,
        snap_range: &Range<u64>,
        range: &Range<u64>,
    ) -> bool {
        self.all.clear();
        self.own.clear();
        self.found = 0;
        let mut fits = true;
        let mapped = file.data().dax.mapped();
        let listed = mapped.scan_pinned(snap_range.clone(), |index| {
            self.found += 1;
            if file.data().tree.is_exclusive(index) {
                fits &= self.own.push_within_capacity(index).is_ok();
            }
            if range.contains(&index) {
                fits &= self.all.push_within_capacity(index).is_ok();
            }
            Ok(())
        });
        debug_assert!(listed.is_ok());
        sort(&mut self.all);
        fits
    }

    /// Returns how many the last scan found, pinned in the range or the file's own.
    pub(super) fn found(&self) -> usize {
        self.found
    }

    /// Makes room for as many as the last scan found.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn reserve(&mut self) -> Result {
        self.all.clear();
        self.own.clear();
        self.all.reserve(self.found, GFP_KERNEL)?;
        self.own.reserve(self.found, GFP_KERNEL)?;
        Ok(())
    }
}

/// Sorts in ascending order, in place: a heap sort. (objtool cannot follow what rustc makes of
/// `sort_unstable`.)
fn sort(list: &mut [u64]) {
    fn sift_down(heap: &mut [u64], root: usize) {
        let mut root = root;
        loop {
            let left = 2 * root + 1;
            let Some(larger) = (left..heap.len().min(left + 2)).max_by_key(|&i| heap[i]) else {
                return;
            };
            if heap[root] >= heap[larger] {
                return;
            }
            heap.swap(root, larger);
            root = larger;
        }
    }
    for root in (0..list.len() / 2).rev() {
        sift_down(list, root);
    }
    for end in (1..list.len()).rev() {
        list.swap(0, end);
        sift_down(&mut list[..end], 0);
    }
}
