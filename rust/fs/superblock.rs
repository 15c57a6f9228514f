// SPDX-License-Identifier: GPL-2.0

//! What is kept with a mount.

use super::{
    options::{Limit, Options},
    quota::QuotaOptions,
    ReflinkFs,
};
use crate::{
    bindings,
    store::block::{BlockRef, Pool, Slots},
    vfs::{self, Context},
};
use kernel::{
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
    },
};

/// The most blocks, and the most inodes, where no option says otherwise: as many as there are
/// pages in half of the machine's memory.
fn default_limit() -> u64 {
    vfs::total_ram_pages() / 2
}

/// A mount: its blocks, its inodes, and what its options said.
pub(crate) struct Super {
    /// The blocks of all files.
    pub(crate) pool: Arc<Pool>,
    /// The most inodes there may be; `u64::MAX` where there is no limit.
    max_inodes: Atomic<u64>,
    inodes: Atomic<u64>,
    next_inode: Atomic<u64>,
    /// Has the blocks that are in no file.
    aside: Arc<Pool>,
    /// One block of zeros, of those, that stands for every hole in a mapping. (The
    /// kernel's zero page is refused in shared writable mappings of anything but DAX files.)
    zeros: Slots<1>,
    pub(crate) quota: QuotaOptions,
    mode: u16,
    uid: bindings::kuid_t,
    gid: bindings::kgid_t,
}

impl Super {
    /// What `options` ask for.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let half = default_limit();
        let aside = Arc::new(Pool::new(None), GFP_KERNEL)?;
        let zero = aside.alloc()?;
        zero.clear_around(0, 0);
        let mut zeros = Slots::new(aside.clone());
        zeros.insert(0, zero, 0);
        Ok(Self {
            pool: Arc::new(Pool::new(options.blocks.or(half)), GFP_KERNEL)?,
            max_inodes: Atomic::new(options.inodes.or(half).unwrap_or(u64::MAX)),
            inodes: Atomic::new(0),
            next_inode: Atomic::new(1),
            aside,
            zeros,
            quota: options.quota.for_mount(),
            mode: options.mode,
            uid: options.uid,
            gid: options.gid,
        })
    }

    /// The block that stands for a hole, read-only. `None` when so many page table entries refer
    /// to it that its count might overflow.
    pub(crate) fn zeros(&self) -> Option<BlockRef> {
        self.zeros.get(0).filter(|zeros| !zeros.is_crowded())
    }

    /// The pool, without a limit, of blocks that are in no file.
    pub(crate) fn aside(&self) -> &Pool {
        &self.aside
    }

    /// Changes limits. Mode and owner of the root directory are for `chmod` and `chown`.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a limit below what is in use, or what quotas would be; nothing has changed.
    pub(crate) fn reconfigure(&self, context: &Context<'_>, options: &Options) -> Result {
        self.quota.may_become(context, &options.quota)?;
        let used = self.inodes.load(Relaxed);
        if let Limit::At(inodes) = options.inodes {
            if inodes < used {
                context.error(fmt!("nr_inodes={inodes}: {used} inodes exist already"));
                return Err(EINVAL);
            }
        }
        if options.blocks != Limit::Default {
            self.pool.set_limit(options.blocks.or(0)).inspect_err(|_| {
                context.error(fmt!("size: {} blocks are in use already", self.pool.used()));
            })?;
        }
        if options.inodes != Limit::Default {
            self.max_inodes
                .store(options.inodes.or(0).unwrap_or(u64::MAX), Relaxed);
        }
        Ok(())
    }

    /// The options for `/proc/mounts`, in the form in which `mount` takes them.
    pub(crate) fn show_options(&self, line: &SeqFile, sb: &vfs::SuperBlock<ReflinkFs>) {
        let kib = (crate::store::block::BLOCK_SIZE / 1024) as u64;
        match self.pool.limit() {
            Some(blocks) if blocks == default_limit() => (),
            Some(blocks) => seq_print!(line, ",size={}k", blocks.saturating_mul(kib)),
            None => seq_print!(line, ",size=0"),
        }
        match self.max_inodes.load(Relaxed) {
            inodes if inodes == default_limit() => (),
            u64::MAX => seq_print!(line, ",nr_inodes=0"),
            inodes => seq_print!(line, ",nr_inodes={inodes}"),
        }
        if self.mode != Options::DEFAULT_MODE {
            seq_print!(line, ",mode={:03o}", self.mode);
        }
        let (uid, gid) = sb.ids(self.uid, self.gid);
        if uid != 0 {
            seq_print!(line, ",uid={uid}");
        }
        if gid != 0 {
            seq_print!(line, ",gid={gid}");
        }
        self.quota.show(line);
    }

    /// The numbers for `statfs`.
    pub(crate) fn statistics(&self) -> vfs::Statistics {
        let max_inodes = Some(self.max_inodes.load(Relaxed)).filter(|&max| max != u64::MAX);
        vfs::Statistics {
            blocks: (self.pool.limit(), self.pool.used()),
            inodes: (max_inodes, self.inodes.load(Relaxed)),
        }
    }

    /// Counts an inode, and gives it a number that no other had.
    ///
    /// # Errors
    ///
    /// `ENOSPC` at the limit.
    pub(crate) fn admit_inode(&self) -> Result<u64> {
        self.admit_name()?;
        Ok(self.next_inode.fetch_add(1, Relaxed))
    }

    /// Counts a further name of an inode as an inode.
    ///
    /// # Errors
    ///
    /// `ENOSPC` at the limit.
    pub(crate) fn admit_name(&self) -> Result {
        if self.inodes.fetch_add(1, Relaxed) >= self.max_inodes.load(Relaxed) {
            self.dismiss_inode();
            return Err(ENOSPC);
        }
        Ok(())
    }

    /// Counts an inode, or a name, less.
    pub(crate) fn dismiss_inode(&self) {
        self.inodes.fetch_sub(1, Relaxed);
    }
}
