// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Pages of files that the kernel holds on to for a store or a read that is under way, against whatever
//! takes their blocks into other files: bytes stay in the file they belong to.
//!
//! Every byte says which file it belongs to, by the letters that only that file's writers use.

use std::os::fd::AsRawFd;

use crate::case::{case, worker, Case, Test};
use crate::failure::{expect, expect_bytes, Context, Errno, Failure, Outcome};
use crate::filesystem::{Btrfs, CLONES};
use crate::mapping::{Mapping, READ, WRITE};
use crate::pattern::{Random, BLOCK, BLOCK64};
use crate::sys::{
    check, clone_file, clone_range, copy_once, dedupe, new_clone, pipe, pread_to, read_all, unlink,
    File,
};

pub const CASES: &[Case] = &[
    case!(bytes_stay_in_the_file_they_belong_to)
        .needs(CLONES)
        .except(
            Btrfs,
            "sums up what it has read, where others store meanwhile",
        ),
    case!(stores_behind_the_end_stay_out_of_clones).needs(CLONES),
];

const PAGES: usize = 8;
const SIZE: usize = PAGES * BLOCK;

/// A file, and the bytes that its writers use.
struct Side {
    file: File,
    map: Mapping,
    letters: std::ops::RangeInclusive<u8>,
}

impl Side {
    fn new(t: &Test, name: &str, letters: std::ops::RangeInclusive<u8>) -> Outcome<Self> {
        let file = t.create_with(name, &[*letters.start(); SIZE])?;
        Ok(Self {
            map: Mapping::shared(&file, SIZE)?,
            file,
            letters,
        })
    }

    fn letter(&self, random: &mut Random) -> u8 {
        let (first, last) = (*self.letters.start(), *self.letters.end());
        first + random.below(usize::from(last - first) + 1) as u8
    }

    fn expect_own(&self, bytes: &[u8], what: &str) -> Outcome {
        let foreign = bytes.iter().position(|byte| !self.letters.contains(byte));
        let Some(at) = foreign else { return Ok(()) };
        Err(Failure::new(format_args!(
            "{what}: the byte at {at} is {:#x}, which no writer of this file uses",
            bytes[at]
        )))
    }

    /// The kernel takes hold of two pages, and stores to them.
    fn store(&self, random: &mut Random) -> Outcome {
        let data = [self.letter(random); BLOCK];
        let at = random.below(PAGES - 1) * BLOCK + BLOCK / 2;
        let vector = |base: *mut u8| libc::iovec {
            iov_base: base.cast(),
            iov_len: BLOCK,
        };
        let (local, remote) = (vector(data.as_ptr().cast_mut()), vector(self.map.at(at)));
        // SAFETY: both lie in memory of this process, which no reference to the mapping's bytes sees.
        let stored = check(unsafe {
            libc::process_vm_writev(libc::getpid(), &local, 1, &remote, 1, 0) as i64
        });
        expect(
            stored.or_fail("process_vm_writev")? == BLOCK,
            "all bytes are stored",
        )
    }

    /// The kernel takes hold of pages, and reads a file into them.
    fn read_into(&self, from: &File, random: &mut Random) -> Outcome {
        let at = random.below(PAGES - 1) * BLOCK;
        let n = pread_to(from, self.map.at(at), 2 * BLOCK, 0).or_fail("pread with O_DIRECT")?;
        expect(n == 2 * BLOCK, "all bytes are read")
    }

    /// A pipe takes hold of pages, and gives their bytes a little later.
    fn lend(&self, random: &mut Random) -> Outcome {
        let (output, input) = pipe()?;
        let vector = libc::iovec {
            iov_base: self.map.at(random.below(PAGES - 1) * BLOCK).cast(),
            iov_len: 2 * BLOCK,
        };
        // SAFETY: the kernel takes references to the pages of a mapping that is there.
        let lent = check(unsafe { libc::vmsplice(input.as_raw_fd(), &vector, 1, 0) } as i64);
        let lent = lent.or_fail("vmsplice")?;
        std::thread::yield_now();
        self.expect_own(&read_all(&output, lent)?, "what was in a pipe")
    }

    /// Takes the blocks into a file in one of several ways: that has bytes of this file only, and keeps
    /// them, until it gets others, which stay out of this file.
    fn share(&self, path: &std::path::Path, random: &mut Random) -> Outcome {
        let clone = match random.below(3) {
            0 => new_clone(&self.file, path)?,
            1 => {
                let clone = File::create_with(path, &[*self.letters.end(); SIZE])?;
                clone_file(&self.file, &clone).or_fail("FICLONE")?;
                clone
            }
            _ => {
                let copy = File::create(path)?;
                let mut done = 0;
                while done < SIZE {
                    let at = done as u64;
                    done += copy_once(&self.file, at, &copy, at, SIZE - done)
                        .or_fail("copy_file_range")?;
                }
                copy
            }
        };
        let seen = clone.contents()?;
        self.expect_own(&seen, "what was taken into another file")?;
        match dedupe(&clone, 0, SIZE as u64, &self.file, 0) {
            // The store that is under way may last.
            Ok(_) | Err(Errno(libc::EBUSY)) => {}
            Err(error) => return Err(error).or_fail("FIDEDUPERANGE"),
        }
        expect_bytes(&clone.contents()?, &seen, "the other file, later")?;
        let map = Mapping::shared(&clone, SIZE)?;
        map.store(random.below(SIZE - 1), b"#");
        clone.write_at(b"##", random.below(SIZE - 2) as u64)?;
        clone.truncate(random.below(PAGES) as u64 * BLOCK64 + 9)?;
        drop(map);
        unlink(&clone.path).or_fail("unlink")
    }
}

fn bytes_stay_in_the_file_they_belong_to(t: &Test) -> Outcome {
    let sides = [
        Side::new(t, "lower", b'a'..=b'z')?,
        Side::new(t, "upper", b'A'..=b'Z')?,
    ];
    let mut workers = Vec::new();
    for (number, side) in sides.iter().enumerate() {
        let seed = t.settings.seed.wrapping_add(number as u64);
        let random = |worker: u64| Random::new(seed.wrapping_mul(31).wrapping_add(worker));
        let data = [*side.letters.start() + 1; 2 * BLOCK];
        let from = t.create_with(&format!("source-{number}"), &data)?;
        let from = from.reopen(libc::O_RDONLY | libc::O_DIRECT)?;
        let path = t.path(&format!("other-{number}"));
        let (mut a, mut b, mut c, mut d) = (random(1), random(2), random(3), random(4));
        workers.push(worker("stores", move || side.store(&mut a)));
        workers.push(worker("reads", move || side.read_into(&from, &mut b)));
        workers.push(worker("lends", move || side.lend(&mut c)));
        workers.push(worker("shares", move || side.share(&path, &mut d)));
        workers.push(worker("looks", || {
            side.expect_own(&side.file.contents()?, "the file")?;
            side.expect_own(&side.map.load_all(), "its mapping")
        }));
    }
    t.race(workers)?;
    for side in &sides {
        side.expect_own(&side.file.contents()?, "the file at the end")?;
    }
    Ok(())
}

/// The kernel stores to the last block, within the file and behind its end, while that is shared:
/// where the other file becomes longer there are zeros.
fn stores_behind_the_end_stay_out_of_clones(t: &Test) -> Outcome {
    const END: usize = BLOCK + 100;
    // The last block is mapped so often that the kernel takes hold of it, and stores, for long.
    const TIMES: usize = 128;
    let file = t.create_with("file", &[b'a'; END])?;
    let maps = Mapping::anonymous(TIMES * BLOCK)?;
    for i in 0..TIMES {
        maps.put_block(i * BLOCK, &file, BLOCK64, READ | WRITE)?;
    }
    let data = vec![b'a'; TIMES * BLOCK];
    let equal = t.create_with("equal", &[b'a'; END])?;
    let path = t.path("other");
    let mut random = Random::new(t.settings.seed);
    t.race(vec![
        worker("stores", || {
            let vector = |base: *mut u8| libc::iovec {
                iov_base: base.cast(),
                iov_len: TIMES * BLOCK,
            };
            let (local, remote) = (vector(data.as_ptr().cast_mut()), vector(maps.at(0)));
            // SAFETY: both lie in memory of this process, which no reference to the mapping's bytes
            // sees.
            let stored = check(unsafe {
                libc::process_vm_writev(libc::getpid(), &local, 1, &remote, 1, 0) as i64
            });
            expect(
                stored.or_fail("process_vm_writev")? == TIMES * BLOCK,
                "all bytes are stored",
            )
        }),
        worker("shares", || {
            let (other, how) = match random.below(3) {
                0 => (new_clone(&file, &path)?, "a clone"),
                1 => {
                    let other = File::create(&path)?;
                    clone_range(&file, BLOCK64, 0, &other, 0).or_fail("FICLONERANGE")?;
                    (other, "a clone of the last block")
                }
                _ => {
                    let other = new_clone(&equal, &path)?;
                    match dedupe(&file, 0, END as u64, &other, 0) {
                        Ok(_) | Err(Errno(libc::EBUSY)) => {}
                        Err(error) => return Err(error).or_fail("FIDEDUPERANGE"),
                    }
                    (other, "what was deduplicated")
                }
            };
            let end = other.size()?;
            other.truncate(end.next_multiple_of(BLOCK64))?;
            let tail = other.read_at(end, BLOCK - 100)?;
            expect_bytes(
                &tail,
                &[0; BLOCK - 100],
                format_args!("behind the end of {how}"),
            )?;
            unlink(&path).or_fail("unlink")
        }),
    ])
}
