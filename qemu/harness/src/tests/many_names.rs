// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Many links, large directories, long targets, every byte of a name.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Errno, Outcome};
use crate::filesystem::{Btrfs, Ext4, Feature, Xfs};
use crate::pattern::Random;
use crate::sys::{c_path, exists, link, lstat, mkdir, readlink, rmdir, symlink, unlink, File};

const FAST: &[Feature] = &[Feature::FastKernel];

pub const CASES: &[Case] = &[
    case!(a_file_has_more_than_65535_links)
        .except(Btrfs, "65535")
        .except(Ext4, "65000")
        .needs(FAST),
    case!(a_directory_of_100000_names_is_listed_whole)
        .except(Btrfs, "takes longer than a test may")
        .needs(FAST),
    case!(a_place_in_a_large_directory_is_found_again).except(Ext4, "sorts by hashes"),
    case!(names_that_stay_are_seen_once_while_others_go),
    case!(symlinks_of_every_length_are_read_whole)
        .except(Xfs, "up to 1024 bytes")
        .except(Btrfs, "up to what fits in a node"),
    case!(names_may_have_every_byte_but_two),
    case!(names_of_every_length_are_kept),
];

fn a_file_has_more_than_65535_links(t: &Test) -> Outcome {
    const MOST: u64 = 65_600;
    // While other tests run there may be too few inodes, as each name counts as one.
    let own = match t.is_reflinkfs() {
        true => Some(t.mount(&[("nr_inodes", "0")])?),
        false => None,
    };
    let path = |name: &str| own.as_ref().map_or(t.path(name), |fs| fs.path(name));
    let file = File::create_with(path("file"), b"data")?;
    let dirs = (0..8)
        .map(|i| path(&format!("dir-{i}")))
        .collect::<Vec<_>>();
    for dir in &dirs {
        mkdir(dir, 0o755).or_fail("mkdir")?;
    }
    let at = |i: u64| dirs[(i % 8) as usize].join(i.to_string());
    for i in 1..MOST {
        link(&file.path, at(i)).or_fail(format_args!("link {i}"))?;
    }
    expect_eq(file.stat()?.st_nlink, MOST as libc::nlink_t, "links")?;
    let by_another = File::open(at(MOST - 1), libc::O_RDONLY).or_fail("open")?;
    by_another.expect_contents(b"data", "by the last name")?;
    for i in 1..MOST {
        unlink(at(i)).or_fail("unlink")?;
    }
    expect_eq(file.stat()?.st_nlink, 1, "links in the end")
}

/// An open directory, with its offsets.
struct Listing(*mut libc::DIR);

impl Listing {
    fn open(path: &Path) -> Outcome<Self> {
        let path = c_path(path);
        // SAFETY: the path is valid during the call.
        let dir = unsafe { libc::opendir(path.as_ptr()) };
        if dir.is_null() {
            return Err(Errno::last()).or_fail("opendir");
        }
        Ok(Self(dir))
    }

    /// Returns the next name and the offset after it.
    fn next(&mut self) -> Option<(String, libc::c_long)> {
        // SAFETY: the directory is open; the entry is copied before the next call.
        unsafe {
            let entry = libc::readdir(self.0);
            if entry.is_null() {
                return None;
            }
            let name = CStr::from_ptr((&raw const (*entry).d_name).cast());
            Some((name.to_string_lossy().into_owned(), libc::telldir(self.0)))
        }
    }

    fn seek(&mut self, place: libc::c_long) {
        // SAFETY: the directory is open; the place is one that it gave.
        unsafe { libc::seekdir(self.0, place) };
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        // SAFETY: nothing uses it any more.
        unsafe { libc::closedir(self.0) };
    }
}

fn is_dots(name: &str) -> bool {
    name == "." || name == ".."
}

fn fill(dir: &Path, count: usize) -> Outcome {
    (0..count).try_for_each(|i| File::create(dir.join(format!("name-{i}"))).map(drop))
}

fn a_directory_of_100000_names_is_listed_whole(t: &Test) -> Outcome {
    let count = t.rounds(100_000);
    let dir = t.mkdir("dir")?;
    // Links are made faster than files, but a file has a limit on them.
    let files = [t.create("one")?, t.create("other")?];
    for i in 0..count {
        link(&files[i % 2].path, dir.join(format!("name-{i}"))).or_fail("link")?;
    }
    let mut listing = Listing::open(&dir)?;
    let mut seen = vec![false; count];
    while let Some((name, _)) = listing.next() {
        if is_dots(&name) {
            continue;
        }
        let number = name
            .strip_prefix("name-")
            .and_then(|n| n.parse::<usize>().ok());
        let number = number
            .filter(|&n| n < count)
            .ok_or("unknown")
            .or_fail(&name)?;
        expect(
            !std::mem::replace(&mut seen[number], true),
            format_args!("{name} once"),
        )?;
    }
    expect(seen.iter().all(|&seen| seen), "every name is listed")?;
    expect_errno(rmdir(&dir), libc::ENOTEMPTY, "rmdir")?;
    for i in (0..count).rev() {
        unlink(dir.join(format!("name-{i}"))).or_fail("unlink")?;
    }
    rmdir(&dir).or_fail("rmdir once it is empty")
}

fn a_place_in_a_large_directory_is_found_again(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    let count = t.rounds(10_000);
    fill(&dir, count)?;
    let mut listing = Listing::open(&dir)?;
    let mut entries = Vec::new();
    while let Some(entry) = listing.next() {
        entries.push(entry);
    }
    expect_eq(entries.len(), count + 2, "names")?;
    let mut random = Random::new(t.settings.seed);
    for _ in 0..t.rounds(300) {
        let i = random.below(entries.len() - 1);
        listing.seek(entries[i].1);
        let next = listing.next().map(|(name, _)| name);
        expect_eq(
            next.as_ref(),
            Some(&entries[i + 1].0),
            format_args!("behind {}", entries[i].0),
        )?;
    }
    listing.seek(entries[count + 1].1);
    expect_eq(listing.next(), None, "behind the last one")
}

fn names_that_stay_are_seen_once_while_others_go(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    let count = t.rounds(10_000);
    fill(&dir, count)?;
    let mut listing = Listing::open(&dir)?;
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut random = Random::new(t.settings.seed);
    let mut made = 0;
    while let Some((name, _)) = listing.next() {
        *seen.entry(name).or_default() += 1;
        // Odd names are removed, before or behind; others are created.
        let odd = random.below(count) | 1;
        match crate::sys::unlink(dir.join(format!("name-{odd}"))) {
            Ok(()) | Err(Errno(libc::ENOENT)) => {}
            Err(error) => return Err(error).or_fail("unlink"),
        }
        if random.one_in(4) && made < count {
            File::create(dir.join(format!("new-{made}")))?;
            made += 1;
        }
    }
    for i in (0..count).step_by(2) {
        let times = seen.get(&format!("name-{i}")).copied().unwrap_or(0);
        expect(
            times == 1,
            format_args!("name-{i} stayed and was seen {times} times"),
        )?;
    }
    for (name, times) in &seen {
        expect(*times == 1, format_args!("{name} was seen {times} times"))?;
    }
    Ok(())
}

fn symlinks_of_every_length_are_read_whole(t: &Test) -> Outcome {
    let path = t.path("symlink");
    let step = if t.settings.divisor > 1 { 17 } else { 1 };
    for len in (1..=4095).step_by(step).chain([4095]) {
        let target = "abcdefgh/".repeat(456)[..len].to_owned();
        symlink(&target, &path).or_fail(format_args!("symlink of {len} bytes"))?;
        expect_eq(
            readlink(&path).or_fail("readlink")?,
            Path::new(&target).to_owned(),
            "its target",
        )?;
        expect_eq(
            lstat(&path).or_fail("lstat")?.st_size as usize,
            len,
            "its size",
        )?;
        unlink(&path).or_fail("unlink")?;
    }
    expect_errno(
        symlink("x".repeat(4096), &path),
        libc::ENAMETOOLONG,
        "4096 bytes",
    )?;
    expect_errno(symlink("", &path), libc::ENOENT, "no bytes")
}

fn names_may_have_every_byte_but_two(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    let all: Vec<u8> = (1..=255).filter(|&byte| byte != b'/').collect();
    let long: Vec<u8> = all.iter().copied().chain([b'x']).collect();
    expect_eq(long.len(), 255, "bytes of the longest name")?;
    let mut names = vec![long, all.clone()];
    names.extend(all.iter().filter(|&&b| b != b'.').map(|&byte| vec![byte]));
    names.extend(all.iter().map(|&byte| vec![b'.', byte, b'.']));
    for name in &names {
        File::create(dir.join(OsStr::from_bytes(name)))?;
    }
    mkdir(dir.join("sub"), 0o755).or_fail("mkdir")?;
    let mut seen: Vec<Vec<u8>> = std::fs::read_dir(&dir)
        .or_fail("readdir")?
        .map(|entry| {
            entry
                .map(|e| e.file_name().as_bytes().to_vec())
                .or_fail("readdir")
        })
        .collect::<Outcome<_>>()?;
    names.push(b"sub".to_vec());
    seen.sort();
    names.sort();
    expect(seen == names, "the names listed are those made")?;
    for name in names.iter().filter(|name| *name != b"sub") {
        let path = dir.join(OsStr::from_bytes(name));
        expect(exists(&path), format_args!("{name:?} is found"))?;
        unlink(&path).or_fail("unlink")?;
    }
    expect_eq(
        std::fs::read_dir(&dir).or_fail("readdir")?.count(),
        1,
        "names left",
    )
}

fn names_of_every_length_are_kept(t: &Test) -> Outcome {
    let dir = t.mkdir("dir")?;
    for len in 1..=255 {
        // A name that is a prefix of another must not be taken for it.
        File::create(dir.join("n".repeat(len)))?.write_at(&[len as u8], 0)?;
    }
    for len in 1..=255 {
        let file = File::open(dir.join("n".repeat(len)), libc::O_RDONLY).or_fail("open")?;
        expect_eq(file.read_at(0, 2)?, [len as u8], "its contents")?;
    }
    let long = File::open(dir.join("n".repeat(256)), libc::O_RDWR | libc::O_CREAT);
    expect_errno(long, libc::ENAMETOOLONG, "256 bytes")
}
