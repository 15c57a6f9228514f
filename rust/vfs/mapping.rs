// SPDX-License-Identifier: GPL-2.0

//! Files mapped into memory, for filesystems without a page cache: what DAX does, on ordinary
//! pages.
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h),
//! [`include/linux/pagemap.h`](srctree/include/linux/pagemap.h). Compare `fs/dax.c`.
//!
//! A fault handler holds `invalidate_lock` shared from the lookup of a block until its page table
//! entry is in. Whoever takes a block out of a file, or makes it shared, holds the lock exclusive
//! and unmaps first. So no store ever reaches a block that is not the file's own.
//!
//! The page cache stays empty. What user space can point at it (`readahead(2)`, `mincore(2)`,
//! `sync_file_range(2)`, `swapon(2)`, uprobes and others) finds no `read_folio` and no `bmap`, and
//! does nothing or fails.

use super::{filesystem::FileSystem, go_on, inode::Inode, to_errno};
use crate::{bindings, store::block::BlockRef};
use core::{marker::PhantomData, ops::Range};
use kernel::{
    error::to_result,
    mm::virt::{flags, VmaRef},
    page::PAGE_SHIFT,
    prelude::*,
};

/// So many blocks are unmapped rather than looked for among those that are mapped writable.
const FEW: u64 = 512;

/// What one page table maps.
const PMD_SIZE: usize = 1 << bindings::PMD_SHIFT;

/// What can be done with a mapping of a regular file.
pub trait MappingOperations: FileSystem {
    /// Maps the block that `fault` asks for.
    fn fault(fault: &mut Fault<'_, Self>) -> FaultResult;
}

/// The answer to a fault, `vm_fault_t`.
pub struct FaultResult(bindings::vm_fault_t);

impl FaultResult {
    /// There is nothing at this address: `SIGBUS`.
    pub const SIGBUS: Self = Self(bindings::vm_fault_reason_VM_FAULT_SIGBUS);

    /// The memory is bad: `SIGBUS` that says so.
    const HWPOISON: Self = Self(bindings::vm_fault_reason_VM_FAULT_HWPOISON);
}

impl From<Result> for FaultResult {
    /// What the fault was about is mapped, or another fault's entry is there.
    fn from(result: Result) -> Self {
        match result {
            Ok(()) | Err(EBUSY) => Self(bindings::vm_fault_reason_VM_FAULT_NOPAGE),
            Err(err) => err.into(),
        }
    }
}

impl From<Error> for FaultResult {
    fn from(err: Error) -> Self {
        match err {
            ENOMEM => Self(bindings::vm_fault_reason_VM_FAULT_OOM),
            EIO => Self::HWPOISON,
            _ => Self::SIGBUS,
        }
    }
}

impl<T: FileSystem> Inode<T> {
    fn invalidate_lock(&self) -> *mut bindings::rw_semaphore {
        // SAFETY: The reference keeps the inode; only the field's address is taken.
        unsafe { &raw mut (*self.mapping()).invalidate_lock }
    }

    /// Takes `invalidate_lock` exclusive: nothing is mapped meanwhile.
    pub fn invalidate(&self) -> Invalidate<'_, T> {
        // SAFETY: The lock is that of a live inode; the guard unlocks it.
        unsafe { bindings::down_write(self.invalidate_lock()) };
        Invalidate {
            inode: self,
            unlock: true,
        }
    }

    /// Takes `invalidate_lock` shared: what is mapped meanwhile stays true.
    pub fn invalidate_shared(&self) -> InvalidateShared<'_, T> {
        // SAFETY: The lock is that of a live inode; the guard unlocks it.
        unsafe { bindings::down_read(self.invalidate_lock()) };
        InvalidateShared(self)
    }

    /// Takes the blocks in `range` that may be stored to through mappings out of every page table, so
    /// that who stores to them next faults: and waits where the filesystem is frozen, and is seen in
    /// the time of the last change.
    ///
    /// # Errors
    ///
    /// What `go_on` says, which is called after each block.
    pub(super) fn catch_stores(
        &self,
        range: Range<u64>,
        mut go_on: impl FnMut() -> Result,
    ) -> Result {
        if !self.was_mapped() {
            return Ok(());
        }
        let lock = self.invalidate();
        if range.end.saturating_sub(range.start) <= FEW {
            lock.unmap(range);
            return Ok(());
        }
        self.mapped().scan_pinned(range, |index| {
            lock.unmap(index..index + 1);
            go_on()
        })
    }
}

/// `invalidate_lock` held exclusive.
#[must_use]
pub struct Invalidate<'a, T: FileSystem> {
    inode: &'a Inode<T>,
    /// Whether this value's end is that of the lock, too.
    unlock: bool,
}

impl<'a, T: FileSystem> Invalidate<'a, T> {
    /// # Safety
    ///
    /// The caller holds the lock during `'a`, and unlocks it.
    pub(super) unsafe fn assume(inode: &'a Inode<T>) -> Self {
        Self {
            inode,
            unlock: false,
        }
    }

    /// The inode whose lock it is.
    pub fn inode(&self) -> &'a Inode<T> {
        self.inode
    }

    /// Takes `blocks` out of every page table. The copies that private mappings made for
    /// themselves stay.
    pub fn unmap(&self, blocks: Range<u64>) {
        self.unmap_pages(blocks, false);
    }

    /// As [`Invalidate::unmap`], and the copies of private mappings go too: for blocks that no
    /// longer lie within the file.
    pub fn unmap_with_copies(&self, blocks: Range<u64>) {
        self.unmap_pages(blocks, true);
    }

    fn unmap_pages(&self, blocks: Range<u64>, copies: bool) {
        let len = blocks.end.saturating_sub(blocks.start);
        // A length of 0 means "to the end" there.
        if len == 0 || !self.inode.was_mapped() {
            return;
        }
        // SAFETY: The inode is live. Looks itself whether there is any mapping.
        unsafe {
            bindings::unmap_mapping_pages(
                self.inode.mapping(),
                blocks.start as usize,
                len as usize,
                copies,
            )
        };
    }
}

impl<T: FileSystem> Drop for Invalidate<'_, T> {
    fn drop(&mut self) {
        if self.unlock {
            // SAFETY: `Inode::invalidate` took it.
            unsafe { bindings::up_write(self.inode.invalidate_lock()) };
        }
    }
}

/// `invalidate_lock` held shared.
#[must_use]
pub struct InvalidateShared<'a, T: FileSystem>(&'a Inode<T>);

impl<T: FileSystem> Drop for InvalidateShared<'_, T> {
    fn drop(&mut self) {
        // SAFETY: `Inode::invalidate_shared` took it.
        unsafe { bindings::up_read(self.0.invalidate_lock()) };
    }
}

/// A fault in a mapping of a file.
///
/// # Invariants
///
/// `vmf` is the fault that is being handled, of a mapping of a regular file of `T`.
pub struct Fault<'a, T: FileSystem> {
    vmf: *mut bindings::vm_fault,
    _fault: PhantomData<&'a mut T>,
}

impl<'a, T: FileSystem> Fault<'a, T> {
    fn vma(&self) -> &VmaRef {
        // SAFETY: By the type invariant a fault is being handled, and the kernel holds the VMA's lock, or
        // that of all mappings, until it is.
        unsafe { VmaRef::from_raw((*self.vmf).__bindgen_anon_1.vma) }
    }

    fn file(&self) -> *mut bindings::file {
        // SAFETY: The VMA is locked, and that of a file, which it holds.
        unsafe { (*self.vma().as_ptr()).vm_file }
    }

    /// The file's inode.
    pub fn inode(&self) -> &'a Inode<T> {
        // SAFETY: By the type invariant; the mapping holds the file and so the inode.
        unsafe { Inode::from_raw((*self.file()).f_inode) }
    }

    /// The index of the block.
    pub fn index(&self) -> u64 {
        // SAFETY: By the type invariant.
        unsafe { (*self.vmf).__bindgen_anon_1.pgoff as u64 }
    }

    /// The address, of the first byte of its page.
    fn address(&self) -> usize {
        // SAFETY: By the type invariant the fault is being handled, so that `vmf` is valid.
        unsafe { (*self.vmf).__bindgen_anon_1.address }
    }

    fn is_write(&self) -> bool {
        let write = bindings::fault_flag_FAULT_FLAG_WRITE | bindings::fault_flag_FAULT_FLAG_MKWRITE;
        // SAFETY: By the type invariant.
        unsafe { (*self.vmf).flags & write != 0 }
    }

    /// Whether it is the first write to what is mapped read-only, as far as is known without the page
    /// table's lock.
    fn is_mkwrite(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { (*self.vmf).flags & bindings::fault_flag_FAULT_FLAG_MKWRITE != 0 }
    }

    fn is_shared(&self) -> bool {
        self.vma().flags() & flags::SHARED != 0
    }

    /// Whether more may be mapped than what was asked for, writable if `write`: not where userfaultfd(2)
    /// wants to see each fault, mlock(2) counts each page, or soft-dirty bits tell what was written to.
    fn may_map_around(&self, write: bool) -> bool {
        let vma = self.vma();
        // SAFETY: The VMA is locked; its flags are looked at.
        let is_watched = unsafe { bindings::uffd_disable_fault_around(vma.as_ptr()) };
        let is_tracked = cfg!(CONFIG_MEM_SOFT_DIRTY) && vma.flags() & flags::SOFTDIRTY == 0;
        !is_watched && vma.flags() & bindings::VM_LOCKED == 0 && !(write && is_tracked)
    }

    /// Whether the file is about to be written to.
    pub fn writes_file(&self) -> bool {
        self.is_write() && self.is_shared()
    }

    /// Notes that the file is about to be written to: waits until it is not frozen, sets times.
    /// What is returned is held until the block is mapped.
    ///
    /// # Errors
    ///
    /// `EPERM` where the file has become immutable.
    pub fn start_write(&self) -> Result<PageFault<'a>> {
        if self.inode().is_immutable() {
            return Err(EPERM);
        }
        // SAFETY: The file is open.
        let sb = unsafe { (*(*self.file()).f_inode).i_sb };
        // SAFETY: The superblock is live. No lock that ranks before freeze protection for faults
        // is held, but for those of the fault itself.
        unsafe { bindings::sb_start_pagefault(sb) };
        let guard = PageFault(sb, PhantomData);
        // SAFETY: The file is open.
        to_result(unsafe { bindings::file_update_time(self.file()) })?;
        Ok(guard)
    }

    /// Maps `block`, of this index, read-only. A private mapping that is stored to copies it at the next
    /// fault (`wp_page_copy`), under the page table's lock: so a truncation that unmaps sees either the
    /// entry or the copy. (A block is never handed to the kernel as `vmf->page`: it would be taken for
    /// one of a page cache.)
    ///
    /// Where userfaultfd(2) has marked a page as write-protected before it was there, the mark goes:
    /// only `finish_fault`, which modules do not have, could keep it. So who tracks writes so
    /// (`UFFD_FEATURE_WP_ASYNC`) takes the page for one that was written, which is harmless.
    pub fn map(&mut self, _lock: &InvalidateShared<'_, T>, block: &BlockRef) -> FaultResult {
        self.insert(block, false)
    }

    /// Whether [`Fault::map_zero_page`] may be called: nothing can be stored to the file through this
    /// mapping. As `vm_mixed_zeropage_allowed`, of a VMA without `pfn_mkwrite`.
    pub fn may_map_zero_page(&self) -> bool {
        let vma = self.vma();
        let is_cow = vma.flags() & (flags::SHARED | flags::MAYWRITE) == flags::MAYWRITE;
        // SAFETY: The VMA is locked, and so its `mm` is live.
        let is_forbidden = unsafe { bindings::mm_forbids_zeropage((*vma.as_ptr()).vm_mm) };
        !is_forbidden && (is_cow || vma.flags() & (flags::WRITE | flags::MAYWRITE) == 0)
    }

    /// Maps the kernel's page of zeros, for a hole at this index. Nobody counts references to that, nor can
    /// anybody pin it.
    pub fn map_zero_page(&mut self, _lock: &InvalidateShared<'_, T>) -> FaultResult {
        // SAFETY: By the type invariant the fault is being handled, so that `vmf` is valid.
        if let Err(err) = to_result(unsafe { bindings::reflinkfs_clear_uffd_wp_marker(self.vmf) }) {
            return err.into();
        }
        // SAFETY: As above; the page of zeros is never freed.
        FaultResult(unsafe {
            bindings::vmf_insert_page_mkwrite(self.vmf, bindings::ZERO_PAGE(0), false)
        })
    }

    /// Maps the block of this index writable, if it is this file's alone. `own` passes it to its argument
    /// where that is so, while it cannot change: from then on everybody can see that it is mapped
    /// writable.
    pub fn map_writable(
        &mut self,
        _lock: &InvalidateShared<'_, T>,
        own: impl FnOnce(&Associate<'_, 1>) -> Associated<1>,
    ) -> Option<FaultResult> {
        let Associated([block]) = own(&|blocks| self.associate(self.index(), blocks));
        Some(self.insert(&block?, true))
    }

    /// The indexes around the one that was asked for that may be mapped too, to save faults to
    /// come, as `do_fault_around` does for page caches: of a multiple of `n`, as far as the mapping
    /// and one page table reach. None where no more may be mapped than what was asked for, nor where the
    /// page was mapped already, as those around it are then.
    pub fn around(&self, n: u64) -> Range<u64> {
        if self.is_mkwrite() || !self.may_map_around(self.writes_file()) {
            return 0..0;
        }
        let (address, start, end) = (self.address(), self.vma().start(), self.vma().end());
        let table = address - address % PMD_SIZE;
        let before = (address - start.max(table)) >> PAGE_SHIFT;
        let after = (end.min(table.saturating_add(PMD_SIZE)) - address) >> PAGE_SHIFT;
        let (index, from) = (self.index(), self.index() - self.index() % n);
        from.max(index.saturating_sub(before as u64))..(from + n).min(index + after as u64)
    }

    /// Maps `blocks`, of `first` and the indexes after it, too, read-only, where nothing is mapped
    /// yet. All lie within what [`Fault::around`] gave.
    pub fn map_around(
        &mut self,
        _lock: &InvalidateShared<'_, T>,
        first: u64,
        blocks: &[Option<BlockRef>],
    ) {
        self.insert_around(first, blocks, false);
    }

    /// As [`Fault::map_around`], writable, for a fault that [writes](Fault::writes_file), and with `own`
    /// as for [`Fault::map_writable`].
    pub fn map_writable_around<const N: usize>(
        &mut self,
        _lock: &InvalidateShared<'_, T>,
        first: u64,
        own: impl FnOnce(&Associate<'_, N>) -> Associated<N>,
    ) {
        let Associated(blocks) = own(&|blocks| self.associate(first, blocks));
        self.insert_around(first, &blocks, true);
    }

    fn insert_around(&mut self, first: u64, blocks: &[Option<BlockRef>], write: bool) {
        let address = self.address();
        let mut at = 0;
        while at < blocks.len() {
            let run = blocks[at..].iter().take_while(|b| b.is_some()).count();
            if run > 0 {
                let place = (first + at as u64).wrapping_sub(self.index()) as usize;
                let mut left = run;
                // SAFETY: By the type invariant; the VMA is locked, and its bounds are checked. The
                // `run` pointers to live pages are only read. An entry that is there already is left
                // alone. For `write` the pages are the file's alone, and known to be mapped so.
                let result = to_result(unsafe {
                    bindings::reflinkfs_insert_pages(
                        self.vma().as_ptr(),
                        address.wrapping_add(place << PAGE_SHIFT),
                        BlockRef::as_ptrs(&blocks[at..]),
                        &mut left,
                        write,
                    )
                });
                match result {
                    Ok(()) | Err(EBUSY) => at += run - left,
                    Err(_) => return,
                }
            }
            // What is a hole, or mapped.
            at += 1;
        }
    }

    /// Makes blocks of this file alone carry its mapping, and their indexes, from `first` on.
    fn associate<const N: usize>(
        &self,
        first: u64,
        blocks: [Option<BlockRef>; N],
    ) -> Associated<N> {
        let inode = self.inode();
        let mut with_index = (first..)
            .zip(&blocks)
            .filter_map(|(index, block)| Some((index, block.as_ref()?)))
            .peekable();
        if with_index.peek().is_some() {
            // SAFETY: `i_private` points to `mapped()`, see `Container`. A mapped inode is not being
            // evicted. What `Fault::map_writable` is given may be written in place: blocks with a mark
            // of the tree's present generation, which were allocated for this file and never were in another,
            // so that they carry no other mapping.
            unsafe { inode.mapped().associate(inode.mapping(), with_index) };
        }
        Associated(blocks)
    }

    /// Maps `block` where nothing is mapped, or for [`Fault::is_mkwrite`] makes writable what is.
    ///
    /// An entry that is there by now is another fault's, or a mark of `madvise(MADV_GUARD_INSTALL)` or
    /// userfaultfd(2): it is left alone, and the next fault is about that.
    fn insert(&mut self, block: &BlockRef, write: bool) -> FaultResult {
        if block.is_poisoned() {
            return FaultResult::HWPOISON;
        }
        if block.refcount_near_overflow() {
            return FaultResult::SIGBUS;
        }
        if self.is_mkwrite() {
            let mut missing = false;
            // SAFETY: By the type invariant the fault is being handled; `block` keeps its page.
            let result = to_result(unsafe {
                bindings::reflinkfs_make_entry_writable(self.vmf, block.as_ptr(), &mut missing)
            });
            if !missing || result.is_err() {
                return result.into();
            }
        }
        // SAFETY: By the type invariant the fault is being handled, so that `vmf` is valid.
        if let Err(err) = to_result(unsafe { bindings::reflinkfs_clear_uffd_wp_marker(self.vmf) }) {
            return err.into();
        }
        if write && self.may_map_around(true) {
            self.insert_writable(block)
        } else {
            // To be made writable, if it is to be, when it is seen to be mapped.
            // SAFETY: By the type invariant; the page is live.
            FaultResult(unsafe {
                bindings::vmf_insert_page_mkwrite(self.vmf, block.as_ptr(), false)
            })
        }
    }

    fn insert_writable(&mut self, block: &BlockRef) -> FaultResult {
        let (mut page, mut left) = (block.as_ptr(), 1);
        // SAFETY: As in `insert_around`; of one page, which is known to be mapped writable.
        to_result(unsafe {
            bindings::reflinkfs_insert_pages(
                self.vma().as_ptr(),
                self.address(),
                &mut page,
                &mut left,
                true,
            )
        })
        .into()
    }
}

/// Has everybody see that blocks are mapped writable: see [`Fault::map_writable`].
pub type Associate<'a, const N: usize> = dyn Fn([Option<BlockRef>; N]) -> Associated<N> + 'a;

/// Blocks that everybody can see to be mapped writable.
pub struct Associated<const N: usize>([Option<BlockRef>; N]);

/// Freeze protection of a fault.
#[must_use]
pub struct PageFault<'a>(*mut bindings::super_block, PhantomData<&'a ()>);

impl Drop for PageFault<'_> {
    fn drop(&mut self) {
        // SAFETY: `Fault::start_write` took it; the fault holds the file and so the superblock.
        unsafe { bindings::sb_end_pagefault(self.0) };
    }
}

/// The callbacks of mappings.
pub(super) struct MappingTables<T: MappingOperations>(PhantomData<T>);

impl<T: MappingOperations> MappingTables<T> {
    pub(super) const ADDRESS_SPACE: bindings::address_space_operations =
        bindings::address_space_operations {
            dirty_folio: Some(Self::dirty_folio),
            ..pin_init::zeroed()
        };

    /// A page was stored to, as its entry in a page table says that goes, or who had it pinned. The
    /// file's times are not before this moment then: a store that faults sets them, but that one may be
    /// the first of many, and makes pages around it writable.
    ///
    /// There is nothing to write back, so that no page is ever marked as dirty.
    ///
    /// # Safety
    ///
    /// `mapping` is an inode's, which stays, as the page or its page table is locked.
    unsafe extern "C" fn dirty_folio(
        mapping: *mut bindings::address_space,
        _folio: *mut bindings::folio,
    ) -> bool {
        // SAFETY: The page, or its page table, is locked, so that the mapping's inode is not evicted.
        unsafe { bindings::reflinkfs_update_cmtime((*mapping).host) };
        false
    }

    const VM: bindings::vm_operations_struct = bindings::vm_operations_struct {
        fault: Some(Self::fault),
        page_mkwrite: Some(Self::fault),
        map_pages: Some(Self::map_pages),
        ..pin_init::zeroed()
    };

    /// Maps nothing: a fault does that, around the page that it is for. But that it is there tells the
    /// kernel that faults need no more than the lock of the one VMA (`vmf_can_call_fault`). They look
    /// at that VMA and the page tables below it, and at nothing else of the process.
    ///
    /// # Safety
    ///
    /// None.
    unsafe extern "C" fn map_pages(
        _vmf: *mut bindings::vm_fault,
        _first: c_ulong,
        _last: c_ulong,
    ) -> bindings::vm_fault_t {
        0
    }

    /// Both a fault and the first write to what is mapped read-only: the lookup decides.
    ///
    /// # Safety
    ///
    /// `vmf` is a fault in a mapping that [`mmap`] made.
    unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // INVARIANT: By the safety requirements.
        T::fault(&mut Fault {
            vmf,
            _fault: PhantomData,
        })
        .0
    }
}

/// # Safety
///
/// `file` is an open regular file of `T`, `vma` a new mapping of it.
pub(super) unsafe extern "C" fn mmap<T: MappingOperations>(
    file: *mut bindings::file,
    vma: *mut bindings::vm_area_struct,
) -> c_int {
    // SAFETY: The VFS has the file open, and the VMA is not seen by others yet.
    unsafe {
        Inode::<T>::from_raw((*file).f_inode).set_mapped();
        bindings::file_accessed(file);
        (*vma).vm_ops = &MappingTables::<T>::VM;
    }
    0
}

/// There is nothing to write back. But what is stored through mappings from now on changes the times
/// of the file anew, as where there is.
///
/// # Safety
///
/// `file` is an open regular file of `T`.
pub(super) unsafe extern "C" fn fsync<T: MappingOperations>(
    file: *mut bindings::file,
    start: bindings::loff_t,
    end: bindings::loff_t,
    _datasync: c_int,
) -> c_int {
    // SAFETY: By the safety requirements.
    let inode = unsafe { Inode::<T>::from_raw((*file).f_inode) };
    let blocks = (start as u64 >> PAGE_SHIFT)..(end as u64 >> PAGE_SHIFT) + 1;
    to_errno(inode.catch_stores(blocks, go_on))
}
