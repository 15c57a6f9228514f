// SPDX-License-Identifier: GPL-2.0

//! Maps blocks into processes without a page cache: what `fs/dax.c` does, on ordinary pages.
//!
//! A fault handler holds `invalidate_lock` shared from the lookup of a block until its page table
//! entry is in. What takes a block out of a file, or makes it shared, holds the lock exclusive and
//! unmaps first. So no store reaches a block that the file does not own.
//!
//! The page cache stays empty. What user space can point at it (`readahead(2)`, `mincore(2)`,
//! `sync_file_range(2)`, `swapon(2)`, uprobes and others) finds no `read_folio` and no `bmap`, and
//! does nothing or fails.

use crate::{
    bindings,
    store::block::{
        BlockRef,
        MappedBlocks, //
    },
    vfs::{
        AddressSpaceOperations,
        Fault,
        FileSystem,
        Inode,
        IntoPage,
        InvalidateGuard,
        InvalidateSharedGuard,
        NewInode,
        PageRef,
        VmFault, //
    },
};
use core::ops::Range;
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    time::{
        Delta,
        Instant,
        Monotonic, //
    },
};

/// Ranges of at most this many blocks are unmapped as they are; in longer ones, the blocks that are
/// mapped writable are looked for.
const UNMAP_WHOLE_BLOCKS: u64 = 512;

/// For how long ranges are unmapped one by one, which visits every mapping of the file for each.
/// After that, and [`MIN_UNMAP_RANGES`], all is unmapped at once.
const UNMAP_RANGES_TIME: Delta = Delta::from_millis(2);

/// How many ranges are unmapped one by one however long that takes.
const MIN_UNMAP_RANGES: usize = 16;

/// A filesystem whose blocks are mapped so. It calls [`init_inode`] for each regular file that it
/// creates, and [`evict_inode`] for each inode that goes.
pub(crate) trait Dax: FileSystem {
    /// Returns what is kept with an inode for this layer.
    fn dax_info(inode: &Inode<Self>) -> &DaxInfo;
}

/// What is kept with an inode.
#[pin_data]
pub(crate) struct DaxInfo {
    /// The blocks that carry this inode's mapping. `i_private` points to it.
    #[pin]
    mapped: MappedBlocks,
    was_mapped: Atomic<bool>,
}

impl DaxInfo {
    /// Returns an initialiser for a new inode.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            mapped <- MappedBlocks::new(),
            was_mapped: Atomic::new(false),
        })
    }

    /// Returns the blocks that carry this inode's mapping.
    pub(crate) fn mapped(&self) -> &MappedBlocks {
        &self.mapped
    }

    /// Returns whether the file was ever mapped. If not, and with `invalidate_lock` held exclusive,
    /// no page table has any of its blocks.
    pub(crate) fn was_mapped(&self) -> bool {
        self.was_mapped.load(Relaxed)
    }

    /// Sets [`DaxInfo::was_mapped`], before the mapping can be used. Ordered by `invalidate_lock`,
    /// which faults and readers of the flag take afterwards.
    pub(crate) fn set_mapped(&self) {
        self.was_mapped.store(true, Relaxed);
    }
}

/// Prepares a new regular file.
pub(crate) fn init_inode<T: Dax>(inode: &NewInode<T>) {
    inode.set_private(&raw const *T::dax_info(inode).mapped());
}

/// Ends the association of blocks with the inode, for
/// [`SuperOperations::evict_inode`](crate::vfs::SuperOperations::evict_inode).
pub(crate) fn evict_inode<T: Dax>(inode: &Inode<T>) {
    T::dax_info(inode).mapped().disassociate_all();
}

/// Unmaps the blocks in `range` that may be stored to, so that the next store to each faults: it
/// then waits where the filesystem is frozen, and updates the file's times. Takes
/// `invalidate_lock`. Of a short range also unmaps what is mapped read-only.
///
/// # Errors
///
/// Those of `check`, which is called after each block of a long range.
pub(crate) fn unmap_writable<T: Dax>(
    inode: &Inode<T>,
    range: Range<u64>,
    check: impl FnMut() -> Result,
) -> Result {
    if !T::dax_info(inode).was_mapped() {
        return Ok(());
    }
    let lock = inode.invalidate_lock();
    if range.end.saturating_sub(range.start) <= UNMAP_WHOLE_BLOCKS {
        lock.unmap(range);
        return Ok(());
    }
    unmap_writable_locked(&lock, range, check)
}

/// As [`unmap_writable`], with `invalidate_lock` held. What is mapped read-only stays, unless there
/// are more ranges to be unmapped than [`UNMAP_RANGES_TIME`] suffices for.
pub(crate) fn unmap_writable_locked<T: Dax>(
    lock: &InvalidateGuard<'_, T>,
    range: Range<u64>,
    mut check: impl FnMut() -> Result,
) -> Result {
    let info = T::dax_info(lock.inode());
    if !info.was_mapped() {
        return Ok(());
    }
    let mut adjacent = 0..0;
    let begin = Instant::<Monotonic>::now();
    let (mut ranges, mut is_all_unmapped) = (0, false);
    let mut unmap = |adjacent: Range<u64>| {
        if is_all_unmapped {
            return;
        }
        ranges += 1;
        is_all_unmapped = ranges > MIN_UNMAP_RANGES && begin.elapsed() > UNMAP_RANGES_TIME;
        lock.unmap(if is_all_unmapped {
            range.clone()
        } else {
            adjacent
        });
    };
    // A block that nothing else refers to is not mapped.
    let result = info.mapped().for_each_referenced(range.clone(), |index| {
        if index == adjacent.end {
            adjacent.end += 1;
        } else if index + 1 == adjacent.start {
            adjacent.start -= 1;
        } else {
            unmap(core::mem::replace(&mut adjacent, index..index + 1));
        }
        check()
    });
    unmap(adjacent);
    result
}

// SAFETY: A block is a page of order 0 in no page cache, to which the value holds a reference. It
// is transparent down to a `NonNull`, and so is an `Option` of it.
unsafe impl PageRef for BlockRef {
    fn page_ptr(&self) -> *mut bindings::page {
        self.as_ptr()
    }
}

// SAFETY: `into_page` gives the reference to the caller.
unsafe impl IntoPage for BlockRef {
    fn into_page(self) -> *mut bindings::page {
        BlockRef::into_page(self)
    }
}

/// Returns the answer where a block cannot be mapped.
fn refuse(block: &BlockRef) -> Option<VmFault> {
    if block.is_poisoned() {
        return Some(VmFault::HWPOISON);
    }
    block.refcount_near_overflow().then_some(VmFault::SIGBUS)
}

/// Maps `block`, of the index of the fault, read-only.
pub(crate) fn map<T: Dax>(
    fault: &mut Fault<'_, T>,
    lock: &InvalidateSharedGuard<'_, T>,
    block: &BlockRef,
) -> VmFault {
    refuse(block).unwrap_or_else(|| fault.map(lock, block, false))
}

/// Blocks that a file owns alone, held so by a lock: they were allocated for it, and were
/// never in another file.
pub(crate) trait Owned<const N: usize> {
    /// Returns them.
    fn blocks(&self) -> &[Option<BlockRef>; N];

    /// Drops the lock.
    fn unlock(self) -> [Option<BlockRef>; N];
}

/// Blocks that a file owned alone when they came to carry its mapping: a clone finds that
/// they may be mapped writable.
pub(crate) struct Associated<const N: usize>([Option<BlockRef>; N]);

impl<const N: usize> Associated<N> {
    /// Makes the blocks carry the mapping of the inode of `fault`, and their indexes, from `first`
    /// on. Then drops the lock of `blocks`.
    pub(crate) fn new<T: Dax>(fault: &Fault<'_, T>, first: u64, blocks: impl Owned<N>) -> Self {
        let inode = fault.inode();
        let mut with_index = (first..)
            .zip(blocks.blocks())
            .filter_map(|(index, block)| Some((index, block.as_ref()?)))
            .peekable();
        if with_index.peek().is_some() {
            // SAFETY: `init_inode` has pointed `i_private` to `mapped()`, as `Dax` asks, and
            // nothing else sets it. The mapping that the fault is in holds the file, so that the
            // inode is not being evicted. `Owned` yields blocks that were allocated for this
            // file and were never in another, so that they carry no other mapping.
            unsafe {
                T::dax_info(inode)
                    .mapped()
                    .associate(inode.mapping(), with_index)
            };
        }
        Self(blocks.unlock())
    }
}

/// Maps the block of the index of the fault writable. `None` if there is none.
pub(crate) fn map_writable<T: Dax>(
    fault: &mut Fault<'_, T>,
    lock: &InvalidateSharedGuard<'_, T>,
    Associated([block]): Associated<1>,
) -> Option<VmFault> {
    let block = block?;
    Some(refuse(&block).unwrap_or_else(|| fault.map(lock, &block, true)))
}

/// Maps `blocks`, of `first` and the indexes after it, read-only, where nothing is mapped. All lie
/// within what [`Fault::around`] returned.
pub(crate) fn map_around<T: Dax>(
    fault: &mut Fault<'_, T>,
    lock: &InvalidateSharedGuard<'_, T>,
    first: u64,
    blocks: &[Option<BlockRef>],
) {
    fault.map_around(lock, first, blocks, false);
}

/// As [`map_around`], writable.
pub(crate) fn map_writable_around<T: Dax, const N: usize>(
    fault: &mut Fault<'_, T>,
    lock: &InvalidateSharedGuard<'_, T>,
    first: u64,
    Associated(blocks): Associated<N>,
) {
    fault.map_around(lock, first, &blocks, true);
}

/// The operations of an inode's `address_space`.
pub(crate) struct DaxAddressSpaceOps;

#[vtable]
impl<T: Dax> AddressSpaceOperations<T> for DaxAddressSpaceOps {
    /// Updates the file's times when a page was stored to, as its page table entry or the end of a
    /// pin says. They are not before this moment then: a store that faults sets them, but that one
    /// may be the first of many, and makes pages around it writable. Nothing is written back, so
    /// that no page is marked dirty.
    fn dirty_folio(inode: &Inode<T>) -> bool {
        inode.update_cmtime();
        false
    }
}
