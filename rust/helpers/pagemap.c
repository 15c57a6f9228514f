// SPDX-License-Identifier: GPL-2.0

#include <linux/pagemap.h>

__rust_helper void rust_helper_lock_page(struct page *page)
{
	lock_page(page);
}

__rust_helper void rust_helper_mapping_set_unevictable(struct address_space *mapping)
{
	mapping_set_unevictable(mapping);
}

__rust_helper struct folio *rust_helper_read_mapping_folio(struct address_space *mapping,
							   pgoff_t index, struct file *file)
{
	return read_mapping_folio(mapping, index, file);
}
