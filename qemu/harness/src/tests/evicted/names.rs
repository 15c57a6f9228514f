// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Names, directories and handles when nothing is cached.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use crate::case::{case, Case, Test};
use crate::eviction::{drop_caches, evict, statx_fields};
use crate::failure::{expect_eq, expect_errno, expect_one_of, Context, Outcome};
use crate::pattern::pattern;
use crate::process::Child;
use crate::sys::{exists, link, lstat, mkdir, pipe, rename, rmdir, unlink, File};
use crate::tests::handles::{handle_of, open_handle, path_of, root_of};
use crate::tests::names::{inode, links};
use crate::tests::readdir;
use crate::tests::rename_flags::{self, WHITEOUT};

pub const CASES: &[Case] = &[
    case!(names_of_a_file_lead_to_one_inode),
    case!(a_name_can_go_first),
    case!(parents_are_found_deep_down),
    case!(a_process_stays_in_its_directory),
    case!(a_directory_that_was_moved_knows_its_parent),
    case!(handles_open_directories_deep_down),
    case!(a_handle_opens_a_file_whose_names_changed),
    case!(a_listing_goes_on_at_an_old_place),
    case!(listings_agree_with_stat),
    case!(a_directory_with_names_is_not_empty),
    case!(names_are_exchanged_and_replaced),
    case!(a_missing_name_stays_missing_until_it_is_made),
    case!(numbers_are_not_given_twice),
];

fn names_of_a_file_lead_to_one_inode(t: &Test) -> Outcome {
    let one = t.create_with("one", b"data")?.path;
    let other = t.mkdir("dir")?.join("other");
    link(&one, &other).or_fail("link")?;
    let number = inode(&one)?;
    for (first, second) in [(&one, &other), (&other, &one)] {
        evict(t, [&one])?;
        let file = File::open(first, libc::O_RDWR).or_fail("open")?;
        let again = File::open(second, libc::O_RDONLY).or_fail("open")?;
        file.write_at(b"DATA", 0)?;
        again.expect_contents(b"DATA", "through the other name")?;
        file.write_at(b"data", 0)?;
        drop((file, again));
        evict(t, [&one])?;
        expect_eq(statx_fields(first)?, statx_fields(second)?, "stat")?;
        expect_eq((inode(first)?, links(first)?), (number, 2), "number, links")?;
    }
    // A third one, and one less, of an inode that has just come back.
    evict(t, [&one])?;
    link(&other, t.path("third")).or_fail("link")?;
    evict(t, [&one])?;
    expect_eq(links(&one)?, 3, "links")?;
    evict(t, [&one])?;
    unlink(&one).or_fail("unlink")?;
    evict(t, [&other])?;
    expect_eq(
        (inode(&other)?, links(&other)?),
        (number, 2),
        "number, links",
    )
}

fn a_name_can_go_first(t: &Test) -> Outcome {
    let data = pattern(1, 9000);
    let path = t.create_with("file", &data)?.path;
    link(&path, t.path("link")).or_fail("link")?;
    evict(t, [&path])?;
    unlink(&path).or_fail("unlink of what is not cached")?;
    evict(t, [t.path("link")])?;
    let file = File::open(t.path("link"), libc::O_RDONLY).or_fail("open")?;
    file.expect_contents(&data, "the file")?;
    expect_eq(file.stat()?.st_nlink, 1, "links")?;
    drop(file);
    evict(t, [t.path("link")])?;
    unlink(t.path("link")).or_fail("unlink")?;
    expect_errno(lstat(t.path("link")).map(drop), libc::ENOENT, "lstat")
}

const DEPTH: usize = 20;

/// Creates directories in one another, a file in the last. Returns their paths.
fn nested(t: &Test) -> Outcome<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for i in 0..DEPTH {
        let parent = paths.last().unwrap_or(&t.dir);
        let path = parent.join(format!("d{i}"));
        mkdir(&path, 0o755).or_fail("mkdir")?;
        paths.push(path);
    }
    File::create_with(paths[DEPTH - 1].join("file"), b"deep")?;
    Ok(paths)
}

fn parents_are_found_deep_down(t: &Test) -> Outcome {
    let paths = nested(t)?;
    let numbers: Vec<_> = paths.iter().map(inode).collect::<Outcome<_>>()?;
    for (i, path) in paths.iter().enumerate().rev() {
        evict(t, &paths)?;
        let up = path.join("../".repeat(i + 1));
        expect_eq(inode(up)?, inode(&t.dir)?, "the top")?;
        if i > 0 {
            evict(t, &paths)?;
            expect_eq(inode(path.join(".."))?, numbers[i - 1], "the parent")?;
        }
        let expected = if i + 1 < DEPTH { 3 } else { 2 };
        if t.filesystem != crate::filesystem::Btrfs {
            expect_eq(links(path)?, expected, "links")?;
        }
    }
    evict(t, &paths)?;
    let file = paths[DEPTH - 1]
        .join("../".repeat(5))
        .join("d15/d16/d17/d18/d19/file");
    File::open(file, libc::O_RDONLY)
        .or_fail("open, down and up")?
        .expect_contents(b"deep", "the file")
}

fn cwd() -> Outcome<PathBuf> {
    std::env::current_dir().or_fail("getcwd")
}

fn a_process_stays_in_its_directory(t: &Test) -> Outcome {
    let paths = nested(t)?;
    let last = &paths[DEPTH - 1];
    let (entered, enter) = pipe()?;
    let (go, let_go) = pipe()?;
    let child = Child::spawn(|| {
        std::env::set_current_dir(last).or_fail("chdir")?;
        crate::sys::write_all(&enter, b"x")?;
        crate::sys::read_all(&go, 1)?;
        let moved = t
            .path("moved")
            .join(last.strip_prefix(&paths[0]).or_fail("prefix")?);
        expect_eq(cwd()?, moved.clone(), "getcwd")?;
        expect_eq(inode(".")?, inode(&moved)?, "the number")?;
        let up = "../".repeat(DEPTH);
        expect_eq(inode(up)?, inode(&t.dir)?, "the top")?;
        File::open("file", libc::O_RDONLY)
            .or_fail("open")?
            .expect_contents(b"deep", "the file")
    })?;
    crate::sys::read_all(&entered, 1)?;
    // The directories are in use, the file is not.
    evict(t, [last.join("file")])?;
    rename(&paths[0], t.path("moved")).or_fail("rename")?;
    drop_caches(t)?;
    crate::sys::write_all(&let_go, b"x")?;
    child.join()
}

fn a_directory_that_was_moved_knows_its_parent(t: &Test) -> Outcome {
    for name in ["a", "b", "a/inside", "a/inside/more"] {
        t.mkdir(name)?;
    }
    let inside = t.path("a/inside");
    let handle = handle_of(&inside)?;
    let root = root_of(&t.dir)?;
    for (from, to) in [("a", "b"), ("b", "a")] {
        let paths = ["a", "b"].map(|name| t.path(name));
        evict(t, &paths)?;
        let (old, new) = (t.path(from).join("inside"), t.path(to).join("inside"));
        rename(&old, &new).or_fail("rename")?;
        evict(t, paths.iter().chain([&new, &new.join("more")]))?;
        let opened = open_handle(&root, &handle, libc::O_RDONLY).or_fail("open")?;
        expect_eq(path_of(&opened)?, new.clone(), "the path of its handle")?;
        drop(opened);
        evict(t, paths.iter().chain([&new, &new.join("more")]))?;
        expect_eq(inode(new.join(".."))?, inode(t.path(to))?, "its parent")?;
        expect_eq(inode(new.join("more/../.."))?, inode(t.path(to))?, "above")?;
        if t.filesystem != crate::filesystem::Btrfs {
            let seen = (links(t.path(from))?, links(t.path(to))?);
            expect_eq(seen, (2, 3), "links of the old and the new parent")?;
        }
    }
    // Exchanged with another.
    let (one, other) = (t.path("a/inside"), t.path("b/other"));
    t.mkdir("b/other")?;
    evict(t, [&one, &other])?;
    rename_flags::rename(&one, &other, libc::RENAME_EXCHANGE).or_fail("exchange")?;
    evict(t, [&one, &other, &other.join("more")])?;
    let opened = open_handle(&root, &handle, libc::O_RDONLY).or_fail("open")?;
    expect_eq(path_of(&opened)?, other.clone(), "the path of its handle")?;
    expect_eq(inode(other.join(".."))?, inode(t.path("b"))?, "its parent")?;
    expect_eq(inode(one.join(".."))?, inode(t.path("a"))?, "the other's")
}

fn handles_open_directories_deep_down(t: &Test) -> Outcome {
    let paths = nested(t)?;
    let root = root_of(&t.dir)?;
    let handles: Vec<_> = paths.iter().map(handle_of).collect::<Outcome<_>>()?;
    let numbers: Vec<_> = paths.iter().map(inode).collect::<Outcome<_>>()?;
    for i in [DEPTH - 1, 0, 7, DEPTH - 2] {
        evict(t, &paths)?;
        let opened = open_handle(&root, &handles[i], libc::O_RDONLY).or_fail("open")?;
        expect_eq(path_of(&opened)?, paths[i].clone(), "the path")?;
        let up = PathBuf::from(format!("/proc/self/fd/{}/..", opened.as_raw_fd()));
        let parent = if i == 0 {
            inode(&t.dir)?
        } else {
            numbers[i - 1]
        };
        expect_eq(inode(up)?, parent, "the parent")?;
        let names = std::fs::read_dir(&paths[i]).or_fail("read_dir")?.count();
        expect_eq(names, 1, "names in it")?;
    }
    let file = handle_of(paths[DEPTH - 1].join("file"))?;
    evict(t, &paths)?;
    let opened = open_handle(&root, &file, libc::O_RDONLY).or_fail("open")?;
    expect_eq(crate::sys::read_all(&opened, 9)?, b"deep".to_vec(), "data")
}

fn a_handle_opens_a_file_whose_names_changed(t: &Test) -> Outcome {
    let path = t.create_with("file", b"data")?.path;
    let handle = handle_of(&path)?;
    let root = root_of(&t.dir)?;
    evict(t, [&path])?;
    rename(&path, t.path("renamed")).or_fail("rename")?;
    evict(t, [t.path("renamed")])?;
    let opened = open_handle(&root, &handle, libc::O_RDWR).or_fail("open")?;
    expect_eq(crate::sys::read_all(&opened, 9)?, b"data".to_vec(), "data")?;
    drop(opened);
    evict(t, [t.path("renamed")])?;
    unlink(t.path("renamed")).or_fail("unlink")?;
    drop_caches(t)?;
    let opened = open_handle(&root, &handle, libc::O_RDONLY);
    expect_errno(opened, libc::ESTALE, "a handle of a file that is gone")
}

fn a_listing_goes_on_at_an_old_place(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    for i in 0..150 {
        File::create(dir.join(format!("name-{i}")))?;
        File::create(dir.join(format!("{i}-{}", "long".repeat(20))))?;
    }
    let all = readdir::rest(&readdir::open(&dir)?, 4096)?;
    expect_eq(all.len(), 302, "names, with the dots")?;
    for (i, entry) in all.iter().enumerate().step_by(37) {
        evict(t, [&dir])?;
        let again = readdir::open(&dir)?;
        readdir::seek(&again, entry.next)?;
        let seen = readdir::rest(&again, 1000)?;
        let seen: Vec<_> = seen.iter().map(|e| (&e.name, e.number, e.kind)).collect();
        let expected = all[i + 1..].iter().map(|e| (&e.name, e.number, e.kind));
        expect_eq(
            seen,
            expected.collect::<Vec<_>>(),
            format_args!("from {i} on"),
        )?;
    }
    Ok(())
}

fn listings_agree_with_stat(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    File::create(dir.join("file"))?;
    mkdir(dir.join("sub"), 0o755).or_fail("mkdir")?;
    crate::sys::symlink("x", dir.join("symlink")).or_fail("symlink")?;
    crate::sys::path_call!(mkfifo(dir.join("fifo"), 0o644)).or_fail("mkfifo")?;
    link(dir.join("file"), dir.join("n".repeat(255))).or_fail("link")?;
    let names = ["file", "sub", "symlink", "fifo"].map(|name| dir.join(name));
    for stat_first in [false, true] {
        evict(t, names.iter().chain([&dir]))?;
        let list = || readdir::rest(&readdir::open(&dir)?, 4096);
        let early = (!stat_first).then(list).transpose()?;
        for entry in early.map_or_else(list, Ok)? {
            let name = String::from_utf8_lossy(&entry.name).into_owned();
            let stat = lstat(dir.join(&name)).or_fail("lstat")?;
            let seen = (entry.number, u32::from(entry.kind) << 12);
            let expected = (stat.st_ino, stat.st_mode & libc::S_IFMT);
            expect_eq(seen, expected, format_args!("number and type of {name}"))?;
        }
    }
    Ok(())
}

fn a_directory_with_names_is_not_empty(t: &Test) -> Outcome {
    for name in ["full", "empty", "other"] {
        t.mkdir(name)?;
    }
    t.create("full/file")?;
    let paths = ["full", "empty", "other", "full/file"].map(|name| t.path(name));
    evict(t, &paths)?;
    expect_errno(rmdir(&paths[0]), libc::ENOTEMPTY, "rmdir")?;
    evict(t, &paths)?;
    expect_one_of(
        rename(&paths[1], &paths[0]),
        &[libc::ENOTEMPTY, libc::EEXIST],
        "a rename to it",
    )?;
    evict(t, &paths)?;
    rename(&paths[0], &paths[1]).or_fail("a rename to an empty one")?;
    evict(t, [&paths[1], &paths[2]])?;
    rmdir(&paths[2]).or_fail("rmdir of an empty one")?;
    unlink(t.path("empty/file")).or_fail("unlink")?;
    evict(t, [&paths[1]])?;
    rmdir(&paths[1]).or_fail("rmdir of the emptied one")
}

fn names_are_exchanged_and_replaced(t: &Test) -> Outcome {
    let contents = |path: &Path| -> Outcome<Vec<u8>> {
        File::open(path, libc::O_RDONLY).or_fail("open")?.contents()
    };
    let (one, other) = (t.path("one"), t.path("other"));
    t.create_with("one", b"1")?;
    t.create_with("other", b"2")?;
    evict(t, [&one, &other])?;
    rename_flags::rename(&one, &other, libc::RENAME_EXCHANGE).or_fail("exchange")?;
    evict(t, [&one, &other])?;
    let seen = (contents(&one)?, contents(&other)?);
    expect_eq(seen, (b"2".to_vec(), b"1".to_vec()), "exchanged")?;
    evict(t, [&one, &other])?;
    rename_flags::rename(&one, &other, WHITEOUT).or_fail("RENAME_WHITEOUT")?;
    evict(t, [&one, &other])?;
    expect_eq(contents(&other)?, b"2".to_vec(), "what replaced it")?;
    let whiteout = lstat(&one).or_fail("lstat")?;
    expect_eq(
        (whiteout.st_mode & libc::S_IFMT, whiteout.st_rdev),
        (libc::S_IFCHR, 0),
        "the whiteout",
    )?;
    evict(t, [&one, &other])?;
    rename(&other, &one).or_fail("rename")?;
    evict(t, [&one])?;
    expect_eq(contents(&one)?, b"2".to_vec(), "what replaced the whiteout")?;
    expect_eq(exists(&other), false, "the old name")
}

fn a_missing_name_stays_missing_until_it_is_made(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    let path = dir.join("name");
    expect_errno(lstat(&path).map(drop), libc::ENOENT, "lstat")?;
    evict(t, [&dir])?;
    expect_errno(lstat(&path).map(drop), libc::ENOENT, "lstat again")?;
    evict(t, [&dir])?;
    File::create_with(&path, b"new")?;
    evict(t, [dir.clone(), path.clone()])?;
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR;
    expect_errno(File::open(&path, flags).map(drop), libc::EEXIST, "O_EXCL")?;
    evict(t, [dir, path.clone()])?;
    // Opened, not made anew.
    let file = File::open(&path, libc::O_CREAT | libc::O_RDWR).or_fail("open")?;
    file.expect_contents(b"new", "the file")
}

fn numbers_are_not_given_twice(t: &Test) -> Outcome {
    let mut seen = std::collections::BTreeMap::new();
    for round in 0..4 {
        for i in 0..25 {
            let name = format!("{round}-{i}");
            let path = t.create(&name)?.path;
            let other = seen.insert(inode(&path)?, name);
            expect_eq(other, None, "the file with its number")?;
        }
        evict(t, seen.values().map(|name| t.path(name)))?;
    }
    for (number, name) in seen {
        expect_eq(inode(t.path(&name))?, number, name)?;
    }
    Ok(())
}
