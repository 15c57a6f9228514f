// SPDX-License-Identifier: GPL-2.0

#include <linux/highmem.h>

__rust_helper void rust_helper_flush_dcache_page(struct page *page)
{
	flush_dcache_page(page);
}

__rust_helper void *rust_helper_kmap_local_folio(const struct folio *folio, size_t offset)
{
	return kmap_local_folio(folio, offset);
}
