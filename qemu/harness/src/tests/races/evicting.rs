// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The kernel drops inodes and names from its cache while others use them.

use std::path::PathBuf;

use crate::case::{case, worker, Case, Test};
use crate::failure::{expect, expect_eq, Context, Errno, Outcome, Sys};
use crate::filesystem::Btrfs;
use crate::mapping::Mapping;
use crate::pattern::{Random, BLOCK};
use crate::sys::{link, lstat, mkdir, rename, rmdir, unlink, File};
use crate::tests::handles::{handle_of, open_handle, root_of};
use crate::tests::xattr;

pub const CASES: &[Case] = &[
    case!(names_and_handles_race_with_eviction),
    case!(changes_of_a_file_are_never_lost),
    case!(a_removed_file_never_comes_back),
];

/// Empties the cache of inodes and names.
fn drop_caches() -> Outcome {
    std::fs::write("/proc/sys/vm/drop_caches", "2").or_fail("write drop_caches")
}

/// Has the kernel not log each time that the cache is emptied.
fn be_silent() -> Outcome {
    std::fs::write("/proc/sys/vm/drop_caches", "4").or_fail("write drop_caches")
}

/// Takes errors that others cause for success.
fn unless<T>(result: Sys<T>, allowed: &[i32], what: impl std::fmt::Display) -> Outcome<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno(errno)) if allowed.contains(&errno) => Ok(None),
        Err(error) => Err(error).or_fail(what),
    }
}

/// What may go wrong where names come and go.
const ALLOWED: &[i32] = &[
    libc::ENOENT,
    libc::EEXIST,
    libc::EISDIR,
    libc::ENOTDIR,
    libc::ENOTEMPTY,
    libc::EPERM,
    libc::EINVAL,
    libc::ESTALE,
];

/// Every file that is made gets these bytes in one write, of which a part may be seen.
fn contents_of(number: usize) -> Vec<u8> {
    format!("made as {number}, ").repeat(300).into_bytes()
}

fn expect_allowed(seen: &[u8]) -> Outcome {
    let known = (0..FILES).any(|number| contents_of(number).starts_with(seen));
    expect(
        known,
        format_args!("{} bytes of no file that was made", seen.len()),
    )
}

const FILES: usize = 6;

fn names_and_handles_race_with_eviction(t: &Test) -> Outcome {
    be_silent()?;
    let dirs = ["a", "b", "a/c"].map(|name| t.path(name));
    for dir in &dirs {
        mkdir(dir, 0o755).or_fail("mkdir")?;
    }
    let root = root_of(&t.dir)?;
    let pick = |random: &mut Random| -> (usize, PathBuf) {
        let number = random.below(FILES);
        (number, dirs[random.below(3)].join(format!("n{number}")))
    };
    let change = |seed: u64| {
        let mut random = Random::new(t.settings.seed + seed);
        move || {
            let ((number, one), (_, other)) = (pick(&mut random), pick(&mut random));
            let what = random.below(6);
            let result = match what {
                0 | 1 => {
                    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
                    let file = unless(File::open(&one, flags), ALLOWED, "create")?;
                    if let Some(file) = file {
                        file.write_at(&contents_of(number), 0)?;
                    }
                    Ok(())
                }
                2 => unlink(&one),
                3 => rename(&one, &other),
                4 => link(&one, &other),
                _ => crate::tests::rename_flags::rename(&one, &other, libc::RENAME_EXCHANGE),
            };
            unless(result, ALLOWED, format_args!("step {what}")).map(drop)
        }
    };
    let look = |seed: u64| {
        let mut random = Random::new(t.settings.seed + seed);
        let (pick, root, dirs) = (&pick, &root, &dirs);
        move || {
            let (_, path) = pick(&mut random);
            if random.one_in(2) {
                let Some(stat) = unless(lstat(&path), ALLOWED, "lstat")? else {
                    return Ok(());
                };
                expect_eq(stat.st_mode & 0o7777, 0o644, "mode")?;
                let up = lstat(dirs[2].join("../..")).or_fail("lstat of ..")?;
                let top = lstat(&t.dir).or_fail("lstat")?;
                return expect_eq(up.st_ino, top.st_ino, "above all");
            }
            // The file may be gone before it has a handle.
            let file = match handle_of(&path) {
                Ok(handle) => open_handle(root, &handle, libc::O_RDONLY),
                Err(_) => return Ok(()),
            };
            let Some(file) = unless(file, ALLOWED, "open_by_handle_at")? else {
                return Ok(());
            };
            expect_allowed(&crate::sys::read_all(&file, 20_000)?)
        }
    };
    t.race(vec![
        worker("changes", change(1)),
        worker("changes, too", change(2)),
        worker("looks", look(3)),
        worker("looks, too", look(4)),
        worker("lists and reads", || {
            for entry in dirs.iter().flat_map(std::fs::read_dir).flatten().flatten() {
                let opened = File::open(entry.path(), libc::O_RDONLY);
                if let Some(file) = unless(opened, ALLOWED, "open")? {
                    if !entry.path().is_dir() {
                        expect_allowed(&crate::sys::read_all(&file, 20_000)?)?;
                    }
                }
            }
            Ok(())
        }),
        worker("drops caches", drop_caches),
    ])?;
    drop_caches()?;
    // Links are counted right.
    let mut names = std::collections::BTreeMap::<_, Vec<_>>::new();
    for entry in dirs.iter().flat_map(std::fs::read_dir).flatten().flatten() {
        let stat = lstat(entry.path()).or_fail("lstat of a listed name")?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFDIR {
            names
                .entry((stat.st_ino, stat.st_nlink))
                .or_default()
                .push(entry.path());
        }
    }
    for ((_, links), paths) in names {
        expect_eq(paths.len() as libc::nlink_t, links, "names of a file")?;
        for path in paths {
            unlink(path).or_fail("unlink")?;
        }
    }
    for dir in dirs.iter().rev() {
        if t.filesystem != Btrfs && dir.ends_with("c") {
            expect_eq(lstat(dir).or_fail("lstat")?.st_nlink, 2, "links")?;
        }
        if !dir.ends_with("a") {
            rmdir(dir).or_fail("rmdir of the emptied directory")?;
        }
    }
    rmdir(&dirs[0]).or_fail("rmdir")
}

/// Each worker has a file of its own, which it alone changes: what it did last must be there.
fn changes_of_a_file_are_never_lost(t: &Test) -> Outcome {
    be_silent()?;
    let own = |name: &'static str| -> Outcome<_> {
        let path = t.create_with(name, &[0; BLOCK])?.path;
        let mut round = 0u32;
        Ok(move || -> Outcome {
            let expect_last = |what: &str| -> Outcome {
                let stat = lstat(&path).or_fail("lstat")?;
                expect_eq(stat.st_uid, round, format_args!("owner, {what}"))?;
                expect_eq(
                    stat.st_mtime_nsec,
                    i64::from(round),
                    format_args!("time, {what}"),
                )
            };
            let file = File::open(&path, libc::O_RDWR).or_fail("open")?;
            let seen = file.read_at(0, 4)?;
            expect_eq(seen, round.to_ne_bytes().to_vec(), "the bytes")?;
            if round > 0 {
                expect_last("before")?;
                let value = xattr::get(&path, "user.round").or_fail("getxattr")?;
                expect_eq(value, round.to_ne_bytes().to_vec(), "the attribute")?;
            }
            let next = round + 1;
            if next % 3 == 0 {
                Mapping::shared(&file, BLOCK)?.store(0, &next.to_ne_bytes());
            } else {
                file.write_at(&next.to_ne_bytes(), 0)?;
            }
            drop(file);
            xattr::set(&path, "user.round", &next.to_ne_bytes(), 0).or_fail("setxattr")?;
            crate::sys::chown(&path, next, 0).or_fail("chown")?;
            let time = crate::sys::timespec(1_000_000_000, next.into());
            crate::sys::set_times(&path, [time, time]).or_fail("utimensat")?;
            round = next;
            Ok(())
        })
    };
    t.race(vec![
        worker("one", own("one")?),
        worker("another", own("another")?),
        worker("drops caches", drop_caches),
    ])
}

fn a_removed_file_never_comes_back(t: &Test) -> Outcome {
    be_silent()?;
    let root = root_of(&t.dir)?;
    let latest = std::sync::Mutex::new(None);
    let path = t.path("file");
    let mut round = 0;
    let mut remove = || -> Outcome {
        round += 1;
        let file = File::create_with(&path, format!("{round}").as_bytes())?;
        let handle = handle_of(&path)?;
        drop(file);
        *latest.lock().or_fail("lock")? = Some((handle, round));
        unlink(&path).or_fail("unlink")?;
        // Others may have it open.
        let opened = open_handle(&root, &handle, libc::O_RDONLY);
        let Some(opened) = unless(opened, &[libc::ESTALE], "open_by_handle_at")? else {
            return Ok(());
        };
        let seen = crate::sys::read_all(&opened, 20)?;
        expect_eq(seen, format!("{round}").into_bytes(), "its contents")
    };
    let open = || -> Outcome {
        let Some((handle, round)) = *latest.lock().or_fail("lock")? else {
            return Ok(());
        };
        let opened = open_handle(&root, &handle, libc::O_RDONLY);
        let Some(opened) = unless(opened, &[libc::ESTALE], "open_by_handle_at")? else {
            return Ok(());
        };
        let seen = crate::sys::read_all(&opened, 20)?;
        expect_eq(seen, format!("{round}").into_bytes(), "its contents")
    };
    t.race(vec![
        worker("makes and removes", &mut remove),
        worker("opens", open),
        worker("opens, too", open),
        worker("drops caches", drop_caches),
    ])?;
    if let Some((handle, _)) = *latest.lock().or_fail("lock")? {
        let opened = open_handle(&root, &handle, libc::O_RDONLY);
        let opened = unless(opened, &[libc::ESTALE], "open_by_handle_at")?;
        expect(opened.is_none(), "a file that is gone has no handle")?;
    }
    Ok(())
}
