// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Measures mounted filesystems side by side: one line of JSON for each measurement on stdout,
//! progress on stderr. Run it in a guest, as root (`qemu/bench` does).

mod bench;
mod data;
mod fio;
mod machine;
mod rows;
mod sys;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use measure::record::{Fs, Record};

use bench::{print, Bench, Effort};
use rows::Row;

#[derive(Parser)]
#[command(about = "Measures mounted filesystems, in turns")]
struct Options {
    /// Where the filesystems are mounted: DIR/reflinkfs, DIR/tmpfs____, ...: names of one length, as
    /// each character of a path takes time
    #[arg(long)]
    dir: PathBuf,
    /// Which of them
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "reflinkfs,tmpfs,xfs,btrfs"
    )]
    fs: Vec<Fs>,
    /// Which rows of the table, by number; 16 are the curves
    #[arg(long, value_delimiter = ',')]
    rows: Vec<u8>,
    /// How often everything is measured
    #[arg(long, default_value_t = 7)]
    rounds: u32,
    /// Smaller files, fewer of them
    #[arg(long)]
    quick: bool,
    /// The processor is emulated: less is measured, so that it takes no longer
    #[arg(long)]
    emulated: bool,
    /// The processor takes a nanosecond for each instruction
    #[arg(long)]
    counted: bool,
    /// After so many seconds of one row a filesystem gets no more rounds
    #[arg(long, default_value_t = 15)]
    seconds: u64,
}

impl Options {
    fn effort(&self) -> Effort {
        match (self.quick, self.emulated) {
            (true, _) => Effort::Quick,
            (false, true) => Effort::Emulated,
            (false, false) => Effort::Full,
        }
    }
}

/// One filesystem in one row.
struct Turn {
    fs: Fs,
    dir: PathBuf,
    /// In its rounds.
    spent: Duration,
    failed: bool,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let started = Instant::now();
    machine::describe(&options)?;
    let mut failed = false;
    for row in rows::ALL {
        if options.rows.is_empty() || options.rows.contains(&row.number) {
            failed |= !run_row(row, &options)?;
        }
    }
    print(&Record::End {
        seconds: started.elapsed().as_secs_f64(),
    })?;
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Measures one row on all filesystems, in turns; whether all of it could be.
fn run_row(row: &Row, options: &Options) -> Result<bool> {
    let started = Instant::now();
    let mut turns = Vec::new();
    for &fs in options.fs.iter().filter(|fs| (row.on)(**fs)) {
        let dir = options
            .dir
            .join(format!("{:_<9}", fs.name()))
            .join(format!("row{}", row.number));
        std::fs::create_dir(&dir).with_context(|| format!("mkdir {}", dir.display()))?;
        turns.push(Turn {
            fs,
            dir,
            spent: Duration::ZERO,
            failed: false,
        });
    }
    for turn in &mut turns {
        attempt(row, row.prepare, turn, options, 0)?;
        turn.spent = Duration::ZERO;
    }
    let mut rounds = 0;
    for round in 0..options.rounds.min(row.rounds) {
        for turn in &mut turns {
            if !turn.failed && (round == 0 || turn.spent.as_secs() < options.seconds) {
                attempt(row, row.round, turn, options, round)?;
                rounds += 1;
            }
        }
    }
    let ok = !turns.iter().any(|turn| turn.failed);
    let measured = started.elapsed();
    for turn in &turns {
        let removed = if row.keep {
            Ok(())
        } else {
            std::fs::remove_dir_all(&turn.dir)
        };
        removed.with_context(|| format!("rm -r {}", turn.dir.display()))?;
    }
    eprintln!(
        "row {}: {}: {rounds} rounds in {:.0} s, removed in {:.0} s{}",
        row.number,
        row.title,
        measured.as_secs_f64(),
        (started.elapsed() - measured).as_secs_f64(),
        if ok { "" } else { " FAILED" }
    );
    Ok(ok)
}

fn attempt(
    row: &Row,
    step: fn(&Bench) -> Result<()>,
    turn: &mut Turn,
    options: &Options,
    round: u32,
) -> Result<()> {
    let started = Instant::now();
    let bench = Bench {
        fs: turn.fs,
        dir: turn.dir.clone(),
        row: row.number,
        round,
        effort: options.effort(),
    };
    let result = step(&bench).and_then(|()| bench.settle());
    turn.spent += started.elapsed();
    if let Err(error) = result {
        turn.failed = true;
        let error = format!("{error:#}");
        eprintln!(
            "row {}: {}: {}: {error}",
            row.number,
            row.title,
            turn.fs.name()
        );
        print(&Record::Failed {
            row: row.number,
            fs: turn.fs,
            error,
        })?;
    }
    Ok(())
}
