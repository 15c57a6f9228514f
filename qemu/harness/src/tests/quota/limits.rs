// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Limits: a call beyond a limit is refused, and has done nothing beyond it.

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, expect_one_of, Context, Outcome};
use crate::filesystem::{Feature, Tmpfs, QUOTA};
use crate::mapping::Mapping;
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::process::expect_killed;
use crate::quota::{
    as_one, expect_used, get, hard, limit, mount, mount_for_alice, quotactl, set_grace, set_limits,
    set_times, Group, Quota, User, ALICE, BOB, Q_QUOTAOFF, Q_QUOTAON,
};
use crate::sys::{chown, link, mkdir, path_call, symlink, unlink, File};
use crate::tests::fallocate::fallocate;
use crate::tests::xattr::set as set_xattr;

const NO_ZERO: &str = "has no FALLOC_FL_ZERO_RANGE";

pub const CASES: &[Case] = &[
    case!(a_write_ends_at_the_limit).needs(QUOTA),
    case!(a_refused_write_changes_nothing_behind_it).needs(QUOTA),
    case!(what_is_there_can_be_overwritten_at_the_limit).needs(QUOTA),
    case!(every_kind_of_inode_counts).needs(QUOTA),
    case!(an_inode_that_is_refused_leaves_nothing).needs(QUOTA),
    case!(fallocate_is_refused_before_it_begins).needs(QUOTA),
    case!(fallocate_of_what_nobody_can_have_is_refused).needs(&[Feature::Reflinkfs]),
    case!(zeroing_a_range_keeps_its_charge)
        .needs(QUOTA)
        .except(Tmpfs, NO_ZERO),
    case!(a_fault_at_the_limit_is_sigbus).needs(QUOTA),
    case!(attributes_count)
        .needs(QUOTA)
        .except(Tmpfs, "does not charge attributes"),
    case!(a_group_has_limits_too).needs(QUOTA),
    case!(root_passes_limits).needs(QUOTA),
    case!(a_soft_limit_holds_when_the_time_is_up).needs(QUOTA),
    case!(a_soft_limit_of_inodes_holds_when_the_time_is_up).needs(QUOTA),
    case!(enforcement_can_be_turned_off_and_on).needs(QUOTA),
];

fn a_write_ends_at_the_limit(t: &Test) -> Outcome {
    let fs = mount_for_alice(t, 10, 0)?;
    as_one(ALICE, || {
        let file = fs.create("file")?;
        let data = blocks(1, 16);
        expect_eq(
            file.try_pwrite(&data, 100).or_fail("pwrite")?,
            10 * BLOCK - 100,
            "bytes written of 16 blocks with a limit of 10",
        )?;
        expect_eq(file.size()?, 10 * BLOCK64, "size")?;
        expect_errno(
            file.try_pwrite(&data, 10 * BLOCK64),
            libc::EDQUOT,
            "a write at the limit",
        )?;
        expect_eq(file.size()?, 10 * BLOCK64, "size after it")?;
        file.truncate(7 * BLOCK64 + 1)?;
        expect_eq(
            file.try_pwrite(&data, 20 * BLOCK64).or_fail("pwrite")?,
            2 * BLOCK,
            "bytes written after two blocks were freed",
        )
    })?;
    expect_used(&fs, ALICE, (10, 1), "at the end")?;
    as_one(BOB, || fs.create_with("of-bob", &blocks(1, 20)).map(|_| ()))?;
    expect_used(&fs, BOB, (20, 1), "another user")
}

fn a_refused_write_changes_nothing_behind_it(t: &Test) -> Outcome {
    let fs = mount_for_alice(t, 6, 0)?;
    as_one(ALICE, || {
        let file = fs.create("file")?;
        let old = blocks(1, 1);
        for block in [0, 2, 4] {
            file.write_at(&old, block * BLOCK64)?;
        }
        fs.create_with("more", &blocks(2, 2))?;
        // One block is left, for the hole at 1; that at 3 stays.
        let new = blocks(3, 5);
        let n = file.try_pwrite(&new, 0).or_fail("pwrite")?;
        expect_eq(n, 3 * BLOCK, "bytes written")?;
        let mut expected = new[..3 * BLOCK].to_vec();
        expected.resize(4 * BLOCK, 0);
        expected.extend_from_slice(&old);
        file.expect_contents(&expected, "a write that ended at a hole")?;
        expect_errno(
            file.try_pwrite(&new, 3 * BLOCK64),
            libc::EDQUOT,
            "a write that begins there",
        )?;
        file.expect_contents(&expected, "afterwards")
    })?;
    expect_used(&fs, ALICE, (6, 2), "at the end")
}

fn what_is_there_can_be_overwritten_at_the_limit(t: &Test) -> Outcome {
    let fs = mount_for_alice(t, 8, 0)?;
    as_one(ALICE, || {
        let file = fs.create_with("file", &blocks(1, 8))?;
        file.write_at(&blocks(2, 8), 0)?;
        let mapping = Mapping::shared(&file, 8 * BLOCK)?;
        mapping.store(3 * BLOCK, b"stored");
        file.write_at(b"bytes", 77)?;
        fallocate(&file, 0, 0, 8 * BLOCK64).or_fail("fallocate")
    })?;
    expect_used(&fs, ALICE, (8, 1), "at the end")
}

fn every_kind_of_inode_counts(t: &Test) -> Outcome {
    let fs = mount_for_alice(t, 0, 5)?;
    as_one(ALICE, || {
        let file = fs.create("file")?;
        mkdir(fs.path("dir"), 0o755).or_fail("mkdir")?;
        symlink("file", fs.path("symlink")).or_fail("symlink")?;
        path_call!(mkfifo(fs.path("fifo"), 0o644)).or_fail("mkfifo")?;
        let nameless = File::open(&fs.root, libc::O_TMPFILE | libc::O_RDWR).or_fail("O_TMPFILE")?;
        let refused = File::open(fs.path("sixth"), libc::O_CREAT | libc::O_RDWR);
        expect_errno(refused, libc::EDQUOT, "a sixth inode, a file")?;
        expect_errno(mkdir(fs.path("sixth"), 0o755), libc::EDQUOT, "a directory")?;
        expect_errno(symlink("x", fs.path("sixth")), libc::EDQUOT, "a symlink")?;
        let refused = path_call!(mkfifo(fs.path("sixth"), 0o644));
        expect_errno(refused, libc::EDQUOT, "a FIFO")?;
        let refused = File::open(&fs.root, libc::O_TMPFILE | libc::O_RDWR);
        expect_errno(refused, libc::EDQUOT, "a file without a name")?;
        link(&file.path, fs.path("link")).or_fail("another name for a file")?;
        drop(nameless);
        mkdir(fs.path("sixth"), 0o755).or_fail("mkdir after one was closed")
    })?;
    expect_used(&fs, ALICE, (0, 5), "at the end")
}

fn an_inode_that_is_refused_leaves_nothing(t: &Test) -> Outcome {
    let fs = mount_for_alice(t, 0, 1)?;
    set_limits(&fs.root, Group, BOB, hard(0, 1)).or_fail("Q_SETQUOTA")?;
    let before = fs.space()?;
    for user in [ALICE, BOB] {
        as_one(user, || {
            let file = fs.create(&format!("of-{user}"))?;
            for _ in 0..20 {
                expect_errno(mkdir(fs.path("dir"), 0o755), libc::EDQUOT, "mkdir")?;
            }
            unlink(&file.path).or_fail("unlink")
        })?;
        // If the group's limit refuses, the user is uncharged, and the other way round.
        expect_used(&fs, user, (0, 0), "after refusals and a removal")?;
    }
    expect_eq(fs.space()?, before, "space and inodes of the instance")
}

fn fallocate_is_refused_before_it_begins(t: &Test) -> Outcome {
    let fs = mount_for_alice(t, 10, 0)?;
    as_one(ALICE, || {
        let file = fs.create("file")?;
        file.write_at(b"x", 4 * BLOCK64)?;
        for mode in [0, libc::FALLOC_FL_KEEP_SIZE] {
            expect_errno(
                fallocate(&file, mode, 0, 11 * BLOCK64),
                libc::EDQUOT,
                "11 blocks where there may be 10",
            )?;
            expect_eq(file.data_blocks()?, 1, "blocks after it")?;
            expect_eq(file.size()?, 4 * BLOCK64 + 1, "size after it")?;
        }
        fallocate(&file, 0, 1, 10 * BLOCK64 - 1).or_fail("fallocate of 10 blocks")?;
        expect_eq(file.data_blocks()?, 10, "blocks then")
    })?;
    expect_used(&fs, ALICE, (10, 1), "allocated")?;
    as_one(ALICE, || {
        let file = File::open(fs.path("file"), libc::O_RDWR).or_fail("open")?;
        let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        fallocate(&file, punch, 100, 4 * BLOCK64).or_fail("punch")
    })?;
    expect_used(&fs, ALICE, (7, 1), "punched")
}

fn fallocate_of_what_nobody_can_have_is_refused(t: &Test) -> Outcome {
    let fs = mount(t, &[("size", "0")])?;
    limit(&fs, ALICE, 1 << 30, 0)?;
    as_one(ALICE, || {
        let file = fs.create("file")?;
        for len in [i64::MAX as u64, 1 << 62, 1 << 43] {
            let refused = fallocate(&file, libc::FALLOC_FL_KEEP_SIZE, 0, len);
            expect_errno(refused, libc::EDQUOT, format_args!("fallocate of {len}"))?;
        }
        Ok(())
    })?;
    expect_used(&fs, ALICE, (0, 1), "at the end")
}

fn zeroing_a_range_keeps_its_charge(t: &Test) -> Outcome {
    let fs = mount_for_alice(t, 8, 0)?;
    as_one(ALICE, || {
        let file = fs.create_with("file", &blocks(1, 6))?;
        let zero = libc::FALLOC_FL_ZERO_RANGE;
        expect_errno(
            fallocate(&file, zero, 100, 9 * BLOCK64 - 100),
            libc::EDQUOT,
            "zeroing 9 blocks where there may be 8",
        )?;
        file.expect_contents(&blocks(1, 6), "after it")?;
        fallocate(&file, zero, 100, 8 * BLOCK64 - 100).or_fail("zeroing 8 blocks")?;
        expect_eq(file.data_blocks()?, 8, "blocks")
    })?;
    expect_used(&fs, ALICE, (8, 1), "at the end")
}

fn a_fault_at_the_limit_is_sigbus(t: &Test) -> Outcome {
    let fs = mount_for_alice(t, 4, 0)?;
    as_one(ALICE, || {
        let file = fs.create("file")?;
        file.truncate(8 * BLOCK64)?;
        let mapping = Mapping::shared(&file, 8 * BLOCK)?;
        for block in [0, 7, 3, 5] {
            mapping.store(block * BLOCK, b"x");
        }
        expect_killed(libc::SIGBUS, "a store to a fifth block", || {
            mapping.store(BLOCK, b"x")
        })?;
        if t.is_reflinkfs() {
            // tmpfs allocates a page for a hole that is read, and so cannot.
            expect_eq(mapping.load_byte(6 * BLOCK), 0, "a hole that is read")?;
        }
        expect_eq(file.data_blocks()?, 4, "blocks")?;
        fs.create("other")?;
        file.truncate(4 * BLOCK64)?;
        mapping.store(BLOCK, b"y");
        Ok(())
    })?;
    expect_used(&fs, ALICE, (3, 2), "at the end")
}

fn attributes_count(t: &Test) -> Outcome {
    let fs = mount_for_alice(t, 3, 0)?;
    as_one(ALICE, || {
        let file = fs.create("file")?;
        set_xattr(&file.path, "user.small", b"x", 0).or_fail("setxattr")
    })?;
    expect_used(&fs, ALICE, (1, 1), "a small attribute")?;
    as_one(ALICE, || {
        let path = fs.path("file");
        set_xattr(&path, "user.large", &[1; 6000], 0).or_fail("setxattr")?;
        let refused = set_xattr(&path, "user.more", &[1; 9000], 0);
        expect_errno(refused, libc::EDQUOT, "an attribute beyond the limit")?;
        let refused = set_xattr(&path, "user.large", &[1; 20000], 0);
        expect_errno(refused, libc::EDQUOT, "a larger value")?;
        set_xattr(&path, "user.large", &[2; 5000], 0).or_fail("a smaller value")
    })?;
    expect_used(&fs, ALICE, (2, 1), "a large attribute")?;
    chown(fs.path("file"), BOB, BOB).or_fail("chown")?;
    expect_used(&fs, ALICE, (0, 0), "given away")?;
    expect_used(&fs, BOB, (2, 1), "taken")?;
    unlink(fs.path("file")).or_fail("unlink")?;
    expect_used(&fs, BOB, (0, 0), "removed")
}

fn a_group_has_limits_too(t: &Test) -> Outcome {
    let fs = mount(t, &[])?;
    set_limits(&fs.root, Group, BOB, hard(4, 3)).or_fail("Q_SETQUOTA")?;
    let dir = fs.path("shared");
    mkdir(&dir, 0o777).or_fail("mkdir")?;
    chown(&dir, 0, BOB).or_fail("chown")?;
    crate::sys::chmod(&dir, 0o2777).or_fail("chmod")?;
    as_one(ALICE, || {
        // Files in a directory with the set-group-id bit belong to its group.
        let file = File::create(dir.join("file"))?;
        expect_eq(
            file.try_pwrite(&blocks(1, 5), 0).or_fail("pwrite")?,
            4 * BLOCK,
            "bytes written of 5 blocks",
        )?;
        mkdir(dir.join("dir"), 0o755).or_fail("mkdir")?;
        let refused = mkdir(dir.join("another"), 0o755);
        expect_errno(refused, libc::EDQUOT, "a fourth inode of the group")?;
        File::create_with(fs.path("own"), &blocks(1, 10)).map(|_| ())
    })?;
    let of = |kind, id| get(&fs.root, kind, id).or_fail("Q_GETQUOTA");
    let (group, user) = (of(Group, BOB)?, of(User, ALICE)?);
    expect_eq((group.space, group.inodes), (4 * BLOCK64, 3), "the group")?;
    expect_eq((user.space, user.inodes), (14 * BLOCK64, 3), "the user")
}

fn root_passes_limits(t: &Test) -> Outcome {
    let fs = mount_for_alice(t, 4, 1)?;
    as_one(ALICE, || fs.create_with("file", &blocks(1, 4)).map(|_| ()))?;
    let file = File::open(fs.path("file"), libc::O_RDWR).or_fail("open")?;
    file.write_at(&blocks(2, 8), 0)?;
    drop(fs.create("another")?);
    chown(fs.path("another"), ALICE, ALICE).or_fail("chown")?;
    expect_used(&fs, ALICE, (8, 2), "beyond both limits")?;
    as_one(ALICE, || {
        let file = File::open(fs.path("file"), libc::O_RDWR).or_fail("open")?;
        file.write_at(&blocks(3, 8), 0)?;
        expect_errno(
            file.try_pwrite(b"x", 8 * BLOCK64),
            libc::EDQUOT,
            "another block",
        )?;
        file.truncate(5 * BLOCK64)?;
        expect_errno(
            file.try_pwrite(b"x", 8 * BLOCK64),
            libc::EDQUOT,
            "a block while there are still too many",
        )
    })?;
    expect_used(&fs, ALICE, (5, 2), "at the end")
}

const PAST: u64 = 1;

fn soft(blocks: u64, inodes: u64) -> Quota {
    Quota {
        space_soft: blocks * BLOCK64 / 1024,
        inodes_soft: inodes,
        ..Quota::default()
    }
}

fn a_soft_limit_holds_when_the_time_is_up(t: &Test) -> Outcome {
    let fs = mount(t, &[])?;
    // tmpfs forgets the soft limits of users without files.
    as_one(ALICE, || fs.create("file").map(|_| ()))?;
    set_limits(&fs.root, User, ALICE, soft(4, 0)).or_fail("Q_SETQUOTA")?;
    set_grace(&fs.root, User, 1000, 2000).or_fail("Q_SETINFO")?;
    let times = || -> Outcome<(u64, u64)> {
        let quota = get(&fs.root, User, ALICE).or_fail("Q_GETQUOTA")?;
        Ok((quota.space_time, quota.inodes_time))
    };
    let write = |at: u64, count: usize| {
        as_one(ALICE, || {
            let file = File::open(fs.path("file"), libc::O_RDWR | libc::O_CREAT).or_fail("open")?;
            file.write_at(&blocks(1, count), at * BLOCK64)
        })
    };
    write(0, 4)?;
    expect_eq(times()?, (0, 0), "times up to the soft limit")?;
    write(4, 4)?;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .or_fail("the time")?
        .as_secs();
    let (space, inodes) = times()?;
    expect(
        (now + 900..=now + 1001).contains(&space) && inodes == 0,
        format_args!("at {now}, 1000 seconds from now: {space}, {inodes}"),
    )?;
    set_times(&fs.root, User, ALICE, PAST, 0).or_fail("Q_SETQUOTA")?;
    as_one(ALICE, || {
        let file = File::open(fs.path("file"), libc::O_RDWR).or_fail("open")?;
        let refused = file.try_pwrite(b"x", 8 * BLOCK64);
        expect_errno(refused, libc::EDQUOT, "a block when the time is up")?;
        file.write_at(&blocks(2, 8), 0)?;
        file.truncate(5 * BLOCK64)?;
        let refused = file.try_pwrite(b"x", 8 * BLOCK64);
        expect_errno(refused, libc::EDQUOT, "a block while over it")?;
        file.truncate(4 * BLOCK64)
    })?;
    expect_eq(times()?, (0, 0), "times at the soft limit again")?;
    write(4, 2)?;
    expect(times()?.0 > now, "the time starts again")
}

fn a_soft_limit_of_inodes_holds_when_the_time_is_up(t: &Test) -> Outcome {
    let fs = mount(t, &[])?;
    as_one(ALICE, || mkdir(fs.path("1"), 0o755).or_fail("mkdir"))?;
    set_limits(&fs.root, User, ALICE, soft(0, 2)).or_fail("Q_SETQUOTA")?;
    as_one(ALICE, || {
        for name in ["2", "3"] {
            mkdir(fs.path(name), 0o755).or_fail("mkdir")?;
        }
        Ok(())
    })?;
    set_times(&fs.root, User, ALICE, 0, PAST).or_fail("Q_SETQUOTA")?;
    as_one(ALICE, || {
        expect_errno(mkdir(fs.path("4"), 0o755), libc::EDQUOT, "a fourth")?;
        crate::sys::rmdir(fs.path("3")).or_fail("rmdir")?;
        mkdir(fs.path("4"), 0o755).or_fail("mkdir after one was removed")
    })
}

fn enforcement_can_be_turned_off_and_on(t: &Test) -> Outcome {
    let fs = mount_for_alice(t, 2, 0)?;
    as_one(ALICE, || {
        let refused = quotactl(&fs.root, Q_QUOTAOFF, User, 0, &mut 0u32);
        expect_one_of(refused, &[libc::EPERM], "turning quotas off as a user")
    })?;
    quotactl(&fs.root, Q_QUOTAOFF, User, 0, &mut 0u32).or_fail("Q_QUOTAOFF")?;
    as_one(ALICE, || fs.create_with("file", &blocks(1, 5)).map(|_| ()))?;
    expect_used(&fs, ALICE, (5, 1), "without enforcement")?;
    quotactl(&fs.root, Q_QUOTAON, User, 0, &mut 0u32).or_fail("Q_QUOTAON")?;
    as_one(ALICE, || {
        let file = File::open(fs.path("file"), libc::O_RDWR).or_fail("open")?;
        expect_errno(
            file.try_pwrite(b"x", 5 * BLOCK64),
            libc::EDQUOT,
            "with enforcement",
        )
    })
}
