// SPDX-License-Identifier: GPL-2.0
/* See shims.h. */
#include "shims.h"

#include <linux/fsnotify.h>
#include <linux/highmem.h>
#include <linux/iversion.h>
#include <linux/leafops.h>
#include <linux/list.h>
#include <linux/pagemap.h>
#include <linux/pipe_fs_i.h>
#include <linux/quotaops.h>
#include <linux/sched/signal.h>
#include <linux/sched/xacct.h>
#include <linux/slab.h>
#include <linux/splice.h>
#include <linux/statfs.h>
#include <linux/uio.h>
#include <linux/userfaultfd_k.h>
#include <linux/uuid.h>

#ifdef CONFIG_UML
/* A macro there. */
void shim_copy_page(void *to, void *from)
{
	copy_page(to, from);
}
#endif

void shim_get_page(struct page *page)
{
	get_page(page);
}

void shim_put_page(struct page *page)
{
	put_page(page);
}

int shim_page_count(const struct page *page)
{
	return page_count(page);
}

bool shim_pages_come_cleared(void)
{
	return want_init_on_alloc(GFP_KERNEL_ACCOUNT) || want_init_on_free();
}

void shim_lock_page(struct page *page)
{
	lock_page(page);
}

struct address_space *shim_page_mapping(const struct page *page)
{
	return READ_ONCE(page->mapping);
}

void shim_page_set_mapping(struct page *page, struct address_space *mapping)
{
	/* Orders the index before it, for readers that look at the mapping first. */
	smp_store_release(&page->mapping, mapping);
}

pgoff_t shim_page_index(const struct page *page)
{
	return page->__folio_index;
}

void shim_page_set_index(struct page *page, pgoff_t index)
{
	WRITE_ONCE(page->__folio_index, index);
}

void shim_list_add(struct list_head *entry, struct list_head *head)
{
	list_add(entry, head);
}

void shim_list_del(struct list_head *entry)
{
	list_del(entry);
}

void shim_list_move(struct list_head *entry, struct list_head *head)
{
	list_move(entry, head);
}

void shim_list_move_tail(struct list_head *entry, struct list_head *head)
{
	list_move_tail(entry, head);
}

void shim_list_add_tail(struct list_head *entry, struct list_head *head)
{
	list_add_tail(entry, head);
}

void shim_list_del_init(struct list_head *entry)
{
	list_del_init(entry);
}

bool shim_list_empty(const struct list_head *head)
{
	return list_empty(head);
}

void shim_list_splice_init(struct list_head *list, struct list_head *head)
{
	list_splice_init(list, head);
}

struct page *shim_first_page(struct list_head *head)
{
	return list_first_entry_or_null(head, struct page, lru);
}

void *shim_cache_alloc(struct kmem_cache *cache)
{
	return kmem_cache_alloc(cache, GFP_KERNEL_ACCOUNT);
}

void shim_rwlock_init(rwlock_t *lock, const char *name, struct lock_class_key *key)
{
#if defined(CONFIG_DEBUG_SPINLOCK) && !defined(CONFIG_PREEMPT_RT)
	__rwlock_init(lock, name, key);
#else
	rwlock_init(lock);
#endif
}

void shim_read_lock(rwlock_t *lock)
{
	read_lock(lock);
}

void shim_read_unlock(rwlock_t *lock)
{
	read_unlock(lock);
}

void shim_write_lock(rwlock_t *lock)
{
	write_lock(lock);
}

void shim_write_unlock(rwlock_t *lock)
{
	write_unlock(lock);
}

void shim_inode_lock(struct inode *inode)
{
	inode_lock(inode);
}

void shim_inode_unlock(struct inode *inode)
{
	inode_unlock(inode);
}

void shim_inode_lock_shared(struct inode *inode)
{
	inode_lock_shared(inode);
}

void shim_inode_unlock_shared(struct inode *inode)
{
	inode_unlock_shared(inode);
}

loff_t shim_i_size_read(const struct inode *inode)
{
	return i_size_read(inode);
}

void shim_i_size_write(struct inode *inode, loff_t size)
{
	i_size_write(inode, size);
}

void shim_inode_set_mtime_to_ctime(struct inode *inode)
{
	inode_set_mtime_to_ts(inode, inode_get_ctime(inode));
}

void shim_inode_set_cached_link(struct inode *inode, char *link, int len)
{
	inode_set_cached_link(inode, link, len);
}

struct inode *shim_alloc_inode_sb(struct super_block *sb, struct kmem_cache *cache)
{
	return alloc_inode_sb(sb, cache, GFP_KERNEL);
}

void shim_mapping_set_unevictable(struct address_space *mapping)
{
	mapping_set_unevictable(mapping);
}

void shim_lockdep_annotate_inode_mutex_key(struct inode *inode)
{
	lockdep_annotate_inode_mutex_key(inode);
}

bool shim_is_immutable(const struct inode *inode)
{
	return IS_IMMUTABLE(inode);
}

bool shim_is_append(const struct inode *inode)
{
	return IS_APPEND(inode);
}

bool shim_is_swapfile(const struct inode *inode)
{
	return IS_SWAPFILE(inode);
}

bool shim_inode_trylock(struct inode *inode)
{
	return inode_trylock(inode);
}

bool shim_inode_trylock_shared(struct inode *inode)
{
	return inode_trylock_shared(inode);
}

/* As drop_pagecache_sb(). */
void shim_call_with_inodes(struct super_block *sb, void (*call)(struct inode *inode))
{
	struct inode *inode, *previous = NULL;

	spin_lock(&sb->s_inode_list_lock);
	list_for_each_entry(inode, &sb->s_inodes, i_sb_list) {
		if (!igrab(inode))
			continue;
		spin_unlock(&sb->s_inode_list_lock);
		call(inode);
		iput(previous);
		previous = inode;
		cond_resched();
		spin_lock(&sb->s_inode_list_lock);
	}
	spin_unlock(&sb->s_inode_list_lock);
	iput(previous);
}

void shim_inode_has_no_xattr(struct inode *inode)
{
	inode_has_no_xattr(inode);
}

/* As file_update_time(), which may sleep, where nothing is written to a disk. */
void shim_inode_update_cmtime(struct inode *inode)
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

void shim_inode_inc_iversion(struct inode *inode)
{
	inode_inc_iversion(inode);
}

bool shim_inode_unhashed(struct inode *inode)
{
	return inode_unhashed(inode);
}

bool shim_fileattr_has_fsx(const struct file_kattr *attributes)
{
	return fileattr_has_fsx(attributes);
}

void shim_posix_acl_release(struct posix_acl *acl)
{
	posix_acl_release(acl);
}

size_t shim_posix_acl_size(const struct posix_acl *acl)
{
	return struct_size(acl, a_entries, acl->a_count);
}

void shim_filemap_invalidate_lock(struct address_space *mapping)
{
	filemap_invalidate_lock(mapping);
}

void shim_filemap_invalidate_unlock(struct address_space *mapping)
{
	filemap_invalidate_unlock(mapping);
}

void shim_filemap_invalidate_lock_shared(struct address_space *mapping)
{
	filemap_invalidate_lock_shared(mapping);
}

void shim_filemap_invalidate_unlock_shared(struct address_space *mapping)
{
	filemap_invalidate_unlock_shared(mapping);
}

bool shim_vma_is_shared(const struct vm_area_struct *vma)
{
	return vma->vm_flags & VM_SHARED;
}

/* As vm_mixed_zeropage_allowed(), of a VMA without pfn_mkwrite. */
bool shim_may_map_zero_page(const struct vm_area_struct *vma)
{
	bool is_cow = (vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) == VM_MAYWRITE;

	return !mm_forbids_zeropage(vma->vm_mm) &&
	       (is_cow || !(vma->vm_flags & (VM_WRITE | VM_MAYWRITE)));
}

struct page *shim_zero_page(void)
{
	return ZERO_PAGE(0);
}

/* Calls it with the entry that the fault is about, whose page table is locked. */
static int change_entry(struct vm_fault *vmf, pte_fn_t change, void *data)
{
	return apply_to_page_range(vmf->vma->vm_mm, vmf->address & PAGE_MASK, PAGE_SIZE, change,
				   data);
}

static int clear_uffd_wp_marker(pte_t *pte, unsigned long address, void *mm)
{
	if (pte_is_uffd_wp_marker(ptep_get(pte)))
		pte_clear(mm, address, pte);
	return 0;
}

int shim_clear_uffd_wp_marker(struct vm_fault *vmf)
{
	if (!(vmf->flags & FAULT_FLAG_ORIG_PTE_VALID) || !pte_is_uffd_wp_marker(vmf->orig_pte))
		return 0;
	return change_entry(vmf, clear_uffd_wp_marker, vmf->vma->vm_mm);
}

struct mkwrite {
	struct vm_fault *vmf;
	const struct page *page;
	bool missing;
};

/* As finish_mkwrite_fault() and wp_page_reuse(). */
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
	set_pte_at(vma->vm_mm, address, pte, entry);
	flush_tlb_fix_spurious_fault(vma, address, pte);
	update_mmu_cache(vma, address, pte);
	return 0;
}

int shim_make_entry_writable(struct vm_fault *vmf, const struct page *page, bool *missing)
{
	struct mkwrite mkwrite = { .vmf = vmf, .page = page };
	int error = change_entry(vmf, make_entry_writable, &mkwrite);

	*missing = mkwrite.missing;
	return error;
}

bool shim_may_map_around(struct vm_area_struct *vma, bool write)
{
	if ((vma->vm_flags & VM_LOCKED) || uffd_disable_fault_around(vma))
		return false;
	return !write || !IS_ENABLED(CONFIG_MEM_SOFT_DIRTY) || (vma->vm_flags & VM_SOFTDIRTY);
}

/*
 * vm_insert_pages() wants VM_MIXEDMAP, and such a VMA could not grow with
 * mremap(), be merged or mlock()ed. The flag tells those who walk page tables
 * that there may be entries without a page, of which there are none here. So
 * the function, which uses nothing of a VMA but these fields, gets another one.
 */
int shim_insert_pages(struct vm_area_struct *vma, unsigned long address, struct page **pages,
		      unsigned long *n, bool write)
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

void shim_sb_start_pagefault(struct super_block *sb)
{
	sb_start_pagefault(sb);
}

void shim_sb_end_pagefault(struct super_block *sb)
{
	sb_end_pagefault(sb);
}

ssize_t shim_add_page_to_pipe(struct pipe_inode_info *pipe, struct page *page,
			      unsigned int offset, unsigned int len)
{
	struct pipe_buffer buffer = {
		.ops = &nosteal_pipe_buf_ops,
		.page = page,
		.offset = offset,
		.len = len,
	};

	return add_to_pipe(pipe, &buffer);
}

void shim_file_accessed(struct file *file)
{
	file_accessed(file);
}

int shim_finish_open_simple(struct file *file, int error)
{
	return finish_open_simple(file, error);
}

void shim_file_start_write(struct file *file)
{
	file_start_write(file);
}

void shim_file_end_write(struct file *file)
{
	file_end_write(file);
}

/* What follows ->remap_file_range in vfs_clone_file_range(). */
void shim_notify_copy(struct file *from, struct file *to)
{
	fsnotify_access(from);
	fsnotify_modify(to);
}

/* What follows ->copy_file_range in vfs_copy_file_range(). */
void shim_account_copy(struct file *from, struct file *to, ssize_t copied)
{
	if (copied > 0) {
		shim_notify_copy(from, to);
		add_rchar(current, copied);
		add_wchar(current, copied);
	}
	inc_syscr(current);
	inc_syscw(current);
}

bool shim_has_page_cache(const struct file *file)
{
	return !IS_DAX(file_inode(file)) && file->f_mapping->a_ops->read_folio;
}

static void init_buffered_kiocb(struct kiocb *kiocb, struct file *file, loff_t pos)
{
	init_sync_kiocb(kiocb, file);
	kiocb->ki_flags &= ~IOCB_DIRECT;
	kiocb->ki_pos = pos;
}

ssize_t shim_read_buffered(struct file *file, loff_t pos, void *buffer, size_t len)
{
	struct kvec vec = { .iov_base = buffer, .iov_len = len };
	struct kiocb kiocb;
	struct iov_iter to;
	ssize_t read;

	init_buffered_kiocb(&kiocb, file, pos);
	iov_iter_kvec(&to, ITER_DEST, &vec, 1, len);
	read = vfs_iocb_iter_read(file, &kiocb, &to);
	if (read > 0)
		add_rchar(current, read);
	inc_syscr(current);
	return read;
}

ssize_t shim_write_buffered(struct file *file, loff_t pos, void *buffer, size_t len)
{
	struct kvec vec = { .iov_base = buffer, .iov_len = len };
	struct kiocb kiocb;
	struct iov_iter from;
	ssize_t written;

	init_buffered_kiocb(&kiocb, file, pos);
	iov_iter_kvec(&from, ITER_SOURCE, &vec, 1, len);
	written = vfs_iocb_iter_write(file, &kiocb, &from);
	if (written > 0)
		add_wchar(current, written);
	inc_syscw(current);
	return written;
}

struct folio *shim_read_mapping_folio(struct file *file, loff_t pos)
{
	return read_mapping_folio(file->f_mapping, pos >> PAGE_SHIFT, file);
}

void shim_folio_put(struct folio *folio)
{
	folio_put(folio);
}

int shim_folio_memcmp(struct folio *a, loff_t a_pos, struct folio *b, loff_t b_pos, size_t len)
{
	void *a_bytes = kmap_local_folio(a, offset_in_folio(a, a_pos));
	void *b_bytes = kmap_local_folio(b, offset_in_folio(b, b_pos));
	int result = memcmp(a_bytes, b_bytes, len);

	kunmap_local(b_bytes);
	kunmap_local(a_bytes);
	return result;
}

bool shim_dir_emit(struct dir_context *ctx, const char *name, int len, u64 ino,
		   unsigned int type)
{
	return dir_emit(ctx, name, len, ino, type);
}

bool shim_dir_emit_dots(struct file *file, struct dir_context *ctx)
{
	return dir_emit_dots(file, ctx);
}

void shim_super_set_random_uuid(struct super_block *sb)
{
	uuid_t uuid;

	uuid_gen(&uuid);
	super_set_uuid(sb, uuid.b, sizeof(uuid));
}

__kernel_fsid_t shim_fsid_of_uuid(struct super_block *sb)
{
	return uuid_to_fsid(sb->s_uuid.b);
}

bool shim_d_is_dir(const struct dentry *dentry)
{
	return d_is_dir(dentry);
}

const char *shim_dentry_name(const struct dentry *dentry, unsigned int *len)
{
	*len = dentry->d_name.len;
	return dentry->d_name.name;
}

const struct qstr *shim_dentry_qstr(const struct dentry *dentry)
{
	return &dentry->d_name;
}

bool shim_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

bool shim_signal_pending(void)
{
	return signal_pending(current);
}

void shim_pagefault_disable(void)
{
	pagefault_disable();
}

void shim_pagefault_enable(void)
{
	pagefault_enable();
}

void shim_cond_resched(void)
{
	cond_resched();
}

unsigned long shim_totalram_pages(void)
{
	return totalram_pages();
}

void shim_init_delayed_work(struct delayed_work *work, void (*function)(struct work_struct *work))
{
	INIT_DELAYED_WORK(work, function);
}

bool shim_queue_delayed_work(struct delayed_work *work, unsigned int seconds)
{
	return queue_delayed_work(system_dfl_wq, work, seconds * HZ);
}

bool shim_make_kuid(struct user_namespace *to, uid_t uid, kuid_t *kuid)
{
	*kuid = make_kuid(current_user_ns(), uid);
	return uid_valid(*kuid) && kuid_has_mapping(to, *kuid);
}

bool shim_make_kgid(struct user_namespace *to, gid_t gid, kgid_t *kgid)
{
	*kgid = make_kgid(current_user_ns(), gid);
	return gid_valid(*kgid) && kgid_has_mapping(to, *kgid);
}

void shim_current_fsids(kuid_t *kuid, kgid_t *kgid)
{
	*kuid = current_fsuid();
	*kgid = current_fsgid();
}

bool shim_sb_any_quota_loaded(struct super_block *sb)
{
	return sb_any_quota_loaded(sb);
}

struct dquot *shim_new_dquot(struct mnt_idmap *idmap, struct inode *inode, struct iattr *attr,
			     int kind)
{
	struct dquot *dquot = NULL;

	if (kind == USRQUOTA && i_uid_needs_update(idmap, attr, inode))
		dquot = dqget(inode->i_sb, make_kqid_uid(from_vfsuid(idmap, i_user_ns(inode),
								     attr->ia_vfsuid)));
	if (kind == GRPQUOTA && i_gid_needs_update(idmap, attr, inode))
		dquot = dqget(inode->i_sb, make_kqid_gid(from_vfsgid(idmap, i_user_ns(inode),
								     attr->ia_vfsgid)));
	return IS_ERR(dquot) ? NULL : dquot;
}

void shim_fs_context_error(struct fs_context *fc, const char *message)
{
	/* Without a log of its own the context's errors go to the kernel's anyway. */
	if (fc->log.log)
		pr_err_ratelimited("%s: %s\n", fc->fs_type->name, message);
	errorf(fc, "%s: %s", fc->fs_type->name, message);
}
