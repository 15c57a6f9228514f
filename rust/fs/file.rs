// SPDX-License-Identifier: GPL-2.0

//! The operations of a regular file: the table of contents of what this filesystem does with data.

use super::{
    block_of,
    blocks_for,
    clone,
    copy,
    dedupe,
    events,
    extents,
    fallocate,
    mmap,
    read,
    remap::{
        RemapKind,
        RemapRequest, //
    },
    truncate,
    write,
    Changing,
    Inode,
    LockedInode,
    ReflinkFs, //
};
use crate::{
    copy_flags::{
        COPY_FR_COPY,
        COPY_FR_DEDUP,
        COPY_FR_REFLINK,
        FOP_COPY_FLAGS, //
    },
    dax::{
        self,
        DaxAddressSpaceOps, //
    },
    memfs::{
        attr,
        namei::AclInodeOps, //
    },
    trace,
    vfs::{
        cond_resched_killable,
        file_operations::{
            FMODE_CAN_ODIRECT,
            FMODE_NOWAIT,
            FOP_BUFFER_WASYNC,
            FOP_DONTCACHE, //
        },
        remap,
        AddressSpaceOps,
        FiemapExtentInfo,
        FileOperations,
        FileOps,
        FileRange,
        Iattr,
        IdMap,
        InodeOperations,
        InodeOps,
        Kiocb,
        NewInode,
        NewVma,
        Pipe,
        VmOps,
        SEEK_DATA,
        SEEK_HOLE, //
    },
};
use core::ops::Range;
use kernel::{
    iov::{
        IovIterDest,
        IovIterSource, //
    },
    prelude::*, //
};

type Dentry = crate::vfs::Dentry<ReflinkFs>;
type File = crate::vfs::File<ReflinkFs>;

/// Makes a new inode a regular file.
pub(super) fn init(inode: &NewInode<ReflinkFs>) {
    inode
        .set_iops(InodeOps::new::<RegularFile>())
        .set_fops(FileOps::new::<RegularFile>())
        .set_aops(AddressSpaceOps::new::<DaxAddressSpaceOps>())
        .set_unevictable();
    dax::init_inode(inode);
}

/// A regular file.
struct RegularFile;

#[vtable]
impl FileOperations<ReflinkFs> for RegularFile {
    const FOP_FLAGS: u32 = FOP_COPY_FLAGS | FOP_DONTCACHE | FOP_BUFFER_WASYNC;

    /// `O_DIRECT` means nothing: no data is ever cached. So it needs no alignment, and
    /// `RWF_DONTCACHE` is what happens anyway.
    const FMODE: u32 = FMODE_CAN_ODIRECT | FMODE_NOWAIT;

    fn llseek(file: &File, offset: i64, whence: u32) -> Result<i64> {
        let inode = file.inode();
        let size = inode.size();
        let hole = match whence {
            SEEK_HOLE => true,
            SEEK_DATA => false,
            _ => return file.generic_llseek(offset, whence, crate::vfs::MAX_LFS_FILESIZE, size),
        };
        let pos = u64::try_from(offset)
            .ok()
            .filter(|&pos| pos < size)
            .and_then(|pos| extents::seek(inode, pos, hole))
            .ok_or(ENXIO)?;
        file.setpos(pos, crate::vfs::MAX_LFS_FILESIZE)
    }

    fn read_iter(mut kiocb: Kiocb<'_, ReflinkFs>, to: &mut IovIterDest<'_>) -> Result<usize> {
        let file = kiocb.file();
        let n = kiocb.read_with(to, |pos, to| read::read(file.inode(), pos, to))?;
        file.accessed();
        Ok(n)
    }

    fn write_iter(mut kiocb: Kiocb<'_, ReflinkFs>, from: &mut IovIterSource<'_>) -> Result<usize> {
        let inode = kiocb.lock_inode()?;
        // It may have become so since it was opened.
        if inode.is_immutable() {
            return Err(EPERM);
        }
        if !kiocb.write_checks(&inode, from)? {
            return Ok(0);
        }
        let may_wait = !kiocb.is_nowait();
        let inode = Changing::begin_write(&inode, &mut kiocb)?;
        kiocb.write_with(from, |pos, from| write::write(&inode, pos, from, may_wait))
    }

    fn mmap(file: &File, vma: NewVma<'_, ReflinkFs>) -> Result {
        let inode = file.inode();
        inode.info().dax.set_mapped();
        if vma.is_shared_maywrite() {
            inode.super_block().info().mapped.add(inode)?;
        }
        file.accessed();
        vma.set_vm_ops(VmOps::new::<mmap::Mapping>());
        Ok(())
    }

    /// There is nothing to write back. But what is stored through mappings from now on updates the
    /// file's times again, as where there is.
    fn fsync(file: &File, range: Range<u64>) -> Result {
        let blocks = block_of(range.start)..blocks_for(range.end);
        dax::unmap_writable(file.inode(), blocks, cond_resched_killable)
    }

    fn splice_read(file: &File, pos: u64, pipe: &mut Pipe<'_>, len: usize) -> Result<usize> {
        let n = read::splice(file.inode(), pos, pipe, len)?;
        file.accessed();
        Ok(n)
    }

    fn copy_file_range(range: FileRange<'_, ReflinkFs>, flags: u32) -> Result<u64> {
        let kind = match flags {
            0 => RemapKind::CopyOrClone,
            COPY_FR_COPY => RemapKind::Copy,
            COPY_FR_REFLINK => RemapKind::Clone,
            COPY_FR_DEDUP => RemapKind::Dedupe,
            _ => return Err(EINVAL),
        };
        let (from, to) = (range.from.inode(), range.to.inode());
        let may_share = to.super_block().info().shares_blocks(from.super_block());
        let copies = matches!(kind, RemapKind::Copy | RemapKind::CopyOrClone);
        if !copies && !may_share {
            return Err(EXDEV);
        }
        run(&RemapRequest {
            range,
            kind,
            may_shorten: copies,
            may_stop: true,
            only_shared: !copies,
        })
    }

    /// `CAN_SHORTEN` tells a call with a flag that came through overlayfs from an ioctl: see
    /// [`FOP_COPY_FLAGS`].
    fn remap_file_range(range: FileRange<'_, ReflinkFs>, flags: u32) -> Result<u64> {
        /// `FICLONE`, `FICLONERANGE`: what cannot be shared is duplicated.
        const IOCTL_CLONE: u32 = 0;
        /// `COPY_FR_REFLINK` through overlayfs.
        const FLAG_CLONE: u32 = remap::CAN_SHORTEN;
        /// `FIDEDUPERANGE`: what cannot be shared, but is equal, is left alone.
        const IOCTL_DEDUPE: u32 = remap::DEDUP | remap::CAN_SHORTEN;
        /// `COPY_FR_DEDUP` through overlayfs.
        const FLAG_DEDUPE: u32 = remap::DEDUP;

        let (kind, may_shorten, only_shared) = match flags {
            IOCTL_CLONE => (RemapKind::Clone, false, false),
            FLAG_CLONE => (RemapKind::Clone, false, true),
            IOCTL_DEDUPE => (RemapKind::Dedupe, true, false),
            FLAG_DEDUPE => (RemapKind::Dedupe, false, true),
            _ => return Err(EINVAL),
        };
        run(&RemapRequest {
            range,
            kind,
            may_shorten,
            may_stop: false,
            only_shared,
        })
    }

    fn fallocate(file: &File, mode: u32, range: Range<u64>) -> Result {
        fallocate::fallocate(file, mode, range)
    }
}

#[vtable]
impl InodeOperations<ReflinkFs> for RegularFile {
    const BASE: &'static InodeOps<ReflinkFs> = InodeOps::new::<AclInodeOps>();

    fn setattr(idmap: IdMap<'_>, dentry: &Dentry, inode: &LockedInode, attr: Iattr<'_>) -> Result {
        attr::setattr(idmap, dentry, inode, attr, truncate::truncate)
    }

    fn fiemap(inode: &Inode, info: FiemapExtentInfo<'_>, start: u64, len: u64) -> Result {
        extents::fiemap(inode, info, start, len)
    }
}

/// Does what is asked for, and tells the tracepoints.
fn run(request: &RemapRequest<'_>) -> Result<u64> {
    let (result, event) = match request.kind {
        RemapKind::Copy | RemapKind::CopyOrClone => (copy::copy(request), trace::COPY),
        RemapKind::Clone => (clone::clone(request), trace::CLONE),
        RemapKind::Dedupe => (dedupe::dedupe(request), trace::DEDUPE),
    };
    events::remap(event, request, result);
    result
}
