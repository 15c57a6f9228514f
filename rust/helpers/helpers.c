// SPDX-License-Identifier: GPL-2.0
/*
 * Inline functions and macros of the kernel that Rust cannot call, each as
 * rust_helper_NAME, which Rust calls by NAME: as rust/helpers/ of the kernel, and one
 * file for each header as there. What appears there goes here. Only fault.c,
 * local.c and lockdep.c do more than that, and have a prefix of their own.
 *
 * This is what reflinkfs links, and all of it what bindgen reads; copy_fr.c is what
 * copy_fr links.
 *
 * Sorted alphabetically.
 */

#define __rust_helper

#ifdef __BINDGEN__
/* Only of copy_fr. */
#include "ftrace.c"
#include "rcupdate.c"
#include "thread_info.c"
#endif

#include "compat.c"
#include "dcache.c"
#include "fault.c"
#include "fileattr.c"
#include "fs.c"
#include "fsnotify.c"
#include "highmem.c"
#include "iversion.c"
#include "list.c"
#include "local.c"
#include "lockdep.c"
#include "mm.c"
#include "page.c"
#include "page_ref.c"
#include "pagemap.c"
#include "pgtable.c"
#include "posix_acl.c"
#include "quotaops.c"
#include "rwlock.c"
#include "sched.c"
#include "signal.c"
#include "siphash.c"
#include "slab.c"
#include "statfs.c"
#include "uaccess.c"
#include "user_namespace.c"
#include "userfaultfd_k.c"
#include "workqueue.c"
#include "xacct.c"
