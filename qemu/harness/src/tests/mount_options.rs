// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Mounting: options, the messages about bad ones, remounting, many times over.

use std::path::PathBuf;

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Errno, Failure, Outcome};
use crate::filesystem::{Need, Tmpfs};
use crate::instance::{mount, shown_options, unmount, Configuration, Instance};
use crate::memory;
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::process::as_user;
use crate::runner::KernelLog;
use crate::sys::{lstat, mkdir, unlink, File};

const MOUNTS: &[Need] = &[Need::Instance];

pub const CASES: &[Case] = &[
    case!(a_mount_without_options_works).needs(MOUNTS),
    case!(size_takes_bytes_and_suffixes).needs(MOUNTS),
    case!(size_is_rounded_up_to_blocks).needs(MOUNTS),
    case!(size_takes_a_percentage_of_memory).needs(MOUNTS),
    case!(a_size_of_zero_is_no_limit).needs(MOUNTS),
    case!(nr_inodes_bounds_files_of_every_kind).needs(MOUNTS),
    case!(nr_inodes_takes_suffixes_and_zero).needs(MOUNTS),
    case!(mode_uid_and_gid_are_the_roots).needs(MOUNTS),
    case!(the_root_is_writable_by_whom_it_is_given).needs(MOUNTS),
    case!(options_are_shown_in_proc_mounts).needs(MOUNTS),
    case!(shown_options_mount_the_same_again).needs(MOUNTS),
    case!(defaults_are_not_shown_as_options).needs(MOUNTS),
    case!(the_old_mount_call_takes_the_same_options).needs(MOUNTS),
    case!(the_last_of_repeated_options_counts).needs(MOUNTS),
    case!(a_bad_value_is_refused_and_named).needs(MOUNTS),
    case!(an_empty_or_nonsensical_value_is_refused_and_named)
        .needs(MOUNTS)
        .except(Tmpfs, "takes % for no limit and -1 for a huge number"),
    case!(an_unknown_option_is_refused_and_named).needs(MOUNTS),
    case!(an_option_that_lacks_its_value_is_refused_and_named).needs(MOUNTS),
    case!(a_bad_option_of_the_old_mount_call_is_named_in_the_kernel_log).needs(MOUNTS),
    case!(mount_8_reports_a_bad_option).needs(MOUNTS),
    case!(a_refused_mount_leaves_nothing_behind).needs(MOUNTS),
    case!(two_instances_have_nothing_in_common).needs(MOUNTS),
    case!(remounting_read_only_and_back_works).needs(MOUNTS),
    case!(remounting_changes_the_size).needs(MOUNTS),
    case!(remounting_below_what_is_used_is_refused).needs(MOUNTS),
    case!(remounting_changes_the_number_of_inodes).needs(MOUNTS),
    case!(remounting_with_a_bad_option_changes_nothing).needs(MOUNTS),
    case!(remounting_without_options_keeps_them).needs(MOUNTS),
    case!(a_read_only_mount_takes_no_changes).needs(MOUNTS),
    case!(a_busy_filesystem_is_not_unmounted).needs(MOUNTS),
    case!(a_lazily_unmounted_filesystem_lives_until_its_last_file).needs(MOUNTS),
    case!(unmounting_with_everything_in_it_works).needs(MOUNTS),
    case!(many_mounts_and_unmounts_leave_nothing_behind).needs(MOUNTS),
    case!(an_instance_created_and_never_mounted_goes_away).needs(MOUNTS),
    case!(mount_flags_work).needs(MOUNTS),
    case!(the_filesystem_needs_no_device).needs(MOUNTS),
    case!(an_ordinary_user_cannot_mount_it).needs(MOUNTS),
];

fn a_mount_without_options_works(t: &Test) -> Outcome {
    let fs = t.mount(&[])?;
    let space = fs.space()?;
    expect(space.blocks > 0 && space.inodes > 0, format_args!("it has room: {space:?}"))?;
    expect_eq(space.free, space.blocks, "free blocks of an empty filesystem")?;
    fs.create_with("file", b"data")?.expect_contents(b"data", "a file in it")?;
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
        expect_eq((space.blocks, space.free), (blocks, blocks), format_args!("size={size}"))?;
        fs.unmount()?;
        crate::sys::rmdir(t.elsewhere.join("instance")).or_fail("rmdir")?;
    }
    Ok(())
}

fn size_is_rounded_up_to_blocks(t: &Test) -> Outcome {
    for (size, blocks) in [("1", 1), ("4096", 1), ("4097", 2), ("10000", 3)] {
        let fs = t.mount_at(&format!("size-{size}"), &[("size", size)])?;
        expect_eq(fs.space()?.blocks, blocks, format_args!("blocks with size={size}"))?;
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
    expect_eq((space.blocks, space.free), (0, 0), "f_blocks and f_bfree without a limit")?;
    fs.create_with("file", &blocks(1, 50))?.expect_contents(&blocks(1, 50), "a file in it")
}

fn nr_inodes_bounds_files_of_every_kind(t: &Test) -> Outcome {
    let fs = t.mount(&[("nr_inodes", "5"), ("size", "1M")])?;
    let space = fs.space()?;
    expect_eq((space.inodes, space.free_inodes), (5, 4), "inodes and free ones: the root is one")?;
    fs.create("file")?;
    mkdir(fs.path("dir"), 0o755).or_fail("mkdir")?;
    crate::sys::symlink("file", fs.path("symlink")).or_fail("symlink")?;
    fs.create("second")?;
    expect_eq(fs.space()?.free_inodes, 0, "free inodes after four files")?;
    let flags = libc::O_RDWR | libc::O_CREAT;
    expect_errno(File::open(fs.path("x"), flags), libc::ENOSPC, "a fifth file")?;
    expect_errno(mkdir(fs.path("x"), 0o755), libc::ENOSPC, "a fifth directory")?;
    expect_errno(crate::sys::symlink("y", fs.path("x")), libc::ENOSPC, "a fifth symlink")?;
    unlink(fs.path("symlink")).or_fail("unlink")?;
    expect_eq(fs.space()?.free_inodes, 1, "free inodes after one was removed")?;
    let open = fs.create("again")?;
    unlink(fs.path("again")).or_fail("unlink")?;
    expect_eq(fs.space()?.free_inodes, 0, "free inodes while an unlinked file is open")?;
    drop(open);
    expect_eq(fs.space()?.free_inodes, 1, "free inodes after it was closed")
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
    for (i, (mode, expected)) in [("700", 0o700), ("0755", 0o755), ("1777", 0o1777), ("7777", 0o7777), ("0", 0)]
        .iter()
        .enumerate()
    {
        let options = [("mode", *mode), ("uid", "1234"), ("gid", "5678")];
        let fs = t.mount_at(&format!("{i}"), &options)?;
        let root = lstat(&fs.root).or_fail("lstat")?;
        expect_eq(root.st_mode & 0o7777, *expected, format_args!("mode={mode}"))?;
        expect_eq((root.st_uid, root.st_gid), (1234, 5678), "owner of the root")?;
    }
    Ok(())
}

fn the_root_is_writable_by_whom_it_is_given(t: &Test) -> Outcome {
    let fs = t.mount(&[("mode", "700"), ("uid", "1000"), ("gid", "1000")])?;
    as_user(1000, 1000, || fs.create_with("mine", b"x").map(|_| ()))?;
    as_user(1001, 1000, || {
        let opened = File::open(fs.path("mine"), libc::O_RDONLY);
        expect_errno(opened, libc::EACCES, "someone else's file")
    })
}

/// The value of an option as shown, with `k`, `m` and `g` worked out.
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

const ALL_OPTIONS: [(&str, &str); 5] = [
    ("size", "8M"),
    ("nr_inodes", "1000"),
    ("mode", "0710"),
    ("uid", "1234"),
    ("gid", "5678"),
];

fn options_are_shown_in_proc_mounts(t: &Test) -> Outcome {
    let fs = t.mount(&ALL_OPTIONS)?;
    let options = shown_options(&fs.root)?;
    for (name, value) in [("size", 8 << 20), ("nr_inodes", 1000), ("uid", 1234), ("gid", 5678)] {
        expect_eq(shown(&options, name), Some(value), format_args!("{name} in {options:?}"))?;
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
    expect_eq((one.st_mode, one.st_uid, one.st_gid), (other.st_mode, other.st_uid, other.st_gid), "roots")
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
    expect_eq((space.blocks, space.inodes), (2048, 1000), "blocks and inodes")?;
    let stat = lstat(&fs.root).or_fail("lstat")?;
    expect_eq((stat.st_mode & 0o7777, stat.st_uid, stat.st_gid), (0o710, 1234, 5678), "root")?;
    let options = shown_options(&fs.root)?;
    expect(options.iter().any(|o| o == "nosuid"), format_args!("nosuid in {options:?}"))?;
    fs.unmount()
}

fn the_last_of_repeated_options_counts(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M"), ("size", "2M")])?;
    expect_eq(fs.space()?.blocks, 512, "blocks with size=1M,size=2M")
}

/// Sets one option on a new configuration and tries to create the filesystem.
/// (the errno, the messages).
fn refusal(t: &Test, key: &str, value: Option<&str>) -> Outcome<(Errno, String)> {
    let configuration = Configuration::open(t.filesystem.name()).or_fail("fsopen")?;
    let set = match value {
        Some(value) => configuration.set(key, value),
        None => configuration.set_flag(key),
    };
    match set.and_then(|()| configuration.create()) {
        Err(error) => Ok((error, configuration.log())),
        Ok(()) => Err(Failure::new(format_args!("{key}={value:?} was accepted"))),
    }
}

fn expect_named(t: &Test, key: &str, value: Option<&str>) -> Outcome {
    let (error, log) = refusal(t, key, value)?;
    let what = format!("{key}={value:?}");
    expect(
        error == Errno(libc::EINVAL) || error == Errno(libc::ERANGE),
        format_args!("{what}: expected EINVAL, got {error}"),
    )?;
    expect(
        log.lines().any(|line| line.starts_with("e ") && line.contains(key)),
        format_args!("{what}: an error message names the option; the log says: {log:?}"),
    )
}

const BAD_VALUES: &[(&str, &str)] = &[
    ("size", "banana"),
    ("size", "8Mx"),
    ("size", "x8M"),
    ("nr_inodes", "many"),
    ("nr_inodes", "10x"),
    ("mode", "9"),
    ("mode", "rwx"),
    ("uid", "nobody"),
    ("uid", "-1"),
    ("uid", "4294967295"),
    ("gid", "users"),
    ("gid", "-1"),
    ("gid", "99999999999"),
];

fn a_bad_value_is_refused_and_named(t: &Test) -> Outcome {
    for (key, value) in BAD_VALUES {
        expect_named(t, key, Some(value))?;
    }
    Ok(())
}

fn an_empty_or_nonsensical_value_is_refused_and_named(t: &Test) -> Outcome {
    for (key, value) in [
        ("size", ""),
        ("size", "%"),
        ("size", "8M%"),
        ("size", "-1"),
        ("nr_inodes", ""),
        ("nr_inodes", "-1"),
        ("mode", ""),
        ("uid", ""),
        ("gid", ""),
    ] {
        expect_named(t, key, Some(value))?;
    }
    Ok(())
}

fn an_unknown_option_is_refused_and_named(t: &Test) -> Outcome {
    for (key, value) in [("bogus", Some("1")), ("bogus", None), ("sizes", Some("1M")), ("Size", Some("1M"))] {
        expect_named(t, key, value)?;
    }
    Ok(())
}

fn an_option_that_lacks_its_value_is_refused_and_named(t: &Test) -> Outcome {
    for key in ["size", "nr_inodes", "mode", "uid", "gid"] {
        expect_named(t, key, None)?;
    }
    Ok(())
}

fn a_bad_option_of_the_old_mount_call_is_named_in_the_kernel_log(t: &Test) -> Outcome {
    let root = t.elsewhere.join("old");
    mkdir(&root, 0o755).or_fail("mkdir")?;
    for (options, named) in [
        ("size=1M,bogus=1", "bogus"),
        ("size=banana", "size"),
        ("mode=9,size=1M", "mode"),
        ("nr_inodes=many", "nr_inodes"),
        ("uid=nobody", "uid"),
    ] {
        let log = KernelLog::open();
        let mounted = mount(t.filesystem.name(), &root, 0, options);
        expect_errno(mounted, libc::EINVAL, format_args!("mount(2) with {options}"))?;
        let news = log.news();
        expect(
            news.lines().any(|l| l.contains(t.filesystem.name()) && l.contains(named)),
            format_args!("{options}: the kernel's log names {named}; it says: {news:?}"),
        )?;
    }
    Ok(())
}

fn mount_8_reports_a_bad_option(t: &Test) -> Outcome {
    use crate::process::{run_program, End};
    let root = t.elsewhere.join("tool");
    mkdir(&root, 0o755).or_fail("mkdir")?;
    let path = root.to_string_lossy();
    let name = t.filesystem.name();
    let run = |options: &str| {
        run_program("/bin/mount".as_ref(), &["-t", name, "-o", options, "none", &path])
    };
    let (end, _) = run("size=1M,mode=755")?;
    expect_eq(end, End::Exited(0), "mount(8) with good options")?;
    unmount(&root).or_fail("umount")?;
    let (end, _) = run("size=1M,bogus=1")?;
    expect(
        matches!(end, End::Exited(code) if code != 0),
        format_args!("mount(8) with a bad option: {end:?}"),
    )
}

fn a_refused_mount_leaves_nothing_behind(t: &Test) -> Outcome {
    let root = t.elsewhere.join("refused");
    mkdir(&root, 0o755).or_fail("mkdir")?;
    for _ in 0..t.rounds(20) {
        refusal(t, "bogus", Some("1"))?;
        let mounted = mount(t.filesystem.name(), &root, 0, "size=1M,mode=banana");
        expect_errno(mounted, libc::EINVAL, "mount(2) with a bad option")?;
    }
    expect_errno(unmount(&root), libc::EINVAL, "nothing is mounted there")?;
    t.mount(&[("size", "1M")])?.unmount()
}

fn two_instances_have_nothing_in_common(t: &Test) -> Outcome {
    let one = t.mount_at("one", &[("size", "1M")])?;
    let other = t.mount_at("other", &[("size", "1M")])?;
    one.create_with("file", &blocks(1, 10))?;
    expect_eq(other.used()?, 0, "blocks used in the other instance")?;
    let opened = File::open(other.path("file"), libc::O_RDONLY);
    expect_errno(opened, libc::ENOENT, "the file in the other instance")?;
    one.unmount()?;
    other.create_with("file", b"still works")?;
    other.unmount()
}

fn remount_flags(fs: &Instance, flags: u64, options: &str) -> crate::failure::Sys {
    mount("none", &fs.root, flags | libc::MS_REMOUNT, options)
}

fn remounting_read_only_and_back_works(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let file = fs.create_with("file", b"data")?;
    let refused = remount_flags(&fs, libc::MS_RDONLY, "");
    expect_errno(refused, libc::EBUSY, "read-only while a file is open for writing")?;
    drop(file);
    remount_flags(&fs, libc::MS_RDONLY, "").or_fail("remounting read-only")?;
    let options = shown_options(&fs.root)?;
    expect(options.iter().any(|o| o == "ro"), format_args!("ro in {options:?}"))?;
    let opened = File::open(fs.path("file"), libc::O_RDWR);
    expect_errno(opened, libc::EROFS, "opening for writing")?;
    remount_flags(&fs, 0, "").or_fail("remounting read-write")?;
    let file = File::open(fs.path("file"), libc::O_RDWR).or_fail("open")?;
    file.write_at(b"DATA", 0)?;
    file.expect_contents(b"DATA", "after remounting read-write")
}

fn remounting_changes_the_size(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "64k")])?;
    let file = fs.create_with("file", &blocks(1, 16))?;
    expect_errno(file.try_pwrite(b"x", 16 * BLOCK64), libc::ENOSPC, "a write when full")?;
    fs.reconfigure(&[("size", "128k")])
        .map_err(|(error, log)| format!("{error}: {log}"))
        .or_fail("reconfiguring with size=128k")?;
    expect_eq(fs.space()?.blocks, 32, "blocks after size=128k")?;
    file.write_at(&blocks(2, 16), 16 * BLOCK64)?;
    file.truncate(4 * BLOCK64)?;
    remount_flags(&fs, 0, "size=20k").or_fail("remounting with size=20k")?;
    let space = fs.space()?;
    expect_eq((space.blocks, space.free), (5, 1), "blocks and free ones after size=20k")?;
    file.expect_contents(&blocks(1, 16)[..4 * BLOCK], "the file")
}

fn remounting_below_what_is_used_is_refused(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "64k"), ("nr_inodes", "10")])?;
    let file = fs.create_with("file", &blocks(1, 10))?;
    for i in 0..5 {
        fs.create(&format!("{i}"))?;
    }
    let before = fs.space()?;
    for (key, value) in [("size", "32k"), ("nr_inodes", "3")] {
        match fs.reconfigure(&[(key, value)]) {
            Ok(()) => return Err(Failure::new(format_args!("{key}={value} was accepted"))),
            Err((error, log)) => {
                expect_eq(error, Errno(libc::EINVAL), format_args!("{key}={value}"))?;
                expect(!log.trim().is_empty(), format_args!("{key}={value}: a message says why"))?;
            }
        }
    }
    expect_eq(fs.space()?, before, "space after the refusals")?;
    file.expect_contents(&blocks(1, 10), "the file")
}

fn remounting_changes_the_number_of_inodes(t: &Test) -> Outcome {
    let fs = t.mount(&[("nr_inodes", "2"), ("size", "1M")])?;
    fs.create("one")?;
    let flags = libc::O_RDWR | libc::O_CREAT;
    expect_errno(File::open(fs.path("two"), flags), libc::ENOSPC, "one file too many")?;
    remount_flags(&fs, 0, "nr_inodes=3").or_fail("remounting with nr_inodes=3")?;
    fs.create("two")?;
    let space = fs.space()?;
    expect_eq((space.inodes, space.free_inodes), (3, 0), "inodes and free ones")
}

fn remounting_with_a_bad_option_changes_nothing(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "64k")])?;
    let before = (fs.space()?, shown_options(&fs.root)?);
    for options in ["size=banana", "bogus=1", "size=1M,mode=x"] {
        let refused = remount_flags(&fs, 0, options);
        expect_errno(refused, libc::EINVAL, format_args!("remounting with {options}"))?;
        let after = (fs.space()?, shown_options(&fs.root)?);
        expect_eq(&after, &before, format_args!("after remounting with {options}"))?;
    }
    Ok(())
}

fn remounting_without_options_keeps_them(t: &Test) -> Outcome {
    let fs = t.mount(&ALL_OPTIONS)?;
    let before = (fs.space()?, shown_options(&fs.root)?);
    remount_flags(&fs, libc::MS_RDONLY, "").or_fail("remounting read-only")?;
    remount_flags(&fs, 0, "").or_fail("remounting read-write")?;
    expect_eq((fs.space()?, shown_options(&fs.root)?), before, "space and options")
}

fn a_read_only_mount_takes_no_changes(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    drop(fs.create_with("file", b"data")?);
    mkdir(fs.path("dir"), 0o755).or_fail("mkdir")?;
    remount_flags(&fs, libc::MS_RDONLY, "").or_fail("remounting read-only")?;
    let path = |name: &str| fs.path(name);
    let create = File::open(path("new"), libc::O_RDWR | libc::O_CREAT);
    expect_errno(create, libc::EROFS, "create")?;
    expect_errno(mkdir(path("new"), 0o755), libc::EROFS, "mkdir")?;
    expect_errno(unlink(path("file")), libc::EROFS, "unlink")?;
    expect_errno(crate::sys::rmdir(path("dir")), libc::EROFS, "rmdir")?;
    expect_errno(crate::sys::rename(path("file"), path("x")), libc::EROFS, "rename")?;
    expect_errno(crate::sys::link(path("file"), path("x")), libc::EROFS, "link")?;
    expect_errno(crate::sys::symlink("x", path("x")), libc::EROFS, "symlink")?;
    expect_errno(crate::sys::chmod(path("file"), 0o600), libc::EROFS, "chmod")?;
    expect_errno(crate::sys::truncate(path("file"), 0), libc::EROFS, "truncate")?;
    let file = File::open(path("file"), libc::O_RDONLY).or_fail("open")?;
    file.expect_contents(b"data", "the file")
}

fn a_busy_filesystem_is_not_unmounted(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let file = fs.create_with("file", b"data")?;
    expect_errno(unmount(&fs.root), libc::EBUSY, "umount with an open file")?;
    let map = crate::mapping::Mapping::shared(&file, BLOCK)?;
    drop(file);
    expect_errno(unmount(&fs.root), libc::EBUSY, "umount with a mapped file")?;
    drop(map);
    fs.unmount()
}

fn a_lazily_unmounted_filesystem_lives_until_its_last_file(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let file = fs.create_with("file", &blocks(1, 5))?;
    let map = crate::mapping::Mapping::shared(&file, 5 * BLOCK)?;
    drop(fs);
    file.write_at(b"still", 0)?;
    expect_eq(map.load(0, 5), b"still", "the mapping")?;
    map.store(4 * BLOCK, b"here");
    expect_eq(file.read_at(4 * BLOCK64, 4)?, b"here", "the file")
}

/// Everything that can be left in a filesystem: files, clones, directories, links, deep trees.
fn litter(fs: &Instance, clones: bool) -> Outcome {
    let file = fs.create_with("file", &blocks(1, 70))?;
    if clones {
        let clone = crate::sys::new_clone(&file, fs.path("clone"))?;
        clone.write_at(b"x", 5 * BLOCK64)?;
        crate::sys::new_clone(&clone, fs.path("clone-of-clone"))?;
    }
    let map = crate::mapping::Mapping::shared(&file, 70 * BLOCK)?;
    map.store(3 * BLOCK, b"stored");
    let sparse = fs.create("sparse")?;
    sparse.write_at(b"far", 1 << 42)?;
    let mut dir = fs.root.clone();
    for _ in 0..10 {
        dir = dir.join("deeper");
        mkdir(&dir, 0o755).or_fail("mkdir")?;
        File::create(dir.join("file"))?.write_at(b"x", 0)?;
    }
    crate::sys::link(fs.path("file"), dir.join("link")).or_fail("link")?;
    crate::sys::symlink("t".repeat(1000), fs.path("symlink")).or_fail("symlink")
}

fn unmounting_with_everything_in_it_works(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "4M")])?;
    litter(&fs, t.is_reflinkfs())?;
    fs.unmount()
}

fn many_mounts_and_unmounts_leave_nothing_behind(t: &Test) -> Outcome {
    let round = |i: usize| -> Outcome {
        let fs = t.mount_at(&format!("round-{i}"), &[("size", "4M")])?;
        litter(&fs, t.is_reflinkfs())?;
        fs.create_with("ballast", &vec![1; 300 * BLOCK])?;
        fs.unmount()
    };
    round(0)?;
    let before = memory::available()?;
    let rounds = t.rounds(50);
    (1..=rounds).try_for_each(round)?;
    // Each round holds 1.5 MiB: a leak of them would be plain to see.
    let lost = before.saturating_sub(memory::available()?);
    let held = rounds as u64 * 1_500_000;
    expect(
        lost < held / 2 + (8 << 20),
        format_args!("{lost} bytes of memory less after {rounds} rounds that held {held} in all"),
    )
}

fn an_instance_created_and_never_mounted_goes_away(t: &Test) -> Outcome {
    for _ in 0..t.rounds(20) {
        let configuration = Configuration::open(t.filesystem.name()).or_fail("fsopen")?;
        configuration.set("size", "1M").or_fail("size=1M")?;
        configuration.create().or_fail("creating")?;
    }
    // And configurations that were never created.
    for _ in 0..t.rounds(20) {
        let configuration = Configuration::open(t.filesystem.name()).or_fail("fsopen")?;
        configuration.set("mode", "700").or_fail("mode=700")?;
    }
    Ok(())
}

fn mount_flags_work(t: &Test) -> Outcome {
    let root: PathBuf = t.elsewhere.join("flags");
    mkdir(&root, 0o755).or_fail("mkdir")?;
    let flags = libc::MS_NOEXEC | libc::MS_NODEV | libc::MS_NOSUID | libc::MS_NOATIME;
    mount(t.filesystem.name(), &root, flags, "size=4M").or_fail("mount(2)")?;
    let fs = Instance { root };
    let file = fs.create_with("program", b"#!/bin/true\n")?;
    crate::sys::chmod(&file.path, 0o755).or_fail("chmod")?;
    drop(file);
    let run = crate::process::run_program(&fs.path("program"), &[]);
    expect(run.is_err(), "a program on a noexec mount does not run")?;
    let file = File::open(fs.path("program"), libc::O_RDWR).or_fail("open")?;
    let before = file.times()?.accessed;
    crate::sys::sleep_ms(20);
    file.contents()?;
    expect_eq(file.times()?.accessed, before, "atime on a noatime mount")
}

fn the_filesystem_needs_no_device(t: &Test) -> Outcome {
    let list = std::fs::read_to_string("/proc/filesystems").or_fail("read /proc/filesystems")?;
    let wanted = format!("nodev\t{}", t.filesystem.name());
    expect(list.lines().any(|l| l == wanted), format_args!("{wanted:?} in /proc/filesystems"))
}

fn an_ordinary_user_cannot_mount_it(t: &Test) -> Outcome {
    as_user(1000, 1000, || {
        let opened = Configuration::open(t.filesystem.name()).map(|_| ());
        expect_errno(opened, libc::EPERM, "fsopen by an ordinary user")
    })
}
