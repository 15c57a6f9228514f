// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Costs as functions of the size of a file, the number of its clones, its fragmentation.

use std::fs::{remove_dir_all, remove_file, File};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use anyhow::Result;
use measure::record::{Fs, Unit};

use super::{clones::clone_time, row, Phase::Each, Row};
use crate::bench::{median_times, time, Bench, GIB, KIB, MIB};
use crate::data::{self, Random, BLOCK};
use crate::sys;

pub const ROW: Row = Row {
    rounds: |asked| asked.min(3),
    ..row(16, "curves", prepare, &[Each(round), Each(linear)])
};

const SIZES: [u64; 6] = [64 * KIB, MIB, 16 * MIB, 128 * MIB, GIB, 4 * GIB];

/// Returns the sizes of fully allocated files.
fn allocated(bench: &Bench) -> &'static [u64] {
    bench.choose(&SIZES[..5], &SIZES[..5], &SIZES[..4])
}

fn fragments(bench: &Bench) -> &'static [u64] {
    bench.choose(
        &[10, 100, 1_000, 5_000],
        &[10, 100, 1_000, 3_000],
        &[10, 100, 500],
    )
}

fn clones(bench: &Bench) -> &'static [u64] {
    bench.choose(
        &[1, 10, 100, 1_000, 5_000],
        &[1, 10, 100, 1_000, 5_000],
        &[1, 10, 100],
    )
}

/// The sizes for operations with linear costs.
const LINEAR: [u64; 4] = [MIB, 16 * MIB, 128 * MIB, 512 * MIB];

/// The number of blocks in a sparse file, all of which are read.
const PIECES: u64 = 256;

fn prepare(bench: &Bench) -> Result<()> {
    bench.setting(format!(
        "sparse files have {PIECES} blocks; misfit: of blocks that do not fit the tree"
    ))?;
    for size in SIZES {
        let (file, block) = (
            sys::create(&bench.path(&format!("sparse{size}")))?,
            data::bytes(4096, 6),
        );
        file.set_len(size)?;
        for piece in pieces(size) {
            file.write_all_at(&block, piece)?;
        }
        file.sync_all()?;
    }
    if !bench.fs.clones() {
        return Ok(());
    }
    for size in allocated(bench) {
        data::allocate_file(&bench.path(&format!("allocated{size}")), *size)?;
    }
    for count in fragments(bench) {
        data::fragment_file(&bench.path(&format!("fragments{count}")), *count)?;
    }
    data::write_file(&bench.path("source"), MIB)?;
    Ok(())
}

/// Returns the offsets of the blocks in a sparse file.
fn pieces(size: u64) -> Vec<u64> {
    let mut random = Random::new(size);
    (0..PIECES)
        .map(|_| random.next() % (size / BLOCK) * BLOCK)
        .collect()
}

fn round(bench: &Bench) -> Result<()> {
    read_sparse(bench)?;
    if bench.fs.clones() {
        by_size(bench)?;
        for count in fragments(bench) {
            let file = sys::open(&bench.path(&format!("fragments{count}")))?;
            bench.point(
                "clone, by extents",
                *count,
                clone_time(bench, &file)?,
                Unit::Seconds,
            )?;
        }
        by_clones(bench)?;
    }
    Ok(())
}

fn read_sparse(bench: &Bench) -> Result<()> {
    let mut block = [0; 4096];
    for size in SIZES {
        let file = sys::open(&bench.path(&format!("sparse{size}")))?;
        let pieces = pieces(size);
        let repeat = bench.choose(16, 8, 4);
        pieces
            .iter()
            .try_for_each(|at| file.read_exact_at(&mut block, *at))?;
        let (spent, ()) = time(|| {
            (0..repeat)
                .flat_map(|_| &pieces)
                .try_for_each(|at| Ok(file.read_exact_at(&mut block, *at)?))
        })?;
        let each = spent.as_secs_f64() / (repeat * PIECES) as f64;
        bench.point("read 4 KiB, by size", size, each, Unit::Seconds)?;
    }
    Ok(())
}

/// Measures one write to a new clone, and the clone's removal.
fn by_size(bench: &Bench) -> Result<()> {
    let path = bench.path("clone");
    let block = data::bytes(4096, 7);
    let sizes = allocated(bench);
    let count = bench.choose(25, 15, 7);
    let clone = |size: u64| {
        let clone = sys::create(&path)?;
        sys::clone(
            &sys::open(&bench.path(&format!("allocated{size}")))?,
            &clone,
        )?;
        Ok(clone)
    };
    let remove = || Ok(remove_file(&path)?);
    let write = |clone: &File, size| Ok(clone.write_all_at(&block, size / 2)?);
    let writes = median_times(count, sizes, clone, write, |_, _| remove())?;
    let unlinks = median_times(
        count,
        sizes,
        |size| clone(size).map(drop),
        |(), _| remove(),
        |(), _| Ok(()),
    )?;
    for ((size, write), unlink) in sizes.iter().zip(writes).zip(unlinks) {
        bench.point(
            "first write, by size",
            *size,
            write.as_secs_f64(),
            Unit::Seconds,
        )?;
        bench.point(
            "unlink of a clone, by size",
            *size,
            unlink.as_secs_f64(),
            Unit::Seconds,
        )?;
    }
    Ok(())
}

/// Measures a clone of a file that has many.
fn by_clones(bench: &Bench) -> Result<()> {
    let source = sys::open(&bench.path("source"))?;
    let dir = bench.path("clones");
    std::fs::create_dir(&dir)?;
    let mut there = 0;
    let counts = clones(bench)
        .iter()
        .filter(|count| bench.fs == Fs::Reflinkfs || **count <= 1_000);
    for count in counts {
        while there < *count {
            sys::clone(&source, &sys::create(&dir.join(there.to_string()))?)?;
            there += 1;
        }
        bench.point(
            "clone, by clones",
            *count,
            clone_time(bench, &source)?,
            Unit::Seconds,
        )?;
    }
    Ok(remove_dir_all(dir)?)
}

/// Measures what reflinkfs does block by block, and tmpfs where it can.
fn linear(bench: &Bench) -> Result<()> {
    if bench.fs.on_disk() {
        return Ok(());
    }
    for size in LINEAR {
        let point =
            |metric, spent: Duration| bench.point(metric, size, spent.as_secs_f64(), Unit::Seconds);
        let (one, other) = (bench.path("one"), bench.path("other"));
        let file = data::write_file(&one, size + BLOCK)?;
        if bench.fs.clones() {
            let to = sys::create(&other)?;
            let (spent, ()) = time(|| sys::clone_range(&file, BLOCK, size, &to, 6 * BLOCK))?;
            point("FICLONERANGE, misfit, by size", spent)?;
            remove_file(&other)?;
            let equal = data::write_file_shifted(&other, size)?;
            let (spent, ()) = time(|| sys::dedupe(&file, &equal, size))?;
            point("FIDEDUPERANGE, equal, by size", spent)?;
            drop(equal);
            remove_file(&other)?;
        }
        drop(file);
        let (spent, ()) = time(|| Ok(remove_file(&one)?))?;
        point("unlink of the last owner, by size", spent)?;
    }
    Ok(())
}
