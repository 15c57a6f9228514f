// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Modes, owners and times.

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::{Btrfs, Tmpfs, Xfs};
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::process::as_user;
use crate::sys::{
    access, chmod, chown, link, lstat, mkdir, rename, rmdir, set_times, symlink, timespec, unlink,
    wait_for_the_clock, File, Times,
};

pub const CASES: &[Case] = &[
    case!(chmod_sets_all_twelve_bits),
    case!(chown_sets_owner_and_group),
    case!(chown_clears_the_set_user_and_set_group_bits),
    case!(a_write_by_the_owner_clears_the_set_user_bit),
    case!(truncation_by_the_owner_clears_the_set_user_bit),
    case!(only_the_owner_may_change_the_mode),
    case!(only_root_may_give_a_file_away),
    case!(permissions_are_checked),
    case!(new_files_get_the_creators_owner_and_the_umask),
    case!(a_set_group_directory_passes_its_group_on),
    case!(times_are_set_to_the_nanosecond),
    case!(times_can_be_set_to_now_and_left_alone),
    case!(times_far_away_are_kept),
    case!(setting_times_needs_permission),
    case!(a_write_changes_modification_and_change_time),
    case!(a_truncation_changes_modification_and_change_time),
    case!(chmod_chown_and_link_change_the_change_time_only),
    case!(making_and_removing_names_changes_the_directory),
    case!(rename_changes_both_directories_and_the_file),
    case!(unlink_of_one_link_changes_the_files_change_time),
    case!(reading_changes_the_access_time_as_relatime_does),
    case!(creation_sets_all_three_times_to_now),
    case!(stat_shows_the_block_size_and_the_device),
    case!(a_directorys_size_and_blocks_are_plausible),
    case!(symlinks_have_owners_of_their_own),
    case!(statfs_shows_name_length_and_block_size),
    case!(hard_links_share_attributes),
    case!(attributes_of_an_unlinked_file_can_be_changed),
];

fn mode_of(path: impl AsRef<std::path::Path>) -> Outcome<u32> {
    Ok(lstat(path).or_fail("lstat")?.st_mode & 0o7777)
}

fn times_of(path: impl AsRef<std::path::Path>) -> Outcome<Times> {
    Ok(Times::of(&lstat(path).or_fail("lstat")?))
}

fn chmod_sets_all_twelve_bits(t: &Test) -> Outcome {
    t.create("file")?;
    t.mkdir("dir")?;
    for name in ["file", "dir"] {
        for mode in [0, 0o777, 0o7777, 0o4000, 0o2010, 0o1000, 0o644] {
            chmod(t.path(name), mode).or_fail("chmod")?;
            expect_eq(
                mode_of(t.path(name))?,
                mode,
                format_args!("mode of the {name}"),
            )?;
        }
    }
    expect_eq(
        lstat(t.path("file")).or_fail("lstat")?.st_mode & libc::S_IFMT,
        libc::S_IFREG,
        "the type, which chmod leaves alone",
    )
}

fn chown_sets_owner_and_group(t: &Test) -> Outcome {
    t.create("file")?;
    for (uid, gid) in [(1000, 2000), (0, 0), (65534, 65534), (4_000_000_000, 7)] {
        chown(t.path("file"), uid, gid).or_fail("chown")?;
        let stat = lstat(t.path("file")).or_fail("lstat")?;
        expect_eq((stat.st_uid, stat.st_gid), (uid, gid), "owner and group")?;
    }
    chown(t.path("file"), 5, u32::MAX).or_fail("chown of the owner alone")?;
    let stat = lstat(t.path("file")).or_fail("lstat")?;
    expect_eq((stat.st_uid, stat.st_gid), (5, 7), "owner and group")
}

fn chown_clears_the_set_user_and_set_group_bits(t: &Test) -> Outcome {
    t.create("file")?;
    chmod(t.path("file"), 0o6755).or_fail("chmod")?;
    chown(t.path("file"), 1000, 1000).or_fail("chown")?;
    expect_eq(
        mode_of(t.path("file"))?,
        0o755,
        "mode after chown, even by root",
    )?;
    let dir = t.mkdir("dir")?;
    chmod(&dir, 0o2755).or_fail("chmod")?;
    chown(&dir, 1000, 1000).or_fail("chown")?;
    expect_eq(mode_of(&dir)?, 0o2755, "mode of a directory after chown")
}

fn a_write_by_the_owner_clears_the_set_user_bit(t: &Test) -> Outcome {
    chmod(&t.dir, 0o777).or_fail("chmod")?;
    as_user(1000, 1000, || {
        let file = t.create_with("file", b"data")?;
        for mode in [0o4755, 0o2755, 0o6755] {
            chmod(&file.path, mode).or_fail("chmod")?;
            file.write_at(b"x", 0)?;
            expect_eq(
                mode_of(&file.path)?,
                0o755,
                format_args!("mode {mode:o} after a write"),
            )?;
        }
        chmod(&file.path, 0o4755).or_fail("chmod")?;
        file.try_pwrite(b"", 0).or_fail("a write of nothing")?;
        expect_eq(
            mode_of(&file.path)?,
            0o4755,
            "mode after a write of nothing",
        )
    })?;
    // Root keeps it.
    let file = File::open(t.path("file"), libc::O_RDWR).or_fail("open")?;
    file.write_at(b"y", 0)?;
    expect_eq(mode_of(&file.path)?, 0o4755, "mode after a write by root")
}

fn truncation_by_the_owner_clears_the_set_user_bit(t: &Test) -> Outcome {
    chmod(&t.dir, 0o777).or_fail("chmod")?;
    as_user(1000, 1000, || {
        let file = t.create_with("file", b"data")?;
        chmod(&file.path, 0o6755).or_fail("chmod")?;
        file.truncate(2)?;
        expect_eq(mode_of(&file.path)?, 0o755, "mode after ftruncate")
    })
}

fn only_the_owner_may_change_the_mode(t: &Test) -> Outcome {
    t.create("file")?;
    chmod(t.path("file"), 0o666).or_fail("chmod")?;
    as_user(1000, 1000, || {
        expect_errno(
            chmod(t.path("file"), 0o777),
            libc::EPERM,
            "chmod of root's file",
        )
    })?;
    expect_eq(mode_of(t.path("file"))?, 0o666, "mode")
}

fn only_root_may_give_a_file_away(t: &Test) -> Outcome {
    chmod(&t.dir, 0o777).or_fail("chmod")?;
    as_user(1000, 1000, || {
        t.create("file")?;
        let given = chown(t.path("file"), 2000, u32::MAX);
        expect_errno(given, libc::EPERM, "chown to another user")?;
        let grouped = chown(t.path("file"), u32::MAX, 2000);
        expect_errno(grouped, libc::EPERM, "chown to a group one is not in")?;
        chown(t.path("file"), 1000, 1000).or_fail("chown that changes nothing")
    })
}

fn permissions_are_checked(t: &Test) -> Outcome {
    t.create("file")?;
    chown(t.path("file"), 1000, 2000).or_fail("chown")?;
    let dir = t.mkdir("closed")?;
    File::create(dir.join("inside"))?;
    chmod(&dir, 0o700).or_fail("chmod")?;
    for (mode, uid, gid, read, write) in [
        (0o600, 1000, 1, true, true),
        (0o600, 1001, 2000, false, false),
        (0o640, 1001, 2000, true, false),
        (0o606, 1001, 1, true, true),
        (0o006, 1000, 1, false, false),
        (0o060, 1001, 2000, true, true),
    ] {
        chmod(t.path("file"), mode).or_fail("chmod")?;
        as_user(uid, gid, || {
            for (flags, allowed) in [(libc::O_RDONLY, read), (libc::O_WRONLY, write)] {
                let opened = File::open(t.path("file"), flags);
                let what = format!("open({flags}) of mode {mode:o} by {uid}:{gid}");
                if allowed {
                    opened.or_fail(what)?;
                } else {
                    expect_errno(opened, libc::EACCES, what)?;
                }
            }
            expect_errno(
                lstat(dir.join("inside")).map(|_| ()),
                libc::EACCES,
                "a closed directory",
            )?;
            expect_errno(
                access(&dir, libc::R_OK),
                libc::EACCES,
                "access of a closed directory",
            )
        })?;
    }
    Ok(())
}

fn new_files_get_the_creators_owner_and_the_umask(t: &Test) -> Outcome {
    chmod(&t.dir, 0o777).or_fail("chmod")?;
    as_user(1000, 2000, || {
        // SAFETY: plain call.
        unsafe { libc::umask(0o027) };
        let flags = libc::O_RDWR | libc::O_CREAT;
        File::open_mode(t.path("file"), flags, 0o4777).or_fail("open")?;
        mkdir(t.path("dir"), 0o777).or_fail("mkdir")?;
        symlink("x", t.path("symlink")).or_fail("symlink")?;
        for (name, mode) in [("file", 0o4750), ("dir", 0o750), ("symlink", 0o777)] {
            let stat = lstat(t.path(name)).or_fail("lstat")?;
            expect_eq(
                (stat.st_uid, stat.st_gid),
                (1000, 2000),
                format_args!("owner of {name}"),
            )?;
            expect_eq(stat.st_mode & 0o7777, mode, format_args!("mode of {name}"))?;
        }
        Ok(())
    })
}

fn a_set_group_directory_passes_its_group_on(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    chown(&dir, 0, 3000).or_fail("chown")?;
    chmod(&dir, 0o2777).or_fail("chmod")?;
    as_user(1000, 2000, || {
        File::create(dir.join("file"))?;
        mkdir(dir.join("sub"), 0o755).or_fail("mkdir")?;
        symlink("x", dir.join("symlink")).or_fail("symlink")?;
        for name in ["file", "sub", "symlink"] {
            let gid = lstat(dir.join(name)).or_fail("lstat")?.st_gid;
            expect_eq(gid, 3000, format_args!("group of {name}"))?;
        }
        expect_eq(
            mode_of(dir.join("sub"))?,
            0o2755,
            "mode of the subdirectory",
        )
    })
}

fn times_are_set_to_the_nanosecond(t: &Test) -> Outcome {
    t.create("file")?;
    t.mkdir("dir")?;
    symlink("file", t.path("symlink")).or_fail("symlink")?;
    for name in ["file", "dir", "symlink"] {
        let times = [
            timespec(1_234_567_890, 123_456_789),
            timespec(987_654_321, 1),
        ];
        set_times(t.path(name), times).or_fail("utimensat")?;
        let seen = times_of(t.path(name))?;
        expect_eq(
            seen.accessed,
            1_234_567_890_123_456_789,
            format_args!("atime of {name}"),
        )?;
        expect_eq(
            seen.modified,
            987_654_321_000_000_001,
            format_args!("mtime of {name}"),
        )?;
    }
    let bad = set_times(t.path("file"), [timespec(0, 1_000_000_000), timespec(0, 0)]);
    expect_errno(bad, libc::EINVAL, "a second of nanoseconds")
}

fn times_can_be_set_to_now_and_left_alone(t: &Test) -> Outcome {
    t.create("file")?;
    let old = timespec(1_000_000_000, 5);
    set_times(t.path("file"), [old, old]).or_fail("utimensat")?;
    let omit = timespec(0, libc::UTIME_OMIT);
    set_times(t.path("file"), [timespec(0, libc::UTIME_NOW), omit]).or_fail("utimensat")?;
    let seen = times_of(t.path("file"))?;
    expect_eq(
        seen.modified,
        1_000_000_000_000_000_005,
        "mtime, left alone",
    )?;
    expect(seen.accessed > 1_500_000_000_000_000_000, "atime is now")?;
    let before = times_of(t.path("file"))?;
    wait_for_the_clock();
    set_times(t.path("file"), [omit, omit]).or_fail("utimensat of nothing")?;
    expect_eq(
        times_of(t.path("file"))?,
        before,
        "times after setting none",
    )
}

fn times_far_away_are_kept(t: &Test) -> Outcome {
    t.create("file")?;
    // 1935, 1970, after 2038, after 2106.
    for seconds in [-1_100_000_000, 0, 2_500_000_000, 5_000_000_000] {
        let time = timespec(seconds, 999_999_999);
        set_times(t.path("file"), [time, time]).or_fail("utimensat")?;
        let seen = times_of(t.path("file"))?;
        let expected = i128::from(seconds) * 1_000_000_000 + 999_999_999;
        expect_eq(
            (seen.accessed, seen.modified),
            (expected, expected),
            "times",
        )?;
    }
    Ok(())
}

fn setting_times_needs_permission(t: &Test) -> Outcome {
    t.create("file")?;
    chmod(t.path("file"), 0o644).or_fail("chmod")?;
    as_user(1000, 1000, || {
        let now = timespec(0, libc::UTIME_NOW);
        let time = timespec(5, 5);
        expect_errno(
            set_times(t.path("file"), [now, now]),
            libc::EACCES,
            "to now",
        )?;
        expect_errno(
            set_times(t.path("file"), [time, time]),
            libc::EPERM,
            "to a time",
        )
    })
}

/// Sets old times, waits for the clock, and takes the step. Returns the times before and after.
fn around(path: &std::path::Path, step: impl FnOnce() -> Outcome) -> Outcome<(Times, Times)> {
    let old = timespec(1_000_000_000, 0);
    set_times(path, [old, old]).or_fail("utimensat")?;
    let before = times_of(path)?;
    wait_for_the_clock();
    step()?;
    Ok((before, times_of(path)?))
}

fn expect_changed(what: &str, (before, after): (Times, Times), modified: bool) -> Outcome {
    expect(
        after.changed > before.changed,
        format_args!("{what}: ctime is new"),
    )?;
    expect_eq(
        after.modified > before.modified,
        modified,
        format_args!("{what}: whether mtime is new"),
    )
}

fn a_write_changes_modification_and_change_time(t: &Test) -> Outcome {
    let file = t.create_with("file", b"data")?;
    let write = |data: &'static [u8], at| around(&file.path, || file.write_at(data, at));
    expect_changed("a write that overwrites", write(b"x", 0)?, true)?;
    expect_changed("a write that extends", write(b"x", 5000)?, true)
}

fn a_truncation_changes_modification_and_change_time(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(1, 2))?;
    for size in [BLOCK64 + 1, 3 * BLOCK64, 0] {
        let times = around(&file.path, || file.truncate(size))?;
        expect_changed(&format!("ftruncate to {size}"), times, true)?;
    }
    file.write_at(b"data", 0)?;
    let times = around(&file.path, || {
        file.reopen(libc::O_WRONLY | libc::O_TRUNC).map(|_| ())
    })?;
    expect_changed("open(O_TRUNC)", times, true)
}

fn chmod_chown_and_link_change_the_change_time_only(t: &Test) -> Outcome {
    let file = t.create_with("file", b"data")?;
    let path = &file.path;
    let times = around(path, || chmod(path, 0o600).or_fail("chmod"))?;
    expect_changed("chmod", times, false)?;
    let times = around(path, || chown(path, 1, 1).or_fail("chown"))?;
    expect_changed("chown", times, false)?;
    let times = around(path, || link(path, t.path("link")).or_fail("link"))?;
    expect_changed("link", times, false)
}

fn making_and_removing_names_changes_the_directory(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    let other = t.create("other")?;
    let at = |name: &str| dir.join(name);
    type Step<'a> = Box<dyn Fn() -> Outcome + 'a>;
    let steps: [(&str, Step); 7] = [
        ("create", Box::new(|| File::create(at("file")).map(|_| ()))),
        (
            "mkdir",
            Box::new(|| mkdir(at("sub"), 0o755).or_fail("mkdir")),
        ),
        (
            "symlink",
            Box::new(|| symlink("x", at("symlink")).or_fail("symlink")),
        ),
        (
            "link",
            Box::new(|| link(&other.path, at("link")).or_fail("link")),
        ),
        ("unlink", Box::new(|| unlink(at("file")).or_fail("unlink"))),
        ("rmdir", Box::new(|| rmdir(at("sub")).or_fail("rmdir"))),
        (
            "rename",
            Box::new(|| rename(at("link"), at("moved")).or_fail("rename")),
        ),
    ];
    for (what, step) in &steps {
        expect_changed(what, around(&dir, step)?, true)?;
    }
    Ok(())
}

fn rename_changes_both_directories_and_the_file(t: &Test) -> Outcome {
    let (a, b) = (t.mkdir("a")?, t.mkdir("b")?);
    let file = File::create(a.join("file"))?;
    let old = timespec(1_000_000_000, 0);
    for path in [&a, &b, &file.path] {
        set_times(path, [old, old]).or_fail("utimensat")?;
    }
    let before = (times_of(&a)?, times_of(&b)?, file.times()?);
    wait_for_the_clock();
    rename(a.join("file"), b.join("file")).or_fail("rename")?;
    expect_changed("the old directory", (before.0, times_of(&a)?), true)?;
    expect_changed("the new directory", (before.1, times_of(&b)?), true)?;
    expect_changed("the file", (before.2, file.times()?), false)
}

fn unlink_of_one_link_changes_the_files_change_time(t: &Test) -> Outcome {
    let file = t.create("file")?;
    link(&file.path, t.path("link")).or_fail("link")?;
    let times = around(&file.path, || unlink(t.path("link")).or_fail("unlink"))?;
    expect_changed("unlink of the other link", times, false)?;
    let replaced = t.create("replaced")?;
    link(&replaced.path, t.path("second")).or_fail("link")?;
    t.create("new")?;
    let times = around(&replaced.path, || {
        rename(t.path("new"), t.path("second")).or_fail("rename")
    })?;
    expect_changed("rename onto one of its links", times, false)
}

fn reading_changes_the_access_time_as_relatime_does(t: &Test) -> Outcome {
    let file = t.create_with("file", b"data")?;
    let old = timespec(1_000_000_000, 0);
    // The access time is older than the modification: only the next read updates it.
    set_times(&file.path, [old, timespec(1_000_000_001, 0)]).or_fail("utimensat")?;
    // Setting the times is itself a change; the read must come after it.
    wait_for_the_clock();
    file.read_at(0, 4)?;
    let first = file.times()?.accessed;
    expect(
        first > 1_500_000_000_000_000_000,
        "atime is new after a read",
    )?;
    wait_for_the_clock();
    file.read_at(0, 4)?;
    expect_eq(file.times()?.accessed, first, "atime after a second read")?;
    let quiet = file.reopen(libc::O_RDONLY | libc::O_NOATIME)?;
    set_times(&file.path, [old, timespec(0, libc::UTIME_NOW)]).or_fail("utimensat")?;
    quiet.read_at(0, 4)?;
    expect_eq(
        file.times()?.accessed,
        1_000_000_000_000_000_000,
        "atime after O_NOATIME",
    )
}

fn creation_sets_all_three_times_to_now(t: &Test) -> Outcome {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .or_fail("the clock")?
        .as_nanos() as i128;
    t.create("file")?;
    t.mkdir("dir")?;
    symlink("x", t.path("symlink")).or_fail("symlink")?;
    for name in ["file", "dir", "symlink"] {
        let times = times_of(t.path(name))?;
        for (what, time) in [
            ("atime", times.accessed),
            ("mtime", times.modified),
            ("ctime", times.changed),
        ] {
            // The clock of file times may lag by a tick.
            let off = time - now;
            expect(
                (-100_000_000..30_000_000_000).contains(&off),
                format_args!("{what} of a new {name} is now, not {off} ns off"),
            )?;
        }
    }
    Ok(())
}

fn stat_shows_the_block_size_and_the_device(t: &Test) -> Outcome {
    let file = t.create_with("file", b"x")?;
    let stat = file.stat()?;
    expect_eq(stat.st_blksize, BLOCK as libc::blksize_t, "st_blksize")?;
    let dir = lstat(&t.dir).or_fail("lstat")?;
    expect_eq(
        stat.st_dev,
        dir.st_dev,
        "device of the file and its directory",
    )?;
    expect_eq(stat.st_rdev, 0, "st_rdev of a regular file")
}

fn a_directorys_size_and_blocks_are_plausible(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    for i in 0..20 {
        File::create(dir.join(format!("{i}")))?;
    }
    let stat = lstat(&dir).or_fail("lstat")?;
    expect(
        (0..1 << 20).contains(&stat.st_size),
        format_args!("size {}", stat.st_size),
    )?;
    expect(
        (0..1 << 12).contains(&stat.st_blocks),
        format_args!("blocks {}", stat.st_blocks),
    )
}

fn symlinks_have_owners_of_their_own(t: &Test) -> Outcome {
    t.create("file")?;
    symlink("file", t.path("symlink")).or_fail("symlink")?;
    crate::sys::path_call!(lchown(t.path("symlink"), 1000, 2000)).or_fail("lchown")?;
    let stat = lstat(t.path("symlink")).or_fail("lstat")?;
    expect_eq(
        (stat.st_uid, stat.st_gid),
        (1000, 2000),
        "owner of the symlink",
    )?;
    let stat = lstat(t.path("file")).or_fail("lstat")?;
    expect_eq((stat.st_uid, stat.st_gid), (0, 0), "owner of its target")?;
    chmod(t.path("symlink"), 0o600).or_fail("chmod through it")?;
    expect_eq(mode_of(t.path("symlink"))?, 0o777, "mode of the symlink")?;
    expect_eq(mode_of(t.path("file"))?, 0o600, "mode of its target")
}

fn statfs_shows_name_length_and_block_size(t: &Test) -> Outcome {
    let stat = crate::sys::statfs(&t.dir).or_fail("statfs")?;
    expect_eq(stat.f_bsize, BLOCK as i64, "f_bsize")?;
    expect_eq(stat.f_namelen, 255, "f_namelen")?;
    expect(
        stat.f_bfree <= stat.f_blocks,
        "no more blocks are free than there are",
    )?;
    let kind = stat.f_type;
    let known = match t.filesystem {
        Tmpfs => Some(libc::TMPFS_MAGIC),
        Xfs => Some(libc::XFS_SUPER_MAGIC),
        Btrfs => Some(libc::BTRFS_SUPER_MAGIC),
        _ => None,
    };
    match known {
        Some(magic) => expect_eq(kind, magic, "f_type"),
        None => expect(kind != 0 && kind != libc::TMPFS_MAGIC, "f_type is unique"),
    }
}

fn hard_links_share_attributes(t: &Test) -> Outcome {
    t.create("one")?;
    link(t.path("one"), t.path("other")).or_fail("link")?;
    chmod(t.path("one"), 0o123).or_fail("chmod")?;
    chown(t.path("other"), 8, 9).or_fail("chown")?;
    let (one, other) = (lstat(t.path("one")), lstat(t.path("other")));
    let (one, other) = (one.or_fail("lstat")?, other.or_fail("lstat")?);
    expect_eq(other.st_mode & 0o7777, 0o123, "mode by the other name")?;
    expect_eq((one.st_uid, one.st_gid), (8, 9), "owner by the first name")
}

fn attributes_of_an_unlinked_file_can_be_changed(t: &Test) -> Outcome {
    use std::os::fd::AsRawFd;
    let file = t.create("file")?;
    unlink(&file.path).or_fail("unlink")?;
    // SAFETY: plain calls on an open descriptor.
    unsafe {
        crate::sys::check(libc::fchmod(file.as_raw_fd(), 0o400)).or_fail("fchmod")?;
        crate::sys::check(libc::fchown(file.as_raw_fd(), 3, 4)).or_fail("fchown")?;
    }
    let stat = file.stat()?;
    expect_eq(stat.st_mode & 0o7777, 0o400, "mode")?;
    expect_eq((stat.st_uid, stat.st_gid), (3, 4), "owner")
}
