// SPDX-License-Identifier: GPL-2.0

#include <linux/rcupdate.h>

#ifndef CONFIG_TASKS_RCU
__rust_helper void rust_helper_synchronize_rcu_tasks(void)
{
	synchronize_rcu_tasks();
}
#endif
