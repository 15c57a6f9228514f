// SPDX-License-Identifier: GPL-2.0

#include <linux/page_ref.h>

__rust_helper int rust_helper_page_count(const struct page *page)
{
	return page_count(page);
}
