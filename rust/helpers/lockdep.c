// SPDX-License-Identifier: GPL-2.0
/*
 * Tells lockdep that no task waits for memory with invalidate_lock held exclusive, see
 * rust/fs/room.rs. A lock class of its own: held shared, that lock may be held by a
 * fault that allocates page tables, as that of any filesystem.
 */

#include <linux/lockdep.h>
#include <linux/sched/mm.h>

#ifdef CONFIG_LOCKDEP
static struct lockdep_map reflinkfs_invalidate_map =
	STATIC_LOCKDEP_MAP_INIT("reflinkfs_invalidate_exclusive", &reflinkfs_invalidate_map);
#endif

__rust_helper void reflinkfs_invalidate_locked(void)
{
#ifdef CONFIG_LOCKDEP
	lock_map_acquire(&reflinkfs_invalidate_map);
#endif
}

__rust_helper void reflinkfs_invalidate_unlocked(void)
{
#ifdef CONFIG_LOCKDEP
	lock_map_release(&reflinkfs_invalidate_map);
#endif
}

/*
 * As if memory reclaim took the lock: then lockdep reports an allocation that may
 * reclaim and is made with the lock held, directly or by way of other locks.
 */
__rust_helper void reflinkfs_invalidate_in_reclaim(void)
{
	fs_reclaim_acquire(GFP_KERNEL);
	reflinkfs_invalidate_locked();
	reflinkfs_invalidate_unlocked();
	fs_reclaim_release(GFP_KERNEL);
}
