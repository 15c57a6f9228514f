// SPDX-License-Identifier: GPL-2.0

//! reflinkfs: what the filesystem does. No `unsafe`, no C types.
//!
//! | file | concern |
//! |---|---|
//! | `superblock.rs`, `options.rs`, `quota_options.rs`, `summary.rs` | mounts |
//! | `inode.rs` | what is kept with an inode |
//! | `file.rs` | the operations of a regular file: the table of contents of what follows |
//! | `file_blocks.rs` | a file's tree, its lock, and what its owner is charged |
//! | `read.rs`, `write/`, `truncate.rs`, `clear.rs`, `fallocate.rs`, `shift.rs` | bytes |
//! | `remap.rs`, `clone.rs`, `dedupe/`, `copy.rs` | sharing blocks between files |
//! | `fork.rs` | sharing all files between mounts |
//! | `mmap.rs`, `mapped.rs`, `zero_block.rs` | faults, and what is kept for them |
//! | `room.rs` | memory for a change, had before `invalidate_lock` |
//! | `referenced.rs`, `sort.rs` | blocks with references of others, which must not be shared |
//! | `extents.rs` | `SEEK_HOLE`, `SEEK_DATA`, FIEMAP |
//! | `events.rs` | tracepoints |
//!
//! Directories, attributes and quotas are [`crate::memfs`]'s.
//!
//! `docs/design.md` has all locks, what each protects, and their order.
//!
//! # The end of a file
//!
//! * What lies in blocks wholly beyond the end, which `fallocate` puts there, is zeros.
//! * The bytes of the last block beyond the end are zeros, but for what is stored there through a
//!   shared mapping while the block is owned. That is wiped before the end moves up, and
//!   before the block becomes shared, when nothing can store to it any more
//!   ([`truncate::wipe_tail`]).

mod clear;
mod clone;
mod copy;
mod dedupe;
mod events;
mod extents;
mod fallocate;
mod file;
mod file_blocks;
mod fork;
mod inode;
mod mapped;
mod mmap;
mod options;
mod quota_options;
mod read;
mod referenced;
mod remap;
mod room;
mod shift;
mod sort;
mod summary;
mod superblock;
mod truncate;
mod write;
mod zero_block;

pub(crate) use self::superblock::TypeData;

use self::{
    file_blocks::{
        BlocksGuard,
        ChargedBlock,
        ChargedTree,
        FileBlocks, //
    },
    inode::InodeInfo,
    options::Options,
    superblock::Super, //
};
use crate::{
    dax,
    memfs::{
        self,
        exportfs::ExportFs,
        xattr::XattrHandler, //
    },
    store::block::{
        BLOCK_SHIFT,
        BLOCK_SIZE, //
    },
    vfs::{
        self,
        Dquots,
        ExportOps,
        FsContext,
        FsParameter,
        FsParameterSpec,
        NewSuperBlock,
        SuperBlock,
        XattrHandlers, //
    },
};
use kernel::{
    prelude::*,
    seq_file::SeqFile,
    sync::aref::ARef, //
};

/// The filesystem type.
pub(crate) struct ReflinkFs;

/// An inode of this filesystem.
type Inode = vfs::Inode<ReflinkFs>;

/// An inode of this filesystem whose `i_rwsem` is held exclusive.
type LockedInode = vfs::LockedInode<ReflinkFs>;

/// A file of this filesystem, after everything that must precede a change of its data.
type Changing<'a> = vfs::Changing<'a, ReflinkFs>;

/// A change under way of `N` inodes.
type Transaction<'a, const N: usize = 1> = memfs::Transaction<'a, ReflinkFs, N>;

/// A charge of blocks to the owner of a file.
type Charge<'a> = memfs::quota::Charge<'a, ReflinkFs>;

/// Returns the index of the block that holds byte `pos`.
const fn block_of(pos: u64) -> u64 {
    pos >> BLOCK_SHIFT
}

/// Returns how many blocks `len` bytes from the beginning of a block take.
const fn blocks_for(len: u64) -> u64 {
    len.div_ceil(BLOCK_SIZE as u64)
}

/// Returns where in its block byte `pos` lies.
const fn offset_in_block(pos: u64) -> usize {
    pos as usize % BLOCK_SIZE
}

/// The most names of a file, and directories in one, as on XFS. The VFS enforces it.
const MAX_LINKS: u32 = i32::MAX as u32;

impl vfs::FileSystem for ReflinkFs {
    const NAME: &'static CStr = c"reflinkfs";

    // "refl".
    const MAGIC: usize = 0x7265_666c;

    // Timestamps finer than a timer tick where they were read; mounts in user namespaces, and
    // idmapped ones.
    const FS_FLAGS: u32 = vfs::filesystem::FS_MGTIME
        | vfs::filesystem::FS_USERNS_MOUNT
        | vfs::filesystem::FS_ALLOW_IDMAP;

    type TypeData = TypeData;
    type SbInfo = Super;
    type InodeInfo = InodeInfo;
}

impl vfs::FsContextOperations for ReflinkFs {
    type Options = Options;

    const PARAMETERS: &'static [FsParameterSpec] = Options::PARAMETERS;

    fn init_fs_context(context: &FsContext<'_>) -> Options {
        Options::new(context)
    }

    fn parse_param(
        options: &mut Options,
        context: &FsContext<'_>,
        parameter: &FsParameter<'_>,
    ) -> Result {
        options.set(context, parameter)
    }

    fn prepare_get_tree(options: &Options, context: &FsContext<'_>) -> Result {
        options.check_fork(context)?;
        if let Some(base) = &options.fork {
            // What the mount forbids, its fork does, too.
            context.set_owner_of(base.super_block(), base.sb_iflags());
        }
        Ok(())
    }

    /// The mount that was forked can be unmounted again.
    fn finish_get_tree(options: &mut Options) {
        options.fork = None;
    }

    fn new_sb_info(options: &Options) -> Result<Super> {
        match &options.fork {
            Some(base) => base.super_block().info().fork(options),
            None => Super::new(options),
        }
    }

    fn fill_super(sb: &NewSuperBlock<'_, Self>, options: &Options) -> Result<ARef<Inode>> {
        sb.set_limits(vfs::MAX_LFS_FILESIZE, MAX_LINKS);
        sb.set_granularity();
        sb.set_flags(
            SuperBlock::<Self>::POSIXACL
                | SuperBlock::<Self>::I_VERSION
                | SuperBlock::<Self>::NOSEC,
            SuperBlock::<Self>::I_ALLOW_HSM,
        );
        sb.set_random_uuid();
        sb.set_export_ops(ExportOps::new::<ExportFs>());
        sb.set_xattr_handlers(XattrHandlers::new::<XattrHandler>());
        let type_data = sb.type_data();
        type_data.summaries.add(&type_data.sysfs, sb)?;
        if let Some(base) = &options.fork {
            fork::fork(base.super_block(), sb)?;
            let (mode, uid, gid) = (options.mode, options.uid, options.gid);
            let root = memfs::namei::root_of_fork(sb, mode, uid, gid)?;
            sb.info().set_limits(options)?;
            return Ok(root);
        }
        memfs::quota::enable(sb)?;
        let (uid, gid) = options.owner;
        let (uid, gid) = (options.uid.unwrap_or(uid), options.gid.unwrap_or(gid));
        let mode = options.mode.unwrap_or(Options::DEFAULT_MODE);
        memfs::namei::new_root(sb, mode, uid, gid).inspect_err(|_| memfs::quota::disable(sb))
    }

    fn reconfigure(sb: &SuperBlock<Self>, context: &FsContext<'_>, options: &Options) -> Result {
        sb.info().reconfigure(context, options)
    }
}

impl vfs::SuperOperations for ReflinkFs {
    fn kill_sb(sb: &SuperBlock<Self>) {
        sb.type_data().summaries.remove(sb);
        sb.info().mapped.clear();
    }

    fn put_super(sb: &SuperBlock<Self>) {
        memfs::quota::disable(sb);
    }

    fn show_options(sb: &SuperBlock<Self>, line: &SeqFile) {
        sb.info().show_options(line, sb);
    }

    fn statfs(sb: &SuperBlock<Self>) -> vfs::StatFs {
        sb.info().statfs()
    }

    /// Only an administrator of the initial user namespace may: a frozen superblock has a reference
    /// to itself, so that nothing could free it after the namespace and all its mounts were gone,
    /// and until then its writers could not be killed. The kernel's own freezes are not judged.
    fn may_freeze(by_user: bool) -> bool {
        !by_user || vfs::capable_sys_admin(true)
    }

    /// Has every store through a mapping fault, and wait. The VFS keeps other writers out, and
    /// there is nothing to write back.
    fn freeze_fs(sb: &SuperBlock<Self>) -> Result {
        sb.for_each_inode(|inode| {
            // Cannot fail, as the check does not.
            let _ = dax::unmap_writable(inode, 0..u64::MAX, || Ok(()));
        });
        Ok(())
    }

    fn alloc_inode(sb: &SuperBlock<Self>) -> impl PinInit<InodeInfo> {
        InodeInfo::new(sb.info())
    }

    fn evict_inode(inode: &Inode) {
        inode::evict(inode);
    }

    fn dquots(inode: &Inode) -> &Dquots {
        inode.info().dquots()
    }
}
