// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Forks of a filesystem; beside them an empty mount of tmpfs, and a snapshot of a btrfs subvolume with
//! a tenth of the files.

use std::fs::{create_dir, remove_dir, remove_file};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use measure::record::Fs;

use super::{row, Phase::Each, Row};
use crate::bench::{time, Bench, MIB};
use crate::data;
use crate::sys;

pub const ROW: Row = Row {
    on: |fs| fs != Fs::Xfs,
    ..row(
        17,
        "forks",
        prepare,
        &[Each(fork), Each(first_write), Each(beside_a_writer)],
    )
};

fn files(bench: &Bench) -> u64 {
    bench.tenth_on_disks(bench.choose(100_000, 100_000, 15_000))
}

fn size(bench: &Bench) -> u64 {
    bench.choose(1024, 128, 16) * MIB
}

fn prepare(bench: &Bench) -> Result<()> {
    bench.setting(format!(
        "of {} files in one directory; writes to a file of {} MiB",
        files(bench),
        size(bench) / MIB
    ))?;
    let base = bench.path("base");
    match bench.fs {
        Fs::Reflinkfs => {
            for name in ["base", "empty"] {
                create_dir(bench.path(name))?;
                sys::mount("reflinkfs", &bench.path(name), "")?;
            }
            data::write_file(&base.join("file"), size(bench))?;
        }
        Fs::Btrfs => sys::btrfs_create_subvolume(&bench.dir, "base")?,
        _ => create_dir(&base)?,
    }
    if bench.fs != Fs::Tmpfs {
        for i in 0..files(bench) {
            sys::create(&base.join(format!("{i}")))?;
        }
    }
    Ok(())
}

/// Mounts, measures that and the unmounting.
fn mount(bench: &Bench, metric: &str, filesystem: &str, options: &str) -> Result<()> {
    let at = bench.path("fork");
    create_dir(&at)?;
    let (spent, ()) = time(|| sys::mount(filesystem, &at, options))?;
    bench.each(metric, 1, spent)?;
    let (spent, ()) = time(|| sys::unmount(&at))?;
    bench.each(&format!("{metric}, unmounted"), 1, spent)?;
    Ok(remove_dir(&at)?)
}

fn fork_of(path: &Path) -> String {
    format!("fork={}", path.display())
}

const FORK: &str = "fork (tmpfs: mount; btrfs: snapshot)";

fn fork(bench: &Bench) -> Result<()> {
    match bench.fs {
        Fs::Reflinkfs => {
            mount(bench, "mount of an empty one", "reflinkfs", "")?;
            let empty = fork_of(&bench.path("empty"));
            mount(bench, "fork of an empty one", "reflinkfs", &empty)?;
            mount(bench, FORK, "reflinkfs", &fork_of(&bench.path("base")))?;
            overlay(bench)
        }
        Fs::Tmpfs => {
            mount(bench, "mount of an empty one", "tmpfs", "")?;
            mount(bench, FORK, "tmpfs", "")
        }
        _ => {
            let (spent, ()) =
                time(|| sys::btrfs_snapshot(&bench.path("base"), &bench.dir, "fork"))?;
            bench.each(FORK, 1, spent)?;
            sys::btrfs_destroy_subvolume(&bench.dir, "fork")
        }
    }
}

/// Mounts overlayfs on the same files.
fn overlay(bench: &Bench) -> Result<()> {
    let (upper, work) = (bench.path("upper"), bench.path("work"));
    create_dir(&upper)?;
    create_dir(&work)?;
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        bench.path("base").display(),
        upper.display(),
        work.display()
    );
    mount(bench, "overlayfs on the same files", "overlay", &options)?;
    std::fs::remove_dir_all(&work)?;
    Ok(std::fs::remove_dir_all(&upper)?)
}

/// Writes 4 KiB to a large file in a fork, and to a clone of it.
fn first_write(bench: &Bench) -> Result<()> {
    if bench.fs != Fs::Reflinkfs {
        return Ok(());
    }
    let block = data::bytes(4096, 3);
    let at = size(bench) / 2;
    let base = bench.path("base");
    let clone = sys::create(&base.join("clone"))?;
    sys::clone(&sys::open(&base.join("file"))?, &clone)?;
    let (spent, ()) = time(|| Ok(clone.write_all_at(&block, at)?))?;
    bench.each("first write of 4 KiB, to a clone", 1, spent)?;
    remove_file(base.join("clone"))?;
    let fork = bench.path("fork");
    create_dir(&fork)?;
    sys::mount("reflinkfs", &fork, &fork_of(&base))?;
    let file = sys::open(&fork.join("file"))?;
    let (spent, ()) = time(|| Ok(file.write_all_at(&block, at)?))?;
    bench.each("first write of 4 KiB, in a fork", 1, spent)?;
    drop(file);
    sys::unmount(&fork)?;
    Ok(remove_dir(&fork)?)
}

/// Forks while a thread writes to the base, and takes the longest time of either.
fn beside_a_writer(bench: &Bench) -> Result<()> {
    const FORKS: usize = 20;
    if bench.fs != Fs::Reflinkfs {
        return Ok(());
    }
    let (base, at) = (bench.path("base"), bench.path("fork"));
    let (file, options) = (sys::open(&base.join("file"))?, fork_of(&base));
    create_dir(&at)?;
    let stop = AtomicBool::new(false);
    let write = || -> Result<Duration> {
        let (block, mut longest) = (data::bytes(4096, 4), Duration::ZERO);
        let mut offset = 0;
        while !stop.load(Ordering::Relaxed) {
            let (spent, ()) = time(|| Ok(file.write_all_at(&block, offset)?))?;
            longest = longest.max(spent);
            offset = (offset + 4096) % size(bench);
        }
        Ok(longest)
    };
    let forks = || -> Result<Duration> {
        let mut longest = Duration::ZERO;
        for _ in 0..FORKS {
            let (spent, ()) = time(|| sys::mount("reflinkfs", &at, &options))?;
            longest = longest.max(spent);
            sys::unmount(&at)?;
        }
        Ok(longest)
    };
    let (wrote, forked) = std::thread::scope(|scope| {
        let writer = scope.spawn(write);
        let forked = forks();
        stop.store(true, Ordering::Relaxed);
        (writer.join(), forked)
    });
    let Ok(wrote) = wrote else {
        anyhow::bail!("the writer panicked");
    };
    bench.each("longest write of 4 KiB beside 20 forks", 1, wrote?)?;
    bench.each("longest fork beside a writer", 1, forked?)?;
    Ok(remove_dir(&at)?)
}
