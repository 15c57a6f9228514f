// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Memory is charged to the cgroup of the process that allocates it, and only a cgroup at its limit
//! fails.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::fallocate::fallocate;
use super::splice::vmsplice;
use super::xattr;
use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, Context, Errno, Failure, Outcome};
use crate::filesystem::{Btrfs, Ext4, Feature, Xfs};
use crate::mapping::Mapping;
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::process::{signal_name, Child, End};
use crate::sys::{clone_range, lstat, mkdir, pipe, rmdir, sleep_ms, unlink, File};
use crate::wait::eventually;

const LATER: &str = "gives it back when it likes";
const RECLAIMS: &str = "writes back to its disk";

pub const CASES: &[Case] = &[
    case!(bytes_are_charged_to_who_writes_them),
    case!(files_and_attributes_are_charged_to_who_makes_them)
        .except(Xfs, LATER)
        .except(Btrfs, LATER)
        .except(Ext4, LATER),
    case!(a_clone_is_charged_for_what_it_changes).needs(&[Feature::Reflinkfs]),
    case!(a_group_without_memory_fails_alone)
        .except(Xfs, RECLAIMS)
        .except(Btrfs, RECLAIMS)
        .except(Ext4, RECLAIMS),
    case!(a_store_without_memory_kills_in_its_group_alone)
        .except(Xfs, RECLAIMS)
        .except(Btrfs, RECLAIMS)
        .except(Ext4, RECLAIMS),
    case!(a_writer_that_waits_for_memory_holds_up_no_faults)
        .needs(&[Feature::Reflinkfs, Feature::FastKernel]),
];

/// A cgroup, removed when dropped.
struct Group(PathBuf);

impl Group {
    fn new(t: &Test) -> Outcome<Self> {
        let root = t.elsewhere.join("cgroup");
        mkdir(&root, 0o755).or_fail("mkdir")?;
        crate::instance::mount("cgroup2", &root, 0, "").or_fail("mounting cgroup2")?;
        std::fs::write(root.join("cgroup.subtree_control"), "+memory").or_fail("+memory")?;
        // SAFETY: plain call.
        let path = root.join(format!("harness-{}", unsafe { libc::getpid() }));
        mkdir(&path, 0o755).or_fail("mkdir of a cgroup")?;
        Ok(Self(path))
    }

    /// Limits its memory, swap included.
    fn limit(&self, memory: &str) -> Outcome {
        self.set("memory.max", memory)?;
        // The file is missing on a kernel without swap.
        let _ = self.set("memory.swap.max", "0");
        Ok(())
    }

    fn set(&self, name: &str, value: &str) -> Outcome {
        std::fs::write(self.0.join(name), value).or_fail(format_args!("{name} = {value}"))
    }

    /// Moves the calling process into the cgroup.
    fn enter(&self) -> Outcome {
        self.set("cgroup.procs", "0")
    }

    /// Returns the charged bytes.
    fn used(&self) -> Outcome<u64> {
        let text = std::fs::read_to_string(self.0.join("memory.current")).or_fail("read")?;
        text.trim().parse().or_fail("memory.current")
    }

    /// Runs a step in the cgroup. Returns the bytes that stay charged after its process is gone.
    fn charged(&self, step: impl FnOnce() -> Outcome) -> Outcome<i64> {
        let before = self.used()? as i64;
        Child::spawn(|| {
            self.enter()?;
            step()
        })?
        .join()?;
        // The process's own memory is uncharged a little later.
        let mut now = self.used()? as i64;
        loop {
            sleep_ms(30);
            let later = self.used()? as i64;
            if later >= now {
                return Ok(later - before);
            }
            now = later;
        }
    }

    fn event(&self, name: &str) -> Outcome<u64> {
        let text = std::fs::read_to_string(self.0.join("memory.events")).or_fail("read")?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|n| n.parse().ok())
            .ok_or("not there")
            .or_fail(name)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = rmdir(&self.0);
    }
}

#[track_caller]
fn expect_about(seen: i64, expected: usize, what: &str) -> Outcome {
    let expected = expected as i64;
    // Pages are charged ahead in batches, on each processor.
    let slack = (1 << 20) + expected / 10;
    expect(
        (seen - expected).abs() <= slack,
        format_args!("{what}: {expected} bytes, but {seen} are charged"),
    )
}

fn bytes_are_charged_to_who_writes_them(t: &Test) -> Outcome {
    let group = Group::new(t)?;
    const LEN: usize = 24 << 20;
    let path = t.path("file");
    let write = |path: &Path| -> Outcome {
        let file = File::create(path)?;
        let part = blocks(1, 256);
        (0..LEN / part.len()).try_for_each(|i| file.write_at(&part, (i * part.len()) as u64))
    };
    expect_about(group.charged(|| write(&path))?, LEN, "written")?;
    // Processes outside may read it, and remove it.
    let before = group.used()?;
    let file = File::open(&path, libc::O_RDONLY).or_fail("open")?;
    expect(file.contents()?.len() == LEN, "read by another group")?;
    drop(file);
    unlink(&path).or_fail("unlink")?;
    eventually(
        format_args!("nine tenths of {LEN} bytes come back after unlink"),
        || Ok(before.saturating_sub(group.used()?) >= LEN as u64 * 9 / 10),
    )?;
    // Stores through a mapping are charged the same.
    let charged = group.charged(|| {
        let file = File::create(&path)?;
        file.truncate(LEN as u64)?;
        let map = Mapping::shared(&file, LEN)?;
        (0..LEN / BLOCK).for_each(|i| map.store(i * BLOCK, b"x"));
        Ok(())
    })?;
    expect_about(charged, LEN, "stored")?;
    unlink(&path).or_fail("unlink")
}

fn files_and_attributes_are_charged_to_who_makes_them(t: &Test) -> Outcome {
    // Pages are charged ahead, half a MiB in all: the charges for this many are more.
    const COUNT: usize = 1500;
    let group = Group::new(t)?;
    let dir = t.mkdir("dir")?;
    let at = |i: usize| dir.join(i.to_string());
    let charged = group.charged(|| (0..COUNT).try_for_each(|i| File::create(at(i)).map(drop)))?;
    expect(
        charged > COUNT as i64 * 500,
        format_args!("{COUNT} files take more than {charged} bytes"),
    )?;
    let charged = group.charged(|| {
        (0..COUNT)
            .try_for_each(|i| xattr::set(at(i), "trusted.a", &[7; 2000], 0).or_fail("setxattr"))
    })?;
    expect(
        charged > COUNT as i64 * 1000,
        format_args!("{COUNT} attributes of 2000 bytes take more than {charged} bytes"),
    )?;
    let before = group.used()? as i64;
    (0..COUNT).try_for_each(|i| unlink(at(i)).or_fail("unlink"))?;
    eventually(
        format_args!("half of {charged} bytes for attributes comes back"),
        || Ok(before - group.used()? as i64 >= charged / 2),
    )
}

fn a_clone_is_charged_for_what_it_changes(t: &Test) -> Outcome {
    const LEN: usize = 16 << 20;
    let group = Group::new(t)?;
    let source = t.create_with("source", &blocks(1, LEN / BLOCK))?;
    let clone = t.create("clone")?;
    let charged = group.charged(|| crate::sys::clone_file(&source, &clone).or_fail("FICLONE"))?;
    expect_about(charged, 0, "cloned")?;
    let charged = group.charged(|| clone.write_at(&blocks(2, LEN / BLOCK / 2), 0))?;
    expect_about(charged, LEN / 2, "half of the clone written")
}

/// Accepts two ends of a write without memory: ENOMEM, or an OOM kill in the group, which the group
/// counts. Earlier writes stay.
fn a_group_without_memory_fails_alone(t: &Test) -> Outcome {
    let group = Group::new(t)?;
    group.limit("16M")?;
    let path = t.path("file");
    let file = File::create(&path)?;
    let other = t.create_with("other", &blocks(2, 10))?;
    let part = blocks(1, 16);
    let writer = Child::spawn(|| {
        group.enter()?;
        for i in 0..4096 {
            match file.try_pwrite(&part, (i * part.len()) as u64) {
                Ok(_) => {}
                Err(Errno(libc::ENOMEM)) => return Ok(()),
                Err(error) => return Err(error).or_fail("pwrite"),
            }
        }
        Err(Failure::new("256 MiB were written to a group of 16"))
    })?;
    // Other groups are not affected.
    while !writer.is_over() {
        other.write_at(b"still works", 0)?;
        other.truncate(5 * BLOCK as u64)?;
        other.write_at(&blocks(3, 64), 0)?;
    }
    match writer.end()? {
        End::Exited(0) => {}
        End::Killed(libc::SIGKILL) => expect(
            group.event("oom_kill")? > 0,
            "the group counts its OOM kills",
        )?,
        End::Exited(status) => return Err(Failure::new(format_args!("it ended with {status}"))),
        End::Killed(signal) => {
            return Err(Failure::new(format_args!(
                "killed by {}",
                signal_name(signal)
            )))
        }
    }
    expect(group.event("max")? > 0, "the group was at its limit")?;
    // Earlier writes stay, in whole blocks.
    let seen = file.contents()?;
    expect(
        seen.len() > 4 << 20,
        format_args!("{} bytes were written before", seen.len()),
    )?;
    let whole = seen.len() / BLOCK * BLOCK;
    for (i, block) in seen[..whole].chunks(BLOCK).enumerate() {
        let at = i * BLOCK % part.len();
        expect(
            block == &part[at..at + BLOCK],
            format_args!("block {i} is as it was written"),
        )?;
    }
    other.write_at(b"and on", 0)?;
    drop(file);
    unlink(&path).or_fail("unlink")?;
    eventually("half of 16 MiB come back after unlink", || {
        Ok(group.used()? <= 8 << 20)
    })?;
    expect_eq(other.read_at(0, 6)?, b"and on", "the other file")
}

/// Accepts one end of a store without memory: an OOM kill of the storing process, which the group
/// counts; above all no SIGBUS, which is for a full filesystem. Earlier stores stay, and processes
/// of other groups run on.
fn a_store_without_memory_kills_in_its_group_alone(t: &Test) -> Outcome {
    const LEN: usize = 256 << 20;
    let group = Group::new(t)?;
    group.limit("16M")?;
    let (path, data) = (t.path("file"), blocks(1, 1));
    let file = File::create(&path)?;
    file.truncate(LEN as u64)?;
    let others = t.create_with("others", &blocks(2, 64))?;
    let bystander = Child::spawn(|| loop {
        Mapping::shared(&others, 64 * BLOCK)?.store(5, b"still works");
        others.truncate(5 * BLOCK as u64)?;
        others.write_at(&blocks(3, 64), 0)?;
    })?;
    let storer = Child::spawn(|| {
        group.enter()?;
        let map = Mapping::shared(&file, LEN)?;
        (0..LEN / BLOCK).for_each(|i| map.store(i * BLOCK, &data));
        Err(Failure::new("256 MiB were stored in a group of 16"))
    })?;
    expect_eq(storer.end()?, End::Killed(libc::SIGKILL), "how it ended")?;
    expect_eq(group.event("oom_kill")?, 1, "killed in the group")?;
    expect(!bystander.is_over(), "a process outside runs on")?;
    bystander.kill(libc::SIGKILL);
    bystander.end()?;
    let ranges = file.data_ranges()?;
    let stored = ranges.last().map_or(0, |(_, end)| *end as usize);
    expect(
        (4 << 20..16 << 20).contains(&stored),
        format_args!("{stored} bytes were stored before"),
    )?;
    // The block that needed memory may exist, untouched.
    for i in 0..stored / BLOCK - 1 {
        expect(
            file.read_at((i * BLOCK) as u64, BLOCK)? == data,
            format_args!("block {i} is as it was stored"),
        )?;
    }
    // A process with memory can use the file afterwards.
    let map = Mapping::shared(&file, LEN)?;
    map.store(stored, b"more");
    expect_eq(
        file.read_at(stored as u64, 4)?,
        b"more",
        "stores afterwards",
    )?;
    drop((map, file));
    unlink(&path).or_fail("unlink")
}

/// The kernel has a process wait that goes on allocating above `memory.high` of its group, up to 2 s
/// for each quarter of a MiB. A collapse by one block makes each leaf of the tree anew; a block that is
/// pinned has it done with `invalidate_lock` held, for which faults wait.
fn a_writer_that_waits_for_memory_holds_up_no_faults(t: &Test) -> Outcome {
    /// Leaves of 64 blocks: 5 MiB of nodes.
    const BLOCKS: u64 = 1 << 19;
    const PINNED: usize = 5;
    const LONGEST: Duration = Duration::from_millis(1000);
    let file = t.create_with("file", &blocks(1, 64))?;
    let mut len = 64;
    while len < BLOCKS {
        clone_range(&file, 0, len * BLOCK64, &file, len * BLOCK64).or_fail("FICLONERANGE")?;
        len *= 2;
    }
    let map = Mapping::shared(&file, 64 * BLOCK)?;
    map.store(PINNED * BLOCK, b"pinned");
    let (output, input) = pipe()?;
    vmsplice(&input, map.at(PINNED * BLOCK), BLOCK).or_fail("vmsplice")?;
    let group = Group::new(t)?;
    let writer = Child::spawn(|| {
        group.enter()?;
        // All that it has is above it.
        group.set("memory.high", "4096")?;
        fallocate(&file, libc::FALLOC_FL_COLLAPSE_RANGE, 0, BLOCK64).or_fail("collapsing")
    })?;
    let (mut longest, mut rounds) = (Duration::ZERO, 0u64);
    while !writer.is_over() {
        let begin = Instant::now();
        map.advise(libc::MADV_DONTNEED).or_fail("MADV_DONTNEED")?;
        // The block is the same before the collapse and after it, as is every 64th.
        map.load(20 * BLOCK, 1);
        file.read_at(30 * BLOCK64, BLOCK)?;
        lstat(&file.path).or_fail("lstat")?;
        longest = longest.max(begin.elapsed());
        rounds += 1;
    }
    writer.join()?;
    drop((output, input));
    expect(
        group.event("high")? > 0,
        "the group was above its memory.high",
    )?;
    expect(
        longest < LONGEST,
        format_args!("of {rounds} faults, reads and stats the longest took {longest:?}, of at most {LONGEST:?}"),
    )?;
    expect_eq(
        file.read_at((PINNED as u64 - 1) * BLOCK64, 6)?,
        b"pinned",
        "the block that was pinned",
    )
}
