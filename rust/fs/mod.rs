// SPDX-License-Identifier: GPL-2.0

//! What the filesystem does.
//!
//! | file | concern |
//! |---|---|
//! | `superblock.rs`, `options.rs`, `quota.rs` | mounts |
//! | `names.rs` | directories |
//! | `data.rs` | a file's tree, its lock, and what its owner is charged |
//! | `file.rs` | the table of contents of what follows |
//! | `read.rs`, `write.rs`, `write_run.rs`, `truncate.rs`, `clear.rs`, `fallocate.rs`, `shift.rs` | bytes |
//! | `clone.rs`, `dedupe.rs`, `copy.rs` | sharing blocks between files |
//! | `mmap.rs` | faults |
//! | `extents.rs` | `SEEK_HOLE`, `SEEK_DATA`, FIEMAP |
//!
//! # Locks
//!
//! After those of [`crate::vfs`], in this order:
//!
//! 5. the tree of a file, [`data::Data`]: an `rwlock_t`, never two at once
//! 6. a directory's index of cookies; the lists of [`MappedBlocks`](crate::store::block::MappedBlocks)
//!
//! A file's tree changes with `invalidate_lock` held exclusive, by whatever path. `i_rwsem` is
//! held too, but by page faults. So with `invalidate_lock` held exclusive the tree is stable, and
//! with it held shared a block found there stays the file's; the tree's lock keeps it whole
//! for those who hold neither, readers. They copy with it held, and without faults (`read.rs`), as
//! do those who write in place (`write.rs`).
//!
//! # The end of a file
//!
//! * What lies in blocks wholly beyond the end, which `fallocate` puts there, is zeros.
//! * The bytes of the last block beyond the end are zeros, but for what is stored there through a
//!   shared mapping while the block is the file's own. That is wiped before the end moves up and
//!   before the block becomes shared ([`truncate::wipe_tail`]).

mod clear;
mod clone;
mod copy;
mod data;
mod dedupe;
mod extents;
mod fallocate;
mod file;
mod mmap;
mod names;
mod options;
mod quota;
mod read;
mod shift;
mod superblock;
mod truncate;
mod write;
mod write_run;

use self::{
    data::{ChargedBlock, ChargedTree, Data},
    options::Options,
    superblock::Super,
};
use crate::{
    bindings,
    store::block::{BLOCK_SHIFT, BLOCK_SIZE},
    vfs::{self, Context, Parameter},
};
use kernel::{prelude::*, seq_file::SeqFile};

/// The filesystem type.
pub(crate) struct ReflinkFs;

/// An inode of this filesystem.
type Inode = vfs::Inode<ReflinkFs>;

/// An inode of this filesystem whose `i_rwsem` is held exclusive.
type Locked = vfs::Locked<ReflinkFs>;

/// A file of this filesystem for whose change everything has been done that it owes.
type Changing<'a> = vfs::Changing<'a, ReflinkFs>;

/// The index of the block that holds byte `pos`.
const fn block_of(pos: u64) -> u64 {
    pos >> BLOCK_SHIFT
}

/// How many blocks `len` bytes from the beginning of a block take.
const fn blocks_for(len: u64) -> u64 {
    len.div_ceil(BLOCK_SIZE as u64)
}

/// Where in its block byte `pos` lies.
const fn offset_in_block(pos: u64) -> usize {
    pos as usize % BLOCK_SIZE
}

impl vfs::FileSystem for ReflinkFs {
    const NAME: &'static CStr = c"reflinkfs";

    // "refl".
    const MAGIC: usize = 0x7265_666c;

    type SuperData = Super;
    type InodeData = Data;
    type Options = Options;

    fn options(context: &Context<'_>) -> Options {
        Options::new(context)
    }

    fn parameter(
        options: &mut Options,
        context: &Context<'_>,
        parameter: &Parameter<'_>,
    ) -> Result<bool> {
        options.set(context, parameter)
    }

    fn super_data(options: &Options) -> Result<Super> {
        Super::new(options)
    }

    fn root(options: &Options) -> (u16, bindings::kuid_t, bindings::kgid_t) {
        (options.mode, options.uid, options.gid)
    }

    fn quota(sb: &vfs::SuperBlock<Self>, kind: vfs::quota::Kind) -> Option<vfs::quota::Limits> {
        sb.data().quota.of(kind)
    }

    fn reconfigure(sb: &vfs::SuperBlock<Self>, context: &Context<'_>, options: &Options) -> Result {
        sb.data().reconfigure(context, options)
    }

    fn show_options(sb: &vfs::SuperBlock<Self>, line: &SeqFile) {
        sb.data().show_options(line, sb);
    }

    fn statistics(sb: &vfs::SuperBlock<Self>) -> vfs::Statistics {
        sb.data().statistics()
    }

    fn summarize(sb: &vfs::SuperBlock<Self>, to: &SeqFile) {
        sb.data().summarize(to);
    }

    fn inode_data(sb: &vfs::SuperBlock<Self>) -> impl PinInit<Data> {
        Data::new(sb.data().pool.clone())
    }

    fn admit_inode(sb: &vfs::SuperBlock<Self>) -> Result<u64> {
        sb.data().admit_inode()
    }

    fn dismiss_inode(sb: &vfs::SuperBlock<Self>) {
        sb.data().dismiss_inode();
    }

    fn recount(sb: &vfs::SuperBlock<Self>, before: u64, after: u64) -> Result {
        sb.data().recount(before, after)
    }

    fn evict(inode: &Inode) {
        inode.data().clear();
    }

    fn inode_blocks(inode: &Inode) -> u64 {
        inode.data().blocks()
    }
}
