// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Compares mounted filesystems: prints a line of JSON for each measurement on stdout, progress on
//! stderr. Runs in a guest, as root (`qemu/bench` does that).

mod bench;
mod data;
mod fio;
mod floor;
mod machine;
mod rows;
mod sys;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use measure::record::{Fs, Record};

use bench::{print, Bench, Scale};
use rows::{Phase, Row};

#[derive(Parser)]
#[command(about = "Measures mounted filesystems, in turns")]
struct Options {
    /// The directory of the mounts: DIR/reflinkfs, DIR/tmpfs____, ...: names of one length, as each
    /// character of a path takes time
    #[arg(long)]
    dir: PathBuf,
    /// The filesystems to measure
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "reflinkfs,tmpfs,xfs,btrfs"
    )]
    fs: Vec<Fs>,
    /// The rows of the table, by number; 16 has the curves
    #[arg(long, value_delimiter = ',')]
    rows: Vec<u8>,
    /// The number of rounds
    #[arg(long, default_value_t = 7)]
    rounds: u32,
    /// Smaller files, fewer of them
    #[arg(long)]
    quick: bool,
    /// The processor is emulated: measure less, in the same time
    #[arg(long)]
    emulated: bool,
    /// Measure as much as on a real processor, however long it takes
    #[arg(long, conflicts_with = "quick")]
    full: bool,
    /// The processor takes a nanosecond for each instruction
    #[arg(long)]
    counted: bool,
    /// End the rounds of a filesystem in a phase after this time
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Do fewer rounds if everything would take longer than this
    #[arg(long)]
    minutes: Option<f64>,
}

impl Options {
    fn scale(&self) -> Scale {
        match (self.quick, self.emulated && !self.full) {
            (true, _) => Scale::Quick,
            (false, true) => Scale::Emulated,
            (false, false) => Scale::Full,
        }
    }
}

/// The time limits.
struct Pace {
    /// For one filesystem in one phase.
    seconds: Duration,
    /// For everything.
    end: Option<Instant>,
    /// The number of remaining phases of all filesystems.
    turns: usize,
}

impl Pace {
    /// Returns the time of each of `turns` filesystems in the next phase: an equal share of the
    /// rest.
    fn next(&mut self, turns: usize) -> Duration {
        let left = self.end.map_or(Duration::MAX, |end| {
            end.saturating_duration_since(Instant::now())
        });
        let share = left / self.turns.max(1) as u32;
        self.turns -= turns.min(self.turns);
        share.min(self.seconds)
    }
}

/// One filesystem in one row.
struct Turn {
    bench: Bench,
    /// The time spent in the rounds of a phase.
    spent: Duration,
    failed: bool,
}

impl Turn {
    fn take(&mut self, row: &Row, step: fn(&Bench) -> Result<()>) -> Result<()> {
        let started = Instant::now();
        let result = step(&self.bench).and_then(|()| self.bench.settle());
        self.ended(row, started.elapsed(), &result)
    }

    fn ended(&mut self, row: &Row, spent: Duration, result: &Result<()>) -> Result<()> {
        self.spent += spent;
        let Err(error) = result else { return Ok(()) };
        self.failed = true;
        let (fs, error) = (self.bench.fs, format!("{error:#}"));
        eprintln!("row {}: {}: {}: {error}", row.number, row.title, fs.name());
        let row = row.number;
        print(&Record::Failed { row, fs, error })
    }
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let started = Instant::now();
    machine::describe(&options)?;
    let mut failed = false;
    let rows: Vec<_> = rows::ALL
        .iter()
        .filter(|row| options.rows.is_empty() || options.rows.contains(&row.number))
        .collect();
    let turns = |row: &Row| options.fs.iter().filter(|fs| (row.on)(**fs)).count();
    let mut pace = Pace {
        seconds: Duration::from_secs(options.seconds),
        end: options
            .minutes
            .map(|minutes| started + Duration::from_secs_f64(60.0 * minutes)),
        turns: rows.iter().map(|row| row.phases.len() * turns(row)).sum(),
    };
    for row in rows {
        failed |= !run_row(row, &options, &mut pace)?;
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

/// Measures one row on all filesystems, in turns. Returns whether it succeeded.
fn run_row(row: &Row, options: &Options, pace: &mut Pace) -> Result<bool> {
    let started = Instant::now();
    let mut turns = Vec::new();
    for &fs in options.fs.iter().filter(|fs| (row.on)(**fs)) {
        let dir = options
            .dir
            .join(format!("{:_<9}", fs.name()))
            .join(format!("row{}", row.number));
        std::fs::create_dir(&dir).with_context(|| format!("mkdir {}", dir.display()))?;
        let bench = Bench {
            fs,
            dir,
            row: row.number,
            round: 0,
            rounds: (row.rounds)(options.rounds),
            scale: options.scale(),
            counted: options.counted,
        };
        turns.push(Turn {
            bench,
            spent: Duration::ZERO,
            failed: false,
        });
    }
    for turn in &mut turns {
        turn.take(row, row.prepare)?;
    }
    for phase in row.phases {
        let limit = pace.next(turns.len());
        run_phase(row, phase, &mut turns, options, limit)?;
    }
    let ok = !turns.iter().any(|turn| turn.failed);
    let measured = started.elapsed();
    for turn in &turns {
        let dir = &turn.bench.dir;
        sys::unmount_below(dir)?;
        let removed = if row.keep {
            Ok(())
        } else {
            std::fs::remove_dir_all(dir)
        };
        removed.with_context(|| format!("rm -r {}", dir.display()))?;
    }
    eprintln!(
        "row {}: {}: {:.0} s, removed in {:.0} s{}",
        row.number,
        row.title,
        measured.as_secs_f64(),
        (started.elapsed() - measured).as_secs_f64(),
        if ok { "" } else { " FAILED" }
    );
    Ok(ok)
}

/// Runs all rounds of one phase. A filesystem that has used up its time gets no more of them, if
/// the phase has one filesystem at a time.
fn run_phase(
    row: &Row,
    phase: &Phase,
    turns: &mut [Turn],
    options: &Options,
    limit: Duration,
) -> Result<()> {
    for turn in turns.iter_mut() {
        turn.spent = Duration::ZERO;
    }
    let limit = match phase {
        Phase::Each(_) => limit,
        Phase::All(_) => Duration::MAX,
    };
    for round in 0..(row.rounds)(options.rounds) {
        let mut turns: Vec<_> = turns
            .iter_mut()
            .filter(|turn| !turn.failed && (round == 0 || turn.spent < limit))
            .collect();
        for turn in &mut turns {
            turn.bench.round = round;
        }
        match phase {
            Phase::Each(step) => turns
                .iter_mut()
                .try_for_each(|turn| turn.take(row, *step))?,
            Phase::All(step) => {
                let benches: Vec<_> = turns.iter().map(|turn| turn.bench.clone()).collect();
                let started = Instant::now();
                let result =
                    step(&benches).and_then(|()| benches.iter().try_for_each(Bench::settle));
                let spent = started.elapsed();
                for turn in turns {
                    turn.ended(row, spent, &result)?;
                }
            }
        }
    }
    Ok(())
}
