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
#include <linux/mount.h>
#include <linux/namei.h>
#include <linux/pagemap.h>
#include <linux/posix_acl.h>
#include <linux/quotaops.h>
#include <linux/seq_file.h>
#include <linux/siphash.h>
#include <linux/slab.h>
#include <linux/splice.h>
#include <linux/statfs.h>
#include <linux/uio.h>

#include "helpers/helpers.c"
#include "trace/reflinkfs_trace.c"

/*
 * Macros that bindgen cannot evaluate. Without the prefix, as Kbuild takes that off,
 * Rust knows them by their own names.
 */
const unsigned int RUST_CONST_HELPER_DQUOT_LIMITS_ENABLED = DQUOT_LIMITS_ENABLED;
const unsigned int RUST_CONST_HELPER_DQUOT_NOLIST_DIRTY = DQUOT_NOLIST_DIRTY;
const unsigned int RUST_CONST_HELPER_DQUOT_QUOTA_SYS_FILE = DQUOT_QUOTA_SYS_FILE;
const unsigned int RUST_CONST_HELPER_DQUOT_USAGE_ENABLED = DQUOT_USAGE_ENABLED;
const int RUST_CONST_HELPER_FILEID_INVALID = FILEID_INVALID;
const fmode_t RUST_CONST_HELPER_FMODE_CAN_ODIRECT = FMODE_CAN_ODIRECT;
const fmode_t RUST_CONST_HELPER_FMODE_NOWAIT = FMODE_NOWAIT;
const fmode_t RUST_CONST_HELPER_FMODE_READ = FMODE_READ;
const fmode_t RUST_CONST_HELPER_FMODE_WRITE = FMODE_WRITE;
const fop_flags_t RUST_CONST_HELPER_FOP_BUFFER_WASYNC = FOP_BUFFER_WASYNC;
const fop_flags_t RUST_CONST_HELPER_FOP_DONTCACHE = FOP_DONTCACHE;
const int RUST_CONST_HELPER_IOCB_NOWAIT = IOCB_NOWAIT;
const unsigned int RUST_CONST_HELPER_LOOKUP_FOLLOW = LOOKUP_FOLLOW;
const unsigned int RUST_CONST_HELPER_PMD_SHIFT = PMD_SHIFT;
const unsigned long RUST_CONST_HELPER_SB_I_VERSION = SB_I_VERSION;
const unsigned long RUST_CONST_HELPER_SB_NOSEC = SB_NOSEC;
const unsigned long RUST_CONST_HELPER_SB_POSIXACL = SB_POSIXACL;
const slab_flags_t RUST_CONST_HELPER_SLAB_ACCOUNT = SLAB_ACCOUNT;
const slab_flags_t RUST_CONST_HELPER_SLAB_HWCACHE_ALIGN = SLAB_HWCACHE_ALIGN;
const slab_flags_t RUST_CONST_HELPER_SLAB_RECLAIM_ACCOUNT = SLAB_RECLAIM_ACCOUNT;
const vm_flags_t RUST_CONST_HELPER_VM_LOCKED = VM_LOCKED;
const gfp_t RUST_CONST_HELPER___GFP_DIRECT_RECLAIM = __GFP_DIRECT_RECLAIM;
const gfp_t RUST_CONST_HELPER___GFP_NOMEMALLOC = __GFP_NOMEMALLOC;
const unsigned long RUST_CONST_HELPER___PG_HWPOISON = __PG_HWPOISON;
