// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Work on two processors.

use std::fs::remove_dir_all;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, Result};
use measure::record::Unit;

use super::{fine_row, Phase::Each, Row};
use crate::bench::{time, Bench, KIB};
use crate::{data, sys};

pub const ROW: Row = fine_row(
    14,
    "two CPUs",
    prepare,
    &[
        Each(one_reader_and_writer),
        Each(two_readers_and_writer),
        Each(make_files),
    ],
);

/// The size of a read or write: no power of two, so that buffer and file do not stay at the same
/// place in the TLB of an emulated processor.
const PART: u64 = 60 * KIB;
const SIZE: u64 = 1024 * PART;

/// Returns the number of files of one thread in one round.
fn files(bench: &Bench) -> u64 {
    bench.part_of(bench.tenth_on_disks(bench.choose(20_000, 10_000, 3_000)))
}

fn prepare(bench: &Bench) -> Result<()> {
    bench.setting(
        "one thread reads 60 MiB, or two the same, one overwrites another 60 MiB, 60 KiB at a time; \
         clones of 60 KiB"
            .into(),
    )?;
    data::write_file(&bench.path("read"), SIZE)?;
    data::write_file(&bench.path("written"), SIZE)?;
    data::write_file(&bench.path("source"), PART)?;
    Ok(())
}

fn make_files(bench: &Bench) -> Result<()> {
    for (threads, metric) in [
        (1, "creations by one thread"),
        (2, "creations by two threads"),
    ] {
        make(bench, metric, threads, false)?;
    }
    if bench.fs.clones() {
        for (threads, metric) in [(1, "clones by one thread"), (2, "clones by two threads")] {
            make(bench, metric, threads, true)?;
        }
    }
    Ok(())
}

fn one_reader_and_writer(bench: &Bench) -> Result<()> {
    read_and_write(bench, 1, "reader with a writer", "writer with a reader")
}

/// Three threads on two processors.
fn two_readers_and_writer(bench: &Bench) -> Result<()> {
    read_and_write(
        bench,
        2,
        "each of two readers with a writer",
        "writer with two readers",
    )
}

fn read_and_write(bench: &Bench, readers: usize, of_reader: &str, of_writer: &str) -> Result<()> {
    let stop = AtomicBool::new(false);
    let (read, written) = (
        sys::open(&bench.path("read"))?,
        sys::open(&bench.path("written"))?,
    );
    let work = |call: &dyn Fn(&mut [u8], u64) -> std::io::Result<()>| -> Result<f64> {
        let mut buffer = data::bytes(PART as usize, 5);
        let (mut bytes, started) = (0, Instant::now());
        while !stop.load(Ordering::Relaxed) {
            call(&mut buffer, bytes % SIZE)?;
            bytes += PART;
        }
        Ok(bytes as f64 / started.elapsed().as_secs_f64())
    };
    let (read, written) = thread::scope(|scope| -> Result<_> {
        let readers: Vec<_> = (0..readers)
            .map(|_| scope.spawn(|| work(&|buffer, at| read.read_exact_at(buffer, at))))
            .collect();
        let writer = scope.spawn(|| work(&|buffer, at| written.write_all_at(buffer, at)));
        thread::sleep(Duration::from_millis(bench.choose(300, 200, 200)));
        stop.store(true, Ordering::Relaxed);
        let panicked = |_| anyhow!("a thread panicked");
        let mut read = 0.0;
        for reader in readers {
            read += reader.join().map_err(panicked)??;
        }
        Ok((read, writer.join().map_err(panicked)??))
    })?;
    bench.sample(of_reader, read / readers as f64, Unit::BytesPerSecond)?;
    bench.sample(of_writer, written, Unit::BytesPerSecond)
}

/// Each thread creates files in its own directory, empty ones or clones of one source.
fn make(bench: &Bench, metric: &str, threads: u64, cloning: bool) -> Result<()> {
    let source = sys::open(&bench.path("source"))?;
    let dir = bench.path("made");
    for thread in 0..threads {
        std::fs::create_dir_all(dir.join(thread.to_string()))?;
    }
    let work = |thread: u64| -> Result<()> {
        let dir = dir.join(thread.to_string());
        for i in 0..files(bench) {
            let file = sys::create(&dir.join(i.to_string()))?;
            if cloning {
                sys::clone(&source, &file)?;
            }
        }
        Ok(())
    };
    let (spent, ()) = time(|| {
        thread::scope(|scope| {
            let all: Vec<_> = (0..threads)
                .map(|thread| scope.spawn(move || work(thread)))
                .collect();
            all.into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
        })
    })?;
    bench.sample(
        metric,
        (threads * files(bench)) as f64 / spent.as_secs_f64(),
        Unit::PerSecond,
    )?;
    bench.settle()?;
    Ok(remove_dir_all(dir)?)
}
