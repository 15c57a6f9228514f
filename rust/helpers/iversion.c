// SPDX-License-Identifier: GPL-2.0

#include <linux/iversion.h>

__rust_helper void rust_helper_inode_inc_iversion(struct inode *inode)
{
	inode_inc_iversion(inode);
}
