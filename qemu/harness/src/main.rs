// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Tests a mounted filesystem through real system calls.
//!
//! The same tests run on reflinkfs and on reference filesystems (tmpfs, XFS, btrfs): a test that
//! fails there is a wrong test. If a reference legitimately behaves otherwise, the test is listed
//! as ignored, with the reason.

mod case;
mod eviction;
mod extents;
mod failure;
mod fileattr;
mod filesystem;
mod frozen;
mod fuzz;
mod instance;
mod known_failures;
mod mapping;
mod memory;
mod model;
mod notification;
mod pattern;
mod posix_acl;
mod process;
mod quota;
mod ring;
mod runner;
mod stall;
mod sys;
mod tests;
mod torture;
mod tree;
mod uffd;
mod wait;
mod watchdog;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use clap::Parser;

use case::Settings;
use failure::{expect, Context, Outcome};
use filesystem::Filesystem;
use runner::{KernelLog, Run};
use tests::injection::{self, Points};
use watchdog::Watchdog;

/// Tests a mounted filesystem through real system calls.
#[derive(Parser)]
struct Arguments {
    /// The filesystem that is mounted at DIR
    #[arg(long, value_enum, default_value = "reflinkfs")]
    fs: Filesystem,

    /// A directory of the filesystem under test
    #[arg(long, default_value = "/mnt/reflinkfs")]
    dir: PathBuf,

    /// A directory of another filesystem, for mount points
    #[arg(long, default_value = "/tmp")]
    scratch: PathBuf,

    /// Divide repetitions by N (default: 1, or 5 on a kernel with lockdep)
    #[arg(long, value_name = "N")]
    scale: Option<usize>,

    /// The duration of each race (default: 1.0, on a debug kernel 1.5)
    #[arg(long, value_name = "SECONDS")]
    race_seconds: Option<f64>,

    /// The duration of the race of everything against everything
    #[arg(long, value_name = "SECONDS", default_value = "5")]
    soak_seconds: f64,

    /// The duration of random operations on two files
    #[arg(long, value_name = "SECONDS", default_value = "4")]
    fuzz_seconds: f64,

    /// Read messages of the watchdog from FILE, if it exists
    #[arg(long, value_name = "FILE", default_value = "/dev/vport0p5")]
    watchdog: PathBuf,

    /// The duration of each test of the group torture
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    torture_seconds: f64,

    /// The duration of each call on a bomb (default: 0.05, on a debug kernel 0.15)
    #[arg(long, value_name = "SECONDS")]
    bomb_seconds: Option<f64>,

    /// The number of instrumented places of reflinkfs.ko (qemu/modules --kcov)
    #[arg(long, value_name = "N", default_value = "0")]
    places: u64,

    /// Which failure points count, where tests let each fail in turn
    #[arg(long, value_enum, default_value = "all")]
    points: Points,

    /// Also run tests that are known to fail
    #[arg(long)]
    known_failures: bool,

    /// The tests to run: of a filesystem, of a filesystem with copy_fr loaded, of the module
    /// copy_fr
    #[arg(long, value_enum, default_value = "files")]
    group: tests::Group,

    /// A directory with the samples and the 32-bit caller, for tests that run them
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,

    /// The first seed of random histories
    #[arg(long, default_value = "20151")]
    seed: u64,

    #[command(flatten)]
    libtest: libtest_mimic::Arguments,
}

/// Returns whether the kernel's checks make everything slow.
fn is_debug_kernel() -> bool {
    Path::new("/proc/lockdep").exists()
}

fn prepare(arguments: &Arguments) -> Outcome<Run> {
    // SAFETY: plain call.
    expect(
        unsafe { libc::geteuid() } == 0,
        "the tests mount filesystems and change users: run them as root",
    )?;
    process::allow_open_files(1 << 20).or_fail("setrlimit(RLIMIT_NOFILE)")?;
    let absolute = |path: &Path| {
        path.canonicalize()
            .or_fail(format_args!("directory {}", path.display()))
    };
    let dir = absolute(&arguments.dir)?;
    arguments.fs.expect_at(&dir)?;
    if let Some(programs) = &arguments.programs {
        process::set_programs(absolute(programs)?);
    }
    injection::choose(arguments.points)?;
    let debug = is_debug_kernel();
    let soak = Duration::from_secs_f64(arguments.soak_seconds);
    let fuzz = Duration::from_secs_f64(arguments.fuzz_seconds);
    let torture = Duration::from_secs_f64(arguments.torture_seconds);
    let race = arguments
        .race_seconds
        .unwrap_or(if debug { 1.5 } else { 1.0 });
    let bomb = arguments
        .bomb_seconds
        .unwrap_or(if debug { 0.15 } else { 0.05 });
    Ok(Run {
        filesystem: arguments.fs,
        dir,
        scratch: absolute(&arguments.scratch)?,
        settings: Settings {
            divisor: arguments.scale.unwrap_or(if debug { 5 } else { 1 }).max(1),
            race: Duration::from_secs_f64(race),
            soak,
            fuzz,
            torture,
            bomb: Duration::from_secs_f64(bomb),
            seed: arguments.seed,
            places: arguments.places,
        },
        times: Mutex::default(),
        watchdog: Watchdog::listen(&arguments.watchdog),
        known_failures: arguments.known_failures,
        kernel_log: KernelLog::open(),
    })
}

fn main() -> ExitCode {
    process::keep_panics();
    let arguments = Arguments::parse();
    let run: &'static Run = if arguments.libtest.list {
        // Listing needs no filesystem.
        Box::leak(Box::new(Run {
            filesystem: arguments.fs,
            dir: PathBuf::new(),
            scratch: PathBuf::new(),
            settings: Settings {
                divisor: 1,
                race: Duration::ZERO,
                soak: Duration::ZERO,
                fuzz: Duration::ZERO,
                torture: Duration::ZERO,
                bomb: Duration::ZERO,
                seed: 0,
                places: 0,
            },
            times: Mutex::default(),
            watchdog: Watchdog::absent(),
            known_failures: false,
            kernel_log: KernelLog::open(),
        }))
    } else {
        match prepare(&arguments) {
            Ok(run) => Box::leak(Box::new(run)),
            Err(failure) => {
                eprintln!("harness: {failure}");
                return ExitCode::from(2);
            }
        }
    };
    let trials = arguments
        .group
        .concerns()
        .iter()
        .flat_map(|concern| *concern)
        .flat_map(|(module, cases)| cases.iter().map(|case| run.trial(module, case)))
        .collect();
    let conclusion = libtest_mimic::run(&arguments.libtest, trials);
    run.print_slowest();
    conclusion.exit_code()
}
