// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Mount options: their effects, and how they are shown.

use std::path::PathBuf;

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::INSTANCE;
use crate::instance::{mount, shown_options, Instance};
use crate::memory;
use crate::pattern::{blocks, BLOCK64};
use crate::process::{as_user, run_program, End};
use crate::sys::{chmod, chown, lstat, mkdir, path_call, unlink, File};

pub const CASES: &[Case] = &[
    case!(a_mount_without_options_works).needs(INSTANCE),
    case!(size_takes_bytes_and_suffixes).needs(INSTANCE),
    case!(size_is_rounded_up_to_blocks).needs(INSTANCE),
    case!(size_takes_a_percentage_of_memory).needs(INSTANCE),
    case!(a_size_of_zero_is_no_limit).needs(INSTANCE),
    case!(nr_inodes_bounds_files_of_every_kind).needs(INSTANCE),
    case!(nr_inodes_takes_suffixes_and_zero).needs(INSTANCE),
    case!(mode_uid_and_gid_are_the_roots).needs(INSTANCE),
    case!(the_root_is_writable_by_whom_it_is_given).needs(INSTANCE),
    case!(options_are_shown_in_proc_mounts).needs(INSTANCE),
    case!(shown_options_mount_the_same_again).needs(INSTANCE),
    case!(defaults_are_not_shown_as_options).needs(INSTANCE),
    case!(the_old_mount_call_takes_the_same_options).needs(INSTANCE),
    case!(the_last_of_repeated_options_counts).needs(INSTANCE),
    case!(no_program_runs_on_a_mount_without_execution).needs(INSTANCE),
    case!(a_mount_without_set_user_programs_changes_no_user).needs(INSTANCE),
    case!(a_mount_without_devices_opens_none).needs(INSTANCE),
    case!(a_mount_without_access_times_keeps_them).needs(INSTANCE),
];

fn a_mount_without_options_works(t: &Test) -> Outcome {
    let fs = t.mount(&[])?;
    let space = fs.space()?;
    expect(
        space.blocks > 0 && space.inodes > 0,
        format_args!("it has room: {space:?}"),
    )?;
    expect_eq(
        space.free,
        space.blocks,
        "free blocks of an empty filesystem",
    )?;
    fs.create_with("file", b"data")?
        .expect_contents(b"data", "a file in it")?;
    let root = lstat(&fs.root).or_fail("lstat")?;
    expect_eq(root.st_mode, libc::S_IFDIR | 0o1777, "mode of the root")?;
    expect_eq(root.st_nlink, 2, "links of the root")?;
    unlink(fs.path("file")).or_fail("unlink")?;
    fs.unmount()
}

fn size_takes_bytes_and_suffixes(t: &Test) -> Outcome {
    for (size, blocks) in [
        ("65536", 16),
        ("64k", 16),
        ("64K", 16),
        ("8m", 2048),
        ("8M", 2048),
        ("1g", 262_144),
        ("0x10000", 16),
    ] {
        let fs = t.mount(&[("size", size)])?;
        let space = fs.space()?;
        expect_eq(
            (space.blocks, space.free),
            (blocks, blocks),
            format_args!("size={size}"),
        )?;
        fs.unmount()?;
        crate::sys::rmdir(t.elsewhere.join("instance")).or_fail("rmdir")?;
    }
    Ok(())
}

fn size_is_rounded_up_to_blocks(t: &Test) -> Outcome {
    for (size, blocks) in [("1", 1), ("4096", 1), ("4097", 2), ("10000", 3)] {
        let fs = t.mount_at(&format!("size-{size}"), &[("size", size)])?;
        expect_eq(
            fs.space()?.blocks,
            blocks,
            format_args!("blocks with size={size}"),
        )?;
    }
    Ok(())
}

fn size_takes_a_percentage_of_memory(t: &Test) -> Outcome {
    let memory = memory::total()? / BLOCK64;
    for percent in [1, 25, 50, 100] {
        let option = format!("{percent}%");
        let fs = t.mount_at(&format!("percent-{percent}"), &[("size", &option)])?;
        let blocks = fs.space()?.blocks;
        let expected = memory * percent / 100;
        expect(
            blocks.abs_diff(expected) <= memory / 500 + 1,
            format_args!("size={option} gives {blocks} blocks, about {expected} are that"),
        )?;
    }
    let default = t.mount(&[])?.space()?.blocks;
    expect(
        default.abs_diff(memory / 2) <= memory / 500 + 1,
        format_args!("{default} blocks without size=, of {memory} pages: half of memory"),
    )
}

fn a_size_of_zero_is_no_limit(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "0")])?;
    let space = fs.space()?;
    expect_eq(
        (space.blocks, space.free),
        (0, 0),
        "f_blocks and f_bfree without a limit",
    )?;
    fs.create_with("file", &blocks(1, 50))?
        .expect_contents(&blocks(1, 50), "a file in it")
}

fn nr_inodes_bounds_files_of_every_kind(t: &Test) -> Outcome {
    let fs = t.mount(&[("nr_inodes", "5"), ("size", "1M")])?;
    let space = fs.space()?;
    expect_eq(
        (space.inodes, space.free_inodes),
        (5, 4),
        "inodes and free ones: the root is one",
    )?;
    fs.create("file")?;
    mkdir(fs.path("dir"), 0o755).or_fail("mkdir")?;
    crate::sys::symlink("file", fs.path("symlink")).or_fail("symlink")?;
    fs.create("second")?;
    expect_eq(fs.space()?.free_inodes, 0, "free inodes after four files")?;
    let flags = libc::O_RDWR | libc::O_CREAT;
    expect_errno(
        File::open(fs.path("x"), flags),
        libc::ENOSPC,
        "a fifth file",
    )?;
    expect_errno(
        mkdir(fs.path("x"), 0o755),
        libc::ENOSPC,
        "a fifth directory",
    )?;
    expect_errno(
        crate::sys::symlink("y", fs.path("x")),
        libc::ENOSPC,
        "a fifth symlink",
    )?;
    unlink(fs.path("symlink")).or_fail("unlink")?;
    expect_eq(
        fs.space()?.free_inodes,
        1,
        "free inodes after one was removed",
    )?;
    let open = fs.create("again")?;
    unlink(fs.path("again")).or_fail("unlink")?;
    expect_eq(
        fs.space()?.free_inodes,
        0,
        "free inodes while an unlinked file is open",
    )?;
    drop(open);
    expect_eq(
        fs.space()?.free_inodes,
        1,
        "free inodes after it was closed",
    )
}

fn nr_inodes_takes_suffixes_and_zero(t: &Test) -> Outcome {
    let fs = t.mount_at("one", &[("nr_inodes", "2k")])?;
    expect_eq(fs.space()?.inodes, 2048, "inodes with nr_inodes=2k")?;
    let fs = t.mount_at("other", &[("nr_inodes", "0")])?;
    for i in 0..50 {
        fs.create(&format!("{i}"))?;
    }
    expect_eq(fs.space()?.inodes, 0, "f_files without a limit")
}

fn mode_uid_and_gid_are_the_roots(t: &Test) -> Outcome {
    for (i, (mode, expected)) in [
        ("700", 0o700),
        ("0755", 0o755),
        ("1777", 0o1777),
        ("7777", 0o7777),
        ("0", 0),
    ]
    .iter()
    .enumerate()
    {
        let options = [("mode", *mode), ("uid", "1234"), ("gid", "5678")];
        let fs = t.mount_at(&format!("{i}"), &options)?;
        let root = lstat(&fs.root).or_fail("lstat")?;
        expect_eq(
            root.st_mode & 0o7777,
            *expected,
            format_args!("mode={mode}"),
        )?;
        expect_eq(
            (root.st_uid, root.st_gid),
            (1234, 5678),
            "owner of the root",
        )?;
    }
    Ok(())
}

fn the_root_is_writable_by_whom_it_is_given(t: &Test) -> Outcome {
    let fs = t.mount(&[("mode", "700"), ("uid", "1000"), ("gid", "1000")])?;
    as_user(1000, 1000, || fs.create_with("mine", b"x").map(|_| ()))?;
    as_user(1001, 1000, || {
        let opened = File::open(fs.path("mine"), libc::O_RDONLY);
        expect_errno(opened, libc::EACCES, "another user's file")
    })
}

/// Returns the value of an option as shown, with `k`, `m` and `g` converted.
fn shown(options: &[String], name: &str) -> Option<u64> {
    let value = options
        .iter()
        .find_map(|option| option.strip_prefix(name)?.strip_prefix('='))?;
    let digits: String = value.chars().take_while(char::is_ascii_digit).collect();
    let factor = match &value[digits.len()..] {
        "" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        _ => return None,
    };
    Some(digits.parse::<u64>().ok()? * factor)
}

pub const ALL_OPTIONS: [(&str, &str); 5] = [
    ("size", "8M"),
    ("nr_inodes", "1000"),
    ("mode", "0710"),
    ("uid", "1234"),
    ("gid", "5678"),
];

fn options_are_shown_in_proc_mounts(t: &Test) -> Outcome {
    let fs = t.mount(&ALL_OPTIONS)?;
    let options = shown_options(&fs.root)?;
    for (name, value) in [
        ("size", 8 << 20),
        ("nr_inodes", 1000),
        ("uid", 1234),
        ("gid", 5678),
    ] {
        expect_eq(
            shown(&options, name),
            Some(value),
            format_args!("{name} in {options:?}"),
        )?;
    }
    expect(
        options.iter().any(|o| o == "mode=710" || o == "mode=0710"),
        format_args!("mode=710 in {options:?}"),
    )
}

fn shown_options_mount_the_same_again(t: &Test) -> Outcome {
    let fs = t.mount(&ALL_OPTIONS)?;
    let options = shown_options(&fs.root)?;
    let own: Vec<(&str, &str)> = options
        .iter()
        .filter_map(|option| option.split_once('='))
        .filter(|(name, _)| ALL_OPTIONS.iter().any(|(known, _)| known == name))
        .collect();
    expect_eq(own.len(), 5, format_args!("options shown: {options:?}"))?;
    let again = t.mount_at("again", &own)?;
    expect_eq(again.space()?, fs.space()?, "space of both")?;
    let (one, other) = (lstat(&fs.root), lstat(&again.root));
    let (one, other) = (one.or_fail("lstat")?, other.or_fail("lstat")?);
    expect_eq(
        (one.st_mode, one.st_uid, one.st_gid),
        (other.st_mode, other.st_uid, other.st_gid),
        "roots",
    )
}

fn defaults_are_not_shown_as_options(t: &Test) -> Outcome {
    let fs = t.mount(&[])?;
    for option in shown_options(&fs.root)? {
        let name = option.split('=').next().unwrap_or_default().to_owned();
        expect(
            !["size", "nr_inodes", "mode", "uid", "gid"].contains(&name.as_str()),
            format_args!("{option}, which was not asked for, is not shown"),
        )?;
    }
    Ok(())
}

fn the_old_mount_call_takes_the_same_options(t: &Test) -> Outcome {
    let root = t.elsewhere.join("old");
    mkdir(&root, 0o755).or_fail("mkdir")?;
    let options = "size=8M,nr_inodes=1000,mode=0710,uid=1234,gid=5678";
    mount(t.filesystem.name(), &root, libc::MS_NOSUID, options).or_fail("mount(2)")?;
    let fs = Instance { root };
    let space = fs.space()?;
    expect_eq(
        (space.blocks, space.inodes),
        (2048, 1000),
        "blocks and inodes",
    )?;
    let stat = lstat(&fs.root).or_fail("lstat")?;
    expect_eq(
        (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid),
        (0o710, 1234, 5678),
        "root",
    )?;
    let options = shown_options(&fs.root)?;
    expect(
        options.iter().any(|o| o == "nosuid"),
        format_args!("nosuid in {options:?}"),
    )?;
    fs.unmount()
}

fn the_last_of_repeated_options_counts(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M"), ("size", "2M")])?;
    expect_eq(fs.space()?.blocks, 512, "blocks with size=1M,size=2M")
}

/// Mounts an instance with these flags.
fn with_flags(t: &Test, name: &str, flags: u64) -> Outcome<Instance> {
    let root: PathBuf = t.elsewhere.join(name);
    mkdir(&root, 0o755).or_fail("mkdir")?;
    mount(t.filesystem.name(), &root, flags, "size=4M").or_fail("mount(2)")?;
    Ok(Instance { root })
}

/// Creates a program with this mode and owner.
fn program(fs: &Instance, from: &str, mode: u32, user: u32) -> Outcome<PathBuf> {
    let bytes = std::fs::read(from).or_fail(format_args!("read {from}"))?;
    let path = fs.create_with("program", &bytes)?.path.clone();
    chown(&path, user, user).or_fail("chown")?;
    chmod(&path, mode).or_fail("chmod")?;
    Ok(path)
}

fn no_program_runs_on_a_mount_without_execution(t: &Test) -> Outcome {
    for (flags, runs) in [(0, true), (libc::MS_NOEXEC, false)] {
        let fs = with_flags(t, &format!("{flags:#x}"), flags)?;
        let run = run_program(&program(&fs, "/bin/true", 0o755, 0)?, &[]);
        expect(
            match &run {
                Ok((end, _)) => runs && *end == End::Exited(0),
                Err(failure) => !runs && failure.0.contains("EACCES"),
            },
            format_args!("a program runs: {runs}, but {run:?}"),
        )?;
    }
    Ok(())
}

fn a_mount_without_set_user_programs_changes_no_user(t: &Test) -> Outcome {
    for (flags, user) in [(0, "4321\n"), (libc::MS_NOSUID, "1000\n")] {
        let fs = with_flags(t, &format!("{flags:#x}"), flags)?;
        let path = program(&fs, "/usr/bin/id", 0o6755, 4321)?;
        for whose in ["-u", "-g"] {
            as_user(1000, 1000, || {
                let (end, said) = run_program(&path, &[whose])?;
                expect_eq(
                    (end, said.as_str()),
                    (End::Exited(0), user),
                    format_args!("the end and output of `id {whose}`, flags {flags:#x}"),
                )
            })?;
        }
    }
    Ok(())
}

fn a_mount_without_devices_opens_none(t: &Test) -> Outcome {
    for (flags, opens) in [(0, true), (libc::MS_NODEV, false)] {
        let fs = with_flags(t, &format!("{flags:#x}"), flags)?;
        let open = |name: &str, kind: u32, device: u64| {
            path_call!(mknod(fs.path(name), kind | 0o666, device)).or_fail("mknod")?;
            let seen = lstat(fs.path(name)).or_fail("lstat")?.st_rdev;
            expect_eq(seen, device, "the device's number")?;
            Ok(File::open(fs.path(name), libc::O_RDWR))
        };
        let null = open("null", libc::S_IFCHR, libc::makedev(1, 3))?;
        if opens {
            let null = null.or_fail("opening a null device")?;
            expect_eq(null.try_pwrite(b"gone", 0), Ok(4), "bytes it takes")?;
            continue;
        }
        expect_errno(null, libc::EACCES, "opening a null device")?;
        let disk = open("disk", libc::S_IFBLK, libc::makedev(7, 0))?;
        expect_errno(disk, libc::EACCES, "opening a disk")?;
    }
    Ok(())
}

fn a_mount_without_access_times_keeps_them(t: &Test) -> Outcome {
    let fs = with_flags(t, "flags", libc::MS_NOATIME)?;
    let file = fs.create_with("file", b"data")?;
    let before = file.times()?.accessed;
    crate::sys::wait_for_the_clock();
    file.contents()?;
    expect_eq(file.times()?.accessed, before, "atime on a noatime mount")
}
