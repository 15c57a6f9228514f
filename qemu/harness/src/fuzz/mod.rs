// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Random operations on two files, compared with a model. Of a failing list of operations, finds
//! the shortest part that still fails.
//!
//! | file | concern |
//! |---|---|
//! | `operation.rs` | the operations, and random ones |
//! | `world.rs` | the two files and their expected contents |
//! | `bytes.rs`, `sharing.rs`, `mapped.rs` | doing an operation, and its expected result |
//! | `holes.rs` | the blocks that are certainly holes |
//! | `check.rs` | sizes, bytes, holes, extents |
//! | `shrink.rs` | the shortest list |

mod bytes;
mod check;
mod holes;
mod mapped;
mod operation;
mod sharing;
mod shrink;
mod world;

use std::path::Path;
use std::time::{Duration, Instant};

use crate::failure::{Failure, Outcome};
use crate::filesystem::Filesystem;
use crate::pattern::Random;
use crate::process::Child;

use operation::{Generator, Operation, Repertoire};
use world::World;

/// The number of operations on two files before two new ones replace them.
const OPERATIONS: usize = 300;

/// The limit for finding the shortest failing list.
const SHRINKING: Duration = Duration::from_secs(40);

/// A list of operations, and the size of their files.
struct History {
    /// The largest size of a file.
    pages: usize,
    operations: Vec<Operation>,
}

impl History {
    fn random(seed: u64, repertoire: Repertoire) -> Self {
        let mut random = Random::new(seed);
        // From a page or two, where operations overlap often, to more than one node of a tree.
        let pages = [2, 5, 12, 12, 30, 70, 140][random.below(7)];
        let mut generator = Generator {
            random: &mut random,
            pages,
            repertoire,
        };
        let operations = (0..OPERATIONS).map(|_| generator.operation()).collect();
        Self { pages, operations }
    }
}

/// Does the operations on two new files, in a child process, which may be killed by a signal.
fn play(dir: &Path, pages: usize, repertoire: Repertoire, operations: &[Operation]) -> Outcome {
    let outcome = Child::spawn(|| {
        let mut world = World::new(dir, pages, repertoire)?;
        for (i, operation) in operations.iter().enumerate() {
            world
                .play(operation)
                .and_then(|()| world.compare())
                .map_err(|Failure(text)| {
                    Failure(format!("operation {i}, {operation:?}: {text}"))
                })?;
        }
        world.check_all()
    })?
    .join();
    World::remove(dir);
    outcome
}

/// Plays histories with the seeds from `seed` on until the time is over, at least one. Returns
/// their number.
pub fn fuzz(dir: &Path, filesystem: Filesystem, seed: u64, duration: Duration) -> Outcome<u64> {
    let repertoire = Repertoire::of(filesystem);
    let start = Instant::now();
    for n in 0.. {
        let seed = seed.wrapping_add(n);
        let history = History::random(seed, repertoire);
        let pages = history.pages;
        if let Err(Failure(text)) = play(dir, pages, repertoire, &history.operations) {
            let mut last = text.clone();
            let shortest = shrink::shortest(
                history.operations,
                Instant::now() + SHRINKING,
                |list| match play(dir, pages, repertoire, list) {
                    Ok(()) => false,
                    Err(Failure(text)) => {
                        last = text;
                        true
                    }
                },
            );
            let list = shortest.iter().fold(String::new(), |list, operation| {
                format!("{list}\n      {operation:?}")
            });
            return Err(Failure(format!(
                "seed {seed}: {text}\n    The same comes of {} operations on two files of at most {pages} pages: {last}{list}\n    To repeat it: harness --fs {} --seed {seed} --fuzz-seconds 0 fuzz",
                shortest.len(),
                filesystem.name(),
            )));
        }
        if start.elapsed() >= duration {
            return Ok(n + 1);
        }
    }
    Ok(0)
}
