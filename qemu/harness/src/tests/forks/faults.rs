// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Each allocation of a fork, and of a first change after it, fails in turn: all is as it was.

use std::path::Path;

use super::contents::{fork, snapshot};
use crate::case::{case, Case, Test};
use crate::failure::{expect_eq, expect_errno, Context, Outcome, Sys};
use crate::fileattr::{set_flags, NODUMP};
use crate::filesystem::Feature;
use crate::instance::{unmount, Configuration, Instance, Space};
use crate::mapping::Mapping;
use crate::pattern::{pattern, BLOCK, BLOCK64};
use crate::sys::{
    chmod, chown, clone_range, copy_file_range, link, mkdir, pread_to, rename, rmdir, symlink,
    unlink, File,
};
use crate::tests::failures::{fail_everywhere, mount_with};
use crate::tests::fallocate::{fallocate, PUNCH};
use crate::tests::injection::Injection;
use crate::tests::xattr;

const NEEDS: &[Feature] = &[
    Feature::Reflinkfs,
    Feature::Instance,
    Feature::FaultInjection,
    Feature::FewPoints,
];

pub const CASES: &[Case] = &[
    case!(a_fork_is_made_or_not).needs(NEEDS),
    case!(a_first_change_is_made_or_not).needs(NEEDS),
];

/// Longer than a leaf of a file's tree.
const BLOCKS: usize = 70;

/// Makes the files of a base.
fn files(fs: &Instance) -> Outcome<Mapping> {
    let file = fs.create_with("file", &pattern(1, BLOCKS * BLOCK + 5))?;
    xattr::set(fs.path("file"), "user.old", b"old", 0).or_fail("setxattr")?;
    mkdir(fs.path("dir"), 0o755).or_fail("mkdir")?;
    mkdir(fs.path("dir/empty"), 0o755).or_fail("mkdir")?;
    fs.create_with("dir/other", &pattern(2, 2 * BLOCK))?;
    link(fs.path("file"), fs.path("dir/link")).or_fail("link")?;
    symlink("target/".repeat(20), fs.path("symlink")).or_fail("symlink")?;
    let map = Mapping::shared(&file, BLOCK)?;
    map.store(5, b"stored");
    // The time of the store does not come later.
    file.sync()?;
    Ok(map)
}

/// Returns all that is in a tree.
fn look(root: &Path) -> Outcome<Vec<String>> {
    let mut seen = snapshot(root)?;
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).or_fail("readdir")? {
            let path = entry.or_fail("readdir")?.path();
            if path.is_dir() && !path.is_symlink() {
                dirs.push(path.clone());
            }
            for name in xattr::list(&path)? {
                let value = xattr::get(&path, &name).or_fail("getxattr")?;
                let short = path.strip_prefix(root).unwrap_or(&path);
                seen.push(format!("{} {name} {value:?}", short.display()));
            }
        }
    }
    seen.sort();
    Ok(seen)
}

/// Compares what was seen in two trees; the failure has only what differs.
#[track_caller]
fn expect_same(seen: &[String], expected: &[String], what: &str) -> Outcome {
    let without = |a: &[String], b: &[String]| -> Vec<String> {
        a.iter().filter(|line| !b.contains(line)).cloned().collect()
    };
    let (seen, expected) = (without(seen, expected), without(expected, seen));
    expect_eq(seen, expected, what)
}

/// Removes the times of changes. A write sets them before it allocates.
fn without_times(seen: &[String]) -> Vec<String> {
    let shorten =
        |line: &String| match (line.split_once("(\"changed"), line.split_once("(\"device")) {
            (Some((before, _)), Some((_, after))) => format!("{before}{after}"),
            _ => line.clone(),
        };
    seen.iter().map(shorten).collect()
}

fn a_fork_is_made_or_not(t: &Test) -> Outcome {
    let injection = Injection::new()?;
    let at = t.elsewhere.join("fork");
    mkdir(&at, 0o755).or_fail("mkdir")?;
    let fs = mount_with(t, false)?;
    let path = fs.root.to_string_lossy().into_owned();
    let scene = |fs: &Instance| {
        let map = files(fs)?;
        Ok((map, look(&fs.root)?, fs.space()?))
    };
    let call = |_: &Instance, _: &(Mapping, Vec<String>, Space)| {
        let configuration = Configuration::open(t.filesystem.name())?;
        configuration.set("fork", &path)?;
        configuration.create()?;
        configuration.mount(&at).map(|()| 0)
    };
    let check = |fs: &Instance, scene: &(Mapping, Vec<String>, Space), result: Sys<usize>| {
        let (_, before, space) = scene;
        expect_same(&look(&fs.root)?, before, "the base")?;
        expect_eq(fs.space()?, *space, "its space")?;
        if result.is_err() {
            return expect_errno(unmount(&at), libc::EINVAL, "umount of no fork");
        }
        expect_same(&look(&at)?, before, "the fork")?;
        File::create_with(at.join("dir/other"), b"of the fork")?;
        expect_same(&look(&fs.root)?, before, "the base, later")?;
        unmount(&at).or_fail("umount")
    };
    fail_everywhere(&injection, "a fork", &fs, scene, call, check)
}

/// What a first change has: the mount that it changes, the other one, open files.
struct Scene {
    file: File,
    other: File,
    map: Mapping,
    zero: File,
    before: Vec<String>,
    of_changed: Vec<String>,
    space: Space,
    /// Dropped last.
    copy: Instance,
}

/// A change of the mount with this root.
type Change = fn(&Path, &Scene) -> Sys;

/// Calls that change times before they fail.
const WRITES: &[(&str, Change)] = &[
    ("a write in a block", |_, scene| {
        scene.file.try_pwrite(b"bytes", 3 * BLOCK64 + 9).map(drop)
    }),
    ("a write of a block", |_, scene| {
        scene.file.try_pwrite(&[9; BLOCK], 3 * BLOCK64).map(drop)
    }),
    ("a write behind the end", |_, scene| {
        let end = 5000 * BLOCK64;
        scene.file.try_pwrite(b"bytes", end).map(drop)
    }),
    ("a store", |_, scene| {
        pread_to(&scene.zero, scene.map.at(7), 1, 0).map(drop)
    }),
    ("punching", |_, scene| {
        fallocate(&scene.file, PUNCH, 3 * BLOCK64, 9 * BLOCK64)
    }),
    ("cloning", |_, scene| {
        clone_range(&scene.file, 0, BLOCK64, &scene.other, 0)
    }),
    ("copying", |_, scene| {
        // Without offsets, which the kernel stores when all is done.
        copy_file_range(&scene.file, None, &scene.other, None, 100, 0).map(drop)
    }),
];

const CHANGES: &[(&str, Change)] = &[
    ("truncation", |_, scene| {
        scene.file.try_truncate(BLOCK64 + 7)
    }),
    ("rename", |root, _| {
        rename(root.join("file"), root.join("dir/new"))
    }),
    ("rename over another", |root, _| {
        rename(root.join("file"), root.join("dir/other"))
    }),
    ("rename of a directory", |root, _| {
        rename(root.join("dir/empty"), root.join("empty"))
    }),
    ("unlink of one name", |root, _| unlink(root.join("file"))),
    ("unlink of the only name", |root, _| {
        unlink(root.join("dir/other"))
    }),
    ("link", |root, _| {
        link(root.join("dir/other"), root.join("new"))
    }),
    ("mkdir", |root, _| mkdir(root.join("dir/new"), 0o755)),
    ("rmdir", |root, _| rmdir(root.join("dir/empty"))),
    ("symlink", |root, _| {
        symlink("target/".repeat(20), root.join("dir/new"))
    }),
    ("create", |root, _| {
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR;
        File::open(root.join("dir/new"), flags).map(drop)
    }),
    ("chmod", |root, _| chmod(root.join("file"), 0o600)),
    ("chmod of a directory", |root, _| {
        chmod(root.join("dir"), 0o700)
    }),
    ("chmod of the root", |root, _| chmod(root, 0o700)),
    ("chown", |root, _| chown(root.join("file"), 0, 5)),
    ("chattr", |_, scene| set_flags(&scene.file, NODUMP)),
    ("setxattr", |root, _| {
        xattr::set(root.join("file"), "user.new", &[7; 300], 0)
    }),
    ("setxattr, replacing", |root, _| {
        xattr::set(root.join("file"), "user.old", &[7; 300], 0)
    }),
];

fn a_first_change_is_made_or_not(t: &Test) -> Outcome {
    let injection = Injection::new()?;
    let fs = mount_with(t, false)?;
    for in_fork in [false, true] {
        let root = |fs: &Instance, copy: &Instance| match in_fork {
            true => (copy.root.clone(), fs.root.clone()),
            false => (fs.root.clone(), copy.root.clone()),
        };
        let scene = |fs: &Instance| {
            drop(files(fs)?);
            let copy = fork(t, fs, "fork")?;
            let (changed, other) = root(fs, &copy);
            let open = |name| File::open(changed.join(name), libc::O_RDWR).or_fail("open");
            let file = open("file")?;
            Ok(Scene {
                map: Mapping::shared(&file, BLOCK)?,
                file,
                other: open("dir/other")?,
                zero: File::open("/dev/zero", libc::O_RDONLY).or_fail("open")?,
                before: look(&other)?,
                of_changed: look(&changed)?,
                space: fs.space()?,
                copy,
            })
        };
        let place = if in_fork { "a fork" } else { "the base" };
        let writes = WRITES.iter().map(|change| (change, true));
        let changes = CHANGES.iter().map(|change| (change, false));
        for ((name, change), writes) in writes.chain(changes) {
            let name = format!("{name} in {place}");
            let call = |fs: &Instance, scene: &Scene| {
                let (changed, _) = root(fs, &scene.copy);
                change(&changed, scene).map(|()| 0)
            };
            let check = |fs: &Instance, scene: &Scene, result: Sys<usize>| {
                let (changed, other) = root(fs, &scene.copy);
                expect_same(&look(&other)?, &scene.before, "the other mount")?;
                if result.is_ok() {
                    return Ok(());
                }
                let (now, before) = (look(&changed)?, &scene.of_changed);
                let (space, mut expected) = (fs.space()?, scene.space);
                // A record may have been copied before the allocation that failed.
                expected.free_inodes = space.free_inodes;
                if writes {
                    expect_same(&without_times(&now), &without_times(before), "refused")?;
                } else {
                    expect_same(&now, before, "refused")?;
                }
                expect_eq(space, expected, "space after it was refused")
            };
            fail_everywhere(&injection, &name, &fs, scene, call, check).or_fail(&name)?;
        }
    }
    Ok(())
}
