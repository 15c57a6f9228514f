// SPDX-License-Identifier: GPL-2.0
/* See shims.h. These run while ftrace calls us, so ftrace keeps out of them. */
#include "shims.h"

#include <linux/compat.h>
#include <linux/ftrace.h>
#include <linux/rcupdate.h>

#ifdef CONFIG_DYNAMIC_FTRACE_WITH_ARGS
notrace unsigned long shim_ftrace_argument(struct ftrace_regs *fregs)
{
	return ftrace_regs_get_argument(fregs, 0);
}

notrace void shim_ftrace_redirect(struct ftrace_regs *fregs, unsigned long to)
{
	ftrace_regs_set_instruction_pointer(fregs, to);
}
#endif

notrace bool shim_in_compat_syscall(void)
{
	return in_compat_syscall();
}

/* A macro where no kernel code is preempted. */
void shim_synchronize_rcu_tasks(void)
{
	synchronize_rcu_tasks();
}

#ifdef CONFIG_X86_64
notrace bool shim_in_ia32_syscall(void)
{
	return in_ia32_syscall();
}
#endif
