// SPDX-License-Identifier: GPL-2.0

#include <linux/dcache.h>

__rust_helper struct inode *rust_helper_d_real_inode(const struct dentry *dentry)
{
	return d_real_inode(dentry);
}

__rust_helper struct dentry *rust_helper_dget(struct dentry *dentry)
{
	return dget(dentry);
}
