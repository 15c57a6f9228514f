// SPDX-License-Identifier: GPL-2.0
/*
 * What a fault needs of mm/ that modules have no function for. Unlike the other
 * helpers these are no wrappers: each says why it is there, and what it mirrors.
 */

#include <linux/iversion.h>
/* Linux 7.2: leafops.h does not include all that it uses. */
#include <linux/swap.h>
#include <linux/leafops.h>
#include <linux/mm.h>
#include <linux/userfaultfd_k.h>

/*
 * Calls @change with the entry that the fault is about, whose page table is locked.
 * Modules have no pte_offset_map_lock(), and this is the one exported function
 * that takes that lock around what the caller does.
 *
 * Returns -EBUSY if the page table went, and the entry with it: madvise(2) frees
 * empty tables beside a fault (CONFIG_PT_RECLAIM), and the function says -ENOMEM.
 */
static int change_entry(struct vm_fault *vmf, pte_fn_t change, void *data)
{
	int error = apply_to_page_range(vmf->vma->vm_mm, vmf->address & PAGE_MASK, PAGE_SIZE,
					change, data);

	return error == -ENOMEM ? -EBUSY : error;
}

static int clear_uffd_wp_marker(pte_t *pte, unsigned long address, void *mm)
{
	if (pte_is_uffd_wp_marker(ptep_get(pte)))
		pte_clear(mm, address, pte);
	return 0;
}

/*
 * Clears the marker of userfaultfd(2) that the fault is about, if it is about one:
 * vm_insert_pages() and vmf_insert_page_mkwrite() take it for a page that is
 * mapped, and finish_fault(), which would keep it, is not exported.
 */
__rust_helper int reflinkfs_clear_uffd_wp_marker(struct vm_fault *vmf)
{
	if (!(vmf->flags & FAULT_FLAG_ORIG_PTE_VALID) || !pte_is_uffd_wp_marker(vmf->orig_pte))
		return 0;
	return change_entry(vmf, clear_uffd_wp_marker, vmf->vma->vm_mm);
}

/*
 * Replaces an entry by one for the same page that allows more. On arm64 set_pte_at() also
 * initializes the page's memory tags (MTE) by a function that modules do not have, and makes the
 * instruction cache coherent. Neither is needed: the kernel allows PROT_MTE only for anonymous
 * memory, tmpfs and hugetlbfs (arch_calc_vm_flag_bits()), and an executable entry was made
 * coherent when it was inserted. set_pte() warns of contiguous entries, which only large folios
 * have (contpte_try_fold()). No update by the hardware is lost, as @entry is young and dirty.
 */
static void replace_entry(struct mm_struct *mm, unsigned long address, pte_t *pte, pte_t entry)
{
	if (IS_ENABLED(CONFIG_ARM64))
		set_pte(pte, entry);
	else
		set_pte_at(mm, address, pte, entry);
}

struct mkwrite {
	struct vm_fault *vmf;
	const struct page *page;
	bool missing;
};

static int make_entry_writable(pte_t *pte, unsigned long address, void *data)
{
	struct mkwrite *mkwrite = data;
	struct vm_area_struct *vma = mkwrite->vmf->vma;
	pte_t entry = ptep_get(pte);

	mkwrite->missing = pte_none(entry);
	if (!pte_same(entry, mkwrite->vmf->orig_pte) ||
	    pte_pfn(entry) != page_to_pfn(mkwrite->page))
		return 0;
	/* maybe_mkwrite() is not for modules. This is no shadow stack, as it is a file's. */
	entry = pte_mkdirty(pte_mkwrite_novma(pte_mkyoung(entry)));
	replace_entry(vma->vm_mm, address, pte, entry);
	flush_tlb_fix_spurious_fault(vma, address, pte);
	update_mmu_cache(vma, address, pte);
	return 0;
}

/*
 * Makes the entry that a ->page_mkwrite() is about writable, if it still is the
 * same and maps @page, as finish_mkwrite_fault() and wp_page_reuse() do. They do it
 * after ->page_mkwrite() has returned, when invalidate_lock is not held any more,
 * and only for a page with a mapping. Sets @missing if there is no entry any more.
 */
__rust_helper int reflinkfs_make_entry_writable(struct vm_fault *vmf, const struct page *page,
						bool *missing)
{
	struct mkwrite mkwrite = { .vmf = vmf, .page = page };
	int error = change_entry(vmf, make_entry_writable, &mkwrite);

	*missing = mkwrite.missing;
	return error;
}

/*
 * vm_insert_pages(), in a VMA without VM_MIXEDMAP. With that flag, which the
 * function wants, a VMA cannot grow with mremap(), be merged or mlock()ed: it
 * tells page table walkers that there may be entries without a page, of
 * which there are none here. So the function, which uses nothing of a VMA but these
 * fields, gets another one.
 */
__rust_helper int reflinkfs_insert_pages(struct vm_area_struct *vma, unsigned long address,
					 struct page **pages, unsigned long *n, bool write)
{
	struct vm_area_struct pseudo = {
		.vm_mm = vma->vm_mm,
		.vm_start = vma->vm_start,
		.vm_end = vma->vm_end,
		.vm_page_prot = write ? vm_get_page_prot(vma->vm_flags) : vma->vm_page_prot,
	};

	vm_flags_init(&pseudo, VM_MIXEDMAP);
	return vm_insert_pages(&pseudo, address, pages, n);
}

/*
 * Sets the times of a file that was stored to, as file_update_time() does, which
 * may sleep. This is called with page tables locked, and as nothing is written to a
 * disk need not sleep.
 */
__rust_helper void reflinkfs_update_cmtime(struct inode *inode)
{
	struct timespec64 now = current_time(inode);
	struct timespec64 mtime = inode_get_mtime(inode), ctime = inode_get_ctime(inode);

	if (timespec64_equal(&mtime, &now) && timespec64_equal(&ctime, &now) &&
	    !(IS_I_VERSION(inode) && inode_iversion_need_inc(inode)))
		return;
	inode_set_mtime_to_ts(inode, inode_set_ctime_current(inode));
	if (IS_I_VERSION(inode))
		inode_maybe_inc_iversion(inode, true);
}
