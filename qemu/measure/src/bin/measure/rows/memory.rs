// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The memory that clones and data take.

use std::fs::{read_to_string, remove_dir_all, remove_file};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use measure::record::Unit;

use super::{row, Phase::Each, Row};
use crate::bench::{Bench, GIB, MIB};
use crate::machine::meminfo;
use crate::{data, sys};

pub const ROW: Row = row(13, "memory", prepare, &[Each(round)]);

const MAPPED: u64 = 2 * MIB;
const PROCESSES: usize = 100;

fn clones(bench: &Bench) -> u64 {
    bench.choose(10_000, 4_000, 4_000)
}

fn size(bench: &Bench) -> u64 {
    bench.choose(GIB, GIB, 256 * MIB)
}

fn data(bench: &Bench) -> u64 {
    bench.choose(512, 128, 128) * MIB
}

fn prepare(bench: &Bench) -> Result<()> {
    bench.setting(format!(
        "{} clones of {} MiB, or empty files; a file of {} MiB; 100 processes, each with a clone of 2 MiB \
         mapped and read: the sum of their shares (Pss) in terms of one file; memory: what MemFree lost",
        clones(bench),
        size(bench) / MIB,
        data(bench) / MIB
    ))?;
    if bench.fs.clones() {
        data::write_file(&bench.path("mapped"), MAPPED)?;
    }
    if bench.fs.clones() && !bench.fs.on_disk() {
        data::allocate_file(&bench.path("large"), size(bench))?;
    }
    Ok(())
}

/// On disk filesystems the data is on the disk; there only the mappings are measured.
fn round(bench: &Bench) -> Result<()> {
    if bench.fs.clones() {
        map_clones(bench)?;
    }
    if bench.fs.on_disk() {
        return Ok(());
    }
    if bench.fs.clones() {
        let large = sys::open(&bench.path("large"))?;
        many(bench, "memory of a clone", |file| sys::clone(&large, file))?;
    }
    many(bench, "memory of an empty file", |_| Ok(()))?;
    let before = free()?;
    data::write_file(&bench.path("data"), data(bench))?;
    let used = before.saturating_sub(free()?) as f64;
    bench.sample("memory of a byte", used / data(bench) as f64, Unit::Times)?;
    Ok(remove_file(bench.path("data"))?)
}

fn many(bench: &Bench, metric: &str, fill: impl Fn(&std::fs::File) -> Result<()>) -> Result<()> {
    let dir = bench.path("many");
    std::fs::create_dir(&dir)?;
    let before = free()?;
    for i in 0..clones(bench) {
        fill(&sys::create(&dir.join(i.to_string()))?)?;
    }
    let used = before.saturating_sub(free()?) as f64;
    bench.sample(metric, used / clones(bench) as f64, Unit::Bytes)?;
    Ok(remove_dir_all(dir)?)
}

/// Returns the free memory, after caches were dropped and it has become stable.
fn free() -> Result<u64> {
    let mut before = 0;
    for _ in 0..100 {
        std::fs::write("/proc/sys/vm/drop_caches", "3")?;
        sleep(Duration::from_millis(100));
        let now = meminfo("MemFree")? + kept_for_processors()?;
        if now.abs_diff(before) < 256 << 10 {
            return Ok(now);
        }
        before = now;
    }
    anyhow::bail!("the free memory keeps changing")
}

/// Returns the free pages on per-CPU lists, in bytes: hundreds of MiB on some kernels.
fn kept_for_processors() -> Result<u64> {
    let text = read_to_string("/proc/zoneinfo")?;
    let counts = text
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("count:"));
    let counts = counts.map(|count| Ok(count.trim().parse::<u64>()?));
    Ok(counts.sum::<Result<u64>>()? * 4096)
}

/// A process that maps a clone, until its end of the socket is closed.
struct Child {
    pid: i32,
    socket: UnixStream,
}

impl Child {
    fn start(bench: &Bench, number: usize) -> Result<Self> {
        let (socket, mut its) = UnixStream::pair()?;
        let path = bench.path(&format!("clone{number}"));
        let file = sys::create(&path)?;
        sys::clone(&sys::open(&bench.path("mapped"))?, &file)?;
        remove_file(path)?;
        // SAFETY: this process has one thread.
        let pid = unsafe { libc::fork() };
        ensure!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
        if pid == 0 {
            drop(socket);
            let ready = sys::Mapping::of_file(&file, MAPPED, false).and_then(|mapping| {
                mapping.use_each_page(false);
                its.write_all(b".")?;
                // Ends when the other end is closed.
                let _ = its.read(&mut [0]);
                Ok(())
            });
            // SAFETY: nothing of the parent's is cleaned up twice.
            unsafe { libc::_exit(ready.is_err().into()) }
        }
        let mut child = Self { pid, socket };
        child
            .socket
            .read_exact(&mut [0])
            .context("a process with a mapped clone")?;
        Ok(child)
    }

    /// Returns its proportional share of its mappings, in bytes.
    fn share(&self) -> Result<u64> {
        let maps = read_to_string(format!("/proc/{}/smaps", self.pid))?;
        let mut lines = maps.lines().skip_while(|line| !line.contains("/clone"));
        let kib = lines.find_map(|line| {
            line.strip_prefix("Pss:")?
                .split_whitespace()
                .next()?
                .parse::<u64>()
                .ok()
        });
        Ok(kib.context("smaps without Pss")? << 10)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        // SAFETY: our own child, which nothing else waits for.
        unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), 0) };
    }
}

fn map_clones(bench: &Bench) -> Result<()> {
    let children: Vec<_> = (0..PROCESSES)
        .map(|i| Child::start(bench, i))
        .collect::<Result<_>>()?;
    let shares = children.iter().map(Child::share).sum::<Result<u64>>()?;
    bench.sample(
        "100 mapped clones",
        shares as f64 / MAPPED as f64,
        Unit::Times,
    )
}
