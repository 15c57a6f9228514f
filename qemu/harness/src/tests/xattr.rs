// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Extended attributes.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::Path;

use crate::case::{case, worker, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, expect_one_of, Context, Outcome, Sys};
use crate::filesystem::{Ext4, Feature, Tmpfs, INSTANCE};
use crate::pattern::{pattern, Random};
use crate::process::as_user;
use crate::sys::{c_path, check, chmod, mkdir, new_clone, symlink, unlink};

const CREATE: i32 = libc::XATTR_CREATE;
const REPLACE: i32 = libc::XATTR_REPLACE;

pub const CASES: &[Case] = &[
    case!(an_attribute_is_set_read_and_removed),
    case!(attributes_of_directories_and_links_work),
    case!(creating_and_replacing_are_told_apart),
    case!(values_up_to_64_kib_work_and_longer_ones_are_refused)
        .except(Ext4, "an attribute has at most a block")
        .except(Tmpfs, "limits user attributes by its inode space"),
    case!(a_buffer_that_is_too_small_is_erange),
    case!(names_of_255_bytes_work_and_longer_ones_are_refused),
    case!(an_empty_value_is_a_value),
    case!(unknown_prefixes_are_refused),
    case!(trusted_attributes_are_for_administrators),
    case!(user_attributes_follow_the_permissions),
    case!(changes_of_attributes_change_the_change_time),
    case!(many_attributes_are_kept_apart),
    case!(a_list_of_more_than_64_kib_is_e2big),
    case!(attributes_are_counted_and_given_back).needs(INSTANCE),
    case!(attributes_without_room_are_enospc).needs(INSTANCE),
    case!(capabilities_of_a_file_go_with_a_write),
    case!(a_clone_has_no_attributes_of_the_source).needs(&[Feature::Reflink]),
    case!(random_changes_agree_with_a_model),
    case!(readers_and_writers_race_without_tearing),
];

pub const CAPABILITY: &str = "security.capability";

/// struct vfs_cap_data, revision 2: CAP_NET_RAW, permitted.
pub fn capability() -> Vec<u8> {
    let mut value = vec![0u8; 20];
    value[3] = 2;
    value[4..8].copy_from_slice(&(1u32 << 13).to_le_bytes());
    value
}

pub fn set(path: impl AsRef<Path>, name: &str, value: &[u8], flags: i32) -> Sys {
    let (path, name) = (c_path(path.as_ref()), CString::new(name).expect("no NUL"));
    // SAFETY: strings and value are valid during the call.
    check(unsafe {
        let value_at = value.as_ptr().cast();
        libc::lsetxattr(path.as_ptr(), name.as_ptr(), value_at, value.len(), flags)
    })
    .map(|_| ())
}

fn get_into(path: impl AsRef<Path>, name: &str, buffer: &mut [u8]) -> Sys<usize> {
    let (path, name) = (c_path(path.as_ref()), CString::new(name).expect("no NUL"));
    let buffer_at = buffer.as_mut_ptr().cast();
    // SAFETY: strings and buffer are valid during the call.
    check(unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), buffer_at, buffer.len()) as i64 })
}

pub fn get(path: impl AsRef<Path>, name: &str) -> Sys<Vec<u8>> {
    let mut value = vec![0; 65536];
    let len = get_into(path, name, &mut value)?;
    value.truncate(len);
    Ok(value)
}

pub fn remove(path: impl AsRef<Path>, name: &str) -> Sys {
    let (path, name) = (c_path(path.as_ref()), CString::new(name).expect("no NUL"));
    // SAFETY: both strings are valid during the call.
    check(unsafe { libc::lremovexattr(path.as_ptr(), name.as_ptr()) }).map(|_| ())
}

fn list_into(path: impl AsRef<Path>, buffer: &mut [u8]) -> Sys<usize> {
    let path = c_path(path.as_ref());
    let buffer_at = buffer.as_mut_ptr().cast();
    // SAFETY: path and buffer are valid during the call.
    check(unsafe { libc::llistxattr(path.as_ptr(), buffer_at, buffer.len()) as i64 })
}

/// Returns the names, in order, without those of a security module or of XFS's ACLs.
pub fn list(path: impl AsRef<Path>) -> Outcome<Vec<String>> {
    let mut buffer = vec![0; 65536];
    let len = list_into(path, &mut buffer).or_fail("listxattr")?;
    let mut names: Vec<_> = buffer[..len]
        .split(|&b| b == 0)
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .filter(|name| {
            !["security.selinux", "security.SMACK64"].contains(&name.as_str())
                && !name.starts_with("trusted.SGI_ACL_")
        })
        .collect();
    names.sort();
    Ok(names)
}

fn an_attribute_is_set_read_and_removed(t: &Test) -> Outcome {
    t.create("file")?;
    let file = t.path("file");
    expect_errno(get(&file, "user.a"), libc::ENODATA, "before it is there")?;
    expect_errno(
        remove(&file, "user.a"),
        libc::ENODATA,
        "removing a missing attribute",
    )?;
    set(&file, "user.a", b"value", 0).or_fail("set")?;
    expect_eq(
        get(&file, "user.a").or_fail("get")?,
        b"value".to_vec(),
        "value",
    )?;
    expect_eq(list(&file)?, vec!["user.a"], "names")?;
    set(&file, "user.a", b"a longer value", 0).or_fail("set again")?;
    expect_eq(
        get(&file, "user.a").or_fail("get")?,
        b"a longer value".to_vec(),
        "value",
    )?;
    remove(&file, "user.a").or_fail("remove")?;
    expect_errno(get(&file, "user.a"), libc::ENODATA, "after removal")?;
    expect_eq(list(&file)?.len(), 0, "names left")
}

fn attributes_of_directories_and_links_work(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    set(&dir, "user.a", b"of a directory", 0).or_fail("set on a directory")?;
    set(&dir, "trusted.overlay.opaque", b"y", 0).or_fail("set trusted")?;
    expect_eq(
        list(&dir)?,
        vec!["trusted.overlay.opaque", "user.a"],
        "names",
    )?;
    symlink("nowhere", t.path("link")).or_fail("symlink")?;
    let refused = set(t.path("link"), "user.a", b"x", 0);
    expect_errno(refused, libc::EPERM, "user attributes of a symlink")?;
    set(t.path("link"), "trusted.a", b"of a link", 0).or_fail("trusted ones work")?;
    expect_eq(
        get(t.path("link"), "trusted.a").or_fail("get")?,
        b"of a link".to_vec(),
        "value",
    )
}

fn creating_and_replacing_are_told_apart(t: &Test) -> Outcome {
    t.create("file")?;
    let file = t.path("file");
    expect_errno(
        set(&file, "user.a", b"x", REPLACE),
        libc::ENODATA,
        "replacing nothing",
    )?;
    set(&file, "user.a", b"x", CREATE).or_fail("create")?;
    expect_errno(
        set(&file, "user.a", b"y", CREATE),
        libc::EEXIST,
        "creating again",
    )?;
    expect_eq(get(&file, "user.a").or_fail("get")?, b"x".to_vec(), "value")?;
    set(&file, "user.a", b"y", REPLACE).or_fail("replace")?;
    expect_eq(get(&file, "user.a").or_fail("get")?, b"y".to_vec(), "value")?;
    expect_errno(
        set(&file, "user.a", b"z", 8),
        libc::EINVAL,
        "a flag that there is not",
    )
}

fn values_up_to_64_kib_work_and_longer_ones_are_refused(t: &Test) -> Outcome {
    t.create("file")?;
    let file = t.path("file");
    let value = pattern(1, 65536);
    set(&file, "user.a", &value, 0).or_fail("65536 bytes")?;
    expect(get(&file, "user.a").or_fail("get")? == value, "the value")?;
    expect_errno(
        set(&file, "user.a", &[1; 65537], 0),
        libc::E2BIG,
        "65537 bytes",
    )?;
    expect(
        get(&file, "user.a").or_fail("get")? == value,
        "the value after a refusal",
    )
}

fn a_buffer_that_is_too_small_is_erange(t: &Test) -> Outcome {
    t.create("file")?;
    let file = t.path("file");
    set(&file, "user.a", b"0123456789", 0).or_fail("set")?;
    expect_eq(
        get_into(&file, "user.a", &mut []).or_fail("get")?,
        10,
        "length",
    )?;
    let mut small = [0xff; 9];
    expect_errno(
        get_into(&file, "user.a", &mut small),
        libc::ERANGE,
        "9 bytes for 10",
    )?;
    let mut exact = [0xff; 10];
    expect_eq(
        get_into(&file, "user.a", &mut exact).or_fail("get")?,
        10,
        "length",
    )?;
    let len = list_into(&file, &mut []).or_fail("list")?;
    expect(len >= 7, "the length of the list")?;
    let mut small = vec![0; len - 1];
    expect_errno(
        list_into(&file, &mut small),
        libc::ERANGE,
        "one byte too few",
    )?;
    let mut exact = vec![0; len];
    expect_eq(list_into(&file, &mut exact).or_fail("list")?, len, "length")
}

fn names_of_255_bytes_work_and_longer_ones_are_refused(t: &Test) -> Outcome {
    t.create("file")?;
    let file = t.path("file");
    let longest = format!("user.{}", "n".repeat(250));
    set(&file, &longest, b"x", 0).or_fail("255 bytes")?;
    expect_eq(list(&file)?, vec![longest.clone()], "names")?;
    let refused = set(&file, &format!("{longest}n"), b"x", 0);
    expect_errno(refused, libc::ERANGE, "256 bytes")?;
    expect_one_of(
        set(&file, "user.", b"x", 0),
        &[libc::EINVAL, libc::EOPNOTSUPP],
        "no name",
    )
}

fn an_empty_value_is_a_value(t: &Test) -> Outcome {
    t.create("file")?;
    set(t.path("file"), "user.a", b"", 0).or_fail("set")?;
    expect_eq(
        get(t.path("file"), "user.a").or_fail("get")?.len(),
        0,
        "length",
    )?;
    expect_eq(list(t.path("file"))?, vec!["user.a"], "names")
}

fn unknown_prefixes_are_refused(t: &Test) -> Outcome {
    t.create("file")?;
    for name in ["nothing.a", "a", "system.nothing", "os2.a"] {
        let refused = set(t.path("file"), name, b"x", 0);
        expect_errno(refused, libc::EOPNOTSUPP, format_args!("{name}"))?;
    }
    Ok(())
}

fn trusted_attributes_are_for_administrators(t: &Test) -> Outcome {
    t.create("file")?;
    let file = t.path("file");
    chmod(&file, 0o666).or_fail("chmod")?;
    chmod(&t.dir, 0o777).or_fail("chmod")?;
    set(&file, "trusted.a", b"x", 0).or_fail("set trusted")?;
    set(&file, "user.a", b"x", 0).or_fail("set user")?;
    as_user(1000, 1000, || {
        expect_errno(get(&file, "trusted.a"), libc::ENODATA, "reading as a user")?;
        expect_errno(
            set(&file, "trusted.b", b"x", 0),
            libc::EPERM,
            "setting as a user",
        )?;
        expect_errno(
            remove(&file, "trusted.a"),
            libc::EPERM,
            "removing as a user",
        )?;
        expect_eq(list(&file)?, vec!["user.a"], "names that a user sees")
    })
}

fn user_attributes_follow_the_permissions(t: &Test) -> Outcome {
    t.create("file")?;
    let file = t.path("file");
    set(&file, "user.a", b"x", 0).or_fail("set")?;
    chmod(&t.dir, 0o777).or_fail("chmod")?;
    chmod(&file, 0o644).or_fail("chmod")?;
    as_user(1000, 1000, || {
        expect_eq(get(&file, "user.a").or_fail("get")?, b"x".to_vec(), "value")?;
        expect_errno(set(&file, "user.a", b"y", 0), libc::EACCES, "setting")
    })?;
    chmod(&file, 0o600).or_fail("chmod")?;
    as_user(1000, 1000, || {
        expect_errno(get(&file, "user.a"), libc::EACCES, "reading")
    })
}

fn changes_of_attributes_change_the_change_time(t: &Test) -> Outcome {
    let file = t.create("file")?;
    let before = file.times()?;
    crate::sys::wait_for_the_clock();
    set(t.path("file"), "user.a", b"x", 0).or_fail("set")?;
    let after = file.times()?;
    expect(after.changed > before.changed, "the change time is later")?;
    expect(
        after.modified == before.modified,
        "the modification time is not",
    )
}

fn many_attributes_are_kept_apart(t: &Test) -> Outcome {
    t.create("file")?;
    let file = t.path("file");
    for i in 0..40 {
        set(&file, &format!("user.name-{i}"), &pattern(i, 20), 0).or_fail("set")?;
    }
    for i in (0..40).step_by(2) {
        remove(&file, &format!("user.name-{i}")).or_fail("remove")?;
    }
    expect_eq(list(&file)?.len(), 20, "names")?;
    for i in (1..40).step_by(2) {
        let value = get(&file, &format!("user.name-{i}")).or_fail("get")?;
        expect(value == pattern(i, 20), format_args!("value {i}"))?;
    }
    Ok(())
}

fn a_list_of_more_than_64_kib_is_e2big(t: &Test) -> Outcome {
    t.create("file")?;
    let file = t.path("file");
    // Each takes 256 bytes with its NUL.
    let name = |i: usize| format!("trusted.{i:0247}");
    const MOST: usize = 65536 / 256;
    for i in 0..MOST {
        set(&file, &name(i), b"", 0).or_fail(format_args!("attribute {i}"))?;
    }
    let mut buffer = vec![0; 1 << 20];
    for room in [65536, 1 << 20] {
        let len = list_into(&file, &mut buffer[..room]).or_fail("a list of 64 KiB")?;
        expect_eq(len, 65536, "length of the list")?;
    }
    expect_eq(list(&file)?.len(), MOST, "names")?;
    set(&file, &name(MOST), b"value", 0).or_fail("one more")?;
    for room in [65536, 1 << 20] {
        let listed = list_into(&file, &mut buffer[..room]);
        expect_errno(
            listed,
            libc::E2BIG,
            format_args!("a longer one, room for {room} bytes"),
        )?;
    }
    let listed = list_into(&file, &mut buffer[..65535]);
    expect_errno(
        listed,
        libc::ERANGE,
        "a longer one in a buffer that is too small",
    )?;
    expect_eq(
        get(&file, &name(MOST)).or_fail("get")?,
        b"value".to_vec(),
        "the value of an unlisted attribute",
    )?;
    remove(&file, &name(MOST / 2)).or_fail("remove")?;
    expect_eq(list(&file)?.len(), MOST, "names once there are less")
}

fn attributes_are_counted_and_given_back(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M"), ("nr_inodes", "100")])?;
    let before = fs.space()?;
    let free = |expected: std::ops::RangeInclusive<u64>, what: &str| -> Outcome {
        let space = fs.space()?;
        let taken = before.free_inodes - space.free_inodes;
        expect_eq(space.free, before.free, "free blocks")?;
        expect(
            expected.contains(&taken),
            format_args!("{taken} inodes less are free with {what}"),
        )
    };
    fs.create("file")?;
    free(1..=1, "a file")?;
    set(fs.path("file"), "user.a", &[1; 100], 0).or_fail("set")?;
    free(2..=2, "a small one")?;
    set(fs.path("file"), "user.b", &[1; 20_000], 0).or_fail("set")?;
    free(20..=22, "a large one, too")?;
    remove(fs.path("file"), "user.b").or_fail("remove")?;
    free(2..=2, "the small one")?;
    unlink(fs.path("file")).or_fail("unlink")?;
    free(0..=0, "nothing")?;
    mkdir(fs.path("dir"), 0o755).or_fail("mkdir")?;
    set(fs.path("dir"), "user.a", &[1; 5000], 0).or_fail("set")?;
    crate::sys::rmdir(fs.path("dir")).or_fail("rmdir")?;
    free(0..=0, "nothing")
}

fn attributes_without_room_are_enospc(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "64k"), ("nr_inodes", "100")])?;
    fs.create("file")?;
    let mut value = 30_000;
    let mut set_some = 0;
    for i in 0..40 {
        match set(fs.path("file"), &format!("user.{i}"), &vec![7; value], 0) {
            Ok(()) => set_some += 1,
            Err(error) => {
                expect_errno::<()>(Err(error), libc::ENOSPC, "an attribute too many")?;
                expect_errno(
                    get(fs.path("file"), &format!("user.{i}")),
                    libc::ENODATA,
                    "it",
                )?;
                value /= 2;
            }
        }
    }
    expect(set_some > 0, "some were set")?;
    for name in list(fs.path("file"))? {
        remove(fs.path("file"), &name).or_fail("remove")?;
    }
    set(fs.path("file"), "user.again", &[7; 10_000], 0).or_fail("once there is room")
}

fn capabilities_of_a_file_go_with_a_write(t: &Test) -> Outcome {
    let file = t.create_with("file", b"program")?;
    // struct vfs_cap_data, revision 2: CAP_NET_RAW, permitted.
    let mut capability = vec![0u8; 20];
    capability[3] = 2;
    capability[4..8].copy_from_slice(&(1u32 << 13).to_le_bytes());
    set(t.path("file"), "security.capability", &capability, 0).or_fail("set")?;
    let seen = get(t.path("file"), "security.capability").or_fail("get")?;
    expect(seen == capability, "the capability")?;
    file.write_at(b"changed", 0)?;
    let gone = get(t.path("file"), "security.capability");
    expect_errno(gone, libc::ENODATA, "the capability after a write")
}

fn a_clone_has_no_attributes_of_the_source(t: &Test) -> Outcome {
    let source = t.create_with("source", &pattern(1, 10_000))?;
    set(t.path("source"), "user.a", b"x", 0).or_fail("set")?;
    new_clone(&source, t.path("clone"))?;
    expect_eq(list(t.path("clone"))?.len(), 0, "names")
}

fn random_changes_agree_with_a_model(t: &Test) -> Outcome {
    t.create("file")?;
    let file = t.path("file");
    let mut random = Random::new(t.settings.seed);
    let mut model = BTreeMap::new();
    for _ in 0..t.rounds(500) {
        let name = format!("user.{}", random.below(12));
        if random.one_in(3) {
            let known = model.remove(&name).is_some();
            expect_eq(
                remove(&file, &name).is_ok(),
                known,
                format_args!("removing {name}"),
            )?;
        } else {
            let len = random.below(120);
            let value = random.bytes(len);
            set(&file, &name, &value, 0).or_fail("set")?;
            model.insert(name, value);
        }
        expect_eq(
            list(&file)?,
            model.keys().cloned().collect::<Vec<_>>(),
            "names",
        )?;
        for (name, value) in &model {
            expect(
                &get(&file, name).or_fail("get")? == value,
                format_args!("value of {name}"),
            )?;
        }
    }
    Ok(())
}

fn readers_and_writers_race_without_tearing(t: &Test) -> Outcome {
    t.create("file")?;
    let file = t.path("file");
    set(&file, "user.a", &[1; 100], 0).or_fail("set")?;
    let write = |step: u8| {
        let file = file.clone();
        let mut turn = step;
        move || {
            turn = turn.wrapping_add(2).max(1);
            let len = 50 + usize::from(turn);
            set(&file, "user.a", &vec![turn; len], 0).or_fail("set")
        }
    };
    t.race(vec![
        worker("writes", write(1)),
        worker("writes too", write(2)),
        worker("reads", || {
            let value = get(&file, "user.a").or_fail("get")?;
            expect(
                value.iter().all(|&b| b == value[0]),
                "the value is of one writer",
            )
        }),
        worker("lists", || {
            let names = list(&file)?;
            expect(names.contains(&"user.a".to_owned()), "the name stays")
        }),
        worker("comes and goes", || {
            set(&file, "user.b", b"x", 0).or_fail("set")?;
            remove(&file, "user.b").or_fail("remove")
        }),
    ])
}
