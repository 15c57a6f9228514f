// SPDX-License-Identifier: GPL-2.0 OR MIT
//! An unprivileged user allocates as much of everything as possible: the memory stays within the
//! mount's limits, and is free afterwards.

use std::os::fd::AsRawFd;

use super::bomb::USER;
use crate::case::Test;
use crate::failure::{expect, Context, Errno, Failure, Outcome, Sys};
use crate::instance::Instance;
use crate::mapping::Mapping;
use crate::memory;
use crate::pattern::{blocks, Random, BLOCK, BLOCK64};
use crate::process::{become_user, Child};
use crate::sys::{
    check, clone_range, link, mkdir, pipe, read_all, symlink, unlink, write_all, File,
};
use crate::tests::xattr;
use crate::wait::eventually;

const MIB: u64 = 1 << 20;

/// `size=` of the instance.
const SIZE: u64 = 24 * MIB;
const INODES: u64 = 1_000;

/// The memory for each inode, with its names.
const FOR_AN_INODE: u64 = 4096;

/// Changes of free memory that have other causes.
const NOISE: u64 = 12 * MIB;

/// The most turns of one way.
const TURNS: u64 = 20_000;

/// A way to allocate something: one turn of it.
type Way = fn(&mut User<'_>, u64) -> Sys;

const WAYS: &[(&str, Way)] = &[
    ("files of one byte at 2^62", far_bytes),
    ("long symbolic links", links),
    ("long names", names),
    ("directories", directories),
    ("attributes", attributes),
    ("blocks in pipes, cut off", pipes),
    ("clones cut inside a block", cut_clones),
    ("data", data),
    ("open files without a name", nameless),
    ("stores through mappings", stores),
];

/// State that lives until the user's process ends.
struct User<'a> {
    fs: &'a Instance,
    files: Vec<File>,
    pipes: Vec<(std::os::fd::OwnedFd, std::os::fd::OwnedFd)>,
    maps: Vec<Mapping>,
}

/// Runs most ways one after the other, in an order that the seed determines.
pub fn memory_is_bounded(t: &Test) -> Outcome {
    let mut random = Random::new(t.settings.seed);
    let mut ways: Vec<_> = WAYS.iter().collect();
    for i in (1..ways.len()).rev() {
        ways.swap(i, random.below(i + 1));
    }
    let started = std::time::Instant::now();
    let mut turn = 0;
    let mut hold = |ways: &[(&str, Way)]| {
        turn += 1;
        hold(t, turn, ways)
    };
    for way in ways {
        hold(std::slice::from_ref(way)).or_fail(way.0)?;
    }
    while started.elapsed() < t.settings.torture {
        let some: Vec<_> = WAYS.iter().copied().filter(|_| random.one_in(2)).collect();
        hold(&some).or_fail(format_args!(
            "{:?}",
            some.iter().map(|way| way.0).collect::<Vec<_>>()
        ))?;
    }
    Ok(())
}

fn available() -> Outcome<u64> {
    // Cached names and inodes are reclaimable.
    std::fs::write("/proc/sys/vm/drop_caches", "2").or_fail("write drop_caches")?;
    memory::available()
}

fn hold(t: &Test, turn: usize, ways: &[(&str, Way)]) -> Outcome {
    let (size, inodes) = (SIZE.to_string(), INODES.to_string());
    let before = available()?;
    let options = [("size", &*size), ("nr_inodes", &*inodes)];
    let fs = t.mount_at(&format!("instance-{turn}"), &options)?;
    let (ready, say_ready) = pipe()?;
    let (may_end, say_end) = pipe()?;
    let user = Child::spawn(|| {
        become_user(USER, USER)?;
        let mut user = User {
            fs: &fs,
            files: Vec::new(),
            pipes: Vec::new(),
            maps: Vec::new(),
        };
        for (name, way) in ways {
            for turn in 0..TURNS {
                match way(&mut user, turn) {
                    Ok(()) => {}
                    Err(Errno(libc::ENOSPC | libc::EMFILE | libc::EFAULT | libc::EAGAIN)) => break,
                    Err(error) => return Err(error).or_fail(format_args!("{name}, turn {turn}")),
                }
            }
        }
        write_all(&say_ready, b"!")?;
        read_all(&may_end, 1)?;
        Ok(())
    })?;
    drop(say_ready);
    if read_all(&ready, 1)?.is_empty() {
        return user.join();
    }
    let held = before.saturating_sub(available()?);
    let used = fs.used()?;
    write_all(&say_end, b"!")?;
    user.join()?;
    let kept = before.saturating_sub(available()?);
    let noise = NOISE + memory::kept_when_freed()?;
    let limit = SIZE + SIZE / 256 + INODES * FOR_AN_INODE + noise;
    let what = |bytes| {
        format!(
            "{} MiB held with {} MiB in df, of at most {} MiB",
            bytes / MIB,
            used * BLOCK64 / MIB,
            limit / MIB
        )
    };
    expect(
        kept <= limit,
        format_args!("{} when the user is gone", what(kept)),
    )?;
    super::tell(format_args!(
        "{}: {}",
        ways.iter().map(|way| way.0).collect::<Vec<_>>().join(", "),
        what(held)
    ));
    remove_everything(&fs)?;
    eventually("no block is used once everything was removed", || {
        Ok(fs.used()? == 0)
    })?;
    fs.unmount()?;
    eventually("the memory comes back after umount", || {
        Ok(available()? + noise >= before)
    })
}

fn remove_everything(fs: &Instance) -> Outcome {
    for entry in std::fs::read_dir(&fs.root).or_fail("opendir")? {
        let path = entry.or_fail("readdir")?.path();
        let removed = if path.is_dir() && !path.is_symlink() {
            crate::sys::rmdir(&path)
        } else {
            unlink(&path)
        };
        removed.or_fail("removing an entry")?;
    }
    Ok(())
}

fn sys<T>(outcome: Outcome<T>) -> Sys<T> {
    outcome.map_err(|Failure(_)| Errno(libc::ENOSPC))
}

fn create(user: &User<'_>, name: String) -> Sys<File> {
    File::open(user.fs.path(&name), libc::O_RDWR | libc::O_CREAT)
}

fn far_bytes(user: &mut User<'_>, turn: u64) -> Sys {
    let file = create(user, format!("far{}", turn / 64))?;
    let at = (1 << 62) - (turn % 64 + 1) * (1 << 50);
    file.try_pwrite(b"x", at).map(drop)
}

fn links(user: &mut User<'_>, turn: u64) -> Sys {
    symlink("x".repeat(4_000), user.fs.path(&format!("symlink{turn}")))
}

fn names(user: &mut User<'_>, turn: u64) -> Sys {
    if turn == 0 {
        create(user, "linked".into())?;
    }
    let name = format!("{turn:0>250}");
    link(user.fs.path("linked"), user.fs.path(&name))
}

fn directories(user: &mut User<'_>, turn: u64) -> Sys {
    mkdir(user.fs.path(&format!("dir{turn}")), 0o755)
}

fn attributes(user: &mut User<'_>, turn: u64) -> Sys {
    let name = format!("attributes{}", turn / 500);
    create(user, name.clone())?;
    let attribute = format!("user.{turn:0>200}");
    xattr::set(user.fs.path(&name), &attribute, &[7; 2_000], 0)
}

/// Truncates a file while a pipe holds its block.
fn pipes(user: &mut User<'_>, turn: u64) -> Sys {
    let file = create(user, format!("pipe{turn}"))?;
    let ends = sys(pipe())?;
    file.try_pwrite(&blocks(1, 16), 0)?;
    let map = sys(Mapping::shared(&file, 16 * BLOCK))?;
    map.store(0, b"x");
    let vector = libc::iovec {
        iov_base: map.at(0).cast(),
        iov_len: map.len(),
    };
    // SAFETY: the kernel takes references to the pages of a mapping that is there.
    check(unsafe {
        libc::vmsplice(ends.1.as_raw_fd(), &vector, 1, libc::SPLICE_F_NONBLOCK) as i64
    })?;
    user.pipes.push(ends);
    file.try_truncate(0)
}

fn cut_clones(user: &mut User<'_>, turn: u64) -> Sys {
    if turn == 0 {
        create(user, "to clone".into())?.try_pwrite(&blocks(1, 2), 0)?;
    }
    let from = create(user, "to clone".into())?;
    let to = create(user, format!("cut{turn}"))?;
    clone_range(&from, 0, 0, &to, 0)?;
    to.try_truncate(BLOCK64 + 1)
}

fn data(user: &mut User<'_>, turn: u64) -> Sys {
    let file = create(user, "data".into())?;
    file.try_pwrite(&blocks(2, 64), turn * 64 * BLOCK64)
        .map(drop)
}

fn nameless(user: &mut User<'_>, _: u64) -> Sys {
    let flags = libc::O_TMPFILE | libc::O_RDWR;
    let file = File::open(&user.fs.root, flags)?;
    file.try_pwrite(&blocks(3, 8), 0)?;
    user.files.push(file);
    Ok(())
}

fn stores(user: &mut User<'_>, turn: u64) -> Sys {
    let file = create(user, "mapped".into())?;
    let size = (turn + 1) * 16 * BLOCK64;
    file.try_truncate(size)?;
    let flags = libc::MAP_SHARED;
    let map = Mapping::try_new(&file, size - 16 * BLOCK64, 16 * BLOCK, 3, flags)?;
    for block in 0..16 {
        sys(map.kernel_store(block * BLOCK, b'x'))??;
    }
    user.maps.push(map);
    Ok(())
}
