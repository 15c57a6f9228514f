// SPDX-License-Identifier: GPL-2.0

//! Files with a model: which block is where, found by looking at every index.

use crate::{
    store::{
        block::{
            BlockRef,
            Pool, //
        },
        BlockExtent,
        Prealloc,
        Tree, //
    },
    support::random::Random,
    support::trees::{
        block_at,
        found,
        insert_block,
        insert_run,
        insert_unwritten,
        pool,
        remove,
        share_range,
        Found,
        Page,
        FANOUT,
        LAST, //
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// The stretches of a file in which blocks come and go: around ends of leaves and of nodes, at
/// the beginning and at the end.
const STARTS: [u64; 3] = [0, 262144 - 80, LAST - WIDTH as u64 + 1];
const WIDTH: usize = 160;

/// How many places there are in a file.
pub(crate) const PLACES: usize = STARTS.len() * WIDTH;

/// The index in the file of a place.
pub(crate) fn index_of(place: usize) -> u64 {
    STARTS[place / WIDTH] + (place % WIDTH) as u64
}

/// The first place at or after an index.
fn place_of(index: u64) -> usize {
    (0..PLACES)
        .find(|place| index_of(*place) >= index)
        .unwrap_or(PLACES)
}

/// How many places there are from this one to the end of its stretch.
pub(crate) fn room(place: usize) -> usize {
    WIDTH - place % WIDTH
}

/// The first entry among the blocks made, which is none.
const HOLE: usize = 0;

/// A file: its tree, and what should be at each place.
struct File {
    tree: Tree,
    /// Which of the blocks that were ever made, [`HOLE`] for none.
    blocks: KVec<usize>,
    /// Whether the file has written the block since it was last cloned.
    owned: KVec<bool>,
    /// Whether the block is unwritten here.
    unwritten: KVec<bool>,
}

/// Some files of one pool.
pub(crate) struct Model {
    pool: Arc<Pool>,
    files: KVec<File>,
    /// The page and the number of each block that was ever made.
    made: KVec<(Page, u64)>,
}

impl Model {
    /// Makes `files` empty files.
    pub(crate) fn new(files: usize) -> Result<Self> {
        let pool = pool()?;
        let mut model = Self {
            pool,
            files: KVec::new(),
            made: KVec::new(),
        };
        model.made.push((core::ptr::null_mut(), 0), GFP_KERNEL)?;
        for _ in 0..files {
            let tree = Tree::new(model.pool.clone());
            let blocks = KVec::from_elem(HOLE, PLACES, GFP_KERNEL)?;
            let owned = KVec::from_elem(false, PLACES, GFP_KERNEL)?;
            let unwritten = KVec::from_elem(false, PLACES, GFP_KERNEL)?;
            model.files.push(
                File {
                    tree,
                    blocks,
                    owned,
                    unwritten,
                },
                GFP_KERNEL,
            )?;
        }
        Ok(model)
    }

    /// Takes a snapshot, through which references to blocks may be given out.
    pub(crate) fn snapshot(&mut self, file: usize) -> Tree {
        self.files[file].owned.fill(false);
        self.files[file].tree.snapshot()
    }

    /// As [`Model::snapshot`], of `len` places within one stretch.
    fn snapshot_range(&mut self, file: usize, place: usize, len: usize) -> Result<Tree> {
        let file = &mut self.files[file];
        file.owned[place..][..len].fill(false);
        let index = index_of(place);
        let range = index..index + len as u64;
        file.tree.snapshot_range(range, &mut Prealloc::on_demand())
    }

    /// Returns a tree to be changed, which may replace the file's.
    pub(crate) fn edit(&self, file: usize) -> Tree {
        self.files[file].tree.edit()
    }

    /// Lets the file write in place, if the block is its own.
    pub(crate) fn restore_owned(&mut self, file: usize, place: usize) {
        let file = &mut self.files[file];
        if !matches!(
            found(&file.tree, index_of(place)),
            Found::Hole | Found::Shared(_)
        ) {
            file.tree.restore_owned(index_of(place));
            file.owned[place] = true;
        }
    }

    /// Inserts a new block at `place`.
    pub(crate) fn write(&mut self, file: usize, place: usize) -> Result {
        let page = insert_block(&mut self.files[file].tree, index_of(place))?;
        check_eq!(self.has_new(file, place)?, page);
        Ok(())
    }

    /// Inserts a new unwritten block at `place`.
    pub(crate) fn write_unwritten(&mut self, file: usize, place: usize) -> Result {
        let page = insert_unwritten(&mut self.files[file].tree, index_of(place))?;
        check_eq!(self.has_new(file, place)?, page);
        self.files[file].unwritten[place] = true;
        Ok(())
    }

    /// Makes the unwritten blocks at `len` places within one stretch written.
    pub(crate) fn set_written(&mut self, file: usize, place: usize, len: usize) -> Result {
        let file = &mut self.files[file];
        let mut wanted = 0;
        for place in place..place + len {
            if let Found::Unwritten(_) = found(&file.tree, index_of(place)) {
                file.unwritten[place] = false;
                wanted += 1;
            }
        }
        check_eq!(file.tree.set_written(index_of(place), len), wanted);
        Ok(())
    }

    /// Inserts new blocks from `place` on, as many as are contiguous, up to `len`, within one
    /// stretch.
    pub(crate) fn write_contig(&mut self, file: usize, place: usize, len: usize) -> Result {
        let n = insert_run(&mut self.files[file].tree, index_of(place), len as u64)?;
        (place..place + n as usize).try_for_each(|place| self.has_new(file, place).map(|_| ()))
    }

    /// Notes that there is a new block at `place`. Returns its page.
    fn has_new(&mut self, file: usize, place: usize) -> Result<Page> {
        let file = &mut self.files[file];
        file.blocks[place] = self.made.len();
        file.owned[place] = true;
        file.unwritten[place] = false;
        let extent = file.tree.extent(index_of(place), 1).ok_or(ENOENT)?;
        check_eq!(extent.index, index_of(place));
        // No other block had this number, which depends on the place in the leaf.
        let number = extent.number;
        check!(
            self.made.iter().all(|(_, other)| *other != number),
            "{number}"
        );
        check_eq!(number % FANOUT, index_of(place) % FANOUT);
        let page = block_at(&file.tree, index_of(place))?.as_ptr();
        self.made.push((page, extent.number), GFP_KERNEL)?;
        Ok(page)
    }

    /// Removes the blocks at the indexes `from..to`.
    pub(crate) fn remove(&mut self, file: usize, from: u64, to: u64) -> Result {
        let file = &mut self.files[file];
        let mut tree = file.tree.edit();
        remove(&mut tree, from, to)?;
        file.tree = tree;
        for place in place_of(from)..place_of(to) {
            file.blocks[place] = HOLE;
            file.unwritten[place] = false;
        }
        Ok(())
    }

    /// Makes a file a clone of another.
    pub(crate) fn clone_file(&mut self, from: usize, to: usize) -> Result {
        self.files[to].tree = self.snapshot(from);
        self.share_model(from, 0, to, 0, PLACES)
    }

    /// Shares `len` places within one stretch. What the source has elsewhere may stay its own.
    pub(crate) fn share(
        &mut self,
        (from, from_place): (usize, usize),
        (to, to_place): (usize, usize),
        len: usize,
    ) -> Result {
        let source = self.snapshot_range(from, from_place, len)?;
        let mut tree = self.edit(to);
        share_range(
            &mut tree,
            index_of(to_place),
            &source,
            index_of(from_place),
            len as u64,
        )?;
        self.files[to].tree = tree;
        self.share_model(from, from_place, to, to_place, len)
    }

    /// Shares the indexes `start..end`, at the same place in the other file.
    pub(crate) fn share_in_place(
        &mut self,
        from: usize,
        to: usize,
        start: u64,
        end: u64,
    ) -> Result {
        let source = self.snapshot(from);
        let mut tree = self.edit(to);
        share_range(&mut tree, start, &source, start, end - start)?;
        self.files[to].tree = tree;
        let (first, last) = (place_of(start), place_of(end));
        self.share_model(from, first, to, first, last - first)
    }

    fn share_model(
        &mut self,
        from: usize,
        from_place: usize,
        to: usize,
        to_place: usize,
        len: usize,
    ) -> Result {
        let mut shared = KVec::new();
        shared.extend_from_slice(&self.files[from].blocks[from_place..][..len], GFP_KERNEL)?;
        self.files[to].blocks[to_place..][..len].copy_from_slice(&shared);
        self.files[to].owned[to_place..][..len].fill(false);
        let mut unwritten = KVec::new();
        unwritten
            .extend_from_slice(&self.files[from].unwritten[from_place..][..len], GFP_KERNEL)?;
        self.files[to].unwritten[to_place..][..len].copy_from_slice(&unwritten);
        Ok(())
    }

    /// Returns in how many places each block is.
    fn owners(&self) -> Result<KVec<u32>> {
        let mut owners = KVec::from_elem(0, self.made.len(), GFP_KERNEL)?;
        for file in &self.files {
            for block in file.blocks.iter().filter(|block| **block != HOLE) {
                owners[*block] += 1;
            }
        }
        Ok(owners)
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Checks that the pool counts each block that is in some place once.
    pub(crate) fn check_used(&self) -> Result {
        let owners = self.owners()?;
        let used = owners.iter().filter(|owners| **owners != 0).count();
        check_eq!(self.pool.used(), used as u64);
        Ok(())
    }

    /// Checks that each answer of a file's tree is the model's.
    pub(crate) fn check(&self, random: &mut Random) -> Result {
        let owners = self.owners()?;
        for file in &self.files {
            let count = file.blocks.iter().filter(|block| **block != HOLE).count();
            check_eq!(file.tree.blocks(), count as u64);
            self.check_lookup(file, &owners)?;
            file.check_next()?;
            file.check_read(random, &self.made)?;
            file.check_others(random)?;
            file.check_extents(&owners, &self.made)?;
        }
        for _ in 0..4 * self.files.len() {
            self.check_same(random)?;
        }
        Ok(())
    }

    /// A block is not shared if and only if it is in one place: with a shared node on its path it
    /// would be in two.
    fn check_lookup(&self, file: &File, owners: &[u32]) -> Result {
        for (place, block) in file.blocks.iter().enumerate() {
            let (page, _) = self.made[*block];
            let wanted = match (*block, owners[*block]) {
                (HOLE, _) => Found::Hole,
                (_, 1) if file.owned[place] && file.unwritten[place] => Found::Unwritten(page),
                (_, 1) if file.owned[place] => Found::Owned(page),
                (_, 1) => Found::WasShared(page),
                _ => Found::Shared(page),
            };
            check_eq!(found(&file.tree, index_of(place)), wanted, "place {place}");
        }
        Ok(())
    }

    fn check_same(&self, random: &mut Random) -> Result {
        let (a, b) = (
            random.below(self.files.len()),
            random.below(self.files.len()),
        );
        let at = random.below(PLACES);
        let to = if random.one_in(2) {
            at
        } else {
            random.below(PLACES)
        };
        let len = room(at).min(room(to));
        let (a, b) = (&self.files[a], &self.files[b]);
        let blocks = a.blocks[at..].iter().zip(&b.blocks[to..]).take(len);
        let same = blocks.take_while(|(a, b)| a == b).count();
        check_eq!(
            a.tree
                .same_len(index_of(at), &b.tree, index_of(to), len as u64, &mut {
                    u64::MAX
                }),
            same as u64,
            "{len} places from {at} and {to}"
        );
        Ok(())
    }
}

impl File {
    fn check_next(&self) -> Result {
        let (mut block, mut written) = (None, None);
        let (mut hole, mut not_written) = (LAST + 1, LAST + 1);
        for (place, content) in self.blocks.iter().enumerate().rev() {
            let index = index_of(place);
            if room(place) == 1 {
                (hole, not_written) = (index + 1, index + 1);
            }
            if *content == HOLE {
                (hole, not_written) = (index, index);
            } else {
                block = Some(index);
                if self.unwritten[place] {
                    not_written = index;
                } else {
                    written = Some(index);
                }
            }
            check_eq!(self.tree.next_block(index), block, "place {place}");
            check_eq!(self.tree.next_hole(index), hole, "place {place}");
            check_eq!(self.tree.next_written(index), written, "place {place}");
            check_eq!(
                self.tree.next_not_written(index),
                not_written,
                "place {place}"
            );
        }
        Ok(())
    }

    fn check_read(&self, random: &mut Random, made: &[(Page, u64)]) -> Result {
        for _ in 0..8 {
            let first = random.below(PLACES);
            let mut blocks = [const { None }; 8];
            let n = self.tree.get_blocks(index_of(first), &mut blocks);
            check!((1..=8).contains(&n), "place {first}");
            for (place, block) in (first..).zip(&blocks[..n.min(room(first))]) {
                let (page, _) = made[self.blocks[place]];
                let wanted = Some(page).filter(|page| !page.is_null());
                check_eq!(
                    block.as_ref().map(BlockRef::as_ptr),
                    wanted,
                    "place {place}"
                );
            }
        }
        Ok(())
    }

    fn check_others(&self, random: &mut Random) -> Result {
        for _ in 0..8 {
            let (first, max) = (random.below(PLACES), 1 + random.below(80));
            let places = max.min(room(first));
            let is_others = |place: &usize| {
                matches!(
                    found(&self.tree, index_of(*place)),
                    Found::Hole | Found::Shared(_)
                )
            };
            let others = (first..first + places).take_while(is_others).count();
            // There are no blocks after the stretch.
            let run = self.tree.len_to_alloc(index_of(first), max);
            check!(run <= max, "{run} of {max} places from {first}");
            check_eq!(run.min(places), others, "{max} places from {first}");
        }
        Ok(())
    }

    fn check_extents(&self, owners: &[u32], made: &[(Page, u64)]) -> Result {
        let mut from = 0;
        let mut wanted: Option<BlockExtent> = None;
        for (place, block) in self.blocks.iter().enumerate() {
            let (index, number) = (index_of(place), made[*block].1);
            let next = BlockExtent {
                index,
                number,
                len: 1,
                shared: owners[*block] > 1,
                unwritten: self.unwritten[place],
            };
            if let Some(extent) = &mut wanted {
                let continues = number == extent.number + extent.len
                    && index == extent.index + extent.len
                    && next.shared == extent.shared
                    && next.unwritten == extent.unwritten;
                if continues {
                    extent.len += 1;
                    continue;
                }
                check_eq!(
                    self.tree.extent(from, u64::MAX),
                    Some(*extent),
                    "from {from}"
                );
                from = extent.index + extent.len;
                wanted = None;
            }
            if *block != HOLE {
                wanted = Some(next);
            }
        }
        if let Some(extent) = &wanted {
            check_eq!(self.tree.extent(from, u64::MAX), wanted, "from {from}");
            from = extent.index + extent.len;
        }
        check_eq!(self.tree.extent(from, u64::MAX), None, "from {from}");
        Ok(())
    }
}
