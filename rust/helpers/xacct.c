// SPDX-License-Identifier: GPL-2.0

#include <linux/sched/xacct.h>

__rust_helper void rust_helper_add_rchar(struct task_struct *tsk, ssize_t amt)
{
	add_rchar(tsk, amt);
}

__rust_helper void rust_helper_add_wchar(struct task_struct *tsk, ssize_t amt)
{
	add_wchar(tsk, amt);
}

__rust_helper void rust_helper_inc_syscr(struct task_struct *tsk)
{
	inc_syscr(tsk);
}

__rust_helper void rust_helper_inc_syscw(struct task_struct *tsk)
{
	inc_syscw(tsk);
}
