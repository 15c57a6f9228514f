// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Invariants after each operation: sizes, bytes, holes, extents.

use std::collections::HashMap;

use crate::extents::{fiemap, FiemapExtent, FLAG_SYNC};
use crate::failure::{expect, expect_eq, Context, Outcome};
use crate::pattern::BLOCK;

use super::operation::{Which, A, B};
use super::world::World;

/// `FIEMAP_EXTENT_UNWRITTEN`: an allocated block that reads as zeros.
const UNWRITTEN: u32 = 0x800;

impl World {
    /// Compares both files with their models.
    pub fn compare(&self) -> Outcome {
        for which in [A, B] {
            let (open, model) = (&self.open[which as usize], &self.model[which as usize]);
            open.file
                .expect_contents(&model.bytes, &format!("{which:?}"))?;
        }
        Ok(())
    }

    pub fn check(&mut self, file: Which) -> Outcome {
        self.check_mappings(file)?;
        self.check_holes(file)?;
        if self.repertoire.fiemap {
            self.check_extents(file)?;
        }
        Ok(())
    }

    pub fn check_all(&mut self) -> Outcome {
        self.check(A)?;
        self.check(B)?;
        if self.repertoire.exact {
            self.check_shared()?;
        }
        Ok(())
    }

    /// Returns the indexes of the blocks that are not all zeros.
    fn blocks_with_bytes(&self, file: Which) -> impl Iterator<Item = usize> + '_ {
        let blocks = self.model[file as usize].bytes.chunks(BLOCK).enumerate();
        blocks
            .filter(|(_, block)| block.iter().any(|&b| b != 0))
            .map(|(number, _)| number)
    }

    /// Returns the indexes of the blocks that were never filled.
    fn holes(&self, file: Which) -> impl Iterator<Item = usize> + '_ {
        let model = &self.model[file as usize];
        (0..model.size().div_ceil(BLOCK)).filter(|&number| model.is_hole(number))
    }

    /// Checks that bytes other than zero are in data ranges of `SEEK_DATA`, which end within the
    /// file; and, if the filesystem is exact, that blocks that were never filled are not.
    fn check_holes(&self, file: Which) -> Outcome {
        let ranges = self.open[file as usize].file.data_ranges()?;
        for number in self.blocks_with_bytes(file) {
            let at = (number * BLOCK) as u64;
            expect(
                ranges.iter().any(|(start, end)| *start <= at && at < *end),
                format_args!("block {number} of {file:?} has data, but SEEK_DATA finds {ranges:?}"),
            )?;
        }
        if self.repertoire.exact {
            for number in self.holes(file) {
                let at = (number * BLOCK) as u64;
                expect(
                    ranges.iter().all(|(start, end)| *end <= at || at < *start),
                    format_args!(
                        "block {number} of {file:?} is a hole, but SEEK_DATA finds {ranges:?}"
                    ),
                )?;
            }
        }
        let size = self.model[file as usize].size() as u64;
        expect(
            ranges.iter().all(|(_, end)| *end <= size),
            format_args!("SEEK_HOLE finds {ranges:?} in {file:?} of {size} bytes"),
        )
    }

    fn extents(&self, file: Which) -> Outcome<Vec<FiemapExtent>> {
        let (_, extents) = fiemap(&self.open[file as usize].file, 0, u64::MAX, FLAG_SYNC, 500)
            .or_fail("FS_IOC_FIEMAP")?;
        for pair in extents.windows(2) {
            expect(
                pair[0].end() <= pair[1].logical,
                format_args!("extents of {file:?} out of order or overlapping: {pair:x?}"),
            )?;
        }
        Ok(extents)
    }

    /// Checks that bytes other than zero are in written extents.
    fn check_extents(&self, file: Which) -> Outcome {
        let extents = self.extents(file)?;
        for number in self.blocks_with_bytes(file) {
            let at = (number * BLOCK) as u64;
            expect(
                extents
                    .iter()
                    .any(|e| e.logical <= at && at < e.end() && e.flags & UNWRITTEN == 0),
                format_args!("block {number} of {file:?} has data, but FIEMAP finds {extents:x?}"),
            )?;
        }
        if self.repertoire.exact {
            for number in self.holes(file) {
                let at = (number * BLOCK) as u64;
                expect(
                    extents.iter().all(|e| e.end() <= at || at < e.logical),
                    format_args!(
                        "block {number} of {file:?} is a hole, but FIEMAP finds {extents:x?}"
                    ),
                )?;
            }
            let blocks: u64 = extents.iter().map(|e| e.length / BLOCK as u64).sum();
            let counted = self.open[file as usize].file.data_blocks()?;
            expect_eq(
                counted,
                blocks,
                format_args!("st_blocks of {file:?}, and its extents"),
            )?;
        }
        Ok(())
    }

    /// Checks that FIEMAP marks exactly the blocks in two places as shared.
    fn check_shared(&self) -> Outcome {
        let mut places: HashMap<u64, Vec<(Which, u64, bool)>> = HashMap::new();
        for which in [A, B] {
            for extent in self.extents(which)? {
                for offset in (0..extent.length).step_by(BLOCK) {
                    let block = places.entry(extent.physical + offset).or_default();
                    block.push((which, extent.logical + offset, extent.shared()));
                }
            }
        }
        for (physical, places) in places {
            expect(
                places.iter().all(|(.., shared)| *shared == (places.len() > 1)),
                format_args!("FIEMAP says of the block at {physical:#x} (file, position, shared): {places:x?}"),
            )?;
        }
        Ok(())
    }
}
