// SPDX-License-Identifier: GPL-2.0

//! What is kept with a mount.

use super::{
    options::{Limit, Options},
    quota::QuotaOptions,
    ReflinkFs,
};
use crate::{
    bindings,
    store::block::{BlockRef, Leaf, Pool, BLOCK_SIZE},
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

/// The most blocks where no option says otherwise: as many as there are pages in half of the machine's
/// memory.
fn default_blocks() -> u64 {
    vfs::total_ram_pages() / 2
}

/// The most inodes where no option says otherwise: as many as take an eighth of the machine's memory.
/// With the blocks, and what is free of their nodes, that leaves more than a third.
fn default_inodes() -> u64 {
    vfs::total_ram_pages() * BLOCK_SIZE as u64 / 8 / INODE_MEMORY
}

/// How many bytes of the space of `nr_inodes=` an inode takes, or a further name of one; tmpfs's
/// `BOGO_INODE_SIZE`. Where there are fewer of these, other things that come with inodes may take as
/// much.
const INODE_SPACE: u64 = 1024;

/// The most memory that so much of the space stands for, in bytes: an inode, its dentry with the longest
/// of names, its place in the directory; or attributes, with what allocations are rounded up by.
const INODE_MEMORY: u64 = 2048;

/// A mount: its blocks, its inodes, and what its options said.
pub(crate) struct Super {
    /// The blocks of all files.
    pub(crate) pool: Arc<Pool>,
    /// The most inodes there may be; `u64::MAX` where there is no limit.
    max_inodes: Atomic<u64>,
    /// The space of inodes that is taken, in bytes: [`INODE_SPACE`] for each inode and each further name,
    /// and what else inodes have, see [`Super::recount`].
    inode_space: Atomic<u64>,
    /// How much of it is no inode and no name, in bytes.
    attribute_bytes: Atomic<u64>,
    next_inode: Atomic<u64>,
    /// Has the blocks that are in no file.
    anon_pool: Arc<Pool>,
    /// One block of zeros, of those, that stands for every hole in a pipe; and in mappings that may be
    /// stored to, where there is no room for [`Data::zero_block`](super::Data::zero_block).
    zero_block: Leaf<1>,
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
        let anon_pool = Pool::new(None)?;
        let zero = anon_pool.alloc()?;
        zero.zero_around(0, 0);
        let mut zero_block = Leaf::new(anon_pool.clone());
        zero_block.insert(0, zero, 0);
        Ok(Self {
            pool: Pool::new(options.blocks.or(default_blocks()))?,
            max_inodes: Atomic::new(options.inodes.or(default_inodes()).unwrap_or(u64::MAX)),
            inode_space: Atomic::new(0),
            attribute_bytes: Atomic::new(0),
            next_inode: Atomic::new(1),
            anon_pool,
            zero_block,
            quota: options.quota.for_mount(),
            mode: options.mode,
            uid: options.uid,
            gid: options.gid,
        })
    }

    /// The block that stands for holes. `None` when so many refer to it that its count might
    /// overflow.
    pub(crate) fn zero_block(&self) -> Option<BlockRef> {
        self.zero_block
            .get(0)
            .filter(|zeros| !zeros.refcount_high())
    }

    /// The pool, without a limit, of blocks that are in no file.
    pub(crate) fn anon_pool(&self) -> &Pool {
        &self.anon_pool
    }

    /// Changes limits. Mode and owner of the root directory are for `chmod` and `chown`.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a limit below what is in use, or what quotas would be; nothing has changed.
    pub(crate) fn reconfigure(&self, context: &Context<'_>, options: &Options) -> Result {
        self.quota.may_become(context, &options.quota)?;
        let used = self.inodes();
        if let Limit::At(inodes) = options.inodes {
            if inodes < used {
                context.error(fmt!("nr_inodes={inodes}: {used} are in use already"));
                return Err(EINVAL);
            }
        }
        if options.blocks != Limit::Default {
            self.pool.set_limit(options.blocks.or(0)).inspect_err(|_| {
                context.error(fmt!(
                    "size: {} blocks are in use already",
                    self.pool.charged()
                ));
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
        let kib = (BLOCK_SIZE / 1024) as u64;
        match self.pool.limit() {
            Some(blocks) if blocks == default_blocks() => (),
            Some(blocks) => seq_print!(line, ",size={}k", blocks.saturating_mul(kib)),
            None => seq_print!(line, ",size=0"),
        }
        match self.max_inodes.load(Relaxed) {
            inodes if inodes == default_inodes() => (),
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
            blocks: (self.pool.limit(), self.pool.charged()),
            inodes: (max_inodes, self.inodes()),
        }
    }

    /// What `/sys/kernel/debug/reflinkfs/MAJOR:MINOR` shows. A limit that there is not shows as 0.
    pub(crate) fn summarize(&self, to: &SeqFile) {
        let attributes = self.attribute_bytes.load(Relaxed);
        let names = self.inode_space.load(Relaxed).saturating_sub(attributes) / INODE_SPACE;
        let max_inodes = Some(self.max_inodes.load(Relaxed)).filter(|&max| max != u64::MAX);
        let lines = [
            ("blocks", self.pool.used()),
            ("blocks_kept_for_others", self.pool.orphan_count()),
            ("blocks_limit", self.pool.limit().unwrap_or(0)),
            ("nodes", self.pool.nodes()),
            ("node_bytes", self.pool.nodes() * Pool::NODE_BYTES),
            ("inodes_and_further_names", names),
            ("attribute_bytes", attributes),
            ("inodes_limit", max_inodes.unwrap_or(0)),
        ];
        for (name, value) in lines {
            seq_print!(to, "{name} {value}\n");
        }
    }

    /// How many inodes exist, or would take the space that is taken.
    fn inodes(&self) -> u64 {
        self.inode_space.load(Relaxed).div_ceil(INODE_SPACE)
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
        self.take_inode_space(INODE_SPACE)
    }

    /// Counts an inode, or a name, less.
    pub(crate) fn dismiss_inode(&self) {
        self.inode_space.fetch_sub(INODE_SPACE, Relaxed);
    }

    /// Counts what inodes have that is not in blocks, attributes and long targets of symbolic links: it
    /// is `after` bytes, where it was `before` until now.
    ///
    /// # Errors
    ///
    /// `ENOSPC` where there is not the space for more; it counts as before.
    pub(crate) fn recount(&self, before: u64, after: u64) -> Result {
        let (more, less) = (after.saturating_sub(before), before.saturating_sub(after));
        if more > 0 {
            self.take_inode_space(more)?;
            self.attribute_bytes.add(more, Relaxed);
        }
        self.attribute_bytes.fetch_sub(less, Relaxed);
        self.inode_space.fetch_sub(less, Relaxed);
        Ok(())
    }

    fn take_inode_space(&self, bytes: u64) -> Result {
        let most = self.max_inodes.load(Relaxed).saturating_mul(INODE_SPACE);
        let before = self.inode_space.fetch_add(bytes, Relaxed);
        if before.saturating_add(bytes) > most {
            self.inode_space.fetch_sub(bytes, Relaxed);
            return Err(ENOSPC);
        }
        Ok(())
    }
}

impl Drop for Super {
    fn drop(&mut self) {
        // The inodes are gone, and with them all trees.
        self.pool.close();
    }
}
