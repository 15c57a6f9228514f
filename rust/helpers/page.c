// SPDX-License-Identifier: GPL-2.0

#include <linux/mm.h>

/* A function elsewhere. */
#ifdef copy_page
__rust_helper void rust_helper_copy_page(void *to, void *from)
{
	copy_page(to, from);
}
#endif
