// SPDX-License-Identifier: GPL-2.0 OR MIT
//! POSIX access control lists.

use std::path::Path;

use super::xattr::{get, list, remove, set};
use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Outcome, Sys};
use crate::filesystem::{Feature, CLONES};
use crate::posix_acl::{decode, encode, entry, ACCESS, DEFAULT};
use crate::process::{as_user, run_program, Child, End};
use crate::sys::{
    chmod, chown, link, lstat, mkdir, new_clone, path_call, symlink, unlink, wait_for_the_clock,
    File, Times,
};

pub const CASES: &[Case] = &[
    case!(an_acl_is_set_read_listed_and_removed),
    case!(an_acl_that_says_no_more_than_the_mode_becomes_the_mode),
    case!(the_mode_follows_the_acl),
    case!(chmod_changes_the_mask_and_keeps_the_rest),
    case!(entries_decide_who_may_read_and_write),
    case!(entries_decide_who_may_search_and_change_a_directory),
    case!(a_default_acl_is_for_directories),
    case!(what_is_made_in_a_directory_inherits_its_default_acl),
    case!(the_mode_asked_for_limits_what_is_inherited),
    case!(a_default_acl_decides_instead_of_the_umask),
    case!(a_file_without_a_name_inherits_too),
    case!(an_acl_that_makes_no_sense_is_refused),
    case!(symlinks_have_no_acls),
    case!(only_the_owner_may_set_an_acl),
    case!(setting_an_acl_takes_the_set_group_bit_from_who_is_not_in_the_group),
    case!(setting_an_acl_changes_the_change_time),
    case!(a_link_has_the_acl_and_a_clone_has_it_not).needs(CLONES),
    case!(an_acl_of_many_entries_is_kept),
    case!(acls_are_counted_and_given_back).needs(&[Feature::Reflinkfs]),
    case!(acls_without_room_are_enospc_and_change_nothing).needs(&[Feature::Reflinkfs]),
    case!(getfacl_and_setfacl_work),
    case!(chmod_and_acls_race_and_agree),
];

pub(super) fn set_acl(path: impl AsRef<Path>, kind: &str, words: &str) -> Sys {
    set(path, kind, &encode(words), 0)
}

#[track_caller]
pub(super) fn expect_acl(path: impl AsRef<Path>, kind: &str, words: &str) -> Outcome {
    let seen = get(&path, kind).or_fail(format_args!("{kind} of {}", path.as_ref().display()))?;
    expect_eq(
        decode(&seen),
        words,
        format_args!("{kind} of {}", path.as_ref().display()),
    )
}

#[track_caller]
fn expect_no_acl(path: impl AsRef<Path>, kind: &str) -> Outcome {
    let seen = get(&path, kind).map(|acl| decode(&acl));
    expect_errno(
        seen,
        libc::ENODATA,
        format_args!("{kind} of {}", path.as_ref().display()),
    )
}

#[track_caller]
fn expect_mode(path: impl AsRef<Path>, mode: u32, what: &str) -> Outcome {
    let seen = lstat(path).or_fail("lstat")?.st_mode & 0o7777;
    expect(
        seen == mode,
        format_args!("{what}: expected mode {mode:o}, got {seen:o}"),
    )
}

const SOME: &str = "u::rw- u:1000:rwx g::r-- m::rwx o::---";

fn an_acl_is_set_read_listed_and_removed(t: &Test) -> Outcome {
    let file = t.create("file")?;
    expect_no_acl(&file.path, ACCESS)?;
    set_acl(&file.path, ACCESS, SOME).or_fail("set")?;
    expect_acl(&file.path, ACCESS, SOME)?;
    expect_eq(list(&file.path)?, vec![ACCESS], "names of attributes")?;
    let other = "u::rwx u:1:--x u:1000:r-- g::r-x g:7:-w- m::rwx o::--x";
    set_acl(&file.path, ACCESS, other).or_fail("set another")?;
    expect_acl(&file.path, ACCESS, other)?;
    remove(&file.path, ACCESS).or_fail("remove")?;
    expect_no_acl(&file.path, ACCESS)?;
    expect_eq(list(&file.path)?.len(), 0, "attributes left")?;
    expect_mode(&file.path, 0o771, "the mask is left in the mode")?;

    let dir = t.mkdir("dir")?;
    set_acl(&dir, DEFAULT, SOME).or_fail("set the default")?;
    set_acl(&dir, ACCESS, SOME).or_fail("set")?;
    expect_eq(list(&dir)?, vec![ACCESS, DEFAULT], "names of a directory's")?;
    // An attribute without entries means no ACL.
    set(&dir, DEFAULT, b"", 0).or_fail("set nothing")?;
    set(&dir, ACCESS, &encode(""), 0).or_fail("set no entries")?;
    expect_no_acl(&dir, DEFAULT)?;
    expect_no_acl(&dir, ACCESS)
}

fn an_acl_that_says_no_more_than_the_mode_becomes_the_mode(t: &Test) -> Outcome {
    let file = t.create("file")?;
    set_acl(&file.path, ACCESS, "u::rwx g::r-x o::-w-").or_fail("set")?;
    expect_mode(&file.path, 0o752, "the mode says it")?;
    expect_no_acl(&file.path, ACCESS)?;
    set_acl(&file.path, ACCESS, SOME).or_fail("set")?;
    set_acl(&file.path, ACCESS, "u::r-- g::r-- o::r--").or_fail("set in place of another")?;
    expect_mode(&file.path, 0o444, "the mode says it")?;
    expect_no_acl(&file.path, ACCESS)?;
    // With a mask it is more than a mode, even without named entries.
    set_acl(&file.path, ACCESS, "u::rw- g::rw- m::r-- o::---").or_fail("set")?;
    expect_acl(&file.path, ACCESS, "u::rw- g::rw- m::r-- o::---")
}

fn the_mode_follows_the_acl(t: &Test) -> Outcome {
    let file = t.create("file")?;
    chmod(&file.path, 0o6000).or_fail("chmod")?;
    for (words, mode) in [
        (SOME, 0o6670),
        ("u::r-x u:5:rwx g::rwx m::--x o::-w-", 0o6512),
        ("u::--- g::rwx g:5:--- m::--- o::rwx", 0o6007),
    ] {
        set_acl(&file.path, ACCESS, words).or_fail("set")?;
        expect_mode(&file.path, mode, words)?;
    }
    Ok(())
}

fn chmod_changes_the_mask_and_keeps_the_rest(t: &Test) -> Outcome {
    let file = t.create("file")?;
    set_acl(&file.path, ACCESS, SOME).or_fail("set")?;
    chmod(&file.path, 0o4541).or_fail("chmod")?;
    expect_acl(&file.path, ACCESS, "u::r-x u:1000:rwx g::r-- m::r-- o::--x")?;
    expect_mode(&file.path, 0o4541, "after chmod")?;
    // SAFETY: plain call on an open descriptor.
    crate::sys::check(unsafe { libc::fchmod(std::os::fd::AsRawFd::as_raw_fd(&file), 0o600) })
        .or_fail("fchmod")?;
    expect_acl(&file.path, ACCESS, "u::rw- u:1000:rwx g::r-- m::--- o::---")?;
    // A mode never includes a default ACL.
    let dir = t.mkdir("dir")?;
    set_acl(&dir, DEFAULT, SOME).or_fail("set the default")?;
    chmod(&dir, 0o700).or_fail("chmod")?;
    expect_acl(&dir, DEFAULT, SOME)?;
    expect_no_acl(&dir, ACCESS)
}

fn entries_decide_who_may_read_and_write(t: &Test) -> Outcome {
    let file = t.create("file")?;
    chown(&file.path, 1000, 2000).or_fail("chown")?;
    for (words, uid, gid, read, write) in [
        // The owner's entry is the owner's, whatever other entries name the owner.
        (
            "u::--- u:1000:rw- g::rw- m::rw- o::rw-",
            1000,
            2000,
            false,
            false,
        ),
        (
            "u::rw- u:1000:--- g::--- m::--- o::---",
            1000,
            2000,
            true,
            true,
        ),
        // A named user.
        (
            "u::--- u:1001:rw- g::--- m::rw- o::---",
            1001,
            1,
            true,
            true,
        ),
        (
            "u::--- u:1001:rw- g::--- m::r-- o::---",
            1001,
            1,
            true,
            false,
        ),
        (
            "u::--- u:1001:--- g::rw- m::rw- o::rw-",
            1001,
            2000,
            false,
            false,
        ),
        (
            "u::rw- u:1001:rw- g::--- m::rw- o::---",
            1002,
            1,
            false,
            false,
        ),
        // The file's group, and a named group.
        (
            "u::--- u:5:--- g::rw- m::-w- o::rw-",
            1002,
            2000,
            false,
            true,
        ),
        (
            "u::--- g::--- g:2001:rw- m::rw- o::---",
            1002,
            2001,
            true,
            true,
        ),
        (
            "u::--- g::rw- g:2001:r-- m::rw- o::rw-",
            1002,
            2001,
            true,
            false,
        ),
        (
            "u::--- g::rw- g:2001:--- m::rw- o::rw-",
            1002,
            2001,
            false,
            false,
        ),
        // Any of a process's groups counts, but all requested permissions must come from one entry.
        (
            "u::--- g::r-- g:2000:-w- m::rw- o::---",
            1002,
            2000,
            true,
            true,
        ),
        // Other users, whom the mask does not limit.
        (
            "u::--- u:5:--- g::--- g:6:--- m::--- o::r--",
            1002,
            1,
            true,
            false,
        ),
    ] {
        set_acl(&file.path, ACCESS, words).or_fail("set")?;
        as_user(uid, gid, || {
            for (flags, allowed) in [(libc::O_RDONLY, read), (libc::O_WRONLY, write)] {
                let opened = File::open(&file.path, flags);
                let what = format!("open({flags}) by {uid}:{gid} of {words}");
                let asked =
                    path_call!(access(&file.path, [libc::R_OK, libc::W_OK][flags as usize]));
                if allowed {
                    opened.or_fail(&what)?;
                    asked.or_fail(format_args!("access: {what}"))?;
                } else {
                    expect_errno(opened, libc::EACCES, &what)?;
                    expect_errno(asked, libc::EACCES, format_args!("access: {what}"))?;
                }
            }
            let both = File::open(&file.path, libc::O_RDWR);
            let apart = words.contains("g::r-- g:2000:-w-");
            expect_eq(
                both.is_ok(),
                read && write && !apart,
                format_args!("open(O_RDWR) by {uid}:{gid} of {words} works"),
            )
        })?;
    }
    set_acl(&file.path, ACCESS, "u::--- u:0:--- g::--- m::--- o::---").or_fail("set")?;
    file.reopen(libc::O_RDWR)?;
    Ok(())
}

fn entries_decide_who_may_search_and_change_a_directory(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    let file = File::create(dir.join("file"))?;
    chmod(&dir, 0o700).or_fail("chmod")?;
    set_acl(
        &dir,
        ACCESS,
        "u::rwx u:1000:--x u:1001:rwx g::--- m::rwx o::---",
    )
    .or_fail("set")?;
    as_user(1000, 1000, || {
        lstat(&file.path).or_fail("lstat")?;
        expect_errno(unlink(&file.path), libc::EACCES, "unlink without w")?;
        let listed = File::open(&dir, libc::O_RDONLY);
        expect_errno(listed, libc::EACCES, "opening to list without r")
    })?;
    as_user(1001, 1001, || {
        File::open(&dir, libc::O_RDONLY).or_fail("opening to list")?;
        unlink(&file.path).or_fail("unlink")
    })?;
    as_user(1002, 1002, || {
        expect_errno(
            lstat(&file.path).map(|_| ()),
            libc::EACCES,
            "lstat without x",
        )
    })
}

fn a_default_acl_is_for_directories(t: &Test) -> Outcome {
    let file = t.create("file")?;
    expect_errno(
        set_acl(&file.path, DEFAULT, SOME),
        libc::EACCES,
        "a default ACL for a file",
    )?;
    remove(&file.path, DEFAULT).or_fail("removing none from a file")?;
    let dir = t.mkdir("dir")?;
    chmod(&dir, 0o705).or_fail("chmod")?;
    set_acl(&dir, DEFAULT, SOME).or_fail("set")?;
    expect_mode(
        &dir,
        0o705,
        "a default ACL changes nothing of the directory itself",
    )?;
    // A default ACL equivalent to a mode is kept.
    set_acl(&dir, DEFAULT, "u::rwx g::--- o::---").or_fail("set")?;
    expect_acl(&dir, DEFAULT, "u::rwx g::--- o::---")
}

fn what_is_made_in_a_directory_inherits_its_default_acl(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    let default = "u::rwx u:1000:rw- g::r-x m::rwx o::---";
    set_acl(&dir, DEFAULT, default).or_fail("set")?;
    let flags = libc::O_RDWR | libc::O_CREAT;
    File::open_mode(dir.join("file"), flags, 0o777).or_fail("create")?;
    path_call!(mkfifo(dir.join("fifo"), 0o777)).or_fail("mkfifo")?;
    mkdir(dir.join("sub"), 0o777).or_fail("mkdir")?;
    mkdir(dir.join("sub/sub"), 0o777).or_fail("mkdir")?;
    symlink("file", dir.join("symlink")).or_fail("symlink")?;
    for name in ["file", "fifo", "sub", "sub/sub"] {
        expect_acl(dir.join(name), ACCESS, default)?;
        expect_mode(dir.join(name), 0o770, name)?;
    }
    for name in ["sub", "sub/sub"] {
        expect_acl(dir.join(name), DEFAULT, default)?;
    }
    expect_no_acl(dir.join("file"), DEFAULT)?;
    expect_mode(dir.join("symlink"), 0o777, "a symlink")?;
    // Older files have none.
    expect_no_acl(&dir, ACCESS)?;
    // A file from another directory keeps its own.
    let file = t.create("from-elsewhere")?;
    crate::sys::rename(&file.path, dir.join("moved")).or_fail("rename")?;
    expect_no_acl(dir.join("moved"), ACCESS)?;
    link(dir.join("file"), t.path("link")).or_fail("link")?;
    expect_acl(t.path("link"), ACCESS, default)
}

fn the_mode_asked_for_limits_what_is_inherited(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    set_acl(&dir, DEFAULT, "u::rwx u:1000:rwx g::rwx m::rwx o::rwx").or_fail("set")?;
    let flags = libc::O_RDWR | libc::O_CREAT;
    File::open_mode(dir.join("file"), flags, 0o640).or_fail("create")?;
    expect_acl(
        dir.join("file"),
        ACCESS,
        "u::rw- u:1000:rwx g::rwx m::r-- o::---",
    )?;
    expect_mode(dir.join("file"), 0o640, "a file")?;
    mkdir(dir.join("sub"), 0o710).or_fail("mkdir")?;
    expect_acl(
        dir.join("sub"),
        ACCESS,
        "u::rwx u:1000:rwx g::rwx m::--x o::---",
    )?;
    // Subdirectories inherit the default ACL.
    expect_acl(
        dir.join("sub"),
        DEFAULT,
        "u::rwx u:1000:rwx g::rwx m::rwx o::rwx",
    )
}

fn a_default_acl_decides_instead_of_the_umask(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    // SAFETY: plain call; the test's process is its own.
    unsafe { libc::umask(0o077) };
    let flags = libc::O_RDWR | libc::O_CREAT;
    File::open_mode(dir.join("before"), flags, 0o666).or_fail("create")?;
    expect_mode(dir.join("before"), 0o600, "without a default ACL")?;
    // An access ACL equivalent to a mode is not kept, but sets the mode.
    set_acl(&dir, DEFAULT, "u::rwx g::rwx o::r-x").or_fail("set")?;
    File::open_mode(dir.join("file"), flags, 0o666).or_fail("create")?;
    expect_mode(dir.join("file"), 0o664, "with a default ACL")?;
    expect_no_acl(dir.join("file"), ACCESS)?;
    mkdir(dir.join("sub"), 0o777).or_fail("mkdir")?;
    expect_mode(dir.join("sub"), 0o775, "a directory")?;
    expect_no_acl(dir.join("sub"), ACCESS)?;
    expect_acl(dir.join("sub"), DEFAULT, "u::rwx g::rwx o::r-x")?;
    remove(&dir, DEFAULT).or_fail("remove")?;
    File::open_mode(dir.join("after"), flags, 0o666).or_fail("create")?;
    expect_mode(dir.join("after"), 0o600, "without a default ACL again")
}

fn a_file_without_a_name_inherits_too(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    let default = "u::rw- u:1000:rw- g::--- m::rw- o::---";
    set_acl(&dir, DEFAULT, default).or_fail("set")?;
    let flags = libc::O_RDWR | libc::O_TMPFILE;
    let file = File::open_mode(&dir, flags, 0o666).or_fail("open(O_TMPFILE)")?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
    let from = crate::sys::c_path(format!("/proc/self/fd/{fd}").as_ref());
    let to = crate::sys::c_path(&dir.join("named"));
    // SAFETY: both paths are valid during the call.
    crate::sys::check(unsafe {
        let at = libc::AT_FDCWD;
        libc::linkat(at, from.as_ptr(), at, to.as_ptr(), libc::AT_SYMLINK_FOLLOW)
    })
    .or_fail("linkat")?;
    expect_acl(dir.join("named"), ACCESS, default)
}

fn an_acl_that_makes_no_sense_is_refused(t: &Test) -> Outcome {
    let file = t.create("file")?;
    set_acl(&file.path, ACCESS, SOME).or_fail("set")?;
    for (words, why) in [
        ("u::rw- g::r--", "nothing for others"),
        ("g::r-- o::r--", "nothing for the owner"),
        ("u::rw- o::r--", "nothing for the group"),
        (
            "u::rw- u:1:r-- g::r-- o::---",
            "no mask although a user is named",
        ),
        (
            "u::rw- g::r-- g:1:r-- o::---",
            "no mask although a group is named",
        ),
        ("g::r-- u::rw- o::---", "in disorder"),
        (
            "u::rw- g::r-- u:1:r-- m::rwx o::---",
            "named users after the group",
        ),
        ("u::rw- u::rw- g::r-- o::---", "two owners"),
        ("u::rw- g::r-- m::r-- m::r-- o::---", "two masks"),
    ] {
        expect_errno(set_acl(&file.path, ACCESS, words), libc::EINVAL, why)?;
    }
    let good = encode("u::rw- g::r-- o::---");
    let mut more = good.clone();
    entry(&mut more, 64, 4, 0);
    let mut rights = encode("");
    entry(&mut rights, 1, 8, u32::MAX);
    entry(&mut rights, 4, 0, u32::MAX);
    entry(&mut rights, 32, 0, u32::MAX);
    let mut version = good.clone();
    version[0] = 3;
    for (value, errno, why) in [
        (&good[..good.len() - 1], libc::EINVAL, "a part of an entry"),
        (&good[..3], libc::EINVAL, "a part of the version"),
        (&more[..], libc::EINVAL, "an unknown entry"),
        (&rights[..], libc::EINVAL, "unknown permissions"),
        (&version[..], libc::EOPNOTSUPP, "an unknown version"),
    ] {
        expect_errno(set(&file.path, ACCESS, value, 0), errno, why)?;
    }
    expect_acl(&file.path, ACCESS, SOME)?;
    expect_mode(&file.path, 0o670, "after all that was refused")?;
    expect_errno(
        set_acl(t.path("none"), ACCESS, SOME),
        libc::ENOENT,
        "an ACL for nothing",
    )
}

fn symlinks_have_no_acls(t: &Test) -> Outcome {
    t.create("file")?;
    symlink("file", t.path("symlink")).or_fail("symlink")?;
    for kind in [ACCESS, DEFAULT] {
        expect_errno(
            set_acl(t.path("symlink"), kind, SOME),
            libc::EOPNOTSUPP,
            kind,
        )?;
        expect_errno(
            get(t.path("symlink"), kind).map(|_| ()),
            libc::EOPNOTSUPP,
            kind,
        )?;
    }
    expect_no_acl(t.path("file"), ACCESS)
}

fn only_the_owner_may_set_an_acl(t: &Test) -> Outcome {
    let file = t.create("file")?;
    let dir = t.mkdir("dir")?;
    set_acl(&file.path, ACCESS, "u::rw- u:1000:rwx g::rwx m::rwx o::rwx").or_fail("set")?;
    chmod(&dir, 0o777).or_fail("chmod")?;
    as_user(1000, 0, || {
        expect_errno(set_acl(&file.path, ACCESS, SOME), libc::EPERM, "set")?;
        expect_errno(remove(&file.path, ACCESS), libc::EPERM, "remove")?;
        expect_errno(set_acl(&dir, DEFAULT, SOME), libc::EPERM, "set a default")?;
        // But any user with search permission may read it.
        get(&file.path, ACCESS).or_fail("get").map(|_| ())
    })?;
    chown(&file.path, 1000, 0).or_fail("chown")?;
    as_user(1000, 0, || {
        set_acl(&file.path, ACCESS, SOME).or_fail("set by the owner")
    })?;
    let view = t.read_only_view()?;
    let refused = set_acl(view.join("file"), ACCESS, SOME);
    expect_errno(refused, libc::EROFS, "set on a read-only mount")
}

fn setting_an_acl_takes_the_set_group_bit_from_who_is_not_in_the_group(t: &Test) -> Outcome {
    let file = t.create("file")?;
    chown(&file.path, 1000, 2000).or_fail("chown")?;
    for (gid, left) in [(2000, 0o2670), (2001, 0o670)] {
        chmod(&file.path, 0o2775).or_fail("chmod")?;
        as_user(1000, gid, || {
            set_acl(&file.path, ACCESS, SOME).or_fail("set")
        })?;
        expect_mode(&file.path, left, &format!("set by 1000:{gid}"))?;
    }
    chmod(&file.path, 0o2775).or_fail("chmod")?;
    as_user(1000, 2001, || {
        set_acl(&file.path, ACCESS, "u::rwx g::rwx o::---").or_fail("set")
    })?;
    expect_mode(&file.path, 0o770, "one that says no more than the mode")
}

fn setting_an_acl_changes_the_change_time(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    for (kind, words) in [
        (ACCESS, SOME),
        (ACCESS, "u::rwx g::rwx o::---"),
        (DEFAULT, SOME),
    ] {
        let before = Times::of(&lstat(&dir).or_fail("lstat")?);
        wait_for_the_clock();
        set_acl(&dir, kind, words).or_fail("set")?;
        let after = Times::of(&lstat(&dir).or_fail("lstat")?);
        expect(
            after.changed > before.changed,
            format_args!("ctime is new after {kind} = {words}"),
        )?;
        expect_eq(after.modified, before.modified, "mtime")?;
    }
    Ok(())
}

fn a_link_has_the_acl_and_a_clone_has_it_not(t: &Test) -> Outcome {
    let file = t.create_with("file", b"data")?;
    set_acl(&file.path, ACCESS, SOME).or_fail("set")?;
    link(&file.path, t.path("link")).or_fail("link")?;
    expect_acl(t.path("link"), ACCESS, SOME)?;
    new_clone(&file, t.path("clone"))?;
    expect_no_acl(t.path("clone"), ACCESS)?;
    expect_mode(t.path("clone"), 0o644, "the clone's own mode")
}

/// Returns an ACL with this many named users.
fn naming(users: usize) -> String {
    let named = (0..users).map(|i| format!("u:{}:r--", 10_000 + i));
    let named = named.collect::<Vec<_>>().join(" ");
    format!("u::rw- {named} g::r-- m::r-- o::---")
}

fn an_acl_of_many_entries_is_kept(t: &Test) -> Outcome {
    let file = t.create("file")?;
    for users in [1, 100, 511, 1000] {
        set_acl(&file.path, ACCESS, &naming(users)).or_fail(format_args!("{users} users"))?;
        expect_acl(&file.path, ACCESS, &naming(users))?;
    }
    // The last named user counts like the first.
    as_user(10_999, 1, || {
        File::open(&file.path, libc::O_RDONLY)
            .map(drop)
            .or_fail("open")
    })?;
    as_user(11_000, 1, || {
        expect_errno(File::open(&file.path, libc::O_RDONLY), libc::EACCES, "open")
    })
}

fn acls_are_counted_and_given_back(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "4M"), ("nr_inodes", "1000")])?;
    let free = || Ok(fs.space()?.free_inodes);
    let before = free()?;
    for i in 0..20 {
        let file = fs.create(&format!("file-{i}"))?;
        set_acl(&file.path, ACCESS, &naming(1000)).or_fail("set")?;
    }
    let taken = before - free()?;
    expect(
        taken >= 20 + 20 * 7,
        format_args!("20 ACLs of 8 kB each take the space of inodes, but {taken} are taken"),
    )?;
    for i in 0..20 {
        let path = fs.path(&format!("file-{i}"));
        match i % 3 {
            0 => remove(&path, ACCESS).or_fail("remove")?,
            1 => set_acl(&path, ACCESS, "u::rw- g::r-- o::---").or_fail("set")?,
            _ => {}
        }
        unlink(&path).or_fail("unlink")?;
    }
    expect_eq(free()?, before, "free inodes after removal")?;
    // An inherited ACL counts as well.
    mkdir(fs.path("dir"), 0o755).or_fail("mkdir")?;
    set_acl(fs.path("dir"), DEFAULT, &naming(1000)).or_fail("set")?;
    let one = free()?;
    fs.create("dir/file")?;
    expect(free()? < one - 1, "an inherited ACL takes space")?;
    unlink(fs.path("dir/file")).or_fail("unlink")?;
    crate::sys::rmdir(fs.path("dir")).or_fail("rmdir")?;
    expect_eq(free()?, before, "free inodes after removal of all")
}

fn acls_without_room_are_enospc_and_change_nothing(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M"), ("nr_inodes", "16")])?;
    let file = fs.create("file")?;
    set_acl(&file.path, ACCESS, SOME).or_fail("set")?;
    mkdir(fs.path("dir"), 0o755).or_fail("mkdir")?;
    set_acl(fs.path("dir"), DEFAULT, &naming(1000)).or_fail("set")?;
    let large = set_acl(&file.path, ACCESS, &naming(1000));
    expect_errno(large, libc::ENOSPC, "a large ACL without room")?;
    expect_acl(&file.path, ACCESS, SOME)?;
    expect_mode(&file.path, 0o670, "after ENOSPC")?;
    let flags = libc::O_RDWR | libc::O_CREAT;
    let inherited = File::open(fs.path("dir/file"), flags);
    expect_errno(
        inherited,
        libc::ENOSPC,
        "inheriting a large ACL without room",
    )?;
    expect(
        !crate::sys::exists(fs.path("dir/file")),
        "no file is left behind",
    )?;
    remove(&file.path, ACCESS).or_fail("remove")
}

#[track_caller]
fn run(program: &str, arguments: &[&str]) -> Outcome<String> {
    let (end, said) = run_program(Path::new(program), arguments)?;
    expect_eq(
        end,
        End::Exited(0),
        format_args!("{program} {arguments:?}: {said}"),
    )?;
    Ok(said)
}

fn getfacl_and_setfacl_work(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    let path = dir.to_string_lossy().into_owned();
    run(
        "/usr/bin/setfacl",
        &["-m", "u:1000:rwx,g:2000:r-x,m::r-x", &path],
    )?;
    run("/usr/bin/setfacl", &["-d", "-m", "u:1001:rw", &path])?;
    let seen = run("/usr/bin/getfacl", &["-ncpE", &path])?;
    let expected = "user::rwx\nuser:1000:rwx\ngroup::r-x\ngroup:2000:r-x\nmask::r-x\nother::r-x\n\
                    default:user::rwx\ndefault:user:1001:rw-\ndefault:group::r-x\n\
                    default:mask::rwx\ndefault:other::r-x\n\n";
    expect_eq(seen, expected, "what getfacl prints")?;
    run("/usr/bin/setfacl", &["-bk", &path])?;
    let seen = run("/usr/bin/getfacl", &["-ncpE", &path])?;
    expect_eq(
        seen,
        "user::rwx\ngroup::r-x\nother::r-x\n\n",
        "after setfacl -bk",
    )?;
    expect_no_acl(&dir, DEFAULT)
}

fn chmod_and_acls_race_and_agree(t: &Test) -> Outcome {
    let file = t.create("file")?;
    for round in 0..t.rounds(20) {
        let chmods = Child::spawn(|| {
            (0..50).try_for_each(|i| chmod(&file.path, [0o600, 0o677][i % 2]).or_fail("chmod"))
        })?;
        for i in 0..50 {
            let words = ["u::rw- g::r-- o::---", SOME][i % 2];
            set_acl(&file.path, ACCESS, words).or_fail("set")?;
        }
        chmods.join()?;
        let mode = lstat(&file.path).or_fail("lstat")?.st_mode & 0o7777;
        let acl = decode(&get(&file.path, ACCESS).or_fail("get")?);
        let mask = ["m::---", "m::rwx"][usize::from(mode & 0o070 != 0)];
        expect(
            acl.contains(mask),
            format_args!("round {round}: mode {mode:o} and ACL {acl} agree"),
        )?;
    }
    Ok(())
}
