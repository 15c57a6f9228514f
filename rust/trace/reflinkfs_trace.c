// SPDX-License-Identifier: GPL-2.0
/*
 * The tracepoints, and a function for each that Rust calls: declare_trace!() of rust/kernel knows
 * only tracepoints in the kernel's own bindings. Where one is not enabled, that is a call and a
 * jump.
 */

#ifndef __BINDGEN__
#define CREATE_TRACE_POINTS
#include "reflinkfs_trace.h"
#else
#include <linux/types.h>
#endif

/* Whether to find out what there is to be told, where that costs something. */
bool rust_trace_reflinkfs_cow_enabled(void);
#ifndef __BINDGEN__
bool rust_trace_reflinkfs_cow_enabled(void)
{
	return trace_reflinkfs_cow_enabled();
}
#endif

#ifdef __BINDGEN__
#define TRACED(name, proto, ...) void rust_trace_reflinkfs_##name proto
#else
#define TRACED(name, proto, args)		\
void rust_trace_reflinkfs_##name proto		\
{						\
	trace_reflinkfs_##name args;		\
}
#endif

#define TRACED_REMAP(name)								\
TRACED(name, (dev_t dev, u64 from_ino, u64 from_pos, u64 to_ino, u64 to_pos, u64 len, s64 ret), \
	(dev, from_ino, from_pos, to_ino, to_pos, len, ret))

TRACED_REMAP(clone);
TRACED_REMAP(dedupe);
TRACED_REMAP(copy);
TRACED(cow, (dev_t dev, u64 ino, u64 index, u64 blocks), (dev, ino, index, blocks));
TRACED(fault, (dev_t dev, u64 ino, u64 index, bool write, int ret), (dev, ino, index, write, ret));
TRACED(nospc, (dev_t dev, u64 ino, u64 blocks, u64 limit), (dev, ino, blocks, limit));
