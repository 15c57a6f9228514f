// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Each failure point of a call fails in turn: a call that fails has changed nothing visible, and a
//! call that succeeds has the same effect as without failures; a call that works block by block has
//! done some of them.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::fallocate::fallocate;
use super::injection::Injection;
use super::{failures, xattr};
use crate::case::{case, Case, Test};
use crate::extents::fiemap;
use crate::failure::{expect, expect_eq, expect_errno, Context, Errno, Failure, Outcome, Sys};
use crate::fileattr::{set_flags, NODUMP};
use crate::filesystem::Feature;
use crate::instance::{Configuration, Instance, Space};
use crate::mapping::Mapping;
use crate::pattern::{pattern, BLOCK, BLOCK64};
use crate::posix_acl::{self, encode};
use crate::quota;
use crate::sys::{
    check, chmod, chown, clone_range, link, lstat, mkdir, new_clone, pipe, symlink, timespec, File,
};
use crate::torture::calls::data::impatient_pipe;

const NEEDS: &[Feature] = &[
    Feature::Reflink,
    Feature::Instance,
    Feature::Fiemap,
    Feature::FaultInjection,
    Feature::FewPoints,
];

pub const CASES: &[Case] = &[
    case!(each_mode_of_fallocate_is_done_or_not).needs(NEEDS),
    case!(truncation_is_done_or_not).needs(NEEDS),
    case!(attributes_are_changed_or_not).needs(NEEDS),
    case!(names_are_changed_or_not).needs(NEEDS),
    case!(asking_changes_nothing).needs(NEEDS),
    case!(pipes_take_and_give_or_not).needs(NEEDS),
    case!(mappings_are_made_and_filled_or_not).needs(NEEDS),
    case!(the_mount_is_changed_or_not).needs(NEEDS),
];

/// A call, and its name.
type Step<'a> = (&'a str, &'a dyn Fn(&Instance, &Scene) -> Sys);

/// The files of the calls: a file longer than a leaf of its tree, with a hole and allocated blocks;
/// its clone; another file; a pipe with a byte in it.
struct Scene {
    file: File,
    clone: File,
    other: File,
    map: Mapping,
}

const BLOCKS: usize = 70;

const LIST: &str = "u::rwx u:1000:rwx g::rx m::rwx o::";

fn scene(fs: &Instance) -> Outcome<Scene> {
    let file = fs.create_with("file", &pattern(1, BLOCKS * BLOCK + 123))?;
    let hole = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    fallocate(&file, hole, 10 * BLOCK64, 3 * BLOCK64).or_fail("punching a hole")?;
    let clone = new_clone(&file, fs.path("clone"))?;
    // Allocated blocks that only this file has.
    fallocate(&file, 0, 10 * BLOCK64, BLOCK64).or_fail("fallocate")?;
    let other = fs.create_with("other", &pattern(2, 3 * BLOCK))?;
    xattr::set(&file.path, "user.old", b"old", 0).or_fail("setxattr")?;
    symlink("target", fs.path("link")).or_fail("symlink")?;
    // Set-user-ID, with another owner, and an ACL: a change of one changes the other.
    let listed = fs.create_with("listed", &pattern(3, BLOCK))?;
    chmod(&listed.path, 0o4750).or_fail("chmod")?;
    xattr::set(&listed.path, posix_acl::ACCESS, &encode(LIST), 0).or_fail("an access list")?;
    mkdir(fs.path("directory"), 0o755).or_fail("mkdir")?;
    for name in [posix_acl::ACCESS, posix_acl::DEFAULT] {
        xattr::set(fs.path("directory"), name, &encode(LIST), 0).or_fail(name)?;
    }
    Ok(Scene {
        map: Mapping::shared(&clone, BLOCKS * BLOCK)?,
        file,
        clone,
        other,
    })
}

/// All visible state of a file.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    links: libc::nlink_t,
    size: i64,
    blocks: i64,
    contents: Vec<u8>,
    attributes: Vec<(String, Vec<u8>)>,
    /// The indexes of blocks, and whether they are unwritten.
    blocks_at: Vec<(u64, bool)>,
}

fn look(path: &Path) -> Outcome<Seen> {
    let stat = lstat(path).or_fail("lstat")?;
    let (mut contents, mut attributes, mut blocks_at) = (Vec::new(), Vec::new(), Vec::new());
    let kind = stat.st_mode & libc::S_IFMT;
    if kind == libc::S_IFREG || kind == libc::S_IFDIR {
        for name in xattr::list(path)? {
            let value = xattr::get(path, &name).or_fail("getxattr")?;
            attributes.push((name, value));
        }
    }
    if kind == libc::S_IFREG {
        let file = File::open(path, libc::O_RDONLY).or_fail("open")?;
        contents = file.contents()?;
        let (_, found) = fiemap(&file, 0, u64::MAX, 0, 200).or_fail("FIEMAP")?;
        for extent in found {
            // Block by block: extents may be merged or not.
            let places = (extent.logical..extent.end()).step_by(BLOCK);
            blocks_at.extend(places.map(|at| (at, extent.unwritten())));
        }
    }
    Ok(Seen {
        mode: stat.st_mode,
        owner: (stat.st_uid, stat.st_gid),
        links: stat.st_nlink,
        size: stat.st_size,
        blocks: stat.st_blocks,
        contents,
        attributes,
        blocks_at,
    })
}

/// All visible state of the filesystem: files, space, and the owners' charges.
type World = (BTreeMap<String, Seen>, Space, Vec<(u64, u64)>);

/// Returns the charged bytes and inodes of the users and groups of the files; none without quotas.
fn charged(fs: &Instance) -> Outcome<Vec<(u64, u64)>> {
    let mut charged = Vec::new();
    for kind in [quota::User, quota::Group] {
        for id in [0, 1, 1000] {
            match quota::get(&fs.root, kind, id) {
                Ok(quota) => charged.push((quota.space, quota.inodes)),
                Err(Errno(libc::ENOSYS | libc::ESRCH)) => (),
                Err(error) => return Err(error).or_fail("Q_GETQUOTA"),
            }
        }
    }
    Ok(charged)
}

fn look_around(fs: &Instance) -> Outcome<World> {
    let mut files = BTreeMap::new();
    let mut directories = vec![fs.root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).or_fail("opendir")? {
            let path = entry.or_fail("readdir")?.path();
            let name = path.strip_prefix(&fs.root).or_fail("a path")?;
            files.insert(name.to_string_lossy().into_owned(), look(&path)?);
            if path.symlink_metadata().or_fail("lstat")?.is_dir() {
                directories.push(path);
            }
        }
    }
    Ok((files, fs.space()?, charged(fs)?))
}

/// Expects both to be the same; the failure shows the difference without all bytes.
fn expect_same(seen: &World, expected: &World, what: &str) -> Outcome {
    let names = |world: &World| world.0.keys().cloned().collect::<Vec<_>>();
    expect_eq(names(seen), names(expected), format_args!("{what}: names"))?;
    for (name, file) in &seen.0 {
        let Some(other) = expected.0.get(name) else {
            continue;
        };
        if file != other {
            crate::failure::expect_bytes(&file.contents, &other.contents, name)?;
            let rest = |file: &Seen| {
                format!(
                    "mode {:o}, owner {:?}, {} links, size {}, {} blocks, attributes {:?}, blocks at {:?}",
                    file.mode, file.owner, file.links, file.size, file.blocks, file.attributes, file.blocks_at
                )
            };
            expect_eq(rest(file), rest(other), format_args!("{what}: {name}"))?;
        }
    }
    expect_eq(seen.1, expected.1, format_args!("{what}: space"))?;
    expect_eq(&seen.2, &expected.2, format_args!("{what}: charges"))
}

/// Expects each block of the file to be as before a call or as after it, and all else as before.
fn expect_between(seen: &World, before: &World, after: &World) -> Outcome {
    for (name, file) in &seen.0 {
        let (Some(old), Some(new)) = (before.0.get(name), after.0.get(name)) else {
            return Err(Failure::new(format_args!("{name} is new")));
        };
        expect_eq(file.size, old.size, format_args!("size of {name}"))?;
        for (number, block) in file.contents.chunks(BLOCK).enumerate() {
            let is = |other: &Seen| {
                let at = number * BLOCK;
                other.contents.get(at..at + block.len()) == Some(block)
            };
            expect(
                is(old) || is(new),
                format_args!("block {number} of {name} holds neither the old bytes nor the new"),
            )?;
        }
    }
    expect_eq(seen.0.len(), before.0.len(), "how many names there are")
}

/// Makes each call with each failure point failing in turn; it does everything or nothing.
fn sweep(t: &Test, steps: &[Step<'_>]) -> Outcome {
    sweep_with(t, steps, |seen, before, _| {
        expect_same(seen, before, "refused")
    })
}

/// Checks the filesystem after a call that failed: its state, the state before, the state after a
/// success.
type Refused = fn(&World, &World, &World) -> Outcome;

fn sweep_with(t: &Test, steps: &[Step<'_>], refused: Refused) -> Outcome {
    sweep_on(failures::mount_with(t, false)?, steps, refused)
}

/// As [`sweep`], and again with quotas, which add failure points.
fn sweep_either_way(t: &Test, steps: &[Step<'_>]) -> Outcome {
    sweep(t, steps).or_fail("without quotas")?;
    let refused: Refused = |seen, before, _| expect_same(seen, before, "refused");
    sweep_on(failures::mount_with(t, true)?, steps, refused).or_fail("with quotas")
}

fn sweep_on(fs: Instance, steps: &[Step<'_>], refused: Refused) -> Outcome {
    let injection = Injection::new()?;
    for (name, step) in steps {
        let made = scene(&fs)?;
        let before = look_around(&fs)?;
        step(&fs, &made).or_fail(format_args!("{name}, with nothing failing"))?;
        let after = look_around(&fs)?;
        drop(made);
        failures::remove_names(&fs.root)?;
        let check = |fs: &Instance, _: &Scene, result: Sys<usize>| {
            let seen = look_around(fs)?;
            match result {
                Ok(_) => expect_same(&seen, &after, "done"),
                Err(_) => refused(&seen, &before, &after),
            }
        };
        let call = |fs: &Instance, scene: &Scene| step(fs, scene).map(|()| 0);
        failures::fail_everywhere(&injection, name, &fs, scene, call, check).or_fail(name)?;
    }
    Ok(())
}

fn each_mode_of_fallocate_is_done_or_not(t: &Test) -> Outcome {
    let keep = libc::FALLOC_FL_KEEP_SIZE;
    let change = |mode: i32, at: u64, len: u64| {
        move |_: &Instance, scene: &Scene| {
            // Moved by no multiple of a leaf.
            fallocate(&scene.file, mode, at * BLOCK64, len * BLOCK64)
        }
    };
    let hole = libc::FALLOC_FL_PUNCH_HOLE | keep;
    sweep(
        t,
        &[
            ("punching a hole", &change(hole, 3, 64)),
            ("collapsing", &change(libc::FALLOC_FL_COLLAPSE_RANGE, 3, 5)),
            ("inserting", &change(libc::FALLOC_FL_INSERT_RANGE, 3, 5)),
            ("punching inside blocks", &|_, scene| {
                fallocate(&scene.file, hole, 100, 5 * BLOCK64)
            }),
        ],
    )?;
    // These allocate block by block.
    sweep_with(
        t,
        &[
            ("fallocate", &change(0, 5, 80)),
            ("fallocate, keeping the size", &change(keep, 60, 30)),
            ("zeroing", &change(libc::FALLOC_FL_ZERO_RANGE, 3, 80)),
            ("unsharing", &change(libc::FALLOC_FL_UNSHARE_RANGE, 3, 30)),
        ],
        expect_between,
    )
}

fn truncation_is_done_or_not(t: &Test) -> Outcome {
    sweep(
        t,
        &[
            ("truncation to 0", &|_, scene| scene.file.try_truncate(0)),
            ("truncation inside a shared block", &|_, scene| {
                scene.file.try_truncate(66 * BLOCK64 + 9)
            }),
            ("opening with O_TRUNC", &|_, scene| {
                File::open(&scene.other.path, libc::O_RDWR | libc::O_TRUNC).map(drop)
            }),
        ],
    )
}

fn attributes_are_changed_or_not(t: &Test) -> Outcome {
    let acl = encode("u::rw u:1000:rw g::r m::rw o::r");
    sweep_either_way(
        t,
        &[
            ("setxattr", &|fs, _| {
                xattr::set(fs.path("other"), "user.new", &[7; 300], 0)
            }),
            ("setxattr, replacing", &|fs, _| {
                xattr::set(fs.path("file"), "user.old", &[8; 5000], 0)
            }),
            ("removexattr", &|fs, _| {
                xattr::remove(fs.path("file"), "user.old").or_else(|error| match error {
                    // Removes it again.
                    Errno(libc::ENODATA) => Ok(()),
                    error => Err(error),
                })
            }),
            ("listxattr", &|fs, _| {
                xattr::list(fs.path("file"))
                    .map(drop)
                    .map_err(|_| Errno(libc::ENOMEM))
            }),
            ("an access control list", &|fs, _| {
                xattr::set(fs.path("other"), "system.posix_acl_access", &acl, 0)
            }),
            ("utimensat", &|fs, _| {
                let times = [timespec(1, 2), timespec(3, 4)];
                crate::sys::set_times(fs.path("other"), times)
            }),
            ("chmod", &|fs, _| chmod(fs.path("other"), 0o600)),
            ("chown", &|fs, _| chown(fs.path("other"), 0, 1000)),
            ("chmod with an ACL", &|fs, _| {
                chmod(fs.path("listed"), 0o600)
            }),
            ("chmod of a directory with lists", &|fs, _| {
                chmod(fs.path("directory"), 0o700)
            }),
            ("chown with an ACL, set-user-ID", &|fs, _| {
                chown(fs.path("listed"), 1, 1000)
            }),
            ("O_TRUNC with an ACL, set-user-ID", &|fs, _| {
                File::open(fs.path("listed"), libc::O_RDWR | libc::O_TRUNC).map(drop)
            }),
            ("removing a list", &|fs, _| {
                xattr::remove(fs.path("listed"), posix_acl::ACCESS)
            }),
            ("a default list", &|fs, _| {
                xattr::set(fs.path("directory"), posix_acl::DEFAULT, &acl, 0)
            }),
            ("chattr", &|fs, _| {
                let file = File::open(fs.path("other"), libc::O_RDONLY)?;
                set_flags(&file, NODUMP)
            }),
        ],
    )
}

fn names_are_changed_or_not(t: &Test) -> Outcome {
    let rename2 = |fs: &Instance, from: &str, to: &str, flags: u32| {
        let name = |name: &str| crate::sys::c_path(&fs.path(name));
        let (from, to) = (name(from), name(to));
        // SAFETY: both paths are NUL-terminated and outlive the call.
        check(unsafe {
            libc::syscall(
                libc::SYS_renameat2,
                libc::AT_FDCWD,
                from.as_ptr(),
                libc::AT_FDCWD,
                to.as_ptr(),
                flags,
            )
        })
        .map(drop)
    };
    sweep_either_way(
        t,
        &[
            ("creating under a default list", &|fs, _| {
                let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR;
                File::open(fs.path("directory/file"), flags).map(drop)
            }),
            ("mkdir under a default list", &|fs, _| {
                mkdir(fs.path("directory/directory"), 0o777)
            }),
            ("a long symlink under a default list", &|fs, _| {
                symlink("target/".repeat(20), fs.path("directory/link"))
            }),
            ("link", &|fs, _| {
                link(fs.path("listed"), fs.path("directory/listed"))
            }),
            ("rename over another, into a directory", &|fs, _| {
                rename2(fs, "other", "directory/other", 0)
            }),
            ("RENAME_WHITEOUT over another", &|fs, _| {
                rename2(fs, "other", "listed", libc::RENAME_WHITEOUT)
            }),
            ("RENAME_EXCHANGE", &|fs, _| {
                rename2(fs, "file", "link", libc::RENAME_EXCHANGE)
            }),
            ("RENAME_WHITEOUT", &|fs, _| {
                rename2(fs, "other", "moved", libc::RENAME_WHITEOUT)
            }),
            ("mknod", &|fs, _| {
                let path = crate::sys::c_path(&fs.path("socket"));
                // SAFETY: the path is NUL-terminated and outlives the call.
                check(unsafe { libc::mknod(path.as_ptr(), libc::S_IFSOCK | 0o644, 0) }).map(drop)
            }),
            ("O_TMPFILE", &|fs, _| {
                File::open(&fs.root, libc::O_TMPFILE | libc::O_RDWR).map(drop)
            }),
        ],
    )
}

fn asking_changes_nothing(t: &Test) -> Outcome {
    sweep(
        t,
        &[
            ("read", &|_, scene| {
                let mut data = [0; 3 * BLOCK];
                match scene.file.try_pread(&mut data, 9 * BLOCK64)? {
                    n if n == data.len() => Ok(()),
                    _ => Err(Errno(libc::EFAULT)),
                }
            }),
            ("readdir", &|fs, _| {
                let entries = std::fs::read_dir(&fs.root)?;
                for entry in entries {
                    entry?;
                }
                Ok(())
            }),
            ("FIEMAP", &|_, scene| {
                fiemap(&scene.file, 0, u64::MAX, 0, 200).map(drop)
            }),
            ("SEEK_HOLE", &|_, scene| {
                scene.file.seek(0, libc::SEEK_HOLE).map(drop)
            }),
            ("fsync", &|_, scene| {
                // SAFETY: plain call on an open descriptor.
                check(unsafe { libc::fsync(scene.file.as_raw_fd()) }).map(drop)
            }),
            ("cloning again", &|_, scene| {
                let (from, to) = (&scene.clone, &scene.clone);
                let refused = clone_range(from, 0, BLOCK64, to, 0);
                match refused {
                    Err(Errno(libc::EINVAL)) => Ok(()),
                    other => other,
                }
            }),
        ],
    )
}

/// What goes through a pipe comes block by block.
fn pipes_take_and_give_or_not(t: &Test) -> Outcome {
    let offset = |at: &mut Option<i64>| at.as_mut().map_or(std::ptr::null_mut(), |at| &raw mut *at);
    let splice = |from: i32, mut from_at: Option<i64>, to: i32, len: usize| {
        // SAFETY: the offset is valid during the call.
        check(unsafe {
            libc::splice(from, offset(&mut from_at), to, std::ptr::null_mut(), len, 0) as i64
        })
    };
    sweep_with(
        t,
        &[
            ("splice into a pipe", &|_, scene| {
                let (_reader, writer) = pipe().map_err(|_| Errno(libc::ENOMEM))?;
                let at = Some(9 * BLOCK as i64);
                splice(scene.clone.as_raw_fd(), at, writer.as_raw_fd(), 2 * BLOCK).map(drop)
            }),
            ("splice out of a pipe", &|_, scene| {
                let (reader, writer) = impatient_pipe().map_err(|_| Errno(libc::ENOMEM))?;
                let data = pattern(3, BLOCK);
                if crate::sys::write_from(&writer, data.as_ptr(), BLOCK)? < BLOCK {
                    return Err(Errno(libc::EFAULT));
                }
                // Without an offset: the kernel stores that when the bytes have gone, and says EFAULT then.
                scene.file.seek(5 * BLOCK as i64, libc::SEEK_SET)?;
                let n = splice(reader.as_raw_fd(), None, scene.file.as_raw_fd(), BLOCK)?;
                // The rest, so that all of it is done.
                let at = 5 * BLOCK64 + n as u64;
                scene.file.try_pwrite(&data[n..], at).map(drop)
            }),
            ("sendfile", &|_, scene| {
                let mut at = 0;
                let (from, to) = (scene.other.as_raw_fd(), scene.file.as_raw_fd());
                scene.file.seek(0, libc::SEEK_SET)?;
                // SAFETY: the offset is valid during the call.
                let n = check(unsafe { libc::sendfile(to, from, &mut at, 2 * BLOCK) } as i64)?;
                let rest = &pattern(2, 3 * BLOCK)[n..2 * BLOCK];
                scene.file.try_pwrite(rest, n as u64).map(drop)
            }),
        ],
        expect_between,
    )
}

fn mappings_are_made_and_filled_or_not(t: &Test) -> Outcome {
    let load = |scene: &Scene, at: usize| match scene.map.kernel_can_read(at) {
        Ok(result) => result.map(drop),
        Err(_) => Err(Errno(libc::ENOMEM)),
    };
    sweep_with(
        t,
        &[
            ("mmap", &|_, scene| {
                Mapping::try_new(&scene.file, 0, BLOCK, libc::PROT_READ, libc::MAP_SHARED).map(drop)
            }),
            ("a load", &|_, scene| load(scene, 5 * BLOCK)),
            ("a load from a hole", &|_, scene| load(scene, 11 * BLOCK)),
            ("MADV_POPULATE_READ", &|_, scene| {
                scene.map.advise(libc::MADV_POPULATE_READ)
            }),
        ],
        // The zero block of the file's holes stays once it is made, as a page of the page cache
        // does if there is no memory to map it.
        |seen, before, after| {
            let space = if seen.1 == after.1 { after.1 } else { before.1 };
            expect_same(
                seen,
                &(before.0.clone(), space, before.2.clone()),
                "refused",
            )
        },
    )
}

fn the_mount_is_changed_or_not(t: &Test) -> Outcome {
    let ioctl = |fs: &Instance, request: libc::c_ulong| {
        let root = File::open(&fs.root, libc::O_RDONLY)?;
        // SAFETY: an open descriptor; the kernel ignores the argument.
        check(unsafe { libc::ioctl(root.as_raw_fd(), request, 0) }).map(drop)
    };
    let reconfigure = |fs: &Instance, size: &str| {
        let configuration = Configuration::pick(&fs.root)?;
        configuration.set("size", size)?;
        configuration.reconfigure()
    };
    sweep(
        t,
        &[
            // And back, for the next scene.
            ("remount", &|fs, _| {
                reconfigure(fs, "8M")?;
                while reconfigure(fs, "4M").is_err() {}
                Ok(())
            }),
            ("freezing", &|fs, _| {
                ioctl(fs, 0xc004_5877)?;
                while ioctl(fs, 0xc004_5878).is_err() {}
                Ok(())
            }),
            ("statfs", &|fs, _| crate::sys::statfs(&fs.root).map(drop)),
        ],
    )?;
    let fs = failures::mount_with(t, false)?;
    let twice = Configuration::pick(&fs.root).or_fail("fspick")?;
    expect_errno(
        twice.set("size", "many"),
        libc::EINVAL,
        "a size that is none",
    )
}
