// SPDX-License-Identifier: GPL-2.0

#include <linux/statfs.h>

__rust_helper __kernel_fsid_t rust_helper_uuid_to_fsid(__u8 *uuid)
{
	return uuid_to_fsid(uuid);
}
