// SPDX-License-Identifier: GPL-2.0 OR MIT
//! A test, and its environment.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::failure::{expect, Context, Failure, Outcome};
use crate::filesystem::{Feature, Filesystem};
use crate::instance::{bind_read_only, Instance};
use crate::sys::File;

/// One test.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub run: fn(&Test) -> Outcome,
    needs: &'static [Feature],
    exceptions: [Option<(Filesystem, &'static str)>; 3],
}

impl Case {
    pub const fn new(name: &'static str, run: fn(&Test) -> Outcome) -> Self {
        Self {
            name,
            run,
            needs: &[],
            exceptions: [None; 3],
        }
    }

    /// Runs the test only on filesystems with all of these.
    pub const fn needs(mut self, needs: &'static [Feature]) -> Self {
        self.needs = needs;
        self
    }

    /// Skips the test on a reference filesystem that legitimately behaves otherwise.
    pub const fn except(mut self, reference: Filesystem, why: &'static str) -> Self {
        let mut i = 0;
        while self.exceptions[i].is_some() {
            i += 1;
        }
        self.exceptions[i] = Some((reference, why));
        self
    }

    /// Returns why this test is skipped on a filesystem, if it is.
    pub fn ignored_on(&self, filesystem: Filesystem) -> Option<String> {
        let unmet = self.needs.iter().find_map(|n| n.unmet_by(filesystem));
        let excepted = self.exceptions.iter().flatten();
        unmet
            .or_else(|| {
                excepted
                    .filter(|(reference, _)| *reference == filesystem)
                    .map(|(_, why)| *why)
                    .next()
            })
            .map(|why| format!("{}: {why}", filesystem.name()))
    }
}

/// Makes a test, named after the function that runs it.
macro_rules! case {
    ($name:ident) => {
        $crate::case::Case::new(stringify!($name), $name)
    };
}
pub(crate) use case;

/// The durations and sizes of tests, from the command line.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Divides repetitions.
    pub divisor: usize,
    /// The duration of each race.
    pub race: Duration,
    /// The duration of the long race.
    pub soak: Duration,
    /// The duration of random operations on two files.
    pub fuzz: Duration,
    /// The duration of random calls, and of calls that take memory.
    pub torture: Duration,
    /// The duration of each call on a bomb.
    pub bomb: Duration,
    /// The first seed of random histories.
    pub seed: u64,
    /// The number of instrumented places of the module, for KCOV; 0: not known.
    pub places: u64,
}

/// The environment of a test: a fresh directory on the filesystem under test.
pub struct Test {
    pub filesystem: Filesystem,
    pub dir: PathBuf,
    /// A directory on another filesystem.
    pub elsewhere: PathBuf,
    pub settings: Settings,
}

impl Test {
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    #[track_caller]
    pub fn create(&self, name: &str) -> Outcome<File> {
        File::create(self.path(name))
    }

    #[track_caller]
    pub fn create_with(&self, name: &str, bytes: &[u8]) -> Outcome<File> {
        File::create_with(self.path(name), bytes)
    }

    #[track_caller]
    pub fn mkdir(&self, name: &str) -> Outcome<PathBuf> {
        let path = self.path(name);
        crate::sys::mkdir(&path, 0o755).or_fail(format_args!("mkdir {name}"))?;
        Ok(path)
    }

    /// Creates a file on another filesystem.
    #[track_caller]
    pub fn create_elsewhere(&self, name: &str, bytes: &[u8]) -> Outcome<File> {
        File::create_with(self.elsewhere.join(name), bytes)
    }

    /// Mounts a new instance of the filesystem.
    #[track_caller]
    pub fn mount(&self, options: &[(&str, &str)]) -> Outcome<Instance> {
        self.mount_at("instance", options)
    }

    #[track_caller]
    pub fn mount_at(&self, name: &str, options: &[(&str, &str)]) -> Outcome<Instance> {
        Instance::mount(self.filesystem.name(), self.elsewhere.join(name), options)
    }

    /// Mounts the test's directory again, read-only, at another path.
    #[track_caller]
    pub fn read_only_view(&self) -> Outcome<PathBuf> {
        let view = self.elsewhere.join("read-only");
        crate::sys::mkdir(&view, 0o755).or_fail("mkdir")?;
        bind_read_only(&self.dir, &view).or_fail("a read-only bind mount")?;
        Ok(view)
    }

    pub fn is_reflinkfs(&self) -> bool {
        self.filesystem == Filesystem::Reflinkfs
    }

    /// Returns the number of repetitions: fewer on a slow kernel.
    pub fn rounds(&self, full: usize) -> usize {
        (full / self.settings.divisor).max(1)
    }

    /// Runs workers against one another for a while; each repeats its step.
    #[track_caller]
    pub fn race(&self, workers: Vec<Worker<'_>>) -> Outcome {
        race_for(self.settings.race, workers)
    }
}

/// One side of a race: a name, and a step to repeat.
pub struct Worker<'a> {
    name: &'static str,
    step: Box<dyn FnMut() -> Outcome + Send + 'a>,
}

pub fn worker<'a>(name: &'static str, step: impl FnMut() -> Outcome + Send + 'a) -> Worker<'a> {
    Worker {
        name,
        step: Box::new(step),
    }
}

/// Runs workers against one another until the time is over or one fails.
#[track_caller]
pub fn race_for(duration: Duration, workers: Vec<Worker<'_>>) -> Outcome {
    let stop = AtomicBool::new(false);
    let failure = Mutex::new(None);
    let deadline = Instant::now() + duration;
    let idle = AtomicUsize::new(workers.len());
    std::thread::scope(|scope| {
        for mut worker in workers {
            let (stop, failure, idle) = (&stop, &failure, &idle);
            scope.spawn(move || {
                let mut turns = 0;
                // Each worker has at least one turn, even on a slow machine.
                while turns == 0 || (!stop.load(Ordering::Relaxed) && Instant::now() < deadline) {
                    if let Err(Failure(text)) = (worker.step)() {
                        stop.store(true, Ordering::Relaxed);
                        if let Ok(mut first) = failure.lock() {
                            first.get_or_insert(format!("{} (turn {turns}): {text}", worker.name));
                        }
                        return;
                    }
                    if turns == 0 {
                        idle.fetch_sub(1, Ordering::Relaxed);
                    }
                    turns += 1;
                }
            });
        }
    });
    if let Some(text) = failure.into_inner().unwrap_or(None) {
        return Err(Failure(text));
    }
    expect(
        idle.load(Ordering::Relaxed) == 0,
        "a racing worker never finished a turn",
    )
}
