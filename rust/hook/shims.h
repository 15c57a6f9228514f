/* SPDX-License-Identifier: GPL-2.0 */
/* Inline functions that the hook needs, as in ../shims.h. */
#ifndef _COPY_FR_SHIMS_H
#define _COPY_FR_SHIMS_H

#include <linux/types.h>

struct ftrace_regs;

unsigned long shim_ftrace_argument(struct ftrace_regs *fregs);
void shim_ftrace_redirect(struct ftrace_regs *fregs, unsigned long to);
bool shim_in_ia32_syscall(void);
bool shim_in_compat_syscall(void);
void shim_synchronize_rcu_tasks(void);

#endif
