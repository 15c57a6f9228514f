// SPDX-License-Identifier: GPL-2.0
/*
 * Like those of fault.c these are no wrappers, but made of macros, inline functions
 * and types that Rust does not have, and would be more lines there.
 */

#include <linux/fs_context.h>
#include <linux/printk.h>
#include <linux/posix_acl.h>
#include <linux/quotaops.h>

/*
 * Tells the user what is wrong with a mount: in the log of the context, which few
 * programs read, and in the kernel's. Without a log of its own the context's errors
 * go to the kernel's anyway. Anyone may mount in a user namespace, so it is
 * limited, which pr_err!() cannot be.
 */
__rust_helper void reflinkfs_context_error(struct fs_context *fc, const char *message)
{
	if (fc->log.log)
		pr_err_ratelimited("%s: %s\n", fc->fs_type->name, message);
	errorf(fc, "%s: %s", fc->fs_type->name, message);
}

/*
 * The dquot of @type that chown(2) with @attr charges for the inode, or NULL if that
 * stays as it is: what dquot_transfer() finds, for a look at it before that.
 */
__rust_helper struct dquot *reflinkfs_new_dquot(struct mnt_idmap *idmap, struct inode *inode,
						struct iattr *attr, int type)
{
	struct user_namespace *ns = i_user_ns(inode);
	struct dquot *dquot = NULL;

	if (type == USRQUOTA && i_uid_needs_update(idmap, attr, inode))
		dquot = dqget(inode->i_sb,
			      make_kqid_uid(from_vfsuid(idmap, ns, attr->ia_vfsuid)));
	if (type == GRPQUOTA && i_gid_needs_update(idmap, attr, inode))
		dquot = dqget(inode->i_sb,
			      make_kqid_gid(from_vfsgid(idmap, ns, attr->ia_vfsgid)));
	return IS_ERR(dquot) ? NULL : dquot;
}

/* How much memory a list takes, whose type Rust's bindings only have the name of. */
__rust_helper size_t reflinkfs_posix_acl_size(const struct posix_acl *acl)
{
	return struct_size(acl, a_entries, acl->a_count);
}
