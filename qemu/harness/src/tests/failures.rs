// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Each allocation and each access to user memory fails in turn, on a kernel with fault injection:
//! a call that fails has changed nothing, a call that succeeds is right, nothing leaks.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::injection::Injection;
use crate::case::{case, Case, Test};
use crate::extents::extents;
use crate::failure::{
    expect, expect_bytes, expect_eq, expect_errno, expect_one_of, Context, Errno, Failure, Outcome,
    Sys,
};
use crate::filesystem::{Feature, Tmpfs};
use crate::instance::{self, unmount, Configuration, Instance, Space};
use crate::mapping::Mapping;
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};
use crate::quota;
use crate::sys::{
    clone_file, clone_range, copy_once, dedupe, link, mkdir, new_clone, pipe, read_to, rename,
    rmdir, symlink, unlink, write_all, Deduped, File,
};

const CLONES_COUNTED: &[Feature] = &[
    Feature::Reflink,
    Feature::Instance,
    Feature::Fiemap,
    Feature::FaultInjection,
];

const NO_INODE: &str = "returns ENOSPC without memory for an inode";

pub const CASES: &[Case] = &[
    case!(a_write_to_shared_blocks_fails_without_harm).needs(CLONES_COUNTED),
    case!(a_store_to_a_shared_block_fails_without_harm).needs(CLONES_COUNTED),
    case!(a_clone_fails_without_harm).needs(CLONES_COUNTED),
    case!(a_clone_of_a_range_fails_without_harm).needs(CLONES_COUNTED),
    case!(a_copy_that_shares_fails_without_harm).needs(CLONES_COUNTED),
    case!(a_copy_of_bytes_fails_without_harm).needs(CLONES_COUNTED),
    case!(a_truncation_inside_a_shared_block_fails_without_harm).needs(CLONES_COUNTED),
    case!(a_deduplication_fails_without_harm).needs(CLONES_COUNTED),
    case!(a_change_of_names_fails_without_harm)
        .needs(&[Feature::Instance, Feature::FaultInjection])
        .except(Tmpfs, NO_INODE),
    case!(a_mount_fails_without_harm)
        .needs(&[Feature::Instance, Feature::FaultInjection])
        .except(Tmpfs, NO_INODE),
    case!(an_unmount_is_done_or_not).needs(&[Feature::Instance, Feature::FaultInjection]),
];

/// More failure points than any call has.
const MANY: usize = 2000;

/// Makes a call again and again, each time in a new scene, with another failure point, until none
/// is left. After a failure the same call must succeed in that scene. Prints the number of points.
pub(super) fn fail_everywhere<S>(
    injection: &Injection,
    name: &str,
    fs: &Instance,
    scene: impl Fn(&Instance) -> Outcome<S>,
    call: impl Fn(&Instance, &S) -> Sys<usize>,
    check: impl Fn(&Instance, &S, Sys<usize>) -> Outcome,
) -> Outcome {
    let empty = fs.space()?;
    for n in 1..MANY {
        let what = format!("with failure {n}");
        let scene = scene(fs)?;
        let (result, failed) = injection.nth(n, || call(fs, &scene))?;
        check(fs, &scene, result).or_fail(&what)?;
        if result.is_err() {
            expect_one_of(result, &[libc::ENOMEM, libc::EFAULT], &what)?;
            expect(
                failed,
                format_args!("{what}, which did not come: {result:?}"),
            )?;
            let result = call(fs, &scene);
            result.or_fail(format_args!("once more after failure {n}"))?;
            check(fs, &scene, result).or_fail(format_args!("once more after failure {n}"))?;
        }
        drop(scene);
        remove_everything(fs, &empty).or_fail(&what)?;
        if !failed {
            crate::torture::tell(format_args!("{} in {name}", Injection::points_of(n - 1)));
            return Ok(());
        }
    }
    Err(Failure::new(format_args!(
        "still failing after {MANY} failures"
    )))
}

/// With quotas, if the kernel has them: charges must stay right, too.
fn mount(t: &Test) -> Outcome<Instance> {
    mount_with(t, has_quota(t))
}

pub(super) fn mount_with(t: &Test, quota: bool) -> Outcome<Instance> {
    let options = [("size", "4M"), ("nr_inodes", "20"), ("quota", "")];
    t.mount(&options[..if quota { 3 } else { 2 }])
}

/// Returns what a test of failing calls begins with.
fn set_up(t: &Test) -> Outcome<(Injection, Instance)> {
    Ok((Injection::new()?, mount(t)?))
}

fn has_quota(t: &Test) -> bool {
    Feature::Quota.unmet_by(t.filesystem).is_none()
}

/// Expects root, the owner of all files, to be charged for them.
fn expect_charged(fs: &Instance) -> Outcome {
    match quota::get(&fs.root, quota::User, 0) {
        Err(Errno(libc::ENOSYS)) => Ok(()),
        _ => quota::expect_charged(fs, 0),
    }
}

/// Removes all that is in a directory.
pub(super) fn remove_names(directory: &Path) -> Outcome {
    for entry in std::fs::read_dir(directory).or_fail("opendir")? {
        let entry = entry.or_fail("readdir")?;
        if entry.file_type().or_fail("type of an entry")?.is_dir() {
            remove_names(&entry.path())?;
            rmdir(entry.path()).or_fail("rmdir")?;
        } else {
            unlink(entry.path()).or_fail("unlink")?;
        }
    }
    Ok(())
}

fn remove_everything(fs: &Instance, empty: &Space) -> Outcome {
    remove_names(&fs.root)?;
    expect_eq(fs.space()?, *empty, "space after everything was removed")?;
    expect_charged(fs)
}

/// The files that the calls change: the source, another file, a clone of the source; and a mapping
/// of the clone.
pub(super) struct Files {
    pub files: [File; 3],
    clone_map: Mapping,
    byte: (OwnedFd, OwnedFd),
}

pub(super) const SOURCE: usize = 0;
pub(super) const OTHER: usize = 1;
const CLONE: usize = 2;

/// The number of blocks that the source and the other file share.
pub(super) const COMMON: usize = 40;

/// Returns the contents of the files before each call. They are longer than a leaf of a file's
/// tree.
pub(super) fn old_contents() -> [Vec<u8>; 3] {
    let source = pattern(1, 70 * BLOCK + 123);
    let mut other = pattern(2, 66 * BLOCK + 77);
    other[..COMMON * BLOCK].copy_from_slice(&source[..COMMON * BLOCK]);
    [source.clone(), other, source]
}

/// The result of a successful call for one of the files.
pub(super) struct Change {
    file: usize,
    contents: Vec<u8>,
    /// For calls that may end short: the offset where they start.
    counted_from: Option<usize>,
    /// The call.
    name: &'static str,
}

impl Change {
    /// Returns that of a call which gives `file` these contents, or fails.
    pub(super) fn new(name: &'static str, file: usize, contents: Vec<u8>) -> Self {
        Self {
            file,
            contents,
            counted_from: None,
            name,
        }
    }

    /// The same, of a call that may end short: it starts at offset `start`.
    pub(super) fn counted_from(self, start: usize) -> Self {
        Self {
            counted_from: Some(start),
            ..self
        }
    }
}

/// Expects the changed file to have the bytes that the call has reported as done.
fn expect_change(seen: &[u8], old: &[u8], change: &Change, result: Sys<usize>) -> Outcome {
    match (result, change.counted_from) {
        (Ok(_), None) => return expect_bytes(seen, &change.contents, "done"),
        (Err(_), None) => return expect_bytes(seen, old, "refused"),
        (Ok(n), Some(start)) => {
            let end = start + n;
            expect(seen.len() >= end, format_args!("{end} bytes written"))?;
            expect_bytes(&seen[..end], &change.contents[..end], "the written bytes")?;
        }
        (Err(_), Some(_)) => {}
    }
    for (number, block) in seen.chunks(BLOCK).enumerate() {
        let at = number * BLOCK;
        let is = |model: &[u8]| model.get(at..at + block.len()) == Some(block);
        let written = result.unwrap_or(0) + change.counted_from.unwrap_or(0);
        expect(
            is(old) || is(&change.contents) || (at..at + BLOCK).contains(&written),
            format_args!("block {number} holds neither the old bytes nor the new ones"),
        )?;
    }
    Ok(())
}

/// Returns the number of distinct blocks of these files.
fn distinct_blocks(files: &[File]) -> Outcome<u64> {
    let mut physical = BTreeSet::new();
    for file in files {
        for extent in extents(file)? {
            let blocks = (0..extent.length).step_by(BLOCK);
            physical.extend(blocks.map(|at| extent.physical + at));
        }
    }
    Ok(physical.len() as u64)
}

pub(super) fn expect_no_harm(
    t: &Test,
    change: &Change,
    call: impl Fn(&Files) -> Sys<usize>,
) -> Outcome {
    expect_no_harm_on(mount(t)?, change, call)
}

/// Without quotas, many blocks are inserted into a file at once.
fn expect_no_harm_either_way(
    t: &Test,
    change: &Change,
    call: impl Fn(&Files) -> Sys<usize>,
) -> Outcome {
    expect_no_harm_on(mount_with(t, false)?, change, &call).or_fail("without quotas")?;
    expect_no_harm(t, change, call)
}

fn expect_no_harm_on(
    fs: Instance,
    change: &Change,
    call: impl Fn(&Files) -> Sys<usize>,
) -> Outcome {
    let injection = Injection::new()?;
    let old = old_contents();
    let scene = |fs: &Instance| {
        let source = fs.create_with("source", &old[SOURCE])?;
        let other = fs.create_with("other", &old[OTHER])?;
        let clone = new_clone(&source, fs.path("clone"))?;
        let byte = pipe()?;
        write_all(&byte.1, b"!!")?;
        Ok(Files {
            clone_map: Mapping::shared(&clone, old[CLONE].len())?,
            files: [source, other, clone],
            byte,
        })
    };
    let check = |fs: &Instance, scene: &Files, result: Sys<usize>| {
        for (number, file) in scene.files.iter().enumerate() {
            let seen = file.contents()?;
            if number == change.file {
                expect_change(&seen, &old[number], change, result)?;
            } else {
                expect_bytes(&seen, &old[number], format_args!("file {number}"))?;
            }
        }
        expect_eq(
            fs.used()?,
            distinct_blocks(&scene.files)?,
            "blocks used, and in the files",
        )?;
        expect_charged(fs)
    };
    let call = |_: &Instance, scene: &Files| call(scene);
    fail_everywhere(&injection, change.name, &fs, scene, call, check)
}

fn a_write_to_shared_blocks_fails_without_harm(t: &Test) -> Outcome {
    // Across the end of a leaf.
    let (at, data) = (49 * BLOCK + 5, blocks(3, 20));
    let [mut contents, ..] = old_contents();
    contents[at..at + data.len()].copy_from_slice(&data);
    let change = Change::new("pwrite", SOURCE, contents).counted_from(at);
    expect_no_harm_either_way(t, &change, |scene| {
        scene.files[SOURCE].try_pwrite(&data, at as u64)
    })
}

fn a_store_to_a_shared_block_fails_without_harm(t: &Test) -> Outcome {
    let at = 5 * BLOCK + 9;
    let [.., mut contents] = old_contents();
    contents[at] = b'!';
    let change = Change::new("a store", CLONE, contents);
    // The kernel stores, so that a fault that fails is an error and not a signal.
    expect_no_harm(t, &change, |scene| {
        read_to(&scene.byte.0, scene.clone_map.at(at), 1)
    })
}

fn a_clone_fails_without_harm(t: &Test) -> Outcome {
    let [contents, ..] = old_contents();
    let change = Change::new("FICLONE", OTHER, contents);
    expect_no_harm(t, &change, |scene| {
        clone_file(&scene.files[SOURCE], &scene.files[OTHER]).map(|()| 0)
    })
}

fn a_clone_of_a_range_fails_without_harm(t: &Test) -> Outcome {
    let [source, mut contents, _] = old_contents();
    contents[13 * BLOCK..53 * BLOCK].copy_from_slice(&source[BLOCK..41 * BLOCK]);
    let change = Change::new("FICLONERANGE", OTHER, contents);
    expect_no_harm(t, &change, |scene| {
        let [source, other, _] = &scene.files;
        clone_range(source, BLOCK64, 40 * BLOCK64, other, 13 * BLOCK64).map(|()| 0)
    })
}

/// Calls copy_file_range for some blocks.
fn expect_no_harm_of_copy(t: &Test, name: &'static str, from: usize, to: usize) -> Outcome {
    const LEN: usize = 20 * BLOCK + 50;
    let [source, mut contents, _] = old_contents();
    contents[to..to + LEN].copy_from_slice(&source[from..from + LEN]);
    let change = Change::new(name, OTHER, contents).counted_from(to);
    expect_no_harm_either_way(t, &change, |scene| {
        let [source, other, _] = &scene.files;
        copy_once(source, from as u64, other, to as u64, LEN)
    })
}

fn a_copy_that_shares_fails_without_harm(t: &Test) -> Outcome {
    expect_no_harm_of_copy(t, "a copy that shares", BLOCK + 100, 42 * BLOCK + 100)
}

fn a_copy_of_bytes_fails_without_harm(t: &Test) -> Outcome {
    expect_no_harm_of_copy(t, "a copy of bytes", 100, 200)
}

fn a_truncation_inside_a_shared_block_fails_without_harm(t: &Test) -> Outcome {
    const END: usize = 65 * BLOCK + 9;
    let [mut contents, ..] = old_contents();
    contents.truncate(END);
    let change = Change::new("truncation inside a block", SOURCE, contents);
    expect_no_harm(t, &change, |scene| {
        scene.files[SOURCE].try_truncate(END as u64).map(|()| 0)
    })
}

fn a_deduplication_fails_without_harm(t: &Test) -> Outcome {
    let [_, contents, _] = old_contents();
    let change = Change::new("FIDEDUPERANGE", OTHER, contents);
    let len = COMMON as u64 * BLOCK64;
    expect_no_harm(t, &change, |scene| {
        let [source, other, _] = &scene.files;
        match dedupe(source, 0, len, other, 0)? {
            Deduped::Same(_) => Ok(0),
            Deduped::Differs => Err(Errno(libc::EBADE)),
            Deduped::Failed(error) => Err(error),
        }
    })
}

/// A call that changes names, and the names afterwards.
struct Renaming {
    name: &'static str,
    call: fn(&Instance) -> Sys,
    names: &'static [&'static str],
}

const RENAMINGS: &[Renaming] = &[
    Renaming {
        name: "mkdir",
        call: |fs| mkdir(fs.path("new"), 0o755),
        names: &["dir", "file", "link", "new", "other"],
    },
    Renaming {
        name: "open with O_CREAT",
        call: |fs| {
            let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
            File::open(fs.path("new"), flags).map(|_| ())
        },
        names: &["dir", "file", "link", "new", "other"],
    },
    Renaming {
        name: "symlink",
        // Too long to be kept in the inode itself.
        call: |fs| symlink("target/".repeat(20), fs.path("new")),
        names: &["dir", "file", "link", "new", "other"],
    },
    Renaming {
        name: "link",
        call: |fs| link(fs.path("file"), fs.path("new")),
        names: &["dir", "file", "link", "new", "other"],
    },
    Renaming {
        name: "rename",
        call: |fs| rename(fs.path("file"), fs.path("new")),
        names: &["dir", "link", "new", "other"],
    },
    Renaming {
        name: "rename over another",
        call: |fs| rename(fs.path("file"), fs.path("other")),
        names: &["dir", "link", "other"],
    },
    Renaming {
        name: "rename over a link to the same file",
        call: |fs| rename(fs.path("other"), fs.path("link")),
        names: &["dir", "file", "link"],
    },
    Renaming {
        name: "unlink",
        call: |fs| unlink(fs.path("link")),
        names: &["dir", "file", "other"],
    },
    Renaming {
        name: "rmdir",
        call: |fs| rmdir(fs.path("dir")),
        names: &["file", "link", "other"],
    },
];

fn names_in(fs: &Instance) -> Outcome<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&fs.root).or_fail("opendir")? {
        let name = entry.or_fail("readdir")?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn a_change_of_names_fails_without_harm(t: &Test) -> Outcome {
    let (injection, fs) = set_up(t)?;
    for renaming in RENAMINGS {
        let scene = |fs: &Instance| {
            drop(fs.create_with("file", b"a file")?);
            drop(fs.create_with("other", b"another")?);
            link(fs.path("file"), fs.path("link")).or_fail("link")?;
            mkdir(fs.path("dir"), 0o755).or_fail("mkdir")?;
            fs.space()
        };
        let check = |fs: &Instance, before: &Space, result: Sys<usize>| {
            let names = names_in(fs)?;
            expect_charged(fs)?;
            if result.is_ok() {
                return expect_eq(names, renaming.names, "the names after it was done");
            }
            let old = ["dir", "file", "link", "other"];
            expect_eq(names, old, "the names after it was refused")?;
            expect_eq(fs.space()?, *before, "space after it was refused")
        };
        let call = |fs: &Instance, _: &Space| (renaming.call)(fs).map(|()| 0);
        fail_everywhere(&injection, renaming.name, &fs, scene, call, check)
            .or_fail(renaming.name)?;
    }
    Ok(())
}

fn a_mount_fails_without_harm(t: &Test) -> Outcome {
    let (injection, fs) = set_up(t)?;
    let filesystem = t.filesystem.name();
    let at = t.elsewhere.join("mounted");
    mkdir(&at, 0o755).or_fail("mkdir")?;
    let quota = has_quota(t);
    let options = "size=1M,nr_inodes=10,mode=700,quota";
    let options = &options[..options.len() - if quota { 0 } else { ",quota".len() }];
    let old_call = || instance::mount(filesystem, &at, 0, options);
    let new_calls = || {
        let configuration = Configuration::open(filesystem)?;
        for (key, value) in [("size", "1M"), ("nr_inodes", "10"), ("mode", "700")] {
            configuration.set(key, value)?;
        }
        if quota {
            configuration.set_flag("quota")?;
        }
        configuration.create()?;
        configuration.mount(&at)
    };
    let calls: [(&str, &dyn Fn() -> Sys); 2] = [("mount", &old_call), ("fsmount", &new_calls)];
    for (name, call) in calls {
        let check = |_: &Instance, (): &(), result: Sys<usize>| {
            if result.is_err() {
                let error = unmount(&at);
                return expect_errno(error, libc::EINVAL, "unmounting after a failed mount");
            }
            expect_eq(Space::of(&at)?.blocks, 256, "blocks of the mount")?;
            drop(File::create_with(at.join("file"), b"data")?);
            unmount(&at).or_fail("umount")
        };
        let call = |_: &Instance, (): &()| call().map(|()| 0);
        fail_everywhere(&injection, name, &fs, |_| Ok(()), call, check).or_fail(name)?;
    }
    Ok(())
}

fn an_unmount_is_done_or_not(t: &Test) -> Outcome {
    let (injection, fs) = set_up(t)?;
    let at = t.elsewhere.join("mounted");
    mkdir(&at, 0o755).or_fail("mkdir")?;
    let data = pattern(1, 70 * BLOCK);
    let scene = |_: &Instance| {
        instance::mount(t.filesystem.name(), &at, 0, "size=4M").or_fail("mount")?;
        let file = File::create_with(at.join("file"), &data)?;
        if t.filesystem.can_share() {
            new_clone(&file, at.join("clone"))?;
        }
        Ok(())
    };
    let check = |_: &Instance, (): &(), result: Sys<usize>| match result {
        Ok(_) => expect_errno(unmount(&at), libc::EINVAL, "unmounting it once more"),
        Err(_) => {
            let file = File::open(at.join("file"), libc::O_RDONLY).or_fail("open")?;
            file.expect_contents(&data, "a file that is still there")
        }
    };
    let call = |_: &Instance, (): &()| unmount(&at).map(|()| 0);
    fail_everywhere(&injection, "umount", &fs, scene, call, check)
}
