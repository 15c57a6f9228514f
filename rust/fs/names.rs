// SPDX-License-Identifier: GPL-2.0

//! Directories: kept in the dcache, see [`crate::vfs::directory`].
//!
//! As on tmpfs each further name of a file counts as an inode against `nr_inodes=`, since it keeps
//! a dentry in memory.

use super::{Inode, Locked, ReflinkFs};
use crate::vfs::{self, IdMap, New};
use kernel::prelude::*;

type Dentry = vfs::Dentry<ReflinkFs>;

impl vfs::DirectoryOperations for ReflinkFs {
    fn make(dir: &Locked, name: &Dentry, new: New<'_>) -> Result {
        dir.add_new(name, new)
    }

    fn link(inode: &Inode, dir: &Locked, name: &Dentry) -> Result {
        if inode.link_count() == 0 {
            // Its first name, of a file opened with O_TMPFILE: comes with the inode.
            return dir.add_link(name, inode);
        }
        let mount = dir.super_block().data();
        mount.admit_name()?;
        dir.add_link(name, inode)
            .inspect_err(|_| mount.dismiss_inode())
    }

    fn unlink(dir: &Locked, name: &Dentry) -> Result {
        remove(dir, name);
        Ok(())
    }

    fn rmdir(dir: &Locked, name: &Dentry) -> Result {
        if !name.is_empty() {
            return Err(ENOTEMPTY);
        }
        remove(dir, name);
        Ok(())
    }

    fn rename(
        from_dir: &Locked,
        from: &Dentry,
        to_dir: &Locked,
        to: &Dentry,
        whiteout: Option<IdMap<'_>>,
    ) -> Result {
        if !to.is_empty() {
            return Err(ENOTEMPTY);
        }
        let place = from_dir.reserve()?;
        if let Some(idmap) = whiteout {
            from_dir.add_whiteout(from, idmap)?;
        }
        uncount(to_dir, to);
        from_dir.rename(place, from, to_dir, to);
        Ok(())
    }
}

fn remove(dir: &Locked, name: &Dentry) {
    uncount(dir, name);
    dir.remove(name);
}

/// Before a name goes, if it is one: one of several of a file is counted as an inode.
fn uncount(dir: &Locked, name: &Dentry) {
    if name.inode().is_some_and(|inode| inode.link_count() > 1) && !name.is_directory() {
        dir.super_block().data().dismiss_inode();
    }
}
