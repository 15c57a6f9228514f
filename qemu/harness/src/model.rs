// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Random histories of several files, compared with a model in memory.

use std::path::Path;

use crate::failure::{expect, expect_eq, Context, Failure, Outcome};
use crate::mapping::Mapping;
use crate::pattern::{Random, BLOCK, BLOCK64};
use crate::sys::{clone_file, clone_range, copy_loop, dedupe, unlink, Deduped, File};

/// The operations of a history besides reading, writing, truncating and copying.
#[derive(Clone, Copy)]
pub struct Repertoire {
    pub reflink: bool,
    pub mappings: bool,
}

struct Tracked {
    file: File,
    model: Vec<u8>,
}

/// A history: some files, their expected contents, and the operations so far.
pub struct History<'a> {
    dir: &'a Path,
    seed: u64,
    random: Random,
    repertoire: Repertoire,
    max_blocks: usize,
    files: Vec<Tracked>,
    done: Vec<String>,
}

impl<'a> History<'a> {
    pub fn new(
        dir: &'a Path,
        seed: u64,
        files: usize,
        max_blocks: usize,
        repertoire: Repertoire,
    ) -> Outcome<Self> {
        let files = (0..files)
            .map(|i| {
                Ok(Tracked {
                    file: File::create(dir.join(format!("history-{i}")))?,
                    model: Vec::new(),
                })
            })
            .collect::<Outcome<Vec<_>>>()?;
        Ok(Self {
            dir,
            seed,
            random: Random::new(seed),
            repertoire,
            max_blocks,
            files,
            done: Vec::new(),
        })
    }

    /// Takes this many random steps. Compares the touched files after each step, and all files
    /// often.
    pub fn run(&mut self, steps: usize) -> Outcome {
        for step in 0..steps {
            let result = self.step().and_then(|touched| {
                if step % 16 == 15 || step + 1 == steps {
                    (0..self.files.len()).try_for_each(|i| self.compare(i))
                } else {
                    self.compare(touched)
                }
            });
            if let Err(Failure(text)) = result {
                let tail = self.done.len().saturating_sub(12);
                return Err(Failure(format!(
                    "seed {}, step {step}: {text}\n    the last steps were:\n      {}",
                    self.seed,
                    self.done[tail..].join("\n      ")
                )));
            }
        }
        Ok(())
    }

    fn compare(&self, i: usize) -> Outcome {
        let Tracked { file, model } = &self.files[i];
        file.expect_contents(model, "after the step")?;
        let ranges = file.data_ranges()?;
        // Each byte that is not zero is in a data range.
        for (number, block) in model.chunks(BLOCK).enumerate() {
            if block.iter().any(|&b| b != 0) {
                let at = number as u64 * BLOCK64;
                expect(
                    ranges.iter().any(|(start, end)| *start <= at && at < *end),
                    format_args!(
                        "block {number} of file {i} has data, but SEEK_DATA finds {ranges:?}"
                    ),
                )?;
            }
        }
        Ok(())
    }

    fn max(&self) -> usize {
        self.max_blocks * BLOCK
    }

    /// Takes one step. Returns the file that it changed.
    fn step(&mut self) -> Outcome<usize> {
        let to = self.random.below(self.files.len());
        match self.random.below(12) {
            0..=2 => self.write(to),
            3 => self.truncate(to),
            4 | 5 => self.copy(to),
            6 if self.repertoire.mappings => self.store(to),
            7 | 8 if self.repertoire.reflink => self.clone_range(to),
            9 if self.repertoire.reflink => self.clone_whole(to),
            10 if self.repertoire.reflink => self.dedupe(to),
            11 if self.random.one_in(4) => self.replace(to),
            _ => self.write(to),
        }?;
        Ok(to)
    }

    fn write(&mut self, to: usize) -> Outcome {
        let offset = self.random.below(self.max());
        let len = 1 + self.random.below(3 * BLOCK).min(self.max() - offset - 1);
        let data = self.random.bytes(len);
        self.done
            .push(format!("write {len} bytes at {offset} of {to}"));
        let Tracked { file, model } = &mut self.files[to];
        file.write_at(&data, offset as u64)?;
        if model.len() < offset + len {
            model.resize(offset + len, 0);
        }
        model[offset..offset + len].copy_from_slice(&data);
        Ok(())
    }

    fn truncate(&mut self, to: usize) -> Outcome {
        let size = self.random.below(self.max());
        self.done.push(format!("truncate {to} to {size}"));
        let Tracked { file, model } = &mut self.files[to];
        file.truncate(size as u64)?;
        model.resize(size, 0);
        Ok(())
    }

    fn copy(&mut self, to: usize) -> Outcome {
        let from = self.random.below(self.files.len());
        let (mut off_in, mut off_out) =
            (self.random.below(self.max()), self.random.below(self.max()));
        match self.random.below(3) {
            // Congruent: whole blocks may be shared.
            0 => off_out = off_out / BLOCK * BLOCK + off_in % BLOCK,
            1 => (off_in, off_out) = (off_in / BLOCK * BLOCK, off_out / BLOCK * BLOCK),
            _ => {}
        }
        let mut len = self.random.below(6 * BLOCK);
        if self.random.one_in(2) {
            len = len / BLOCK * BLOCK;
        }
        len = len.min(self.max().saturating_sub(off_out));
        let available = self.files[from].model.len().saturating_sub(off_in).min(len);
        if from == to && off_in < off_out + available && off_out < off_in + available {
            return Ok(());
        }
        self.done.push(format!(
            "copy {len} bytes from {off_in} of {from} to {off_out} of {to}"
        ));
        // A copy of a file onto its own end would copy more.
        let len = if from == to { available } else { len };
        let source = &self.files[from].file;
        let copied = copy_loop(
            source,
            off_in as u64,
            &self.files[to].file,
            off_out as u64,
            len,
        )?;
        expect_eq(copied, available, "bytes copied by copy_file_range")?;
        self.copied(from, off_in, to, off_out, available);
        Ok(())
    }

    fn copied(&mut self, from: usize, off_in: usize, to: usize, off_out: usize, len: usize) {
        if len == 0 {
            return;
        }
        let data = self.files[from].model[off_in..off_in + len].to_vec();
        let model = &mut self.files[to].model;
        if model.len() < off_out + len {
            model.resize(off_out + len, 0);
        }
        model[off_out..off_out + len].copy_from_slice(&data);
    }

    fn store(&mut self, to: usize) -> Outcome {
        let size = self.files[to].model.len();
        if size == 0 {
            return Ok(());
        }
        let offset = self.random.below(size);
        let len = (1 + self.random.below(2 * BLOCK)).min(size - offset);
        let data = self.random.bytes(len);
        self.done.push(format!(
            "store {len} bytes at {offset} of {to} through a mapping"
        ));
        let Tracked { file, model } = &mut self.files[to];
        Mapping::shared(file, size)?.store(offset, &data);
        model[offset..offset + len].copy_from_slice(&data);
        Ok(())
    }

    fn clone_range(&mut self, to: usize) -> Outcome {
        let from = self.random.below(self.files.len());
        let size = self.files[from].model.len();
        let off_in = self.random.below(self.max_blocks) * BLOCK;
        let off_out = self.random.below(self.max_blocks) * BLOCK;
        if off_in >= size {
            return Ok(());
        }
        let room = self.max() - off_out;
        let to_end = size - off_in;
        let mut len = (1 + self.random.below(8)) * BLOCK;
        if len >= to_end {
            len = to_end;
            // A partial last block may land only at or past the end.
            if len % BLOCK != 0 && off_out + len < self.files[to].model.len() {
                len = len / BLOCK * BLOCK;
            }
        }
        if len == 0 || len > room {
            return Ok(());
        }
        let span = len.next_multiple_of(BLOCK);
        if from == to && off_in < off_out + span && off_out < off_in + span {
            return Ok(());
        }
        self.done.push(format!(
            "clone {len} bytes from {off_in} of {from} to {off_out} of {to}"
        ));
        let (source, target) = (&self.files[from].file, &self.files[to].file);
        clone_range(source, off_in as u64, len as u64, target, off_out as u64)
            .or_fail("FICLONERANGE")?;
        self.copied(from, off_in, to, off_out, len);
        Ok(())
    }

    fn clone_whole(&mut self, to: usize) -> Outcome {
        let from = self.random.below(self.files.len());
        let size = self.files[from].model.len();
        if from == to || size == 0 || size % BLOCK != 0 && size < self.files[to].model.len() {
            return Ok(());
        }
        self.done.push(format!("clone {from} to {to}"));
        clone_file(&self.files[from].file, &self.files[to].file).or_fail("FICLONE")?;
        self.copied(from, 0, to, 0, size);
        Ok(())
    }

    fn dedupe(&mut self, to: usize) -> Outcome {
        let from = self.random.below(self.files.len());
        let offset = self.random.below(self.max_blocks) * BLOCK;
        let len = (1 + self.random.below(4)) * BLOCK;
        let (source, target) = (&self.files[from], &self.files[to]);
        if from == to || offset + len > source.model.len() || offset + len > target.model.len() {
            return Ok(());
        }
        self.done
            .push(format!("dedupe {len} bytes at {offset} of {from} and {to}"));
        let equal = source.model[offset..offset + len] == target.model[offset..offset + len];
        let result = dedupe(
            &source.file,
            offset as u64,
            len as u64,
            &target.file,
            offset as u64,
        )
        .or_fail("FIDEDUPERANGE")?;
        let expected = if equal {
            Deduped::Same(len as u64)
        } else {
            Deduped::Differs
        };
        expect_eq(result, expected, "FIDEDUPERANGE")
    }

    /// Unlinks the file and creates a new one under its name.
    fn replace(&mut self, to: usize) -> Outcome {
        self.done.push(format!("replace {to} by a new file"));
        let path = self.dir.join(format!("history-{to}"));
        unlink(&path).or_fail("unlink")?;
        self.files[to] = Tracked {
            file: File::create(path)?,
            model: Vec::new(),
        };
        Ok(())
    }
}
