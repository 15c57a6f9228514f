// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Files that a call may not change, and files of different filesystems.

use std::os::fd::AsRawFd;

use libc::{EPERM, ETXTBSY, EXDEV};

use super::disk::run;
use super::offsets::expect_refused;
use super::{copy, copy_all, flag_name, range, COPY, DEDUP, FLAGS, REFLINK};
use crate::case::{case, Case, Test};
use crate::failure::{expect_eq, expect_errno, Context, Outcome, Sys};
use crate::filesystem::{Feature, Reflinkfs, Tmpfs};
use crate::pattern::{blocks, pattern, BLOCK};
use crate::sys::{check, File};

pub const CASES: &[Case] = &[
    case!(another_filesystem_is_exdev_and_nothing_is_done),
    case!(files_that_hide_their_size_are_never_called_copied),
    case!(between_two_mounts_bytes_are_copied_and_nothing_is_shared).needs(&[Feature::Instance]),
    case!(an_immutable_destination_is_eperm),
    case!(a_swap_file_is_etxtbsy)
        .except(Reflinkfs, "cannot be swapped to")
        .except(Tmpfs, "cannot be swapped to"),
    case!(a_sealed_file_is_eperm),
    case!(a_read_only_mount_is_refused_when_the_file_is_opened),
];

fn another_filesystem_is_exdev_and_nothing_is_done(t: &Test) -> Outcome {
    let here = t.create_with("here", &blocks(1, 2))?;
    let there = t.create_elsewhere("there", &blocks(2, 2))?;
    for flags in FLAGS {
        for place in [
            range(0, 0, BLOCK),
            range(1, 1, 10),
            range(0, 0, 0),
            range(0, 0, 1 << 40),
        ] {
            expect_refused(&here, &there, place, flags, EXDEV)?;
            expect_refused(&there, &here, place, flags, EXDEV)?;
        }
    }
    Ok(())
}

fn files_that_hide_their_size_are_never_called_copied(t: &Test) -> Outcome {
    let to = t.create("to")?;
    let source = File::open("/proc/version", libc::O_RDONLY).or_fail("open /proc/version")?;
    for flags in FLAGS {
        let result = copy(&source, &to, range(0, 0, BLOCK), flags);
        expect_errno(
            result,
            EXDEV,
            format_args!("{} of /proc/version", flag_name(flags)),
        )?;
    }
    expect_eq(to.size()?, 0, "size of the destination")
}

fn between_two_mounts_bytes_are_copied_and_nothing_is_shared(t: &Test) -> Outcome {
    let one = t.mount_at("one", &[("size", "1M")])?;
    let other = t.mount_at("other", &[("size", "1M")])?;
    let data = pattern(3, 3 * BLOCK + 5);
    let from = one.create_with("file", &data)?;
    let to = other.create_with("file", &data)?;
    let whole = range(0, 0, data.len());
    for flags in [REFLINK, DEDUP] {
        expect_refused(&from, &to, whole, flags, EXDEV)?;
    }
    if t.filesystem == Tmpfs {
        return expect_refused(&from, &to, whole, COPY, EXDEV);
    }
    to.truncate(0)?;
    copy_all(&from, &to, whole, COPY)?;
    to.expect_contents(&data, "a copy on another mount")?;
    from.write_at(&[0; BLOCK], 0)?;
    to.expect_contents(&data, "the copy after the source changed")
}

const FS_IOC_GETFLAGS: libc::c_ulong = 0x8008_6601;
const FS_IOC_SETFLAGS: libc::c_ulong = 0x4008_6602;
const IMMUTABLE: libc::c_int = 0x10;
const NO_COPY_ON_WRITE: libc::c_int = 0x80_0000;

fn change_attributes(file: &File, set: libc::c_int, clear: libc::c_int) -> Sys {
    let mut attributes: libc::c_int = 0;
    // SAFETY: both calls take a pointer to an int.
    unsafe {
        check(libc::ioctl(
            file.as_raw_fd(),
            FS_IOC_GETFLAGS,
            &mut attributes,
        ))?;
        attributes = (attributes | set) & !clear;
        check(libc::ioctl(file.as_raw_fd(), FS_IOC_SETFLAGS, &attributes))?;
    }
    Ok(())
}

fn an_immutable_destination_is_eperm(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(4, 2))?;
    let to = t.create_with("to", &blocks(4, 2))?;
    change_attributes(&to, IMMUTABLE, 0).or_fail("FS_IOC_SETFLAGS")?;
    let refused = FLAGS.iter().try_for_each(|&flags| match flags {
        // A filesystem that cannot share fails with EOPNOTSUPP first.
        REFLINK | DEDUP if !t.filesystem.can_share() => Ok(()),
        flags => expect_refused(&source, &to, range(0, 0, BLOCK), flags, EPERM),
    });
    change_attributes(&to, 0, IMMUTABLE).or_fail("FS_IOC_SETFLAGS")?;
    refused?;
    // An immutable source is only read.
    change_attributes(&source, IMMUTABLE, 0).or_fail("FS_IOC_SETFLAGS")?;
    let copied = copy_all(&source, &to, range(0, 0, BLOCK), COPY);
    change_attributes(&source, 0, IMMUTABLE).or_fail("FS_IOC_SETFLAGS")?;
    copied
}

fn a_swap_file_is_etxtbsy(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(5, 2))?;
    let swap = t.create("swap")?;
    let path = swap.path.to_string_lossy();
    // Only btrfs refuses it, and only before there is data.
    let _ = change_attributes(&swap, NO_COPY_ON_WRITE, 0);
    swap.write_at(&vec![0; 256 * BLOCK], 0)?;
    swap.sync()?;
    crate::sys::chmod(&swap.path, 0o600).or_fail("chmod")?;
    run(&["/sbin/mkswap", "-q", &path])?;
    run(&["/sbin/swapon", &path])?;
    let refused = FLAGS.iter().try_for_each(|&flags| {
        if flags != COPY && !t.filesystem.can_share() {
            return Ok(());
        }
        let name = flag_name(flags);
        let place = range(0, 0, BLOCK);
        expect_errno(
            copy(&swap, &file, place, flags),
            ETXTBSY,
            format_args!("{name} from it"),
        )?;
        expect_errno(
            copy(&file, &swap, place, flags),
            ETXTBSY,
            format_args!("{name} to it"),
        )
    });
    run(&["/sbin/swapoff", &path])?;
    refused?;
    file.expect_contents(&blocks(5, 2), "the file that was not copied to")
}

fn a_sealed_file_is_eperm(_: &Test) -> Outcome {
    let memory = |bytes: &[u8]| -> Outcome<File> {
        // SAFETY: the name is NUL-terminated.
        let fd = check(unsafe { libc::memfd_create(c"file".as_ptr(), libc::MFD_ALLOW_SEALING) })
            .or_fail("memfd_create")?;
        let file = File::open(format!("/proc/self/fd/{fd}"), libc::O_RDWR).or_fail("open")?;
        file.write_at(bytes, 0)?;
        Ok(file)
    };
    let (from, to) = (memory(&blocks(6, 2))?, memory(&blocks(7, 2))?);
    // SAFETY: plain call on an open descriptor.
    check(unsafe { libc::fcntl(to.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_WRITE) })
        .or_fail("F_ADD_SEALS")?;
    expect_refused(&from, &to, range(0, 0, BLOCK), COPY, EPERM)
}

fn a_read_only_mount_is_refused_when_the_file_is_opened(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(8, 1))?;
    drop(t.create_with("to", b"kept")?);
    let view = t.read_only_view()?;
    let opened = File::open(view.join("to"), libc::O_RDWR);
    expect_errno(
        opened,
        libc::EROFS,
        "opening a file of a read-only mount for writing",
    )?;
    let to = File::open(view.join("to"), libc::O_RDONLY).or_fail("open")?;
    for flags in FLAGS {
        let result = copy(&source, &to, range(0, 0, BLOCK), flags);
        expect_errno(result, libc::EBADF, flag_name(flags))?;
    }
    // It can be a source.
    let from = File::open(view.join("source"), libc::O_RDONLY).or_fail("open")?;
    let copy = t.create("copy")?;
    copy_all(&from, &copy, range(0, 0, BLOCK), COPY)?;
    copy.expect_contents(&blocks(8, 1), "a copy from a read-only mount")
}
