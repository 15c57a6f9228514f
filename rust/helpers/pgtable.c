// SPDX-License-Identifier: GPL-2.0

#include <linux/mm.h>

__rust_helper struct page *rust_helper_ZERO_PAGE(unsigned long vaddr)
{
	return ZERO_PAGE(vaddr);
}
