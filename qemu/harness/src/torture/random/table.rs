// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The random system calls, and the types of their arguments. Some of them wait, for a lock, for
//! the other end of a pipe, for the holder of a lease; none accesses memory except the region.

use super::arguments::Argument::{self, *};

/// One call.
pub struct Entry {
    pub name: &'static str,
    pub number: i64,
    pub arguments: &'static [Argument],
    /// Whether it returns a new descriptor.
    pub opens: bool,
}

/// Numbers of calls, also of those that the crate libc does not have.
#[allow(non_upper_case_globals)]
mod numbers {
    pub use libc::*;
    pub const SYS_cachestat: i64 = 451;
    pub const SYS_file_getattr: i64 = 468;
    pub const SYS_file_setattr: i64 = 469;
}

macro_rules! calls {
    ($($name:literal = $call:ident $([$opens:ident])? ($($argument:expr),* $(,)?);)+) => {
        pub const CALLS: &[Entry] = &[$(Entry {
            name: $name,
            number: numbers::$call,
            arguments: &[$($argument),*],
            opens: calls!(@opens $($opens)?),
        }),+];
    };
    (@opens) => { false };
    (@opens opens) => { true };
}

const OPEN: Argument = Bits(&[
    1, 2, 0x40, 0x40, 0x80, 0x200, 0x400, 0x800, 0x1000, 0x4000, 0x1_0000, 0x2_0000, 0x41_0000,
    0x4_0000, 0x20_0000,
]);
const PROTECTION: Argument = Bits(&[1, 1, 2, 2, 4]);
const RWF: Argument = Bits(&[1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80]);
const AT: Argument = Bits(&[0x100, 0x400, 0x800, 0x1000]);
const NONE: Argument = One(&[0]);
const ADVICE: Argument = One(&[
    0, 1, 2, 3, 4, 8, 9, 10, 12, 14, 15, 16, 18, 19, 20, 21, 22, 23, 24, 25, 102, 103,
]);

/// SPLICE_F_NONBLOCK in most cases.
const SPLICE: Argument = One(&[2, 3, 2, 3, 2, 3, 0]);

/// For fcntl(2): F_GETLK, F_SETLK, F_OFD_GETLK, F_OFD_SETLK; seldom F_SETLKW, F_OFD_SETLKW.
const LOCKS: Argument = Exactly(&[5, 6, 6, 6, 6, 36, 37, 37, 37, 37, 7, 38]);

/// For quotactl_fd(2), of users and groups: Q_SYNC, Q_GETFMT, Q_GETINFO, Q_GETQUOTA, Q_SETQUOTA,
/// Q_GETNEXTQUOTA.
const QUOTA: Argument = One(&[
    0x8000_0100,
    0x8000_0400,
    0x8000_0401,
    0x8000_0500,
    0x8000_0700,
    0x8000_0700,
    0x8000_0701,
    0x8000_0800,
    0x8000_0900,
]);

/// For ioctl(2).
const FICLONE: Argument = Exactly(&[reflink_sys::FICLONE]);
const FICLONERANGE: Argument = Exactly(&[reflink_sys::FICLONERANGE]);
const FIDEDUPERANGE: Argument = Exactly(&[reflink_sys::FIDEDUPERANGE]);
const FIEMAP: Argument = Exactly(&[reflink_sys::FS_IOC_FIEMAP]);
const FLAGS: Argument = Exactly(&[
    0x4008_6602, // FS_IOC_SETFLAGS
    0x401c_5820, // FS_IOC_FSSETXATTR
]);
const WITH_A_BUFFER: Argument = Exactly(&[
    0x8008_6601, // FS_IOC_GETFLAGS
    0x4008_6602, // FS_IOC_SETFLAGS
    0x801c_581f, // FS_IOC_FSGETXATTR
    0x401c_5820, // FS_IOC_FSSETXATTR
    0x8008_7601, // FS_IOC_GETVERSION
    0x541b,      // FIONREAD
    0x8011_1500, // FS_IOC_GETFSUUID
    0x4101_9400, // FS_IOC_GETFSLABEL, with other bits
]);

calls! {
    "openat" = SYS_openat [opens] (Dir, Path, OPEN, Mode);
    "openat, created" = SYS_openat [opens] (Dir, Path, One(&[0x42, 0x242]), Mode);
    "openat, read and written" = SYS_openat [opens] (Dir, Path, One(&[2]), Mode);
    "openat, a directory" = SYS_openat [opens] (Dir, Path, One(&[0x1_0000]), Mode);
    "dup" = SYS_dup [opens] (Fd);
    "read" = SYS_read (Fd, Buffer, BufferLen);
    "write" = SYS_write (Fd, Buffer, BufferLen);
    "pread64" = SYS_pread64 (Fd, Buffer, BufferLen, Offset);
    "pwrite64" = SYS_pwrite64 (Fd, Buffer, BufferLen, Offset);
    "readv" = SYS_readv (Fd, Vectors, VectorCount);
    "writev" = SYS_writev (Fd, Vectors, VectorCount);
    "preadv2" = SYS_preadv2 (Fd, Vectors, VectorCount, Offset, NONE, RWF);
    "pwritev2" = SYS_pwritev2 (Fd, Vectors, VectorCount, Offset, NONE, RWF);
    "lseek" = SYS_lseek (Fd, Offset, One(&[0, 1, 2, 3, 4]));
    "ftruncate" = SYS_ftruncate (Fd, Offset);
    "truncate" = SYS_truncate (Path, Offset);
    "fallocate" = SYS_fallocate (Fd, Bits(&[1, 1, 2, 8, 16, 32, 64]), Offset, Len);
    "fallocate, one mode" = SYS_fallocate (Fd, One(&[0, 1, 3, 8, 16, 17, 32, 64, 65]), Offset, Len);
    "copy_file_range" = SYS_copy_file_range
        (Fd, OffsetPointer, Fd, OffsetPointer, Len, One(&[0, 0, 0, 1, 2, 4, 3, 8]));
    "FICLONE" = SYS_ioctl (Fd, FICLONE, Fd);
    "FICLONERANGE" = SYS_ioctl (Fd, FICLONERANGE, CloneRange);
    "FIDEDUPERANGE" = SYS_ioctl (Fd, FIDEDUPERANGE, DedupeRange);
    "FS_IOC_FIEMAP" = SYS_ioctl (Fd, FIEMAP, Fiemap);
    "ioctl" = SYS_ioctl (Fd, WITH_A_BUFFER, Buffer);
    "ioctl, of flags" = SYS_ioctl (Fd, FLAGS, FileFlags);
    "splice, to a pipe" = SYS_splice (Fd, OffsetPointer, Pipe, NONE, Len, SPLICE);
    "splice, from a pipe" = SYS_splice (Pipe, NONE, Fd, OffsetPointer, Len, SPLICE);
    "tee" = SYS_tee (Pipe, Pipe, Len, SPLICE);
    "vmsplice" = SYS_vmsplice (Pipe, Vectors, VectorCount, One(&[2, 10, 2, 10, 2, 10, 0]));
    "sendfile" = SYS_sendfile (Fd, Fd, OffsetPointer, Len);
    "fsync" = SYS_fsync (Fd);
    "fdatasync" = SYS_fdatasync (Fd);
    "syncfs" = SYS_syncfs (Fd);
    "sync_file_range" = SYS_sync_file_range (Fd, Offset, Len, Bits(&[1, 2, 4]));
    "fadvise64" = SYS_fadvise64 (Fd, Offset, Len, One(&[0, 1, 2, 3, 4, 5]));
    "readahead" = SYS_readahead (Fd, Offset, Len);
    "mmap" = SYS_mmap (Pages, PagesLen, PROTECTION, Exactly(&[0x11, 0x11, 0x12, 0x13, 0x8011, 0x8012]), Fd, Offset);
    "mprotect" = SYS_mprotect (Pages, PagesLen, PROTECTION);
    "madvise" = SYS_madvise (Pages, PagesLen, ADVICE);
    "msync" = SYS_msync (Pages, PagesLen, Bits(&[1, 2, 4]));
    "mincore" = SYS_mincore (Pages, PagesLen, Buffer);
    "mlock" = SYS_mlock (Pages, PagesLen);
    "munlock" = SYS_munlock (Pages, PagesLen);
    "fcntl, of locks" = SYS_fcntl (Fd, LOCKS, Lock);
    "fcntl, of flags" = SYS_fcntl (Fd, Exactly(&[1, 3, 4, 1033, 1034]), Bits(&[0x400, 0x800, 0x800, 0x4_0000]));
    "fcntl, of leases" = SYS_fcntl (Fd, Exactly(&[1024, 1024, 1025, 1026]), One(&[0, 1, 2]));
    "flock" = SYS_flock (Fd, Exactly(&[5, 6, 8, 5, 6, 8, 5, 6, 8, 2]));
    "mkdirat" = SYS_mkdirat (Dir, Path, Mode);
    "unlinkat" = SYS_unlinkat (Dir, Path, Bits(&[0x200]));
    "renameat2" = SYS_renameat2 (Dir, Path, Dir, Path, Bits(&[1, 2, 4]));
    "linkat" = SYS_linkat (Dir, Path, Dir, Path, AT);
    "symlinkat" = SYS_symlinkat (Target, Dir, Path);
    "readlinkat" = SYS_readlinkat (Dir, Path, Buffer, BufferLen);
    "mknodat" = SYS_mknodat (Dir, Path, Exactly(&[0o10_0644, 0o14_0644, 0o2_0644, 0o1_0644]), NONE);
    "getdents64" = SYS_getdents64 (Fd, Buffer, BufferLen);
    "fchmod" = SYS_fchmod (Fd, Mode);
    "fchmodat" = SYS_fchmodat (Dir, Path, Mode);
    "fchown" = SYS_fchown (Fd, One(&[1000, u32::MAX as u64, 0]), One(&[1000, u32::MAX as u64]));
    "utimensat" = SYS_utimensat (Dir, Path, Times, AT);
    "faccessat2" = SYS_faccessat2 (Dir, Path, Bits(&[1, 2, 4]), AT);
    "statx" = SYS_statx (Dir, Path, AT, Bits(&[0x7ff, 0x1000, 0x2000, 0x4000]), Buffer);
    "fstatfs" = SYS_fstatfs (Fd, Buffer);
    "fsetxattr" = SYS_fsetxattr (Fd, Attribute, Buffer, BufferLen, Bits(&[1, 2]));
    "fgetxattr" = SYS_fgetxattr (Fd, Attribute, Buffer, BufferLen);
    "flistxattr" = SYS_flistxattr (Fd, Buffer, BufferLen);
    "fremovexattr" = SYS_fremovexattr (Fd, Attribute);
    "setxattr" = SYS_setxattr (Path, Attribute, Buffer, BufferLen, Bits(&[1, 2]));
    "setxattr, an access control list" = SYS_setxattr
        (Path, AclName, Acl, Exactly(&[28, 44, 44, 36, 4]), Exactly(&[0]));
    "getxattr" = SYS_getxattr (Path, Attribute, Buffer, BufferLen);
    "getxattr, an access control list" = SYS_getxattr (Path, AclName, Buffer, BufferLen);
    "removexattr, an access control list" = SYS_removexattr (Path, AclName);
    "listxattr" = SYS_listxattr (Path, Buffer, BufferLen);
    "name_to_handle_at" = SYS_name_to_handle_at (Dir, Path, Handle, Buffer, AT);
    "file_getattr" = SYS_file_getattr (Dir, Path, Buffer, One(&[24, 24, 4096, 0]), AT);
    "file_setattr" = SYS_file_setattr (Dir, Path, FileFlags, One(&[24, 32, 0]), AT);
    "cachestat" = SYS_cachestat (Fd, OffsetPointer, Buffer, NONE);
    "quotactl_fd" = SYS_quotactl_fd (Fd, QUOTA, One(&[1000, 0, 1]), Buffer);
    "process_vm_writev" = SYS_process_vm_writev (Pid, Vectors, VectorCount, Vectors, VectorCount, NONE);
    "process_vm_readv" = SYS_process_vm_readv (Pid, Vectors, VectorCount, Vectors, VectorCount, NONE);
}
