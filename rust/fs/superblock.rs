// SPDX-License-Identifier: GPL-2.0

//! What is kept with a mount.

use super::{
    mapped::MappedInodes,
    options::{
        Limit,
        Options, //
    },
    quota_options::QuotaOptions,
    summary::All,
    ReflinkFs, //
};
use crate::{
    memfs::{
        family::Family,
        quota,
        InodeSpace,
        Inodes, //
    },
    store::{
        block::{
            BlockRef,
            Pool,
            ZeroBlock,
            BLOCK_SIZE, //
        },
        Tree, //
    },
    sysfs,
    vfs::{
        self,
        ids::{
            Kgid,
            Kuid, //
        },
        FsContext, //
    },
};
use kernel::{
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    sync::Arc, //
};

/// What is kept with the filesystem type.
#[pin_data]
pub(crate) struct TypeData {
    #[pin]
    quota_format: quota::Format<ReflinkFs>,
    /// Shows the sums of all superblocks, and has a directory for each.
    pub(super) summaries: sysfs::Directory<All>,
    /// `/sys/fs/reflinkfs`.
    pub(super) sysfs: sysfs::Root,
}

impl TypeData {
    /// Returns an initialiser.
    pub(crate) fn new(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            quota_format <- quota::Format::new(module),
            sysfs: sysfs::Root::new(c"reflinkfs")?,
            summaries: sysfs::Directory::new(sysfs, c"all", All::new())?,
        })
    }
}

/// `size=` is shown in KiB.
const KIB_SHIFT: u32 = 10;

/// Returns the most blocks where no option says otherwise: as many as there are pages in half of
/// the machine's memory.
fn default_blocks() -> u64 {
    vfs::totalram_pages() / 2
}

/// Returns the most inodes where no option says otherwise: as many as take an eighth of the
/// machine's memory. With the blocks, and what is free of their nodes, that leaves more than a
/// third.
fn default_inodes() -> u64 {
    vfs::totalram_pages() * BLOCK_SIZE as u64 / 8 / INODE_BYTES
}

/// How many bytes of memory the space of an inode stands for at most: a record, its place in the
/// table, an entry with the longest of names, its place in the directory, and an inode in the cache;
/// or attributes, with what allocations are rounded up by. Dentries are reclaimed before it comes
/// to more.
const INODE_BYTES: u64 = 2048;

/// A mount: its blocks, its inodes, and what its options said.
pub(crate) struct Super {
    /// The blocks of all files.
    pub(crate) pool: Arc<Pool>,
    /// The inodes, and what counts as such, with their limit.
    pub(super) inodes: Arc<Inodes<Tree>>,
    /// Those of them that stay in the cache.
    pub(super) mapped: Pin<KBox<MappedInodes>>,
    /// Has the blocks that are in no file.
    anon_pool: Arc<Pool>,
    /// One block of zeros, of those, that stands for every hole in a pipe; and in mappings that may
    /// be stored to, where there is no room for
    /// [`FileZeroBlock`](super::zero_block::FileZeroBlock), or too much refers to that.
    zero_block: Pin<KBox<ZeroBlock>>,
    pub(crate) quota: QuotaOptions,
    mode: u16,
    uid: Kuid,
    gid: Kgid,
}

impl Super {
    /// Returns a superblock's data as `options` ask for it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let anon_pool = Pool::new(None)?;
        let zero_block = KBox::pin_init(ZeroBlock::new(&anon_pool), GFP_KERNEL)?;
        let pool = Pool::new(options.blocks.or(default_blocks()))?;
        Ok(Self {
            inodes: Inodes::new(
                Family::new(InodeSpace::new(options.inodes.or(default_inodes())))?,
                Tree::new(pool.clone()),
            )?,
            pool,
            mapped: KBox::pin_init(MappedInodes::new(), GFP_KERNEL)?,
            anon_pool,
            zero_block,
            quota: options.quota.for_mount(),
            mode: options.mode.unwrap_or(Options::DEFAULT_MODE),
            uid: options.uid.unwrap_or(options.owner.0),
            gid: options.gid.unwrap_or(options.owner.1),
        })
    }

    /// Returns that of a fork, without inodes.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `ENOSPC` where there are as many forks as there may be.
    pub(crate) fn fork(&self, options: &Options) -> Result<Self> {
        let anon_pool = Pool::new(None)?;
        let zero_block = KBox::pin_init(ZeroBlock::new(&anon_pool), GFP_KERNEL)?;
        let mapped = KBox::pin_init(MappedInodes::new(), GFP_KERNEL)?;
        let family = self.inodes.family.clone();
        let inodes = Inodes::new(family.clone(), Tree::new(self.pool.clone()))?;
        family.add_member()?;
        Ok(Self {
            inodes,
            pool: self.pool.clone(),
            mapped,
            anon_pool,
            zero_block,
            quota: self.quota.for_mount(),
            mode: options.mode.unwrap_or(self.mode),
            uid: options.uid.unwrap_or(self.uid),
            gid: options.gid.unwrap_or(self.gid),
        })
    }

    /// Returns how many inodes there are, and what counts as such, with their limit.
    pub(super) fn space(&self) -> &Arc<InodeSpace> {
        &self.inodes.family.space
    }

    /// Returns whether a file here may share blocks with one of another superblock: of a fork.
    pub(super) fn shares_blocks(&self, other: &vfs::SuperBlock<ReflinkFs>) -> bool {
        Arc::ptr_eq(&self.pool, &other.info().pool)
    }

    /// Returns the block that stands for holes. `None` if its reference count is high: see
    /// [`Super::replace_zero_block`].
    pub(crate) fn zero_block(&self) -> Option<BlockRef> {
        self.zero_block.get()
    }

    /// Puts another in the place of a block of which there is none to be had. May wait for memory.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn replace_zero_block(&self) -> Result {
        self.zero_block.replace(&self.anon_pool)
    }

    /// Returns the pool, without a limit, of blocks that are in no file.
    pub(crate) fn anon_pool(&self) -> &Pool {
        &self.anon_pool
    }

    /// Changes limits. Mode and owner of the root directory are for `chmod` and `chown`.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a limit below what is in use, or what quotas would be; nothing has changed.
    pub(crate) fn reconfigure(&self, context: &FsContext<'_>, options: &Options) -> Result {
        self.quota.may_become(context, &options.quota)?;
        let used = self.space().used();
        if let Limit::At(inodes) = options.inodes {
            if inodes < used {
                context.error(fmt!("nr_inodes={inodes}: {used} are in use already"));
                return Err(EINVAL);
            }
        }
        self.set_limits(options).inspect_err(|_| {
            context.error(fmt!(
                "size: {} blocks are in use already",
                self.pool.charged()
            ));
        })
    }

    /// Changes the limits of the family.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a limit below what is in use; nothing has changed.
    pub(super) fn set_limits(&self, options: &Options) -> Result {
        if matches!(options.inodes, Limit::At(inodes) if inodes < self.space().used()) {
            return Err(EINVAL);
        }
        if options.blocks != Limit::Default {
            self.pool.set_limit(options.blocks.or(0))?;
        }
        if options.inodes != Limit::Default {
            self.space().set_max_inodes(options.inodes.or(0));
        }
        Ok(())
    }

    /// The options for `/proc/mounts`, in the form in which `mount` takes them.
    pub(crate) fn show_options(&self, line: &SeqFile, sb: &vfs::SuperBlock<ReflinkFs>) {
        let kib = (BLOCK_SIZE >> KIB_SHIFT) as u64;
        match self.pool.limit() {
            Some(blocks) if blocks == default_blocks() => (),
            Some(blocks) => seq_print!(line, ",size={}k", blocks.saturating_mul(kib)),
            None => seq_print!(line, ",size=0"),
        }
        match self.space().max_inodes() {
            Some(inodes) if inodes == default_inodes() => (),
            Some(inodes) => seq_print!(line, ",nr_inodes={inodes}"),
            None => seq_print!(line, ",nr_inodes=0"),
        }
        if self.mode != Options::DEFAULT_MODE {
            seq_print!(line, ",mode={:03o}", self.mode);
        }
        let (uid, gid) = sb.munged_ids(self.uid, self.gid);
        if uid != 0 {
            seq_print!(line, ",uid={uid}");
        }
        if gid != 0 {
            seq_print!(line, ",gid={gid}");
        }
        self.quota.show(line);
    }

    /// Returns the numbers for `statfs(2)`.
    pub(crate) fn statfs(&self) -> vfs::StatFs {
        vfs::StatFs {
            blocks: (self.pool.limit(), self.pool.charged()),
            inodes: (self.space().max_inodes(), self.space().used()),
        }
    }
}

impl Drop for Super {
    fn drop(&mut self) {
        // The inodes are gone, and with the records all trees.
        self.inodes.clear(vfs::cond_resched);
        if self.inodes.family.remove_member() {
            self.pool.close();
        }
    }
}
