// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Names and directories that several processes change at once.

use crate::case::{case, worker, Case, Test};
use crate::failure::{expect, expect_eq, Context, Errno, Outcome};
use crate::filesystem::Btrfs;
use crate::pattern::Random;
use crate::sys::{link, mkdir, rename, rmdir, unlink, File};

pub const CASES: &[Case] = &[
    case!(names_race_with_names),
    case!(renames_of_directories_race_without_loops),
    case!(opening_races_with_unlinking_and_creating),
];

fn names_race_with_names(t: &Test) -> Outcome {
    let (a, b) = (t.mkdir("a")?, t.mkdir("b")?);
    let act = |seed: u64| {
        let mut random = Random::new(t.settings.seed + seed);
        let dirs = [a.clone(), b.clone()];
        move || {
            let mut pick = || dirs[random.below(2)].join(format!("n{}", random.below(6)));
            let (one, other) = (pick(), pick());
            let what = random.below(7);
            let result = match what {
                0 => File::open(&one, libc::O_RDWR | libc::O_CREAT).map(|_| ()),
                1 => unlink(&one),
                2 => rename(&one, &other),
                3 => link(&one, &other),
                4 => mkdir(&one, 0o755),
                5 => rmdir(&one),
                _ => crate::sys::symlink("n0", &one),
            };
            // Other processes interfere: these errors are expected, all others are faults.
            let allowed = [
                libc::ENOENT,
                libc::EEXIST,
                libc::EISDIR,
                libc::ENOTDIR,
                libc::ENOTEMPTY,
                libc::EPERM,
                libc::ELOOP,
                libc::EINVAL,
            ];
            match result {
                Ok(()) => Ok(()),
                Err(Errno(errno)) if allowed.contains(&errno) => Ok(()),
                Err(error) => Err(error).or_fail(format_args!("step {what}")),
            }
        }
    };
    t.race(vec![
        worker("one", act(1)),
        worker("two", act(2)),
        worker("three", act(3)),
        worker("lists", || {
            for dir in [&a, &b] {
                std::fs::read_dir(dir).or_fail("read_dir")?.count();
            }
            Ok(())
        }),
    ])?;
    // A listed name exists, and an existing name can be removed.
    for dir in [&a, &b] {
        for entry in std::fs::read_dir(dir).or_fail("read_dir")? {
            let path = entry.or_fail("entry")?.path();
            let stat = crate::sys::lstat(&path).or_fail("lstat of a listed name")?;
            if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
                rmdir(&path).or_fail("rmdir")?;
            } else {
                unlink(&path).or_fail("unlink")?;
            }
        }
        if t.filesystem != Btrfs {
            expect_eq(
                crate::sys::lstat(dir).or_fail("lstat")?.st_nlink,
                2,
                "links at the end",
            )?;
        }
        rmdir(dir).or_fail("rmdir of the emptied directory")?;
    }
    Ok(())
}

fn renames_of_directories_race_without_loops(t: &Test) -> Outcome {
    for name in ["a", "b", "a/c", "b/d"] {
        t.mkdir(name)?;
    }
    let shuffle = |seed: u64| {
        let mut random = Random::new(t.settings.seed + seed);
        move || {
            const PLACES: [&str; 8] = ["a", "b", "a/c", "b/d", "a/b", "b/a", "a/c/b", "b/d/a"];
            let (from, to) = (PLACES[random.below(8)], PLACES[random.below(8)]);
            let _ = rename(t.path(from), t.path(to));
            Ok(())
        }
    };
    t.race(vec![
        worker("one", shuffle(1)),
        worker("two", shuffle(2)),
        worker("puts back", || {
            for name in ["a", "b", "a/c", "b/d"] {
                let _ = mkdir(t.path(name), 0o755);
            }
            Ok(())
        }),
    ])
    // If the directory can be removed afterwards, no directory is lost in a loop.
}

fn opening_races_with_unlinking_and_creating(t: &Test) -> Outcome {
    let path = t.path("file");
    let create = || -> Outcome {
        match File::open(&path, libc::O_RDWR | libc::O_CREAT | libc::O_EXCL) {
            Ok(file) => file.write_at(b"whole", 0),
            Err(Errno(libc::EEXIST)) => Ok(()),
            Err(error) => Err(error).or_fail("create"),
        }
    };
    t.race(vec![
        worker("creates", create),
        worker("creates too", create),
        worker("unlinks", || match unlink(&path) {
            Ok(()) | Err(Errno(libc::ENOENT)) => Ok(()),
            Err(error) => Err(error).or_fail("unlink"),
        }),
        worker("opens and reads", || {
            match File::open(&path, libc::O_RDONLY) {
                Ok(file) => {
                    let seen = file.contents()?;
                    expect(
                        b"whole".starts_with(&seen),
                        format_args!("the file holds {seen:?}"),
                    )
                }
                Err(Errno(libc::ENOENT)) => Ok(()),
                Err(error) => Err(error).or_fail("open"),
            }
        }),
    ])
}
