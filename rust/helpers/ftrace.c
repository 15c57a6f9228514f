// SPDX-License-Identifier: GPL-2.0

#include <linux/ftrace.h>

#ifdef CONFIG_DYNAMIC_FTRACE_WITH_ARGS
__rust_helper unsigned long rust_helper_ftrace_regs_get_argument(struct ftrace_regs *fregs,
								 unsigned int n)
{
	return ftrace_regs_get_argument(fregs, n);
}

__rust_helper void rust_helper_ftrace_regs_set_instruction_pointer(struct ftrace_regs *fregs,
								   unsigned long ip)
{
	ftrace_regs_set_instruction_pointer(fregs, ip);
}
#endif
