// SPDX-License-Identifier: GPL-2.0

#include <linux/quotaops.h>

#ifndef CONFIG_QUOTA
#error "reflinkfs needs a kernel with CONFIG_QUOTA=y"
#endif

__rust_helper bool rust_helper_sb_any_quota_loaded(struct super_block *sb)
{
	return sb_any_quota_loaded(sb);
}
