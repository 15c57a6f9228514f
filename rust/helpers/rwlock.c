// SPDX-License-Identifier: GPL-2.0

#include <linux/spinlock.h>

__rust_helper void rust_helper___rwlock_init(rwlock_t *lock, const char *name,
					     struct lock_class_key *key)
{
#if defined(CONFIG_DEBUG_SPINLOCK) && !defined(CONFIG_PREEMPT_RT)
	__rwlock_init(lock, name, key);
#else
	rwlock_init(lock);
#endif
}

__rust_helper void rust_helper_read_lock(rwlock_t *lock)
{
	read_lock(lock);
}

__rust_helper void rust_helper_read_unlock(rwlock_t *lock)
{
	read_unlock(lock);
}

__rust_helper void rust_helper_write_lock(rwlock_t *lock)
{
	write_lock(lock);
}

__rust_helper void rust_helper_write_unlock(rwlock_t *lock)
{
	write_unlock(lock);
}
