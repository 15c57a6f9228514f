// SPDX-License-Identifier: GPL-2.0 OR MIT
//! A change of owner moves the charge, or fails.

use std::process::Command;

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::QUOTA;
use crate::mapping::Mapping;
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::process::in_child;
use crate::quota::{
    as_one, expect_used, hard, limit, mount, set_limits, used, Group, User, ALICE, BOB,
};
use crate::sys::{check, chown, lstat, mkdir, symlink, unlink, File};

pub const CASES: &[Case] = &[
    case!(chown_takes_the_charge_along).needs(QUOTA),
    case!(chgrp_takes_the_charge_along).needs(QUOTA),
    case!(chown_is_refused_beyond_a_limit).needs(QUOTA),
    case!(chmod_and_times_change_no_charge).needs(QUOTA),
    case!(what_is_written_after_chown_is_the_new_owners).needs(QUOTA),
    case!(through_a_mount_that_maps_ids_the_mapped_owner_is_charged).needs(QUOTA),
];

const NOBODY: u32 = u32::MAX;
const CAP_SYS_RESOURCE: u32 = 24;

fn chown_takes_the_charge_along(t: &Test) -> Outcome {
    let fs = mount(t, &[])?;
    as_one(ALICE, || {
        fs.create_with("file", &blocks(1, 5))?;
        mkdir(fs.path("dir"), 0o755).or_fail("mkdir")?;
        symlink("file", fs.path("symlink")).or_fail("symlink")
    })?;
    expect_used(&fs, ALICE, (5, 3), "before")?;
    chown(fs.path("file"), BOB, NOBODY).or_fail("chown")?;
    let of = |kind, id| used(&fs, kind, id);
    expect_eq(of(User, ALICE)?, (0, 2), "user Alice")?;
    expect_eq(of(User, BOB)?, (5, 1), "user Bob")?;
    expect_eq(of(Group, ALICE)?, (5, 3), "the group that stays")?;
    expect_eq(of(Group, BOB)?, (0, 0), "the other group")?;
    chown(fs.path("dir"), BOB, BOB).or_fail("chown")?;
    crate::sys::path_call!(lchown(fs.path("symlink"), BOB, BOB)).or_fail("lchown")?;
    chown(fs.path("file"), BOB, BOB).or_fail("chown to the same user")?;
    expect_used(&fs, ALICE, (0, 0), "everything given away")?;
    expect_used(&fs, BOB, (5, 3), "everything taken")
}

fn chgrp_takes_the_charge_along(t: &Test) -> Outcome {
    let fs = mount(t, &[])?;
    in_child(|| {
        // A member of both groups may change a file's group from one to the other.
        let groups = [ALICE, BOB];
        // SAFETY: plain calls in a process with one thread.
        unsafe {
            check(libc::setgroups(2, groups.as_ptr())).or_fail("setgroups")?;
            check(libc::setgid(ALICE)).or_fail("setgid")?;
            check(libc::setuid(ALICE)).or_fail("setuid")?;
        }
        fs.create_with("file", &blocks(1, 5))?;
        chown(fs.path("file"), NOBODY, BOB).or_fail("chgrp")
    })?;
    expect_eq(used(&fs, User, ALICE)?, (5, 1), "the user")?;
    expect_eq(used(&fs, Group, ALICE)?, (0, 0), "the old group")?;
    expect_eq(used(&fs, Group, BOB)?, (5, 1), "the new group")
}

fn chown_is_refused_beyond_a_limit(t: &Test) -> Outcome {
    let fs = mount(t, &[])?;
    for kind in [User, Group] {
        set_limits(&fs.root, kind, BOB, hard(4, 2)).or_fail("Q_SETQUOTA")?;
    }
    in_child(|| {
        for (name, count) in [("5", 5), ("4", 4), ("1", 1), ("0", 0), ("-", 0)] {
            fs.create_with(name, &blocks(1, count))?;
            chown(fs.path(name), ALICE, ALICE).or_fail("chown")?;
        }
        drop_capability(CAP_SYS_RESOURCE)?;
        let refused = chown(fs.path("5"), BOB, NOBODY);
        expect_errno(refused, libc::EDQUOT, "5 blocks to a user of 4")?;
        let refused = chown(fs.path("5"), NOBODY, BOB);
        expect_errno(refused, libc::EDQUOT, "5 blocks to a group of 4")?;
        let stat = lstat(fs.path("5")).or_fail("lstat")?;
        expect_eq((stat.st_uid, stat.st_gid), (ALICE, ALICE), "owners")?;
        chown(fs.path("4"), BOB, BOB).or_fail("4 blocks")?;
        let refused = chown(fs.path("1"), BOB, BOB);
        expect_errno(refused, libc::EDQUOT, "one more")?;
        chown(fs.path("0"), BOB, BOB).or_fail("a second inode")?;
        let refused = chown(fs.path("-"), BOB, BOB);
        expect_errno(refused, libc::EDQUOT, "a third inode")
    })?;
    expect_used(&fs, ALICE, (6, 3), "Alice")?;
    expect_used(&fs, BOB, (4, 2), "Bob")
}

/// Drops a capability from the effective set of this process.
fn drop_capability(number: u32) -> Outcome {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    let mut header = Header {
        version: 0x2008_0522,
        pid: 0,
    };
    // Effective, permitted, inheritable; the low halves, then the high ones.
    let mut sets = [0u32; 6];
    // SAFETY: both have the layout that the kernel reads and fills in.
    unsafe {
        check(libc::syscall(
            libc::SYS_capget,
            &mut header,
            sets.as_mut_ptr(),
        ))
        .or_fail("capget")?;
        sets[number as usize / 32 * 3] &= !(1 << (number % 32));
        check(libc::syscall(libc::SYS_capset, &mut header, sets.as_ptr())).or_fail("capset")?;
    }
    Ok(())
}

fn chmod_and_times_change_no_charge(t: &Test) -> Outcome {
    let fs = mount(t, &[])?;
    as_one(ALICE, || {
        let file = fs.create_with("file", &blocks(1, 5))?;
        crate::sys::chmod(&file.path, 0o600).or_fail("chmod")?;
        chown(&file.path, ALICE, ALICE).or_fail("chown to oneself")?;
        let times = [crate::sys::timespec(1, 0), crate::sys::timespec(2, 0)];
        crate::sys::set_times(&file.path, times).or_fail("utimensat")?;
        crate::sys::rename(&file.path, fs.path("renamed")).or_fail("rename")
    })?;
    expect_used(&fs, ALICE, (5, 1), "at the end")
}

fn what_is_written_after_chown_is_the_new_owners(t: &Test) -> Outcome {
    let fs = mount(t, &[])?;
    limit(&fs, BOB, 8, 0)?;
    let file = fs.create_with("file", &blocks(1, 2))?;
    chown(&file.path, ALICE, ALICE).or_fail("chown")?;
    file.truncate(20 * BLOCK64)?;
    // The owner is charged, whichever user writes. The limits are the owner's, too.
    as_one(BOB, || {
        let mapping = Mapping::shared(&file, 20 * BLOCK)?;
        for block in 3..18 {
            mapping.store(block * BLOCK, b"x");
        }
        file.write_at(&blocks(2, 2), 18 * BLOCK64)
    })?;
    expect_used(&fs, ALICE, (19, 1), "the owner")?;
    expect_used(&fs, BOB, (0, 0), "the writer")?;
    unlink(fs.path("file")).or_fail("unlink")?;
    chown_open(&file, BOB)?;
    expect_used(
        &fs,
        ALICE,
        (0, 0),
        "after a file without a name was given away",
    )?;
    expect_used(&fs, BOB, (19, 1), "the new owner")?;
    drop(file);
    expect_used(&fs, BOB, (0, 0), "after it was closed")
}

fn chown_open(file: &File, owner: u32) -> Outcome {
    use std::os::fd::AsRawFd;
    // SAFETY: plain call on an open descriptor.
    check(unsafe { libc::fchown(file.as_raw_fd(), owner, owner) }).or_fail("fchown")?;
    Ok(())
}

fn through_a_mount_that_maps_ids_the_mapped_owner_is_charged(t: &Test) -> Outcome {
    let fs = mount(t, &[])?;
    let view = t.elsewhere.join("mapped");
    mkdir(&view, 0o755).or_fail("mkdir")?;
    // Users 1002 and 1003 are mapped to 2 and 3; the owner of the directory is mapped, too.
    let (carol, dave) = (1002, 1003);
    let output = Command::new("mount")
        .args(["--bind", "-o", "X-mount.idmap=b:0:1000:4"])
        .args([&fs.root, &view])
        .output()
        .or_fail("mount")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    expect(output.status.success(), format_args!("mount: {errors}"))?;
    limit(&fs, 3, 4, 0)?;
    as_one(carol, || {
        File::create_with(view.join("file"), &blocks(1, 3)).map(|_| ())
    })?;
    expect_used(&fs, 2, (3, 1), "the user that Carol is mapped to")?;
    as_one(dave, || {
        let file = File::create(view.join("other"))?;
        let n = file.try_pwrite(&blocks(1, 5), 0).or_fail("pwrite")?;
        expect_eq(n, 4 * BLOCK, "bytes of a user with a limit of 4 blocks")
    })?;
    chown(view.join("file"), dave, dave).or_fail("chown")?;
    expect_used(&fs, 2, (0, 0), "after everything was given away")?;
    expect_used(&fs, 3, (7, 2), "the user that Dave is mapped to")?;
    expect_used(&fs, carol, (0, 0), "Carol herself")?;
    crate::sys::path_call!(umount2(&view, libc::MNT_DETACH)).or_fail("umount")
}
