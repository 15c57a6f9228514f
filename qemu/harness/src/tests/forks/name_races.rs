// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Forks in a race with changes of names and attributes, lookups, unmounts, and other forks.

use std::path::Path;

use super::contents::{expect_same, fork, populate, snapshot};
use super::races::{block_of, expect_one_moment, forker, read, value_of};
use crate::case::{case, worker, Case, Test, Worker};
use crate::eviction::drop_caches;
use crate::failure::{expect, expect_bytes, expect_eq, Context, Failure, Outcome};
use crate::filesystem::FORKS;
use crate::instance::Instance;
use crate::mapping::Mapping;
use crate::pattern::{pattern, BLOCK, BLOCK64};
use crate::sys::{chmod, link, lstat, mkdir, rename, rmdir, unlink, File};
use crate::tests::xattr;

pub const CASES: &[Case] = &[
    case!(what_is_moved_has_one_name).needs(FORKS),
    case!(names_and_counts_of_links_agree).needs(FORKS),
    case!(attributes_are_whole_and_in_order).needs(FORKS),
    case!(caches_are_emptied_meanwhile).needs(FORKS),
    case!(names_are_looked_up_meanwhile).needs(FORKS),
    case!(two_fork_at_once).needs(FORKS),
    case!(forks_change_while_the_base_goes).needs(FORKS),
];

fn what_is_moved_has_one_name(t: &Test) -> Outcome {
    const FILES: usize = 6;
    let base = t.mount(&[])?;
    for dir in ["a", "b"] {
        mkdir(base.path(dir), 0o755).or_fail("mkdir")?;
    }
    for i in 0..FILES {
        base.create_with(&format!("a/{i}"), i.to_string().as_bytes())?;
    }
    mkdir(base.path("a/sub"), 0o755).or_fail("mkdir")?;
    let mover = |name, which: Vec<String>| {
        let base = &base;
        worker(name, move || {
            for (from, to) in [("a", "b"), ("b", "a")] {
                for i in &which {
                    let at = |dir: &str| base.path(&format!("{dir}/{i}"));
                    rename(at(from), at(to)).or_fail("rename")?;
                }
            }
            Ok(())
        })
    };
    let names = |first: usize| (first..FILES).step_by(2).map(|i| i.to_string());
    t.race(vec![
        mover("moves", names(0).collect()),
        mover("moves others", names(1).chain(["sub".into()]).collect()),
        forker(t, &base, "forks", |copy| {
            let at = |dir: &str, i: &str| copy.path(&format!("{dir}/{i}"));
            for i in (0..FILES).map(|i| i.to_string()) {
                let found: Vec<_> = ["a", "b"]
                    .into_iter()
                    .filter(|dir| at(dir, &i).exists())
                    .collect();
                expect_eq(found.len(), 1, format_args!("names of {i}: {found:?}"))?;
                let content = read(copy, &format!("{}/{i}", found[0]))?;
                expect_bytes(&content, i.as_bytes(), "a file that was moved")?;
                let links = lstat(at(found[0], &i)).or_fail("lstat")?.st_nlink;
                expect_eq(links, 1, "its links")?;
            }
            let mut listed = 0;
            for dir in ["a", "b"] {
                let entries = std::fs::read_dir(copy.path(dir)).or_fail("readdir")?;
                listed += entries.count();
                let links = lstat(copy.path(dir)).or_fail("lstat")?.st_nlink;
                let has = at(dir, "sub").exists();
                expect_eq(links, 2 + u64::from(has), format_args!("links of {dir}"))?;
            }
            expect_eq(listed, FILES + 1, "all that readdir finds")
        }),
    ])
}

fn names_and_counts_of_links_agree(t: &Test) -> Outcome {
    let base = t.mount(&[])?;
    base.create("first")?;
    let maker = |name: &'static str, count: usize| {
        let base = &base;
        worker(name, move || {
            let at = |i: usize, kind: &str| base.path(&format!("{name} {kind} {i}"));
            for i in 0..count {
                File::create(at(i, "file"))?;
                link(at(i, "file"), at(i, "link")).or_fail("link")?;
                link(base.path("first"), at(i, "first")).or_fail("link")?;
                mkdir(at(i, "dir"), 0o755).or_fail("mkdir")?;
            }
            for i in 0..count {
                rename(at(i, "first"), at(i, "link")).or_fail("rename")?;
                unlink(at(i, "file")).or_fail("unlink")?;
                rmdir(at(i, "dir")).or_fail("rmdir")?;
                unlink(at(i, "link")).or_fail("unlink")?;
            }
            Ok(())
        })
    };
    t.race(vec![
        maker("few", 2),
        maker("many", 70),
        forker(t, &base, "forks", |copy| {
            let mut names = std::collections::BTreeMap::new();
            let mut directories = 0;
            for entry in std::fs::read_dir(&copy.root).or_fail("readdir")? {
                let path = entry.or_fail("readdir")?.path();
                let stat = lstat(&path).or_fail(format_args!("lstat {path:?}"))?;
                match stat.st_mode & libc::S_IFMT {
                    libc::S_IFDIR => directories += 1,
                    _ => names.entry(stat.st_ino).or_insert((stat.st_nlink, 0)).1 += 1,
                }
            }
            for (ino, (links, names)) in names {
                expect_eq(names, links, format_args!("names of {ino}, by its links"))?;
            }
            let links = lstat(&copy.root).or_fail("lstat")?.st_nlink;
            expect_eq(links, 2 + directories, "links of the root")
        }),
    ])
}

fn attributes_are_whole_and_in_order(t: &Test) -> Outcome {
    let base = t.mount(&[])?;
    base.create("file")?;
    mkdir(base.path("dir"), 0o755).or_fail("mkdir")?;
    let places = [("file", "user.b"), ("dir", "user.a"), ("file", "user.a")];
    for (path, name) in places {
        xattr::set(base.path(path), name, &0u64.to_le_bytes(), 0).or_fail("setxattr")?;
    }
    let mut value = 0u64;
    t.race(vec![
        worker("sets in order", || {
            value += 1;
            let bytes = value.to_le_bytes().repeat(1 + value as usize % 300);
            places.iter().try_for_each(|(path, name)| {
                xattr::set(base.path(path), name, &bytes, 0).or_fail("setxattr")
            })
        }),
        worker("changes modes", || {
            [0o700, 0o755].into_iter().try_for_each(|mode| {
                chmod(base.path("dir"), mode).or_fail("chmod")?;
                xattr::set(base.path("dir"), "user.c", b"c", 0).or_fail("setxattr")?;
                xattr::remove(base.path("dir"), "user.c").or_fail("removexattr")
            })
        }),
        forker(t, &base, "forks", |copy| {
            let mut values = Vec::new();
            for (path, name) in places {
                let value = xattr::get(copy.path(path), name).or_fail("getxattr")?;
                values.push(value_of(&value)?);
            }
            expect_one_moment(&values)?;
            let mode = lstat(copy.path("dir")).or_fail("lstat")?.st_mode & 0o777;
            expect(
                [0o700, 0o755].contains(&mode),
                format_args!("mode {mode:o}"),
            )
        }),
    ])
}

/// Writes numbers to a file, each of which is read back.
fn writes_and_reads(base: &Instance) -> Outcome<Worker<'_>> {
    let path = base.path("number");
    File::create(&path)?;
    let mut value = 0;
    Ok(worker("writes and reads", move || {
        value += 1;
        File::open(&path, libc::O_RDWR)
            .or_fail("open")?
            .write_at(&block_of(value), 0)?;
        let file = File::open(&path, libc::O_RDONLY).or_fail("open")?;
        expect_eq(value_of(&file.contents()?)?, value, "what was written last")
    }))
}

fn caches_are_emptied_meanwhile(t: &Test) -> Outcome {
    let base = t.mount(&[])?;
    populate(&base.root)?;
    let before = snapshot(&base.root)?;
    let writes = writes_and_reads(&base)?;
    t.race(vec![
        writes,
        worker("empties", || drop_caches(t)),
        forker(t, &base, "forks", |copy| {
            value_of(&read(copy, "number")?)?;
            let mut now = snapshot(&copy.root)?;
            now.retain(|line| !line.starts_with("number "));
            expect_eq(now, before.clone(), "in the fork")
        }),
    ])
}

fn names_are_looked_up_meanwhile(t: &Test) -> Outcome {
    let base = t.mount(&[])?;
    populate(&base.root)?;
    let writes = writes_and_reads(&base)?;
    let look = |root: &Path| -> Outcome {
        for i in 0..200 {
            let stat = lstat(root.join(format!("dir/{i}"))).or_fail("lstat")?;
            expect_eq(stat.st_size, i.to_string().len() as i64, "size")?;
            let missing = lstat(root.join(format!("dir/missing {i}")));
            expect(missing.is_err(), "a name that is not there")?;
        }
        Ok(())
    };
    t.race(vec![
        writes,
        worker("looks up", || look(&base.root)),
        forker(t, &base, "forks", |copy| {
            std::thread::scope(|scope| {
                let lookers = [(); 3].map(|()| scope.spawn(|| look(&copy.root)));
                lookers.into_iter().try_for_each(|looker| {
                    let panicked = |_| Err(Failure::new("the thread panicked"));
                    looker.join().unwrap_or_else(panicked)
                })
            })
        }),
    ])
}

fn two_fork_at_once(t: &Test) -> Outcome {
    let base = t.mount(&[])?;
    populate(&base.root)?;
    let before = snapshot(&base.root)?;
    let (space, before) = (base.space()?, &before);
    let play = |name: &'static str| {
        let base = &base;
        let mut turn = 0;
        worker(name, move || {
            turn += 1;
            let one = fork(t, base, &format!("{name} {turn}"))?;
            rename(one.path("large"), one.path("moved")).or_fail("rename")?;
            let two = fork(t, &one, &format!("{name} {turn}, again"))?;
            rename(two.path("moved"), two.path("large")).or_fail("rename")?;
            one.unmount()?;
            expect_eq(two.path("dir/small").exists(), true, "a file")?;
            rename(two.path("large"), two.path("moved")).or_fail("rename")?;
            two.unmount()
        })
    };
    t.race(vec![play("one"), play("another"), play("a third")])?;
    expect_same(&base.root, before, "the base")?;
    expect_eq(base.space()?, space, "its space")
}

/// Each turn has a base, which is unmounted while a fork of it is changed, and forked.
fn forks_change_while_the_base_goes(t: &Test) -> Outcome {
    let play = |name: &'static str| {
        let mut turn = 0;
        move || {
            turn += 1;
            let at = |what: &str| format!("{name} {turn} {what}");
            let base = t.mount_at(&at("base"), &[])?;
            let data = pattern(1, 20 * BLOCK);
            base.create_with("file", &data)?;
            let file = base.create_with("mapped", &data)?;
            let map = Mapping::shared(&file, data.len())?;
            map.store(0, &data[..1]);
            let empty = base.space()?;
            let copy = fork(t, &base, &at("fork"))?;
            drop((map, file));
            let (copy, at) = (&copy, &at);
            let later = std::thread::scope(|scope| {
                let unmounts = scope.spawn(|| base.unmount());
                let forks = scope.spawn(|| fork(t, copy, &at("fork of the fork")));
                for i in 0..20 {
                    let file = File::open(copy.path("file"), libc::O_RDWR).or_fail("open")?;
                    file.write_at(&block_of(i), i * BLOCK64)?;
                    let map = Mapping::shared(&file, data.len())?;
                    map.store(i as usize * BLOCK, b"s");
                    copy.create(&format!("new {i}"))?;
                }
                let panicked = |_| Failure::new("the thread panicked");
                unmounts.join().map_err(panicked)??;
                forks.join().map_err(panicked)?
            })?;
            for i in 0..20 {
                unlink(copy.path(&format!("new {i}"))).or_fail("unlink")?;
            }
            expect_bytes(&read(&later, "mapped")?, &data, "in the later fork")?;
            later.unmount()?;
            expect_bytes(&read(copy, "mapped")?, &data, "in the fork")?;
            expect_eq(copy.space()?, empty, "what is free")
        }
    };
    t.race(vec![
        worker("one", play("one")),
        worker("another", play("another")),
        worker("empties", || drop_caches(t)),
    ])
}
