// SPDX-License-Identifier: GPL-2.0

#include <linux/iversion.h>

__rust_helper void rust_helper_inode_inc_iversion(struct inode *inode)
{
	inode_inc_iversion(inode);
}

__rust_helper u64 rust_helper_inode_peek_iversion(const struct inode *inode)
{
	return inode_peek_iversion(inode);
}

__rust_helper void rust_helper_inode_set_iversion_queried(struct inode *inode, u64 val)
{
	inode_set_iversion_queried(inode, val);
}
