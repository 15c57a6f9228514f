/* SPDX-License-Identifier: GPL-2.0 */
/* What bindgen reads: headers that rust/bindings/bindings_helper.h of the kernel lacks. */
#include <linux/fs.h>
#include <linux/falloc.h>
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/fiemap.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
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
const slab_flags_t SHIM_SLAB_INODE = SLAB_RECLAIM_ACCOUNT | SLAB_ACCOUNT;
