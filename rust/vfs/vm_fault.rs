// SPDX-License-Identifier: GPL-2.0

//! Faults in mappings of files: `struct vm_operations_struct`, `struct vm_fault`.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h).

use super::{
    FileSystem,
    Inode,
    InvalidateSharedGuard,
    VmOps, //
};
use crate::bindings;
use core::{
    marker::PhantomData,
    ops::Range, //
};
use kernel::{
    error::to_result,
    mm::virt::{
        flags,
        VmaRef, //
    },
    page::PAGE_SHIFT,
    prelude::*, //
};

/// How many bytes one page table maps.
const PMD_SIZE: usize = 1 << bindings::PMD_SHIFT;

/// The operations of a mapping.
pub trait VmOperations<T: FileSystem> {
    /// Maps the page that `fault` is about. Called for a fault, and for the first write to what is
    /// mapped read-only (`->fault`, `->page_mkwrite`).
    fn fault(fault: &mut Fault<'_, T>) -> VmFault;
}

impl<T: FileSystem> VmOps<T> {
    /// Returns the table of the operations of `U`.
    pub const fn new<U: VmOperations<T>>() -> &'static Self {
        &Table::<T, U>::TABLE
    }
}

struct Table<T, U>(PhantomData<(T, U)>);

impl<T: FileSystem, U: VmOperations<T>> Table<T, U> {
    const TABLE: VmOps<T> = VmOps::from_raw(bindings::vm_operations_struct {
        fault: Some(Self::fault),
        page_mkwrite: Some(Self::fault),
        map_pages: Some(Self::map_pages),
        ..pin_init::zeroed()
    });

    /// # Safety
    ///
    /// `vmf` is a fault in a mapping that was given this table.
    unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // INVARIANT: The kernel passes the fault that it is handling, in a mapping that was given
        // this table: one of a file of `T`.
        U::fault(&mut Fault {
            vmf,
            _fault: PhantomData,
        })
        .0
    }

    /// Maps nothing: `fault` maps pages around the one that it is about. That this exists tells the
    /// kernel that faults need only the lock of their VMA (`vmf_can_call_fault`).
    ///
    /// # Safety
    ///
    /// None: does not look at its arguments.
    unsafe extern "C" fn map_pages(
        _vmf: *mut bindings::vm_fault,
        _first: c_ulong,
        _last: c_ulong,
    ) -> bindings::vm_fault_t {
        0
    }
}

/// A new mapping of a file of `T`, `struct vm_area_struct`.
pub struct NewVma<'a, T: FileSystem>(*mut bindings::vm_area_struct, PhantomData<&'a T>);

impl<T: FileSystem> NewVma<'_, T> {
    /// # Safety
    ///
    /// `vma` is a new mapping of a file of `T`, which nothing else accesses.
    pub(super) unsafe fn from_raw(vma: *mut bindings::vm_area_struct) -> Self {
        Self(vma, PhantomData)
    }

    /// Returns whether it is, or may become, one through which the file is stored to:
    /// `is_shared_maywrite`.
    pub fn is_shared_maywrite(&self) -> bool {
        let mask = bindings::VM_SHARED | bindings::VM_MAYWRITE;
        // SAFETY: `from_raw` was promised a mapping that nothing else accesses.
        unsafe { (*self.0).__bindgen_anon_2.vm_flags & mask == mask }
    }

    /// Sets the operations.
    pub fn set_vm_ops(self, ops: &'static VmOps<T>) {
        // SAFETY: `from_raw` was promised a mapping that nothing else accesses; the table is
        // static, and of `T`.
        unsafe { (*self.0).vm_ops = ops.as_raw() };
    }
}

/// The result of a fault, `vm_fault_t`.
pub struct VmFault(bindings::vm_fault_t);

impl VmFault {
    /// There is nothing at this address.
    pub const SIGBUS: Self = Self(bindings::vm_fault_reason_VM_FAULT_SIGBUS);

    /// The memory is poisoned: `SIGBUS` with `BUS_MCEERR_AR`.
    pub const HWPOISON: Self = Self(bindings::vm_fault_reason_VM_FAULT_HWPOISON);
}

impl From<Result> for VmFault {
    /// Converts the result of inserting an entry: the page is mapped, or another entry is there
    /// (`EBUSY`), or the page table went (`EFAULT` of `vm_insert_pages`), as `madvise(2)` frees
    /// empty ones beside a fault. The next fault sees which.
    fn from(result: Result) -> Self {
        match result {
            Ok(()) | Err(EBUSY | EFAULT) => Self(bindings::vm_fault_reason_VM_FAULT_NOPAGE),
            Err(err) => err.into(),
        }
    }
}

impl From<Error> for VmFault {
    fn from(err: Error) -> Self {
        match err {
            ENOMEM => Self(bindings::vm_fault_reason_VM_FAULT_OOM),
            EIO => Self::HWPOISON,
            _ => Self::SIGBUS,
        }
    }
}

/// A page of the filesystem's own, in no page cache.
///
/// # Safety
///
/// `page_ptr` returns a page of order 0, in no page cache and on no LRU list, to which the value
/// holds a reference. `Option<Self>` has the layout of `Option<NonNull<struct page>>`.
pub unsafe trait PageRef: Sized {
    /// Returns the page.
    fn page_ptr(&self) -> *mut bindings::page;
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
        // SAFETY: By the type invariant a fault is being handled, and the kernel holds the VMA's
        // lock, or that of all mappings, until it is.
        unsafe { VmaRef::from_raw((*self.vmf).__bindgen_anon_1.vma) }
    }

    fn address(&self) -> usize {
        // SAFETY: `vmf` is valid by the type invariant.
        unsafe { (*self.vmf).__bindgen_anon_1.address }
    }

    fn file(&self) -> *mut bindings::file {
        // SAFETY: The VMA is locked, and that of a file, which it holds.
        unsafe { (*self.vma().as_ptr()).vm_file }
    }

    /// Returns the file's inode.
    pub fn inode(&self) -> &'a Inode<T> {
        // SAFETY: By the type invariant; the mapping holds the file and so the inode.
        unsafe { Inode::from_raw((*self.file()).f_inode) }
    }

    /// Returns the index of the page in the file, `vmf->pgoff`.
    pub fn pgoff(&self) -> u64 {
        // SAFETY: `vmf` is valid by the type invariant.
        unsafe { (*self.vmf).__bindgen_anon_1.pgoff as u64 }
    }

    fn has_flag(&self, flags: u32) -> bool {
        // SAFETY: `vmf` is valid by the type invariant.
        unsafe { (*self.vmf).flags & flags != 0 }
    }

    /// Returns whether it is the first write to what is mapped read-only, as far as is known
    /// without the page table's lock.
    pub fn is_mkwrite(&self) -> bool {
        self.has_flag(bindings::fault_flag_FAULT_FLAG_MKWRITE)
    }

    /// Returns whether the file itself is about to be written to: a write through a shared mapping.
    pub fn writes_file(&self) -> bool {
        self.has_flag(
            bindings::fault_flag_FAULT_FLAG_WRITE | bindings::fault_flag_FAULT_FLAG_MKWRITE,
        ) && self.vma().flags() & flags::SHARED != 0
    }

    /// Returns whether more may be mapped than what was asked for, writable if `write`: not where
    /// userfaultfd(2) wants to see each fault, mlock(2) counts each page, or soft-dirty bits tell
    /// what was written to.
    fn may_map_around(&self, write: bool) -> bool {
        let vma = self.vma();
        // SAFETY: The VMA is locked; its flags are looked at.
        let is_watched = unsafe { bindings::uffd_disable_fault_around(vma.as_ptr()) };
        let is_tracked = cfg!(CONFIG_MEM_SOFT_DIRTY) && vma.flags() & flags::SOFTDIRTY == 0;
        !is_watched && vma.flags() & bindings::VM_LOCKED == 0 && !(write && is_tracked)
    }

    /// Takes freeze protection and updates the file's times, before the file is written to. What is
    /// returned is held until the page is mapped.
    ///
    /// # Errors
    ///
    /// Those of `file_update_time`.
    pub fn start_write(&self) -> Result<PagefaultGuard<'a>> {
        // SAFETY: The file is open.
        let sb = unsafe { (*(*self.file()).f_inode).i_sb };
        // SAFETY: The superblock is live. No lock that ranks before freeze protection for faults
        // is held, but for those of the fault itself.
        unsafe { bindings::sb_start_pagefault(sb) };
        let guard = PagefaultGuard(sb, PhantomData);
        // SAFETY: The file is open.
        to_result(unsafe { bindings::file_update_time(self.file()) })?;
        Ok(guard)
    }

    /// Returns whether [`Fault::map_zero_page`] may be called: nothing can be stored to the file
    /// through this mapping.
    pub fn may_map_zero_page(&self) -> bool {
        let vma = self.vma();
        let is_cow = vma.flags() & (flags::SHARED | flags::MAYWRITE) == flags::MAYWRITE;
        // SAFETY: The VMA is locked, and so its `mm` is live.
        let is_forbidden = unsafe { bindings::mm_forbids_zeropage((*vma.as_ptr()).vm_mm) };
        !is_forbidden && (is_cow || vma.flags() & (flags::WRITE | flags::MAYWRITE) == 0)
    }

    /// Removes a write-protect marker of userfaultfd(2), if there is one.
    fn clear_uffd_wp_marker(&mut self) -> Result {
        // SAFETY: `vmf` is a fault that is being handled, by the type invariant.
        to_result(unsafe { bindings::reflinkfs_clear_uffd_wp_marker(self.vmf) })
    }

    /// Maps the kernel's page of zeros, which is not counted and cannot be pinned.
    pub fn map_zero_page(&mut self, _lock: &InvalidateSharedGuard<'_, T>) -> VmFault {
        if let Err(err) = self.clear_uffd_wp_marker() {
            return err.into();
        }
        // SAFETY: By the type invariant; the page is always there.
        VmFault(unsafe {
            bindings::vmf_insert_page_mkwrite(self.vmf, bindings::ZERO_PAGE(0), false)
        })
    }

    /// Maps `page`, of this index, where nothing is mapped; or, for [`Fault::is_mkwrite`], makes
    /// the entry writable if it maps `page`. With `write` the page may be stored to without a
    /// further fault.
    ///
    /// An entry that is there by now is another fault's, or a marker of `MADV_GUARD_INSTALL` or
    /// userfaultfd(2): it stays, and the next fault is about that.
    ///
    /// A private mapping that is stored to copies the page at the next fault (`wp_page_copy`),
    /// under the page table's lock: so a truncation that unmaps finds the entry or the copy. The
    /// page is not given to the kernel as `vmf->page`, which it would take for one of a page cache.
    ///
    /// Drops a write-protect marker of userfaultfd(2) that was set before the page was there: to
    /// keep it takes `finish_fault`, which is not exported. With `UFFD_FEATURE_WP_ASYNC` the page
    /// is then reported as written, which is a false positive.
    pub fn map(
        &mut self,
        _lock: &InvalidateSharedGuard<'_, T>,
        page: &impl PageRef,
        write: bool,
    ) -> VmFault {
        if self.is_mkwrite() {
            let mut missing = false;
            // SAFETY: By the type invariant; the page is live, and `missing` valid for writes.
            let result = to_result(unsafe {
                bindings::reflinkfs_make_entry_writable(self.vmf, page.page_ptr(), &mut missing)
            });
            if !missing || result.is_err() {
                return result.into();
            }
        }
        if let Err(err) = self.clear_uffd_wp_marker() {
            return err.into();
        }
        if write && self.may_map_around(true) {
            let (mut page, mut left) = (page.page_ptr(), 1);
            // SAFETY: By the type invariant; the VMA is locked, and the address lies in it. The
            // page is live.
            return to_result(unsafe {
                bindings::reflinkfs_insert_pages(
                    self.vma().as_ptr(),
                    self.address(),
                    &mut page,
                    &mut left,
                    true,
                )
            })
            .into();
        }
        // Where it is to be writable, the next fault sees that it is mapped, and makes it so.
        // SAFETY: By the type invariant; the page is live.
        VmFault(unsafe { bindings::vmf_insert_page_mkwrite(self.vmf, page.page_ptr(), false) })
    }

    /// Returns the indexes around that of the fault that may be mapped too, as `do_fault_around`
    /// has it: within an aligned window of `pages`, the mapping, and one page table. None where
    /// each fault is wanted, as with userfaultfd(2), or each page counted, as with `mlock(2)`; nor
    /// for [`Fault::is_mkwrite`], as the pages around are mapped then.
    pub fn around(&self, pages: u64) -> Range<u64> {
        if self.is_mkwrite() || !self.may_map_around(self.writes_file()) {
            return 0..0;
        }
        let (start, end) = (self.vma().start(), self.vma().end());
        let address = self.address();
        let table = address - address % PMD_SIZE;
        let before = (address - start.max(table)) >> PAGE_SHIFT;
        let after = (end.min(table.saturating_add(PMD_SIZE)) - address) >> PAGE_SHIFT;
        let (index, from) = (self.pgoff(), self.pgoff() - self.pgoff() % pages);
        from.max(index.saturating_sub(before as u64))..(from + pages).min(index + after as u64)
    }

    /// Maps `pages`, of `first` and the indexes after it, where nothing is mapped yet. All lie
    /// within what [`Fault::around`] returned. With `write` they may be stored to without a further
    /// fault.
    pub fn map_around<P: PageRef>(
        &mut self,
        _lock: &InvalidateSharedGuard<'_, T>,
        first: u64,
        pages: &[Option<P>],
        write: bool,
    ) {
        let mut at = 0;
        while at < pages.len() {
            let run = pages[at..].iter().take_while(|page| page.is_some()).count();
            if run > 0 {
                let offset = (first + at as u64).wrapping_sub(self.pgoff()) as usize;
                let mut left = run;
                // SAFETY: By the type invariant; the VMA is locked, and its bounds are checked. The
                // `run` pages are live, and their references laid out as pointers (`PageRef`),
                // which are only read. An entry that is there already stays.
                let result = to_result(unsafe {
                    bindings::reflinkfs_insert_pages(
                        self.vma().as_ptr(),
                        self.address().wrapping_add(offset << PAGE_SHIFT),
                        pages[at..].as_ptr().cast_mut().cast(),
                        &mut left,
                        write,
                    )
                });
                match result {
                    Ok(()) | Err(EBUSY) => at += run - left,
                    Err(_) => return,
                }
            }
            // A hole, or mapped already.
            at += 1;
        }
    }
}

/// Freeze protection of a fault, `sb_start_pagefault`.
#[must_use]
pub struct PagefaultGuard<'a>(*mut bindings::super_block, PhantomData<&'a ()>);

impl Drop for PagefaultGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: `Fault::start_write` took it; the fault holds the file and so the superblock.
        unsafe { bindings::sb_end_pagefault(self.0) };
    }
}
