// SPDX-License-Identifier: GPL-2.0

#include <linux/slab.h>

__rust_helper void *rust_helper_kmem_cache_alloc(struct kmem_cache *cache, gfp_t flags)
{
	return kmem_cache_alloc(cache, flags);
}
