// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Features that an in-memory filesystem does not have are refused, with the right errno.

use std::os::fd::AsRawFd;

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_errno, expect_one_of, Context, Outcome, Sys};
use crate::filesystem::{Btrfs, Ext4, Xfs};
use crate::mapping::{Mapping, READ};
use crate::pattern::blocks;
use crate::process::as_user;
use crate::quota::{self, Group, User};
use crate::sys::{c_path, check, chmod, exists, rename, File};

pub const CASES: &[Case] = &[
    case!(verity_is_refused)
        .except(Btrfs, "has it")
        .except(Ext4, "can have it"),
    case!(encryption_is_refused).except(Ext4, "can have it"),
    case!(unknown_ioctls_are_refused),
    case!(ioctls_of_other_filesystems_are_refused)
        .except(Xfs, "has some of them")
        .except(Btrfs, "has some of them")
        .except(Ext4, "has some of them"),
    case!(mappings_that_promise_persistence_are_refused),
    case!(unknown_flags_of_calls_are_refused),
    case!(there_are_no_block_numbers)
        .except(Xfs, "has blocks")
        .except(Ext4, "has blocks"),
    case!(quotas_are_not_on),
];

const NONE: &[i32] = &[libc::ENOTTY, libc::EOPNOTSUPP];

fn ioctl(file: &impl AsRawFd, number: libc::c_ulong, argument: &mut [u8]) -> Sys {
    // SAFETY: the argument is larger than what any of these calls reads or stores.
    check(unsafe { libc::ioctl(file.as_raw_fd(), number, argument.as_mut_ptr()) }).map(|_| ())
}

fn verity_is_refused(t: &Test) -> Outcome {
    const FS_IOC_ENABLE_VERITY: libc::c_ulong = 0x4080_6685;
    const FS_IOC_MEASURE_VERITY: libc::c_ulong = 0xc004_6686;
    const FS_IOC_READ_VERITY_METADATA: libc::c_ulong = 0xc028_6687;
    t.create_with("file", &blocks(1, 4))?;
    let file = File::open(t.path("file"), libc::O_RDONLY).or_fail("open")?;
    // fsverity_enable_arg: version 1, SHA-256, blocks of 4096 bytes.
    let mut argument = [0u8; 256];
    for (i, word) in [1u32, 1, 4096].into_iter().enumerate() {
        argument[i * 4..i * 4 + 4].copy_from_slice(&word.to_ne_bytes());
    }
    expect_one_of(
        ioctl(&file, FS_IOC_ENABLE_VERITY, &mut argument),
        NONE,
        "enabling verity",
    )?;
    let measured = ioctl(&file, FS_IOC_MEASURE_VERITY, &mut [0; 256]);
    expect_one_of(measured, NONE, "measuring verity")?;
    let read = ioctl(&file, FS_IOC_READ_VERITY_METADATA, &mut [0; 256]);
    expect_one_of(read, NONE, "reading verity's metadata")
}

fn encryption_is_refused(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    let dir = File::open(&dir, libc::O_RDONLY).or_fail("open")?;
    for (name, number) in [
        ("SET_ENCRYPTION_POLICY", 0x800c_6613),
        ("GET_ENCRYPTION_POLICY", 0x400c_6615),
        ("GET_ENCRYPTION_POLICY_EX", 0xc009_6616),
        ("ADD_ENCRYPTION_KEY", 0xc050_6617),
        ("GET_ENCRYPTION_KEY_STATUS", 0xc080_661a),
        ("GET_ENCRYPTION_NONCE", 0x8010_661b),
    ] {
        expect_one_of(ioctl(&dir, number, &mut [0; 256]), NONE, name)?;
    }
    Ok(())
}

fn unknown_ioctls_are_refused(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(1, 4))?;
    let dir = File::open(&t.dir, libc::O_RDONLY).or_fail("open")?;
    for number in [
        0x1234_5678,
        0x4004_66ff,
        0xc004_58fe,
        0x5401,
        0x8004_9400 | 0xff,
    ] {
        for (what, file) in [("a file", &file), ("a directory", &dir)] {
            let refused = ioctl(file, number, &mut [0; 1 << 14]);
            expect_errno(
                refused,
                libc::ENOTTY,
                format_args!("ioctl {number:#x} of {what}"),
            )?;
        }
    }
    file.expect_contents(&blocks(1, 4), "after all that was refused")
}

fn ioctls_of_other_filesystems_are_refused(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(1, 4))?;
    for (name, number) in [
        ("FITRIM", 0xc018_5879),
        ("XFS_IOC_ALLOCSP", 0x4030_580a),
        ("EXT4_IOC_MOVE_EXT", 0xc028_660f),
        ("BTRFS_IOC_DEFRAG", 0x5000_9402),
        ("BTRFS_IOC_SNAP_CREATE", 0x5000_9401),
        ("XFS_IOC_GETBMAPX", 0xc030_5838),
        ("XFS_IOC_SWAPEXT", 0xc0c0_586d),
        ("FS_IOC_GETVERSION", 0x8008_7601),
        ("FS_IOC_SETFSLABEL", 0x4100_9432),
    ] {
        expect_one_of(ioctl(&file, number, &mut [0; 1 << 14]), NONE, name)?;
    }
    file.expect_contents(&blocks(1, 4), "after all that was refused")
}

fn mappings_that_promise_persistence_are_refused(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(1, 4))?;
    let flags = libc::MAP_SHARED_VALIDATE | libc::MAP_SYNC;
    let refused = Mapping::try_new(&file, 0, 4096, READ, flags);
    expect_errno(refused, libc::EOPNOTSUPP, "mmap(MAP_SYNC)")?;
    let plain = Mapping::try_new(&file, 0, 4096, READ, libc::MAP_SHARED_VALIDATE);
    expect(
        plain.or_fail("mmap")?.load(0, 4096) == blocks(1, 1),
        "a plain one works",
    )
}

fn unknown_flags_of_calls_are_refused(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(1, 4))?;
    let (from, to) = (c_path(&file.path), c_path(&t.path("to")));
    for flags in [8u32, 0x8000_0000, 1 | 2, 2 | 4] {
        // SAFETY: both paths are valid during the call.
        let renamed = check(unsafe {
            let at = libc::AT_FDCWD;
            libc::syscall(
                libc::SYS_renameat2,
                at,
                from.as_ptr(),
                at,
                to.as_ptr(),
                flags,
            )
        });
        expect_errno(renamed, libc::EINVAL, format_args!("renameat2({flags:#x})"))?;
    }
    expect(!exists(t.path("to")), "nothing was renamed")?;
    rename(&file.path, t.path("to")).or_fail("rename")?;
    for mode in [0x800, 0x4000_0000, libc::FALLOC_FL_PUNCH_HOLE] {
        // SAFETY: plain call on an open descriptor.
        let refused = check(unsafe { libc::fallocate(file.as_raw_fd(), mode, 0, 4096) });
        expect_errno(
            refused,
            libc::EOPNOTSUPP,
            format_args!("fallocate({mode:#x})"),
        )?;
    }
    file.expect_contents(&blocks(1, 4), "after all that was refused")
}

fn there_are_no_block_numbers(t: &Test) -> Outcome {
    const FIBMAP: libc::c_ulong = 1;
    let file = t.create_with("file", &blocks(1, 4))?;
    let refused = ioctl(&file, FIBMAP, &mut [0; 8]);
    expect_one_of(refused, &[libc::EINVAL, libc::ENOTTY], "FIBMAP")
}

fn quotas_are_not_on(t: &Test) -> Outcome {
    // Quotas were not enabled at mount: they cannot be queried, set, or turned on or off.
    for kind in [User, Group] {
        let what = |call: &str| format!("{call} of {kind:?}");
        let errnos = [libc::ENOSYS, libc::ESRCH];
        let quota = quota::get(&t.dir, kind, 0);
        expect_one_of(quota, &errnos, what("Q_GETQUOTA"))?;
        let next = quota::get_next(&t.dir, kind, 0);
        expect_one_of(next, &errnos, what("Q_GETNEXTQUOTA"))?;
        let limited = quota::set_limits(&t.dir, kind, 1000, quota::hard(1, 1));
        expect_one_of(limited, &errnos, what("Q_SETQUOTA"))?;
        let format = quota::format(&t.dir, kind);
        expect_one_of(format, &errnos, what("Q_GETFMT"))?;
        let info = quota::info(&t.dir, kind);
        expect_one_of(info, &errnos, what("Q_GETINFO"))?;
        for (call, command) in [
            ("Q_QUOTAON", quota::Q_QUOTAON),
            ("Q_QUOTAOFF", quota::Q_QUOTAOFF),
        ] {
            let turned = quota::quotactl(&t.dir, command, kind, 1, &mut [0u8; 4096]);
            expect_one_of(turned, &errnos, what(call))?;
        }
    }
    // And there are no limits.
    chmod(&t.dir, 0o777).or_fail("chmod")?;
    as_user(1000, 1000, || {
        t.create_with("file", &blocks(1, 8))?
            .expect_contents(&blocks(1, 8), "a user's writes")
    })
}
