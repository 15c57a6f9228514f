// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Loads and stores through mappings, by the program and by the kernel.

use crate::failure::{expect, expect_bytes, expect_eq, Context, Outcome};
use crate::pattern::BLOCK;
use crate::sys::{check, pread_to, pwrite_from};

use super::operation::{Private, Shared, Sharing, Span, Which};
use super::world::{Model, PrivatePage, World};

impl Model {
    /// Gives the private mapping a copy of a page.
    fn copy_page(&mut self, page: usize) -> &mut PrivatePage {
        let start = page * BLOCK;
        let mut bytes = self.read(start, BLOCK).to_vec();
        let end = bytes.len();
        bytes.resize(BLOCK, 0);
        let beyond_is_known = !self.stored_beyond_end;
        self.copies.entry(page).or_insert_with(|| PrivatePage {
            bytes,
            known: (0..BLOCK).map(|i| i < end || beyond_is_known).collect(),
        })
    }

    fn store_private(&mut self, pos: usize, bytes: &[u8]) {
        for (i, &byte) in bytes.iter().enumerate() {
            let place = pos + i;
            let copy = match self.copies.get_mut(&(place / BLOCK)) {
                Some(copy) => copy,
                None => self.copy_page(place / BLOCK),
            };
            copy.bytes[place % BLOCK] = byte;
            copy.known[place % BLOCK] = true;
        }
    }

    fn store_shared(&mut self, pos: usize, bytes: &[u8]) {
        let size = self.size();
        let within = bytes.len().min(size.saturating_sub(pos));
        self.bytes[pos.min(size)..pos.min(size) + within].copy_from_slice(&bytes[..within]);
        self.stored_beyond_end |= within < bytes.len();
        self.fill(pos, bytes.len());
    }
}

impl World {
    pub fn remap(&mut self, sharing: Sharing, file: Which, pages: usize) -> Outcome {
        let capacity = self.capacity();
        if let Some(mapping) = self.open[file as usize].mapping_mut(sharing) {
            mapping.remap(pages * BLOCK, libc::MREMAP_MAYMOVE)?;
            mapping.remap(capacity, libc::MREMAP_MAYMOVE)?;
            if sharing == Private {
                self.model[file as usize].copies.split_off(&pages);
            }
        }
        Ok(())
    }

    pub fn forget(&mut self, sharing: Sharing, file: Which) -> Outcome {
        if let Some(mapping) = self.open[file as usize].mapping(sharing) {
            mapping
                .advise(libc::MADV_DONTNEED)
                .or_fail("MADV_DONTNEED")?;
            if sharing == Private {
                self.model[file as usize].copies.clear();
            }
        }
        Ok(())
    }

    pub fn populate(
        &mut self,
        sharing: Sharing,
        file: Which,
        page: usize,
        pages: usize,
        write: bool,
    ) -> Outcome {
        let model = &mut self.model[file as usize];
        let end = (page + pages).min(model.mapped_end() / BLOCK);
        let mapping = self.open[file as usize].mapping(sharing);
        let (Some(mapping), true) = (mapping, page < end) else {
            return Ok(());
        };
        let advice = if write {
            libc::MADV_POPULATE_WRITE
        } else {
            libc::MADV_POPULATE_READ
        };
        // SAFETY: within the mapping, whose contents this does not change.
        check(unsafe {
            libc::madvise(
                mapping.at(page * BLOCK).cast(),
                (end - page) * BLOCK,
                advice,
            )
        })
        .or_fail("MADV_POPULATE")?;
        match sharing {
            Private if write => {
                for page in page..end {
                    model.copy_page(page);
                }
            }
            Shared if write => model.fill(page * BLOCK, (end - page) * BLOCK),
            _ => {}
        }
        Ok(())
    }

    /// Stores the part with mapped pages, without bytes behind the end that could show up later.
    pub fn store(&mut self, sharing: Sharing, file: Which, pos: usize, bytes: &[u8]) -> Outcome {
        let model = &mut self.model[file as usize];
        let end = match sharing {
            Shared if !self.repertoire.hides => model.size(),
            _ => model.mapped_end(),
        };
        let len = bytes.len().min(end.saturating_sub(pos));
        let Some(mapping) = self.open[file as usize].mapping(sharing) else {
            return Ok(());
        };
        if len > 0 {
            mapping.store(pos, &bytes[..len]);
            match sharing {
                Shared => model.store_shared(pos, &bytes[..len]),
                Private => model.store_private(pos, &bytes[..len]),
            }
        }
        Ok(())
    }

    pub fn load(&mut self, sharing: Sharing, file: Which, pos: usize, len: usize) -> Outcome {
        let model = &self.model[file as usize];
        let len = len.min(model.mapped_end().saturating_sub(pos));
        let Some(mapping) = self.open[file as usize].mapping(sharing) else {
            return Ok(());
        };
        if len == 0 {
            return Ok(());
        }
        let mut seen = mapping.load(pos, len);
        let mut expected = model.read(pos, len).to_vec();
        expected.resize(len, 0);
        if model.stored_beyond_end {
            for place in model.size().max(pos)..pos + len {
                seen[place - pos] = 0;
            }
        }
        if sharing == Private {
            // Only pages without a private copy are the file's.
            for (&page, copy) in model.copies.range(pos / BLOCK..(pos + len).div_ceil(BLOCK)) {
                let start = (page * BLOCK).max(pos);
                for place in start..((page + 1) * BLOCK).min(pos + len) {
                    expected[place - pos] = copy.bytes[place % BLOCK];
                    seen[place - pos] = if copy.known[place % BLOCK] {
                        mapping.load_byte(place)
                    } else {
                        expected[place - pos]
                    };
                }
            }
        }
        expect_bytes(
            &seen,
            &expected,
            format_args!("{sharing:?} mapping of {file:?} from {pos}"),
        )
    }

    /// Returns whether the range is aligned and of two files, so that direct I/O may work.
    fn may_go_direct(span: Span, len: usize) -> bool {
        span.from != span.to
            && [span.from_pos, span.to_pos, len]
                .iter()
                .all(|n| n % BLOCK == 0)
    }

    pub fn read_into(&mut self, span: Span) -> Outcome {
        let room = self.model[span.to as usize]
            .read(span.to_pos, span.len)
            .len();
        let bytes = self.model[span.from as usize]
            .read(span.from_pos, room)
            .to_vec();
        let Some(mapping) = self.open[span.to as usize].mapping(Shared) else {
            return Ok(());
        };
        if bytes.is_empty() || span.overlaps(bytes.len()) {
            return Ok(());
        }
        let source = &self.open[span.from as usize];
        let file = if Self::may_go_direct(span, bytes.len()) {
            &source.direct
        } else {
            &source.file
        };
        let n = pread_to(
            file,
            mapping.at(span.to_pos),
            bytes.len(),
            span.from_pos as i64,
        );
        expect_eq(
            n.or_fail("pread into a mapping")?,
            bytes.len(),
            "bytes read into a mapping",
        )?;
        self.model[span.to as usize].write(span.to_pos, &bytes);
        Ok(())
    }

    pub fn write_from(&mut self, span: Span) -> Outcome {
        let bytes = self.model[span.from as usize]
            .read(span.from_pos, span.len)
            .to_vec();
        let Some(mapping) = self.open[span.from as usize].mapping(Shared) else {
            return Ok(());
        };
        if bytes.is_empty() || span.overlaps(bytes.len()) {
            return Ok(());
        }
        let target = &self.open[span.to as usize];
        let file = if Self::may_go_direct(span, bytes.len()) {
            &target.direct
        } else {
            &target.file
        };
        let n = pwrite_from(
            file,
            mapping.at(span.from_pos),
            bytes.len(),
            span.to_pos as i64,
        );
        expect_eq(
            n.or_fail("pwrite from a mapping")?,
            bytes.len(),
            "bytes written from a mapping",
        )?;
        self.model[span.to as usize].write(span.to_pos, &bytes);
        Ok(())
    }

    /// Checks every mapping of a file.
    pub fn check_mappings(&mut self, file: Which) -> Outcome {
        let capacity = self.capacity();
        expect(
            self.model[file as usize].size() <= capacity,
            "a size within the mapping",
        )?;
        self.load(Shared, file, 0, capacity)?;
        self.load(Private, file, 0, capacity)
    }
}
