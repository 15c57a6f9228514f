// SPDX-License-Identifier: GPL-2.0
/*
 * The helpers of copy_fr, see helpers.c. Some run while ftrace calls us, so ftrace
 * keeps out of them.
 *
 * Sorted alphabetically.
 */

#define __rust_helper notrace

#include "compat.c"
#include "dcache.c"
#include "fs.c"
#include "fsnotify.c"
#include "ftrace.c"
#include "highmem.c"
#include "mm.c"
#include "pagemap.c"
#include "rcupdate.c"
#include "thread_info.c"
#include "xacct.c"
