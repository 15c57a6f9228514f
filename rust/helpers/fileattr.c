// SPDX-License-Identifier: GPL-2.0

#include <linux/fs.h>
#include <linux/fileattr.h>

__rust_helper bool rust_helper_fileattr_has_fsx(const struct file_kattr *fa)
{
	return fileattr_has_fsx(fa);
}
