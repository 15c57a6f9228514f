// SPDX-License-Identifier: GPL-2.0

//! Directories: kept in the dcache, see [`crate::vfs::directory`].

use super::{Inode, Locked, ReflinkFs};
use crate::vfs::{self, New};
use kernel::prelude::*;

type Dentry = vfs::Dentry<ReflinkFs>;

impl vfs::DirectoryOperations for ReflinkFs {
    fn make(dir: &Locked, name: &Dentry, new: New<'_>) -> Result {
        dir.add_new(name, new)
    }

    fn link(inode: &Inode, dir: &Locked, name: &Dentry) -> Result {
        dir.add_link(name, inode)
    }

    fn unlink(dir: &Locked, name: &Dentry) -> Result {
        dir.remove(name);
        Ok(())
    }

    fn rmdir(dir: &Locked, name: &Dentry) -> Result {
        if !name.is_empty() {
            return Err(ENOTEMPTY);
        }
        dir.remove(name);
        Ok(())
    }

    fn rename(from_dir: &Locked, from: &Dentry, to_dir: &Locked, to: &Dentry) -> Result {
        if !to.is_empty() {
            return Err(ENOTEMPTY);
        }
        from_dir.rename(from, to_dir, to)
    }
}
