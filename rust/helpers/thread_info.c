// SPDX-License-Identifier: GPL-2.0

#include <linux/thread_info.h>

#ifdef in_ia32_syscall
__rust_helper bool rust_helper_in_ia32_syscall(void)
{
	return in_ia32_syscall();
}
#endif
