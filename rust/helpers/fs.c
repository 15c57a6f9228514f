// SPDX-License-Identifier: GPL-2.0

#include <linux/fs.h>

__rust_helper void *rust_helper_alloc_inode_sb(struct super_block *sb, struct kmem_cache *cache,
					       gfp_t gfp)
{
	return alloc_inode_sb(sb, cache, gfp);
}

__rust_helper bool rust_helper_dir_emit(struct dir_context *ctx, const char *name, int namelen,
					u64 ino, unsigned int type)
{
	return dir_emit(ctx, name, namelen, ino, type);
}

__rust_helper bool rust_helper_dir_emit_dots(struct file *file, struct dir_context *ctx)
{
	return dir_emit_dots(file, ctx);
}

__rust_helper void rust_helper_file_accessed(struct file *file)
{
	file_accessed(file);
}

__rust_helper void rust_helper_file_end_write(struct file *file)
{
	file_end_write(file);
}

__rust_helper void rust_helper_file_start_write(struct file *file)
{
	file_start_write(file);
}

__rust_helper int rust_helper_finish_open_simple(struct file *file, int error)
{
	return finish_open_simple(file, error);
}

__rust_helper loff_t rust_helper_i_size_read(const struct inode *inode)
{
	return i_size_read(inode);
}

__rust_helper void rust_helper_i_size_write(struct inode *inode, loff_t i_size)
{
	i_size_write(inode, i_size);
}

__rust_helper void rust_helper_init_sync_kiocb(struct kiocb *kiocb, struct file *filp)
{
	init_sync_kiocb(kiocb, filp);
}

__rust_helper struct timespec64 rust_helper_inode_get_atime(const struct inode *inode)
{
	return inode_get_atime(inode);
}

__rust_helper struct timespec64 rust_helper_inode_get_ctime(const struct inode *inode)
{
	return inode_get_ctime(inode);
}

__rust_helper struct timespec64 rust_helper_inode_get_mtime(const struct inode *inode)
{
	return inode_get_mtime(inode);
}

__rust_helper void rust_helper_inode_has_no_xattr(struct inode *inode)
{
	inode_has_no_xattr(inode);
}

__rust_helper struct timespec64 rust_helper_inode_set_atime_to_ts(struct inode *inode,
								  struct timespec64 ts)
{
	return inode_set_atime_to_ts(inode, ts);
}

__rust_helper void rust_helper_inode_set_cached_link(struct inode *inode, char *link, int linklen)
{
	inode_set_cached_link(inode, link, linklen);
}

__rust_helper struct timespec64 rust_helper_inode_set_mtime_to_ts(struct inode *inode,
								  struct timespec64 ts)
{
	return inode_set_mtime_to_ts(inode, ts);
}

__rust_helper enum inode_state_flags_enum
rust_helper_inode_state_read_once(struct inode *inode)
{
	return inode_state_read_once(inode);
}

#ifndef CONFIG_DEBUG_LOCK_ALLOC
__rust_helper void rust_helper_lockdep_annotate_inode_mutex_key(struct inode *inode)
{
	lockdep_annotate_inode_mutex_key(inode);
}
#endif

__rust_helper void rust_helper_sb_end_pagefault(struct super_block *sb)
{
	sb_end_pagefault(sb);
}

__rust_helper void rust_helper_sb_start_pagefault(struct super_block *sb)
{
	sb_start_pagefault(sb);
}

__rust_helper void rust_helper_super_set_uuid(struct super_block *sb, const u8 *uuid,
					      unsigned int len)
{
	super_set_uuid(sb, uuid, len);
}
