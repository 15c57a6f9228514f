// SPDX-License-Identifier: GPL-2.0

//! `struct file_operations`.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h). Reference:
//! <https://docs.kernel.org/filesystems/vfs.html#struct-file-operations>

use super::{
    tables::callbacks,
    to_errno,
    to_ssize,
    DirContext,
    File,
    FileOps,
    FileRange,
    FileSystem,
    Kiocb,
    NewVma,
    Pipe, //
};
use crate::bindings;
use core::{
    marker::PhantomData,
    ops::Range, //
};
use kernel::{
    error::{
        from_result,
        VTABLE_DEFAULT_ERROR, //
    },
    iov::{
        IovIterDest,
        IovIterSource, //
    },
    prelude::*, //
};

/// `RWF_DONTCACHE` is taken, `FOP_DONTCACHE`.
pub const FOP_DONTCACHE: u32 = bindings::FOP_DONTCACHE;

/// Writes need not wait for memory, `FOP_BUFFER_WASYNC`.
pub const FOP_BUFFER_WASYNC: u32 = bindings::FOP_BUFFER_WASYNC;

/// `O_DIRECT` is taken, `FMODE_CAN_ODIRECT`.
pub const FMODE_CAN_ODIRECT: u32 = bindings::FMODE_CAN_ODIRECT;

/// `RWF_NOWAIT` is taken, `FMODE_NOWAIT`.
pub const FMODE_NOWAIT: u32 = bindings::FMODE_NOWAIT;

pub use bindings::{
    FALLOC_FL_ALLOCATE_RANGE,
    FALLOC_FL_COLLAPSE_RANGE,
    FALLOC_FL_INSERT_RANGE,
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    FALLOC_FL_UNSHARE_RANGE,
    FALLOC_FL_ZERO_RANGE, //
};

impl<T: FileSystem> FileOps<T> {
    /// Returns the table of the operations of `U`.
    pub const fn new<U: FileOperations<T>>() -> &'static Self {
        &Table::<T, U>::TABLE
    }
}

/// The operations of an open file. What is not implemented is not in the table. Positions and
/// lengths are in bytes.
///
/// # Examples
///
/// A file that reads as "hello".
///
/// ```no_run
/// # use crate::vfs::FileSystem;
/// use crate::vfs::{FileOperations, FileOps, Kiocb, NewInode};
/// use kernel::{iov::IovIterDest, prelude::*};
/// # struct ExampleFs;
/// # impl FileSystem for ExampleFs {
/// #     const NAME: &'static CStr = c"example";
/// #     const MAGIC: usize = 1;
/// #     const FS_FLAGS: u32 = 0;
/// #     type TypeData = ();
/// #     type SbInfo = ();
/// #     type InodeInfo = ();
/// # }
///
/// struct Hello;
///
/// #[vtable]
/// impl FileOperations<ExampleFs> for Hello {
///     fn read_iter(mut kiocb: Kiocb<'_, ExampleFs>, to: &mut IovIterDest<'_>) -> Result<usize> {
///         kiocb.read_with(to, |pos, to| {
///             let left = b"hello\n".get(pos as usize..).unwrap_or_default();
///             let n = to.copy_to_iter(left);
///             if n == 0 && !left.is_empty() { Err(EFAULT) } else { Ok(n) }
///         })
///     }
/// }
///
/// fn init(inode: &NewInode<ExampleFs>) {
///     inode.set_fops(FileOps::new::<Hello>());
/// }
/// # let _: fn(&NewInode<ExampleFs>) = init;
/// ```
#[vtable]
pub trait FileOperations<T: FileSystem> {
    /// `FOP_*`.
    const FOP_FLAGS: u32 = 0;

    /// `FMODE_*` that a file gets when it is opened.
    const FMODE: u32 = 0;

    /// Moves the file position. `whence` is `SEEK_*`.
    fn llseek(_file: &File<T>, _offset: i64, _whence: u32) -> Result<i64> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Reads, and moves the position of `kiocb`. Returns how many bytes.
    fn read_iter(_kiocb: Kiocb<'_, T>, _to: &mut IovIterDest<'_>) -> Result<usize> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Writes, and moves the position of `kiocb`. Returns how many bytes.
    fn write_iter(_kiocb: Kiocb<'_, T>, _from: &mut IovIterSource<'_>) -> Result<usize> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Lists a directory, whose lock is held at least shared, from the position of `ctx` on.
    fn iterate_shared(_file: &File<T>, _ctx: DirContext<'_>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Sets a new mapping of the file up.
    fn mmap(_file: &File<T>, _vma: NewVma<'_, T>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Writes the bytes of `range` back.
    fn fsync(_file: &File<T>, _range: Range<u64>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Puts up to `len` bytes from `pos` on into `pipe`, which is locked. Returns how many.
    fn splice_read(_file: &File<T>, _pos: u64, _pipe: &mut Pipe<'_>, _len: usize) -> Result<usize> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Copies a range that the VFS has checked; the files may be of different superblocks. Returns
    /// how many bytes.
    fn copy_file_range(_range: FileRange<'_, T>, _flags: u32) -> Result<u64> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Shares a range between files of one superblock. `flags` are `REMAP_FILE_*`. Returns how many
    /// bytes.
    fn remap_file_range(_range: FileRange<'_, T>, _flags: u32) -> Result<u64> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Changes what is allocated. `mode` is `FALLOC_FL_*`; the VFS has checked the range, which is
    /// not empty.
    fn fallocate(_file: &File<T>, _mode: u32, _range: Range<u64>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// Converts arguments, calls `U`, converts the result.
struct Table<T, U>(PhantomData<(T, U)>);

macro_rules! entry {
    ($has:ident, $method:expr) => {
        if U::$has {
            Some($method)
        } else {
            None
        }
    };
}

impl<T: FileSystem, U: FileOperations<T>> Table<T, U> {
    const TABLE: FileOps<T> = FileOps::from_raw(bindings::file_operations {
        fop_flags: U::FOP_FLAGS,
        open: if U::FMODE != 0 {
            Some(Self::open)
        } else {
            None
        },
        llseek: entry!(HAS_LLSEEK, Self::llseek),
        read: entry!(HAS_ITERATE_SHARED, bindings::generic_read_dir),
        read_iter: entry!(HAS_READ_ITER, Self::read_iter),
        write_iter: entry!(HAS_WRITE_ITER, Self::write_iter),
        iterate_shared: entry!(HAS_ITERATE_SHARED, Self::iterate_shared),
        mmap: entry!(HAS_MMAP, Self::mmap),
        fsync: entry!(HAS_FSYNC, Self::fsync),
        splice_read: entry!(HAS_SPLICE_READ, Self::splice_read),
        splice_write: entry!(HAS_WRITE_ITER, bindings::iter_file_splice_write),
        copy_file_range: entry!(HAS_COPY_FILE_RANGE, Self::copy_file_range),
        remap_file_range: entry!(HAS_REMAP_FILE_RANGE, Self::remap_file_range),
        fallocate: entry!(HAS_FALLOCATE, Self::fallocate),
        setlease: Some(bindings::generic_setlease),
        ..pin_init::zeroed()
    });

    /// # Safety
    ///
    /// `inode` is an inode of the filesystem, `file` is being opened.
    unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: The caller passes a file that it is opening, which nothing else accesses yet, and
        // the file's inode.
        unsafe {
            (*file).f_mode |= U::FMODE;
            bindings::generic_file_open(inode, file)
        }
    }

    /// # Safety
    ///
    /// `file` is an open file of the filesystem.
    unsafe extern "C" fn llseek(
        file: *mut bindings::file,
        offset: bindings::loff_t,
        whence: c_int,
    ) -> bindings::loff_t {
        // SAFETY: The caller passes a file of the filesystem to which it has a reference.
        from_result(|| unsafe { U::llseek(File::from_raw(file), offset, whence as u32) })
    }

    callbacks! {
        to_ssize -> isize;

        /// `kiocb` is of an open file of the filesystem, `iter` a destination; nothing else
        /// accesses them.
        fn read_iter(
            kiocb: *mut bindings::kiocb,
            iter: *mut bindings::iov_iter,
        ) => (Kiocb::from_raw(kiocb), IovIterDest::from_raw(iter));

        /// `kiocb` is of an open file of the filesystem, `iter` a source; nothing else accesses
        /// them.
        fn write_iter(
            kiocb: *mut bindings::kiocb,
            iter: *mut bindings::iov_iter,
        ) => (Kiocb::from_raw(kiocb), IovIterSource::from_raw(iter));
    }

    callbacks! {
        to_errno -> c_int;

        /// `file` is an open directory of the filesystem whose lock is held at least shared, and
        /// whose `f_pos_lock` is held or which no other task has; `ctx` is valid.
        fn iterate_shared(
            file: *mut bindings::file,
            ctx: *mut bindings::dir_context,
        ) => (File::from_raw(file), DirContext::from_raw(ctx));

        /// `file` is an open file of the filesystem, `vma` a mapping of it that is in no `mm` yet,
        /// so that nothing else accesses it.
        fn mmap(
            file: *mut bindings::file,
            vma: *mut bindings::vm_area_struct,
        ) => (File::from_raw(file), NewVma::from_raw(vma));

        /// `file` is an open file of the filesystem.
        fn fsync(
            file: *mut bindings::file,
            start: bindings::loff_t,
            last: bindings::loff_t,
            _datasync: c_int,
        ) => (File::from_raw(file), start as u64..(last as u64).saturating_add(1));
    }

    /// # Safety
    ///
    /// `file` is an open file of the filesystem, `pos` valid, `pipe` valid and locked.
    unsafe extern "C" fn splice_read(
        file: *mut bindings::file,
        pos: *mut bindings::loff_t,
        pipe: *mut bindings::pipe_inode_info,
        len: usize,
        _flags: c_uint,
    ) -> isize {
        // SAFETY: The caller passes a file of the filesystem to which it has a reference, a
        // position of its own, and a pipe that it has locked.
        let (file, pos, mut pipe) =
            unsafe { (File::from_raw(file), &mut *pos, Pipe::from_raw(pipe)) };
        from_result(|| {
            let n = U::splice_read(file, *pos as u64, &mut pipe, len)?;
            *pos += n as i64;
            Ok(n as isize)
        })
    }

    /// # Safety
    ///
    /// Both files are open files of the filesystem, maybe of different superblocks; the VFS has
    /// checked the range.
    unsafe extern "C" fn copy_file_range(
        from: *mut bindings::file,
        from_pos: bindings::loff_t,
        to: *mut bindings::file,
        to_pos: bindings::loff_t,
        len: usize,
        flags: c_uint,
    ) -> isize {
        // SAFETY: The caller passes files of the filesystem to which it has references.
        let range = unsafe { FileRange::from_raw(from, from_pos, to, to_pos, len as u64) };
        from_result(|| Ok(U::copy_file_range(range, flags)? as isize))
    }

    /// # Safety
    ///
    /// Both files are open, and their inodes of one superblock of the filesystem.
    unsafe extern "C" fn remap_file_range(
        from: *mut bindings::file,
        from_pos: bindings::loff_t,
        to: *mut bindings::file,
        to_pos: bindings::loff_t,
        len: bindings::loff_t,
        flags: c_uint,
    ) -> bindings::loff_t {
        // SAFETY: The caller passes files of the filesystem to which it has references.
        let range = unsafe { FileRange::from_raw(from, from_pos, to, to_pos, len as u64) };
        from_result(|| Ok(U::remap_file_range(range, flags)? as i64))
    }

    /// # Safety
    ///
    /// `file` is an open file of the filesystem; the VFS has checked the range, which is not empty.
    unsafe extern "C" fn fallocate(
        file: *mut bindings::file,
        mode: c_int,
        offset: bindings::loff_t,
        len: bindings::loff_t,
    ) -> c_long {
        let range = offset as u64..(offset + len) as u64;
        // SAFETY: The caller passes a file of the filesystem to which it has a reference.
        to_errno(unsafe { U::fallocate(File::from_raw(file), mode as u32, range) }) as c_long
    }
}
