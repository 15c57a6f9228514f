// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Charges: always those of a user's files, and zero when they are gone.

use std::path::Path;

use crate::case::{case, worker, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Errno, Outcome};
use crate::filesystem::{Tmpfs, QUOTA};
use crate::instance::Instance;
use crate::mapping::Mapping;
use crate::pattern::{blocks, Random, BLOCK, BLOCK64};
use crate::process::Child;
use crate::quota::{
    as_one, expect_charged, expect_used, get, get_next, hard, limit, mount, mount_for_alice,
    set_limits, used, Group, Quota, User, ALICE, BOB,
};
use crate::sys::{chown, clone_file, mkdir, rename, sleep_ms, unlink, File};
use crate::tests::fallocate::fallocate;
use crate::wait::eventually;

pub const CASES: &[Case] = &[
    case!(what_is_charged_is_st_blocks).needs(QUOTA),
    case!(an_unlinked_open_file_is_charged).needs(QUOTA),
    case!(a_file_without_a_name_is_charged).needs(QUOTA),
    case!(a_replaced_file_is_given_back).needs(QUOTA),
    case!(ids_are_listed_in_order).needs(QUOTA),
    case!(whoever_has_nothing_is_forgotten).needs(QUOTA),
    case!(limits_outlive_what_they_limit).needs(QUOTA),
    case!(soft_and_lifted_limits_outlive_it_too)
        .needs(QUOTA)
        .except(Tmpfs, "forgets them with the last inode"),
    case!(quotas_go_with_the_mount).needs(QUOTA),
    case!(only_an_administrator_sees_and_sets_others).needs(QUOTA),
    case!(racing_users_are_charged_exactly).needs(QUOTA),
    case!(owners_change_while_others_write).needs(QUOTA),
];

fn what_is_charged_is_st_blocks(t: &Test) -> Outcome {
    let fs = mount(t, &[])?;
    as_one(ALICE, || {
        let file = fs.create("file")?;
        let mapping = || Mapping::shared(&file, 8 * BLOCK);
        let steps: [(&str, &dyn Fn() -> Outcome); 6] = [
            ("a byte", &|| file.write_at(b"x", 0)),
            ("a byte far away", &|| file.write_at(b"x", 1 << 40)),
            ("bytes across a boundary", &|| {
                file.write_at(&[1; 9000], 5000)
            }),
            ("stores", &|| {
                let mapping = mapping()?;
                mapping.store(6 * BLOCK, b"x");
                mapping.store(7 * BLOCK, b"x");
                mapping.store(0, b"x");
                Ok(())
            }),
            ("a truncation", &|| file.truncate(7 * BLOCK64 + 1)),
            ("a longer file", &|| file.truncate(1 << 41)),
        ];
        for (what, step) in steps {
            step()?;
            let blocks = file.data_blocks()?;
            expect_used(&fs, ALICE, (blocks, 1), what)?;
        }
        file.truncate(0)
    })?;
    expect_used(&fs, ALICE, (0, 1), "an empty file")?;
    as_one(ALICE, || {
        drop(File::create_with(fs.path("file"), &blocks(1, 7))?);
        // O_TRUNC.
        drop(File::create(fs.path("file"))?);
        mkdir(fs.path("dir"), 0o755).or_fail("mkdir")
    })?;
    expect_used(
        &fs,
        ALICE,
        (0, 2),
        "a file opened with O_TRUNC, a directory",
    )
}

fn an_unlinked_open_file_is_charged(t: &Test) -> Outcome {
    let fs = mount_for_alice(t, 5, 0)?;
    as_one(ALICE, || {
        let file = fs.create_with("file", &blocks(1, 5))?;
        unlink(&file.path).or_fail("unlink")?;
        expect_used(&fs, ALICE, (5, 1), "while it is open")?;
        let mapping = Mapping::shared(&file, 5 * BLOCK)?;
        drop(file);
        let more = fs.create("more")?;
        let refused = more.try_pwrite(b"x", 0);
        expect_errno(refused, libc::EDQUOT, "a block while the file is mapped")?;
        drop(mapping);
        more.write_at(b"x", 0)
    })?;
    expect_used(&fs, ALICE, (1, 1), "at the end")
}

fn a_file_without_a_name_is_charged(t: &Test) -> Outcome {
    let fs = mount(t, &[])?;
    as_one(ALICE, || {
        let file = File::open(&fs.root, libc::O_TMPFILE | libc::O_RDWR).or_fail("O_TMPFILE")?;
        file.write_at(&blocks(1, 4), 0)?;
        expect_used(&fs, ALICE, (4, 1), "while it is open")
    })?;
    expect_used(&fs, ALICE, (0, 0), "at the end")
}

fn a_replaced_file_is_given_back(t: &Test) -> Outcome {
    let fs = mount(t, &[])?;
    as_one(ALICE, || {
        fs.create_with("old", &blocks(1, 6))?;
        fs.create_with("new", &blocks(2, 2))?;
        rename(fs.path("new"), fs.path("old")).or_fail("rename")
    })?;
    expect_used(&fs, ALICE, (2, 1), "at the end")
}

/// Returns all ids of users with any usage or limits.
fn ids(fs: &Instance) -> Outcome<Vec<u32>> {
    let (mut ids, mut next) = (Vec::new(), 0);
    loop {
        match get_next(&fs.root, User, next) {
            Ok(quota) => {
                ids.push(quota.id);
                next = quota.id + 1;
            }
            Err(Errno(libc::ENOENT)) => return Ok(ids),
            Err(error) => return Err(error).or_fail(format_args!("Q_GETNEXTQUOTA from {next}")),
        }
    }
}

fn ids_are_listed_in_order(t: &Test) -> Outcome {
    let fs = mount(t, &[])?;
    for user in [4_000_000_000, 7, 3000, 5, 70000] {
        let file = fs.create_with(&format!("{user}"), &blocks(1, 2))?;
        chown(&file.path, user, 0).or_fail("chown")?;
    }
    expect_eq(ids(&fs)?, vec![0, 5, 7, 3000, 70000, 4_000_000_000], "ids")?;
    let quota = get_next(&fs.root, User, 8).or_fail("Q_GETNEXTQUOTA")?;
    expect_eq(
        (quota.id, quota.space, quota.inodes),
        (3000, 2 * BLOCK64, 1),
        "the next after 7",
    )
}

fn whoever_has_nothing_is_forgotten(t: &Test) -> Outcome {
    let fs = mount(t, &[])?;
    for user in 2000..2050 {
        as_one(user, || {
            let file = fs.create_with("file", &blocks(1, 2))?;
            unlink(&file.path).or_fail("unlink")
        })?;
        // A query creates a structure for a user, too.
        get(&fs.root, User, user + 1000).or_fail("Q_GETQUOTA")?;
    }
    eventually("users without files are forgotten", || Ok(ids(&fs)? == [0]))
}

/// Lets the kernel drop the structures of users without files. It counts so coarsely that it begins
/// only when there are many.
fn drop_caches(fs: &Instance) -> Outcome {
    for id in 1_000_000..1_001_000 {
        get(&fs.root, User, id).or_fail("Q_GETQUOTA")?;
    }
    for _ in 0..3 {
        sleep_ms(50);
        std::fs::write("/proc/sys/vm/drop_caches", "2").or_fail("drop_caches")?;
    }
    Ok(())
}

fn limits_outlive_what_they_limit(t: &Test) -> Outcome {
    let fs = mount_for_alice(t, 3, 2)?;
    set_limits(&fs.root, Group, BOB, hard(7, 0)).or_fail("Q_SETQUOTA")?;
    as_one(ALICE, || {
        let file = fs.create_with("file", &blocks(1, 3))?;
        unlink(&file.path).or_fail("unlink")
    })?;
    drop_caches(&fs)?;
    let limits = |quota: Quota| (quota.space_hard, quota.inodes_hard, quota.space);
    let quota = get(&fs.root, User, ALICE).or_fail("Q_GETQUOTA")?;
    expect_eq(limits(quota), (12, 2, 0), "the limits of a user")?;
    let quota = get(&fs.root, Group, BOB).or_fail("Q_GETQUOTA")?;
    expect_eq(limits(quota), (28, 0, 0), "the limits of a group")?;
    eventually("no others are known", || Ok(ids(&fs)? == [0, ALICE]))
}

fn soft_and_lifted_limits_outlive_it_too(t: &Test) -> Outcome {
    let fs = mount(t, &[("usrquota_block_hardlimit", "16k")])?;
    let soft = Quota {
        space_soft: 8,
        inodes_soft: 3,
        ..hard(4, 0)
    };
    set_limits(&fs.root, User, ALICE, soft).or_fail("Q_SETQUOTA")?;
    limit(&fs, BOB, 0, 0)?;
    drop_caches(&fs)?;
    let alice = get(&fs.root, User, ALICE).or_fail("Q_GETQUOTA")?;
    expect_eq((alice.space_soft, alice.inodes_soft), (8, 3), "soft limits")?;
    as_one(BOB, || fs.create_with("file", &blocks(1, 9)).map(|_| ()))
}

fn quotas_go_with_the_mount(t: &Test) -> Outcome {
    for round in 0..t.rounds(20) {
        let fs = t.mount_at(&format!("{round}"), &[("quota", "")])?;
        limit(&fs, ALICE, 3, 2)?;
        for i in 0..50 {
            let file = fs.create_with(&format!("{i}"), &blocks(1, 3))?;
            chown(&file.path, ALICE + i, BOB + i).or_fail("chown")?;
        }
        fs.unmount()?;
    }
    let fs = t.mount_at("last", &[("quota", "")])?;
    let quota = get(&fs.root, User, ALICE).or_fail("Q_GETQUOTA")?;
    expect_eq((quota.space_hard, quota.space), (0, 0), "a new mount")?;
    fs.unmount()
}

fn only_an_administrator_sees_and_sets_others(t: &Test) -> Outcome {
    let fs = mount_for_alice(t, 3, 2)?;
    as_one(ALICE, || {
        expect_eq(used(&fs, User, ALICE)?, (0, 0), "one's own")?;
        expect_errno(get(&fs.root, User, BOB), libc::EPERM, "another's")?;
        expect_errno(get_next(&fs.root, User, 0), libc::EPERM, "the next")?;
        let refused = set_limits(&fs.root, User, ALICE, hard(9, 9));
        expect_errno(refused, libc::EPERM, "to set one's own")
    })
}

fn open_shared(root: &Path, name: &str) -> Outcome<File> {
    let path = root.join(name);
    let file = File::open_mode(&path, libc::O_RDWR | libc::O_CREAT, 0o666).or_fail("open")?;
    // The mask may have removed others' permissions, and only the owner can restore them.
    let _ = crate::sys::chmod(&path, 0o666);
    Ok(file)
}

/// Makes one random change to one of a few files, as the calling user.
fn change(root: &Path, clones: bool, random: &mut Random) -> Outcome {
    let name = |n: usize| format!("{n}");
    let file = open_shared(root, &name(random.below(6)))?;
    let (at, count) = (random.below(60) as u64 * BLOCK64, 1 + random.below(20));
    let result = match random.below(8) {
        0 | 1 => file.try_pwrite(&blocks(1, count), at + 5).map(|_| ()),
        2 => file.try_truncate(at / 2 + 100),
        3 | 4 => {
            let from = open_shared(root, &name(random.below(6)))?;
            clone_file(&from, &file)
        }
        5 => fallocate(&file, 0, at, count as u64 * BLOCK64),
        6 => {
            let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            fallocate(&file, punch, at, count as u64 * BLOCK64)
        }
        _ => unlink(&file.path),
    };
    match result {
        Err(Errno(libc::EOPNOTSUPP)) if !clones => Ok(()),
        // Of a file with itself, of a user who is not the owner, without room or quota.
        Ok(())
        | Err(Errno(
            libc::EDQUOT | libc::ENOSPC | libc::EINVAL | libc::EPERM | libc::EACCES | libc::ENOENT,
        )) => Ok(()),
        Err(error) => Err(error).or_fail("a random change"),
    }
}

fn racing_users_are_charged_exactly(t: &Test) -> Outcome {
    let fs = mount_for_alice(t, 150, 3)?;
    // Without the sticky bit every user may remove every file.
    crate::sys::chmod(&fs.root, 0o777).or_fail("chmod")?;
    let users = [ALICE, BOB, BOB + 1, BOB + 2];
    let deadline = std::time::Instant::now() + t.settings.race;
    let (clones, mut children) = (t.filesystem.can_share(), Vec::new());
    for user in users {
        let (root, seed) = (fs.root.clone(), t.settings.seed);
        children.push(Child::spawn(move || {
            as_one(user, || {
                let mut random = Random::new(seed + u64::from(user));
                while std::time::Instant::now() < deadline {
                    match change(&root, clones, &mut random) {
                        // Creating fails at the limit, or the file is another user's.
                        Err(why) if !why.0.contains("open: ") => return Err(why),
                        _ => (),
                    }
                }
                Ok(())
            })
        })?);
    }
    for child in children {
        child.join()?;
    }
    for user in users {
        expect_charged(&fs, user)?;
    }
    expect(
        used(&fs, User, ALICE)? <= (150, 3),
        "Alice has no more than her limit",
    )?;
    for entry in std::fs::read_dir(&fs.root).or_fail("readdir")? {
        unlink(entry.or_fail("readdir")?.path()).or_fail("unlink")?;
    }
    for user in users {
        expect_used(&fs, user, (0, 0), "when everything is removed")?;
    }
    expect_eq(fs.used()?, 0, "blocks in use")
}

fn owners_change_while_others_write(t: &Test) -> Outcome {
    let fs = mount(t, &[])?;
    let file = fs.create("file")?;
    file.truncate(64 * BLOCK64)?;
    let mapping = Mapping::shared(&file, 64 * BLOCK)?;
    let (mut block, mut owner) = (0, 0);
    t.race(vec![
        worker("stores", || {
            mapping.store(block * BLOCK, b"x");
            block = (block + 7) % 64;
            Ok(())
        }),
        worker("punches", || {
            let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            fallocate(&file, punch, 0, 50 * BLOCK64).or_fail("punch")
        }),
        worker("writes", || file.write_at(&blocks(1, 30), 20 * BLOCK64)),
        worker("owners", || {
            owner = (owner + 1) % 5;
            chown(&file.path, ALICE + owner, ALICE + owner).or_fail("chown")
        }),
    ])?;
    let (last, blocks) = (ALICE + owner, file.data_blocks()?);
    for user in ALICE..ALICE + 5 {
        let expected = if user == last { (blocks, 1) } else { (0, 0) };
        expect_used(&fs, user, expected, "after the race")?;
    }
    Ok(())
}
