// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Mount options for quotas: their effects, how they are shown, and that remounting cannot change
//! them.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Errno, Failure, Outcome};
use crate::filesystem::{Tmpfs, QUOTA};
use crate::instance::{shown_options, Configuration, Instance};
use crate::pattern::{blocks, BLOCK};
use crate::quota::{
    as_one, expect_used, format, get, info, limit, mount, Group, Info, User, ALICE, BOB,
};
use crate::sys::{chown, mkdir};

pub const CASES: &[Case] = &[
    case!(options_are_shown).needs(QUOTA),
    case!(one_kind_alone_can_be_on).needs(QUOTA),
    case!(without_quotas_there_is_nothing).needs(QUOTA),
    case!(a_mount_says_what_it_keeps).needs(QUOTA),
    case!(limits_of_a_mount_are_everybodys).needs(QUOTA),
    case!(limits_of_ones_own_come_first).needs(QUOTA),
    case!(the_owner_of_the_root_is_charged_for_it)
        .needs(QUOTA)
        .except(Tmpfs, "charges the mounting user"),
    case!(bad_values_are_refused).needs(QUOTA),
    case!(remounting_cannot_turn_them_on).needs(QUOTA),
    case!(remounting_cannot_change_limits).needs(QUOTA),
    case!(a_namespace_of_ones_own_has_none).needs(QUOTA),
];

const LIMITS: [(&str, &str); 4] = [
    ("usrquota_block_hardlimit", "1048576"),
    ("grpquota_block_hardlimit", "2097152"),
    ("usrquota_inode_hardlimit", "100"),
    ("grpquota_inode_hardlimit", "200"),
];

/// Returns the options for quotas that are shown.
fn shown(fs: &Instance) -> Outcome<Vec<String>> {
    let mut options = shown_options(&fs.root)?;
    options.retain(|option| option.contains("quota"));
    Ok(options)
}

fn options_are_shown(t: &Test) -> Outcome {
    let mut options = vec![("quota", "")];
    options.extend(LIMITS);
    let fs = t.mount(&options)?;
    let mut expected = vec!["usrquota".to_string(), "grpquota".to_string()];
    expected.extend(LIMITS.map(|(name, value)| format!("{name}={value}")));
    expect_eq(shown(&fs)?, expected, "the options shown")?;
    let suffixes = [("usrquota", ""), ("usrquota_block_hardlimit", "1m")];
    let fs = t.mount_at("suffixes", &suffixes)?;
    expect_eq(
        shown(&fs)?,
        vec!["usrquota", "usrquota_block_hardlimit=1048576"],
        "the option shown for a number with a suffix",
    )
}

fn one_kind_alone_can_be_on(t: &Test) -> Outcome {
    for (name, on, off) in [("usrquota", User, Group), ("grpquota", Group, User)] {
        let fs = t.mount_at(name, &[(name, "")])?;
        expect_eq(shown(&fs)?, vec![name], "the options shown")?;
        let file = fs.create_with("file", &blocks(1, 3))?;
        chown(&file.path, ALICE, ALICE).or_fail("chown")?;
        let quota = get(&fs.root, on, ALICE).or_fail("Q_GETQUOTA")?;
        expect_eq(quota.space, 3 * BLOCK as u64, "the charge")?;
        let none = get(&fs.root, off, ALICE);
        expect_errno(none, libc::ESRCH, format_args!("{off:?} with {name}"))?;
    }
    Ok(())
}

fn without_quotas_there_is_nothing(t: &Test) -> Outcome {
    // Limits alone do not enable quotas.
    let fs = t.mount(&LIMITS)?;
    expect_eq(shown(&fs)?, Vec::<String>::new(), "the options shown")?;
    expect_errno(get(&fs.root, User, 0), libc::ENOSYS, "Q_GETQUOTA")?;
    as_one(ALICE, || {
        fs.create_with("file", &blocks(1, 300)).map(|_| ())
    })?;
    fs.unmount()
}

fn a_mount_says_what_it_keeps(t: &Test) -> Outcome {
    let fs = mount(t, &[])?;
    for kind in [User, Group] {
        let Info {
            space_grace,
            inodes_grace,
            flags,
            ..
        } = info(&fs.root, kind).or_fail("Q_GETINFO")?;
        const WEEK: u64 = 7 * 24 * 3600;
        const DQF_SYS_FILE: u32 = 1 << 16;
        expect_eq(
            (space_grace, inodes_grace, flags),
            (WEEK, WEEK, DQF_SYS_FILE),
            "grace times, flags",
        )?;
        let format = format(&fs.root, kind).or_fail("Q_GETFMT")?;
        let expected = if t.is_reflinkfs() { 0x7265_666c } else { 5 };
        expect_eq(format, expected, "format")?;
    }
    Ok(())
}

fn limits_of_a_mount_are_everybodys(t: &Test) -> Outcome {
    let limits = [
        ("usrquota_block_hardlimit", "32k"),
        ("usrquota_inode_hardlimit", "2"),
        ("grpquota_block_hardlimit", "20k"),
    ];
    let fs = mount(t, &limits)?;
    for user in [ALICE, BOB] {
        as_one(user, || {
            let file = fs.create(&format!("of-{user}"))?;
            let n = file.try_pwrite(&blocks(1, 9), 0).or_fail("pwrite")?;
            expect_eq(n, 5 * BLOCK, "bytes with a limit of 20k for the group")?;
            mkdir(fs.path(&format!("dir-{user}")), 0o755).or_fail("mkdir")?;
            expect_errno(mkdir(fs.path("dir"), 0o755), libc::EDQUOT, "a third inode")
        })?;
    }
    let quota = get(&fs.root, User, ALICE).or_fail("Q_GETQUOTA")?;
    expect_eq(
        (quota.space_hard, quota.inodes_hard),
        (32, 2),
        "hard limits of a user",
    )?;
    let quota = get(&fs.root, Group, 12345).or_fail("Q_GETQUOTA")?;
    expect_eq(
        (quota.space_hard, quota.inodes_hard, quota.inodes),
        (20, 0, 0),
        "hard limits of a group that has nothing",
    )
}

fn limits_of_ones_own_come_first(t: &Test) -> Outcome {
    let fs = mount(t, &[("usrquota_block_hardlimit", "8k")])?;
    limit(&fs, ALICE, 4, 0)?;
    as_one(ALICE, || {
        let file = fs.create("file")?;
        let n = file.try_pwrite(&blocks(1, 9), 0).or_fail("pwrite")?;
        expect_eq(n, 4 * BLOCK, "bytes with a limit of one's own of 4 blocks")
    })?;
    limit(&fs, BOB, 0, 0)?;
    as_one(BOB, || fs.create_with("other", &blocks(1, 9)).map(|_| ()))
}

fn the_owner_of_the_root_is_charged_for_it(t: &Test) -> Outcome {
    let fs = mount(t, &[("uid", "1000"), ("gid", "1000")])?;
    expect_used(&fs, ALICE, (0, 1), "the owner of the root")?;
    expect_used(&fs, 0, (0, 0), "the mounting user")
}

fn bad_values_are_refused(t: &Test) -> Outcome {
    for (key, value) in [
        ("quota", "on"),
        ("usrquota", "1"),
        ("grpquota", "aquota.group"),
        ("usrquota_block_hardlimit", "0"),
        ("usrquota_block_hardlimit", "-1k"),
        ("usrquota_block_hardlimit", "1MB"),
        ("usrquota_block_hardlimit", "9223372036854775808"),
        ("grpquota_block_hardlimit", "10%"),
        ("grpquota_block_hardlimit", "0x8000000000000000"),
        ("usrquota_inode_hardlimit", "many"),
        ("usrquota_inode_hardlimit", "8E"),
        ("grpquota_inode_hardlimit", "0"),
    ] {
        let new = Configuration::open(t.filesystem.name()).or_fail("fsopen")?;
        let refused = new.set(key, value);
        expect_errno(refused, libc::EINVAL, format_args!("{key}={value}"))?;
        let log = new.log();
        expect(
            log.contains(key) || log.contains("hardlimit too large."),
            format_args!("{key}={value} is named in: {log}"),
        )?;
    }
    Ok(())
}

#[track_caller]
fn expect_refused(fs: &Instance, options: &[(&str, &str)], why: &str) -> Outcome {
    match fs.reconfigure(options) {
        Err((Errno(libc::EINVAL), log)) => expect(
            log.contains(why),
            format_args!("{options:?}: {why:?} in {log:?}"),
        ),
        other => Err(Failure::new(format_args!("{options:?}: {other:?}"))),
    }
}

#[track_caller]
fn expect_taken(fs: &Instance, options: &[(&str, &str)]) -> Outcome {
    fs.reconfigure(options)
        .map_err(|(error, log)| format!("{error}: {log}"))
        .or_fail(format_args!("remounting with {options:?}"))
}

fn remounting_cannot_turn_them_on(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    for option in ["quota", "usrquota", "grpquota"] {
        let options = [("size", "2M"), (option, "")];
        expect_refused(&fs, &options, "Cannot enable quota on remount")?;
    }
    expect_eq(fs.space()?.blocks, 256, "blocks: nothing changed")?;
    let fs = t.mount_at("one", &[("usrquota", "")])?;
    expect_taken(&fs, &[("quota", "")])?;
    expect_eq(shown(&fs)?, vec!["usrquota"], "the enabled quotas")
}

fn remounting_cannot_change_limits(t: &Test) -> Outcome {
    const WHY: &str = "Cannot change global quota limit on remount";
    let mut options = vec![("quota", ""), ("size", "1M")];
    options.extend(&LIMITS[1..]);
    let fs = t.mount(&options)?;
    let before = shown(&fs)?;
    for (name, _) in LIMITS {
        expect_refused(&fs, &[("size", "2M"), (name, "4096")], WHY)?;
    }
    expect_eq(fs.space()?.blocks, 256, "blocks: nothing changed")?;
    // As mount(8) passes them again.
    options[1] = ("size", "2M");
    expect_taken(&fs, &options)?;
    expect_eq(fs.space()?.blocks, 512, "blocks of 2M")?;
    expect_taken(&fs, &[("size", "3M")])?;
    expect_eq(shown(&fs)?, before, "the options shown")?;
    let none = t.mount_at("none", &[])?;
    expect_refused(&none, &LIMITS[..1], WHY)
}

fn a_namespace_of_ones_own_has_none(t: &Test) -> Outcome {
    let dir = t.elsewhere.join("mount-point");
    mkdir(&dir, 0o755).or_fail("mkdir")?;
    crate::sys::chmod(&t.elsewhere, 0o755).or_fail("chmod")?;
    let script = "for o in quota usrquota grpquota; do ! mount -t $1 -o $o none $2 2>/dev/null
                  done; mount -t $1 none $2; ! mount -o remount,quota $2 2>/dev/null; echo done";
    let output = Command::new("unshare")
        .args(["-Urm", "sh", "-ec", script, "sh", t.filesystem.name()])
        .arg(&dir)
        .uid(ALICE)
        .gid(ALICE)
        .output()
        .or_fail("unshare")?;
    expect_eq(
        String::from_utf8_lossy(&output.stdout).as_ref(),
        "done\n",
        format_args!("{}", String::from_utf8_lossy(&output.stderr)),
    )
}
