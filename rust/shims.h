/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Inline functions and macros of the kernel that Rust cannot call, each under
 * its own name with shim_ before it. Nothing here decides anything.
 */
#ifndef _REFLINKFS_SHIMS_H
#define _REFLINKFS_SHIMS_H

#include <linux/fs.h>
/* Needs what comes with fs.h. */
#include <linux/fileattr.h>
#include <linux/fs_context.h>
#include <linux/mm.h>
#include <linux/posix_acl.h>
#include <linux/workqueue.h>

#ifndef CONFIG_QUOTA
#error "reflinkfs needs a kernel with CONFIG_QUOTA=y"
#endif

/* pages */
void shim_get_page(struct page *page);
void shim_put_page(struct page *page);
int shim_page_count(const struct page *page);
bool shim_pages_come_cleared(void);
#ifdef CONFIG_UML
void shim_copy_page(void *to, void *from);
#endif
void shim_lock_page(struct page *page);
struct address_space *shim_page_mapping(const struct page *page);
void shim_page_set_mapping(struct page *page, struct address_space *mapping);
pgoff_t shim_page_index(const struct page *page);
void shim_page_set_index(struct page *page, pgoff_t index);

/* lists of pages by lru */
void shim_list_add(struct list_head *entry, struct list_head *head);
void shim_list_del(struct list_head *entry);
void shim_list_move(struct list_head *entry, struct list_head *head);
void shim_list_move_tail(struct list_head *entry, struct list_head *head);
void shim_list_add_tail(struct list_head *entry, struct list_head *head);
void shim_list_del_init(struct list_head *entry);
bool shim_list_empty(const struct list_head *head);
void shim_list_splice_init(struct list_head *list, struct list_head *head);
struct page *shim_first_page(struct list_head *head);

/* memory */
void *shim_cache_alloc(struct kmem_cache *cache);

/* inodes */
void shim_rwlock_init(rwlock_t *lock, const char *name, struct lock_class_key *key);
void shim_read_lock(rwlock_t *lock);
void shim_read_unlock(rwlock_t *lock);
void shim_write_lock(rwlock_t *lock);
void shim_write_unlock(rwlock_t *lock);
void shim_inode_lock(struct inode *inode);
void shim_inode_unlock(struct inode *inode);
void shim_inode_lock_shared(struct inode *inode);
void shim_inode_unlock_shared(struct inode *inode);
loff_t shim_i_size_read(const struct inode *inode);
void shim_i_size_write(struct inode *inode, loff_t size);
void shim_inode_set_mtime_to_ctime(struct inode *inode);
void shim_inode_set_cached_link(struct inode *inode, char *link, int len);
struct inode *shim_alloc_inode_sb(struct super_block *sb, struct kmem_cache *cache);
void shim_mapping_set_unevictable(struct address_space *mapping);
void shim_lockdep_annotate_inode_mutex_key(struct inode *inode);
bool shim_is_immutable(const struct inode *inode);
bool shim_is_append(const struct inode *inode);
bool shim_is_swapfile(const struct inode *inode);
bool shim_inode_trylock(struct inode *inode);
bool shim_inode_trylock_shared(struct inode *inode);
/* Calls it with each inode that is not going away. */
void shim_call_with_inodes(struct super_block *sb, void (*call)(struct inode *inode));
void shim_inode_has_no_xattr(struct inode *inode);
/* Does not sleep. */
void shim_inode_update_cmtime(struct inode *inode);
void shim_inode_inc_iversion(struct inode *inode);
bool shim_inode_unhashed(struct inode *inode);
bool shim_fileattr_has_fsx(const struct file_kattr *attributes);

/* access control lists */
void shim_posix_acl_release(struct posix_acl *acl);
size_t shim_posix_acl_size(const struct posix_acl *acl);

/* mappings */
void shim_filemap_invalidate_lock(struct address_space *mapping);
void shim_filemap_invalidate_unlock(struct address_space *mapping);
void shim_filemap_invalidate_lock_shared(struct address_space *mapping);
void shim_filemap_invalidate_unlock_shared(struct address_space *mapping);
bool shim_vma_is_shared(const struct vm_area_struct *vma);
bool shim_may_map_zero_page(const struct vm_area_struct *vma);
struct page *shim_zero_page(void);
int shim_clear_uffd_wp_marker(struct vm_fault *vmf);
/*
 * Makes the entry that a write to a mapped page is about writable, if it is still
 * the same and maps the page; says whether there is none any more.
 */
int shim_make_entry_writable(struct vm_fault *vmf, const struct page *page, bool *missing);
/* Whether those who watch the VMA allow that more is mapped than was asked for. */
bool shim_may_map_around(struct vm_area_struct *vma, bool write);
/* As vm_insert_pages(), in a VMA without VM_MIXEDMAP. */
int shim_insert_pages(struct vm_area_struct *vma, unsigned long address, struct page **pages,
		      unsigned long *n, bool write);
void shim_sb_start_pagefault(struct super_block *sb);
void shim_sb_end_pagefault(struct super_block *sb);

/* files */
ssize_t shim_add_page_to_pipe(struct pipe_inode_info *pipe, struct page *page,
			      unsigned int offset, unsigned int len);
void shim_file_accessed(struct file *file);
int shim_finish_open_simple(struct file *file, int error);
void shim_file_start_write(struct file *file);
void shim_file_end_write(struct file *file);
void shim_notify_copy(struct file *from, struct file *to);
void shim_account_copy(struct file *from, struct file *to, ssize_t copied);
bool shim_has_page_cache(const struct file *file);
/* Through the page cache, whether the file was opened with O_DIRECT or not. */
ssize_t shim_read_buffered(struct file *file, loff_t pos, void *buffer, size_t len);
ssize_t shim_write_buffered(struct file *file, loff_t pos, void *buffer, size_t len);
struct folio *shim_read_mapping_folio(struct file *file, loff_t pos);
void shim_folio_put(struct folio *folio);
int shim_folio_memcmp(struct folio *a, loff_t a_pos, struct folio *b, loff_t b_pos, size_t len);
bool shim_dir_emit(struct dir_context *ctx, const char *name, int len, u64 ino,
		   unsigned int type);
bool shim_dir_emit_dots(struct file *file, struct dir_context *ctx);

/* superblocks */
void shim_super_set_random_uuid(struct super_block *sb);
__kernel_fsid_t shim_fsid_of_uuid(struct super_block *sb);

/* names */
bool shim_d_is_dir(const struct dentry *dentry);
const char *shim_dentry_name(const struct dentry *dentry, unsigned int *len);
const struct qstr *shim_dentry_qstr(const struct dentry *dentry);

/* tasks and memory */
bool shim_fatal_signal_pending(void);
bool shim_signal_pending(void);
void shim_pagefault_disable(void);
void shim_pagefault_enable(void);
void shim_cond_resched(void);
unsigned long shim_totalram_pages(void);
void shim_init_delayed_work(struct delayed_work *work, void (*function)(struct work_struct *work));
bool shim_queue_delayed_work(struct delayed_work *work, unsigned int seconds);

/* user and group ids */
bool shim_make_kuid(struct user_namespace *to, uid_t uid, kuid_t *kuid);
bool shim_make_kgid(struct user_namespace *to, gid_t gid, kgid_t *kgid);
void shim_current_fsids(kuid_t *kuid, kgid_t *kgid);

/* quotas */
bool shim_sb_any_quota_loaded(struct super_block *sb);
/* As dquot_transfer() has it: whose the inode is to be by the attributes, NULL if it is already. */
struct dquot *shim_new_dquot(struct mnt_idmap *idmap, struct inode *inode, struct iattr *attr,
			     int kind);

/* mount parameters */
void shim_fs_context_error(struct fs_context *fc, const char *message);

#endif
