/* SPDX-License-Identifier: GPL-2.0 */
/* What bindgen reads: headers that rust/bindings/bindings_helper.h of the kernel lacks. */
#include <linux/fs.h>
#include <linux/exportfs.h>
#include <linux/filelock.h>
#include <linux/falloc.h>
#include <linux/fileattr.h>
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/fiemap.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/posix_acl.h>
#include <linux/quotaops.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/statfs.h>
#include <linux/uio.h>

#include "shims.h"
#include "hook/shims.h"

/* Macros that bindgen cannot evaluate. */
const fmode_t SHIM_FMODE_READ = FMODE_READ;
const fmode_t SHIM_FMODE_WRITE = FMODE_WRITE;
const fmode_t SHIM_FMODE_CAN_ODIRECT = FMODE_CAN_ODIRECT;
const fmode_t SHIM_FMODE_NOWAIT = FMODE_NOWAIT;
const fop_flags_t SHIM_FOP_DONTCACHE = FOP_DONTCACHE;
const fop_flags_t SHIM_FOP_BUFFER_WASYNC = FOP_BUFFER_WASYNC;
/* As GFP_KERNEL_ACCOUNT, of what is free, and no reserve: for what there is another way without. */
const gfp_t SHIM_GFP_KERNEL_EASY =
	(GFP_KERNEL_ACCOUNT & ~__GFP_DIRECT_RECLAIM) | __GFP_NOMEMALLOC | __GFP_NOWARN;
const int SHIM_IOCB_NOWAIT = IOCB_NOWAIT;
const unsigned long SHIM_PAGE_HWPOISON = __PG_HWPOISON;
const unsigned int SHIM_PMD_SHIFT = PMD_SHIFT;
const unsigned long SHIM_SB_POSIXACL = SB_POSIXACL;
const unsigned long SHIM_SB_I_ALLOW_HSM = SB_I_ALLOW_HSM;
const unsigned long SHIM_SB_I_VERSION = SB_I_VERSION;
const unsigned long SHIM_SB_NOSEC = SB_NOSEC;
const int SHIM_FILEID_INVALID = FILEID_INVALID;
const slab_flags_t SHIM_SLAB_INODE = SLAB_RECLAIM_ACCOUNT | SLAB_ACCOUNT;
const size_t SHIM_CACHE_LINE = SMP_CACHE_BYTES;
const slab_flags_t SHIM_SLAB_NODE = SLAB_ACCOUNT | SLAB_HWCACHE_ALIGN;
const unsigned int SHIM_DQUOT_USAGE_ENABLED = DQUOT_USAGE_ENABLED;
const unsigned int SHIM_DQUOT_LIMITS_ENABLED = DQUOT_LIMITS_ENABLED;
const unsigned int SHIM_DQUOT_QUOTA_SYS_FILE = DQUOT_QUOTA_SYS_FILE;
const unsigned int SHIM_DQUOT_NOLIST_DIRTY = DQUOT_NOLIST_DIRTY;
