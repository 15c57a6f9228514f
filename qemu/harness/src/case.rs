// SPDX-License-Identifier: GPL-2.0 OR MIT
//! A test, and what it is given to work with.

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

    /// Runs only where the filesystem has all of these.
    pub const fn needs(mut self, needs: &'static [Feature]) -> Self {
        self.needs = needs;
        self
    }

    /// Does not run on a referee that legitimately behaves otherwise.
    pub const fn except(mut self, referee: Filesystem, why: &'static str) -> Self {
        let mut i = 0;
        while self.exceptions[i].is_some() {
            i += 1;
        }
        self.exceptions[i] = Some((referee, why));
        self
    }

    /// Why this test says nothing about a filesystem, if it does not.
    pub fn ignored_on(&self, filesystem: Filesystem) -> Option<String> {
        let unmet = self.needs.iter().find_map(|n| n.unmet_by(filesystem));
        let excepted = self.exceptions.iter().flatten();
        unmet
            .or_else(|| {
                excepted
                    .filter(|(referee, _)| *referee == filesystem)
                    .map(|(_, why)| *why)
                    .next()
            })
            .map(|why| format!("{}: {why}", filesystem.name()))
    }
}

/// A test, named after the function that runs it.
macro_rules! case {
    ($name:ident) => {
        $crate::case::Case::new(stringify!($name), $name)
    };
}
pub(crate) use case;

/// How much work the tests do.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Repetitions are divided by this.
    pub divisor: usize,
    /// How long each race goes on.
    pub race: Duration,
    /// How long the long race goes on.
    pub soak: Duration,
    /// How long random operations on two files go on.
    pub fuzz: Duration,
    /// How long calls at random, and what takes memory, go on.
    pub torture: Duration,
    /// How long each call on a bomb goes on.
    pub bomb: Duration,
    /// Where random histories start.
    pub seed: u64,
    /// How many places the module has that KCOV could tell of; 0: not known.
    pub places: u64,
}

/// What a test works with: a fresh directory on the filesystem under test.
pub struct Test {
    pub filesystem: Filesystem,
    pub dir: PathBuf,
    /// A directory of another filesystem.
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

    /// A file on another filesystem.
    #[track_caller]
    pub fn create_elsewhere(&self, name: &str, bytes: &[u8]) -> Outcome<File> {
        File::create_with(self.elsewhere.join(name), bytes)
    }

    /// An instance of the filesystem of the test's own.
    #[track_caller]
    pub fn mount(&self, options: &[(&str, &str)]) -> Outcome<Instance> {
        self.mount_at("instance", options)
    }

    #[track_caller]
    pub fn mount_at(&self, name: &str, options: &[(&str, &str)]) -> Outcome<Instance> {
        Instance::mount(self.filesystem.name(), self.elsewhere.join(name), options)
    }

    /// The test's directory again, read-only, at a path of its own.
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

    /// Fewer repetitions where everything is slow.
    pub fn rounds(&self, full: usize) -> usize {
        (full / self.settings.divisor).max(1)
    }

    /// Runs workers against one another for a while, each over and over.
    #[track_caller]
    pub fn race(&self, workers: Vec<Worker<'_>>) -> Outcome {
        race_for(self.settings.race, workers)
    }
}

/// One side of a race: a name, and a step that is repeated.
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
                // Each worker has at least one turn, however slow the machine.
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
