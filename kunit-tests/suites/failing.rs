// SPDX-License-Identifier: GPL-2.0

//! `reflinkfs_failing`: allocations fail, one by one, and no harm is done.

use crate::{
    rounds,
    store::{
        block::Pool,
        Prealloc,
        Tree, //
    },
    support::full::{
        many,
        one,
        FULL, //
    },
    support::inject::nth,
    support::nodes::{
        count,
        MOST, //
    },
    support::random::Random,
    support::trees::{
        blocks,
        check_holds,
        first_of,
        found,
        insert_block,
        pool,
        remove,
        share_range,
        span,
        tree_of,
        Page,
        FANOUT,
        LAST,
        MAX_HEIGHT, //
    },
};
use kernel::{
    macros::kunit_tests,
    prelude::*,
    sync::Arc, //
};

/// More allocations than any of the changes makes.
const MANY: u32 = 200;

/// What is changed: a tree, a clone of it, and one to share from.
struct Scene {
    pool: Arc<Pool>,
    tree: Tree,
    clone: Tree,
    source: Tree,
}

/// The state of a scene, to compare a later one with.
struct State {
    tree: KVec<(u64, Page)>,
    clone: KVec<(u64, Page)>,
    source: KVec<(u64, Page)>,
    used: u64,
    nodes: u64,
}

/// A change to the tree of a scene.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// Inserts a block at an index: fills a prealloc, then changes.
    Insert(u64),
    /// The same on demand: nodes are allocated on the way down.
    InsertOnDemand(u64),
    /// Shares blocks of the source: the index there, the index here, how many.
    Share { from: u64, to: u64, len: u64 },
    /// Removes the blocks from an index to an index.
    Remove(u64, u64),
}

/// Where trees are changed: at their ends, and at ends of leaves and nodes.
const PLACES: [u64; 6] = [0, 1, FANOUT - 1, FANOUT, span(3), LAST];

/// The blocks of trees of several heights: none, in the root, a leaf, with nodes above it.
const SHAPES: [&[u64]; 5] = [
    &[],
    &[0],
    &[0, 1, 5, FANOUT - 1],
    &[2, FANOUT, FANOUT + 1, span(2)],
    &[0, 1, 2, span(3), span(3) + FANOUT, LAST - 1, LAST],
];

impl Scene {
    fn new(indexes: &[u64]) -> Result<Self> {
        let pool = pool()?;
        let mut tree = tree_of(&pool, indexes.iter().copied())?;
        let clone = tree.snapshot();
        // A part of it is the tree's alone, so that not everything has to be copied.
        if let Some(index) = indexes.last() {
            insert_block(&mut tree, *index)?;
        }
        let mut source = tree_of(&pool, 0..FANOUT + 3)?;
        insert_block(&mut source, span(2) + 1)?;
        insert_block(&mut source, LAST)?;
        Ok(Self {
            pool,
            tree,
            clone,
            source,
        })
    }

    /// Changes a copy, as the filesystem does, and drops it if that fails half way.
    fn edit(&mut self, change: impl FnOnce(&mut Tree, &Tree) -> Result) -> Result {
        let mut tree = self.tree.edit();
        change(&mut tree, &self.source)?;
        self.tree = tree;
        Ok(())
    }

    fn state(&self) -> Result<State> {
        Ok(State {
            tree: blocks(&self.tree)?,
            clone: blocks(&self.clone)?,
            source: blocks(&self.source)?,
            used: self.pool.used(),
            nodes: self.pool.nodes(),
        })
    }

    /// Everything is as it was; a change on demand may leave nodes that it has copied.
    fn check_unchanged(&self, before: &State, change: Change) -> Result {
        check_holds(&self.tree, &before.tree)?;
        self.check_others(before)?;
        check_eq!(self.pool.used(), before.used);
        match change {
            Change::InsertOnDemand(_) => check!(
                (before.nodes..=before.nodes + MOST as u64).contains(&self.pool.nodes()),
                "{} nodes after {}",
                self.pool.nodes(),
                before.nodes
            ),
            _ => check_eq!(self.pool.nodes(), before.nodes),
        }
        Ok(())
    }

    fn check_others(&self, before: &State) -> Result {
        check_holds(&self.clone, &before.clone)?;
        check_holds(&self.source, &before.source)
    }

    /// The tree has been changed, and nothing else.
    fn check_changed(&self, before: &State, change: Change) -> Result {
        let wanted = change.wanted(before)?;
        let now = blocks(&self.tree)?;
        check_eq!(self.tree.blocks(), wanted.len() as u64);
        check_eq!(now.len(), wanted.len());
        for (now, (index, page)) in now.iter().zip(&wanted) {
            check_eq!(now.0, *index);
            match page {
                Some(page) => check_eq!(now.1, *page, "index {index}"),
                // The new block, made before the one that it replaces was let go of.
                None => check!(!before.tree.contains(now), "index {index}"),
            }
        }
        check_holds(&self.tree, &now)?;
        self.check_others(before)
    }
}

impl Change {
    fn apply(self, scene: &mut Scene) -> Result {
        match self {
            Self::Insert(index) => insert_block(&mut scene.tree, index).map(|_| ()),
            Self::InsertOnDemand(index) => {
                let block = scene.pool.alloc()?;
                scene.tree.insert(index, block, &mut Prealloc::on_demand())
            }
            Self::Share { from, to, len } => {
                scene.edit(|tree, source| share_range(tree, to, source, from, len))
            }
            Self::Remove(from, to) => scene.edit(|tree, _| remove(tree, from, to)),
        }
    }

    /// What the tree should hold afterwards; a page is not known of a new block.
    fn wanted(self, before: &State) -> Result<KVec<(u64, Option<Page>)>> {
        let (start, end) = match self {
            Self::Insert(index) | Self::InsertOnDemand(index) => (index, index + 1),
            Self::Share { to, len, .. } => (to, to + len),
            Self::Remove(from, to) => (from, to),
        };
        let kept = |(index, page): &(u64, Page)| (*index, Some(*page));
        let mut wanted = KVec::new();
        for block in before.tree.iter().filter(|block| block.0 < start) {
            wanted.push(kept(block), GFP_KERNEL)?;
        }
        match self {
            Self::Insert(index) | Self::InsertOnDemand(index) => {
                wanted.push((index, None), GFP_KERNEL)?;
            }
            Self::Share { from, to, len } => {
                for (index, page) in before.source.iter() {
                    if (from..from + len).contains(index) {
                        wanted.push((index - from + to, Some(*page)), GFP_KERNEL)?;
                    }
                }
            }
            Self::Remove(..) => (),
        }
        for block in before.tree.iter().filter(|block| block.0 >= end) {
            wanted.push(kept(block), GFP_KERNEL)?;
        }
        Ok(wanted)
    }
}

/// Makes a change with its `n`th allocation failing: it succeeds, or fails without harm and
/// succeeds when repeated. Returns whether it failed, and whether there was an `n`th allocation.
fn change_with_failure(scene: &mut Scene, change: Change, n: u32) -> Result<(bool, bool)> {
    let before = scene.state()?;
    let (result, failed) = nth(n, || change.apply(scene));
    if let Err(err) = result {
        check_eq!(err, ENOMEM);
        check!(failed, "refused, although all allocations succeeded");
        scene.check_unchanged(&before, change)?;
        change.apply(scene)?;
    }
    scene.check_changed(&before, change)?;
    Ok((result.is_err(), failed))
}

/// Returns how far apart the allocations are that fail in turn. On a slow kernel they are not all
/// tried, and other ones for each shape.
fn step() -> u32 {
    4 / rounds(4) as u32
}

/// Makes a change to trees of each shape, with its allocations failing in turn. Returns how often it
/// failed.
fn fail_everywhere(change: Change) -> Result<u32> {
    let mut refused = 0;
    for (i, shape) in (0..).zip(SHAPES) {
        refused += fail_everywhere_in(shape, change, 1 + i % step())
            .inspect_err(|_| pr_err!("{change:?} of a tree with blocks {shape:?}\n"))?;
    }
    Ok(refused)
}

fn fail_everywhere_in(shape: &[u64], change: Change, first: u32) -> Result<u32> {
    let mut scene = Scene::new(shape)?;
    change.apply(&mut scene)?;
    let (used, nodes) = (scene.pool.used(), scene.pool.nodes());
    let mut refused = 0;
    for n in (first..MANY).step_by(step() as usize) {
        let mut scene = Scene::new(shape)?;
        let (was_refused, failed) = change_with_failure(&mut scene, change, n)
            .inspect_err(|_| pr_err!("with failure {n}\n"))?;
        // As if nothing had failed.
        check_eq!(
            (scene.pool.used(), scene.pool.nodes()),
            (used, nodes),
            "failure {n}"
        );
        let pool = scene.pool.clone();
        drop(scene);
        check_eq!((pool.used(), pool.nodes()), (0, 0), "failure {n}");
        refused += u32::from(was_refused);
        if !failed {
            return Ok(refused);
        }
    }
    pr_err!("still failing after {MANY} failures\n");
    Err(EINVAL)
}

/// Checks that allocations did fail: a test in which none does shows nothing.
fn check_refused(refused: u32, at_least: u32) -> Result {
    check!(
        refused >= at_least,
        "{refused} refusals of at least {at_least}: what does debugfs say (qemu/lib/kunit.sh)?"
    );
    Ok(())
}

/// Makes each of these changes. Each must fail in some tree.
fn fail_all(changes: impl IntoIterator<Item = Change>) -> Result {
    for change in changes {
        check_refused(fail_everywhere(change)?, 1).inspect_err(|_| pr_err!("{change:?}\n"))?;
    }
    Ok(())
}

/// Does everything that must not allocate. Returns whether nothing was allocated.
fn allocates_nothing() -> Result<bool> {
    let mut scene = Scene::new(SHAPES[4])?;
    let ((), looking) = nth(1, || {
        let tree = &mut scene.tree;
        let whole = tree.snapshot();
        let edit = tree.edit();
        tree.restore_owned(0);
        let mut read = [const { None }; 8];
        tree.get_blocks(0, &mut read);
        found(tree, LAST);
        tree.next_block(1);
        tree.next_hole(0);
        tree.extent(0, u64::MAX);
        tree.same_len(0, &whole, 0, LAST, &mut { u64::MAX });
        tree.can_insert(LAST, &mut Prealloc::new());
        drop((whole, edit));
    });
    check!(nth(1, || scene.pool.alloc().is_err()).0, "failures are off");
    // With the last tree everything is freed.
    let Scene {
        pool,
        mut tree,
        clone,
        source,
    } = scene;
    drop(clone);
    let (result, removing) = nth(1, || {
        remove(&mut tree, 5, LAST)?;
        remove(&mut tree, 0, u64::MAX)
    });
    check!(removing || result.is_ok());
    let ((), dropping) = nth(1, || drop((tree, source)));
    check_eq!((pool.used(), pool.nodes()), (0, 0));
    Ok(!(looking || removing || dropping))
}

#[kunit_tests(reflinkfs_failing)]
mod tests {
    use super::*;

    #[test]
    fn an_insertion_with_a_reserve() -> Result {
        fail_all(PLACES.map(Change::Insert))
    }

    #[test]
    fn an_insertion_that_allocates_on_the_way() -> Result {
        fail_all(PLACES.map(Change::InsertOnDemand))
    }

    #[test]
    fn sharing_whole_subtrees() -> Result {
        fail_all(
            [(0, 0), (0, FANOUT), (0, span(3)), (span(2), span(2))].map(|(from, to)| {
                Change::Share {
                    from,
                    to,
                    len: FANOUT,
                }
            }),
        )
    }

    #[test]
    fn sharing_single_blocks() -> Result {
        fail_all(
            [
                (0, 1, 1),
                (1, 0, 1),
                (3, FANOUT - 1, 2),
                (60, 3, 6),
                (LAST, LAST, 1),
            ]
            .map(|(from, to, len)| Change::Share { from, to, len }),
        )
    }

    #[test]
    fn sharing_everything_there_is() -> Result {
        // Blocks, subtrees and holes, to where they were and elsewhere.
        fail_all([
            Change::Share {
                from: 1,
                to: 1,
                len: LAST,
            },
            Change::Share {
                from: 0,
                to: 5,
                len: span(2) + 2,
            },
        ])
    }

    #[test]
    fn punching_a_hole() -> Result {
        fail_all([
            Change::Remove(1, 2),
            Change::Remove(0, 1),
            Change::Remove(FANOUT, LAST),
            Change::Remove(5, span(3) + 1),
        ])
    }

    #[test]
    fn truncation() -> Result {
        fail_all([1, FANOUT, span(3), LAST].map(|end| Change::Remove(end, u64::MAX)))
    }

    /// kmemleak, KASAN and the slab cache allocate, too, at different moments each time, and can do
    /// without: so it may take several rounds until each node's allocation has failed. In each, other
    /// nodes move the ends of slabs.
    #[test]
    fn filling_a_reserve() -> Result {
        let (pool, other) = (pool()?, pool()?);
        let tree = tree_of(&pool, [1])?;
        let (used, nodes) = (pool.used(), pool.nodes());
        let all = 2 * MAX_HEIGHT as usize - 2;
        // Whether the allocation of the next node, or of the vector for them, failed at this number
        // of nodes.
        let mut refused = KVec::from_elem(false, all, GFP_KERNEL)?;
        for round in 0..20 {
            let _other = tree_of(&other, (0..round).map(|i| i * FANOUT))?;
            for n in 1..MANY {
                let mut prealloc = Prealloc::new();
                check!(!tree.can_insert(LAST, &mut prealloc));
                let (result, failed) = nth(n, || prealloc.fill(&pool));
                if let Err(err) = result {
                    check_eq!(err, ENOMEM);
                    check!(failed);
                    check!(!tree.can_insert(LAST, &mut prealloc), "failure {n}");
                    refused[(pool.nodes() - nodes) as usize] = true;
                    // What there was is kept, and added to.
                    prealloc.fill(&pool)?;
                }
                check!(tree.can_insert(LAST, &mut prealloc), "failure {n}");
                check_eq!(count(&pool, prealloc), all);
                check_eq!((pool.used(), pool.nodes()), (used, nodes), "failure {n}");
                if !failed {
                    break;
                }
            }
            if refused.iter().all(|refused| *refused) {
                return Ok(());
            }
        }
        pr_err!("refused after so many nodes: {refused:?}\n");
        Err(EINVAL)
    }

    #[test]
    fn a_reserve_that_could_not_be_filled_is_given_back() -> Result {
        let pool = pool()?;
        let tree = Tree::new(pool.clone());
        let mut refused = 0;
        for n in 1..=MAX_HEIGHT {
            let mut prealloc = Prealloc::new();
            check!(!tree.can_insert(first_of(MAX_HEIGHT), &mut prealloc));
            let (result, _) = nth(n, || prealloc.fill(&pool));
            if result.is_err() {
                check_eq!(result, Err(ENOMEM));
                check!(pool.nodes() < u64::from(MAX_HEIGHT));
                refused += 1;
            }
            drop(prealloc);
            check_eq!(pool.nodes(), 0);
        }
        check_refused(refused, MAX_HEIGHT / 2)
    }

    #[test]
    fn a_change_that_may_not_wait_is_done_again() -> Result {
        let pool = pool()?;
        let mut refused = 0;
        for n in 1..MANY {
            let mut prealloc = Prealloc::no_reclaim();
            let edit = |prealloc: &mut Prealloc, n| -> Result<(Result<Tree>, bool)> {
                let (mut tree, block) = (Tree::new(pool.clone()), pool.alloc()?);
                let (result, failed) = nth(n, || tree.insert(LAST, block, prealloc));
                Ok((result.map(|()| tree), failed))
            };
            let (mut result, failed) = edit(&mut prealloc, n)?;
            let mut times = 0;
            while result.is_err() {
                check_eq!(result.as_ref().err(), Some(&ENOMEM));
                check!(prealloc.is_short(), "failure {n}");
                prealloc.refill(&pool)?;
                check!(!prealloc.is_short(), "failure {n}");
                // There is no more than that.
                (result, _) = edit(&mut prealloc, 1)?;
                times += 1;
                check!(times <= 5, "it takes twice as much each time");
            }
            refused += times;
            check_eq!(result?.blocks(), 1);
            drop(prealloc);
            check_eq!((pool.used(), pool.nodes()), (0, 0), "failure {n}");
            if !failed {
                return check_refused(refused, MAX_HEIGHT / 2);
            }
        }
        Err(EINVAL)
    }

    #[test]
    fn allocating_a_block() -> Result {
        let pool = Pool::new(Some(2))?;
        let one = pool.alloc()?;
        for _ in 0..3 {
            let (result, failed) = nth(1, || pool.alloc().map(|_| ()));
            check_eq!((result, failed), (Err(ENOMEM), true));
            let (result, failed) = nth(1, || pool.alloc_overcommit().map(|_| ()));
            check_eq!((result, failed), (Err(ENOMEM), true));
            check_eq!(pool.used(), 1);
        }
        // What failed took nothing of the limit.
        let two = pool.alloc()?;
        // At the limit nothing is asked for.
        let (result, failed) = nth(1, || pool.alloc().map(|_| ()));
        check_eq!((result, failed), (Err(ENOSPC), false));
        drop((one, two));
        check_eq!(pool.used(), 0);
        Ok(())
    }

    /// A leaf with a full block is copied, and that block duplicated, or not at all.
    #[test]
    fn copying_full_blocks() -> Result {
        let pool = pool()?;
        let one = one(&pool)?;
        let mut tree = many(&one, FULL - 1)?;
        let clone = tree.snapshot();
        let before = (pool.used(), pool.nodes());
        let mut refused = 0;
        for n in 1..MANY {
            let (result, failed) = nth(n, || {
                let mut edit = tree.edit();
                remove(&mut edit, 1, 2)?;
                share_range(&mut edit, FULL + 9, &one, 0, 1)?;
                Ok(edit)
            });
            match result {
                Ok(mut edit) => {
                    check_eq!((edit.take_duplicated(), pool.used()), (2, before.0 + 2));
                    check_eq!(edit.blocks(), tree.blocks());
                    if !failed {
                        break;
                    }
                }
                Err(err) => {
                    check_eq!((err, failed), (ENOMEM, true), "failure {n}");
                    refused += 1;
                }
            }
            check_eq!((pool.used(), pool.nodes()), before, "failure {n}");
        }
        for index in 0..FULL - 1 {
            check_eq!(found(&tree, index), found(&clone, index));
        }
        drop((one, tree, clone));
        check_eq!((pool.used(), pool.nodes()), (0, 0));
        check_refused(refused, 6)
    }

    /// The kernel itself allocates memory now and then, for stack traces of allocations
    /// (`lib/stackdepot.c`), but not three times in a row.
    #[test]
    fn what_must_not_fail_allocates_nothing() -> Result {
        for _ in 0..3 {
            if allocates_nothing()? {
                return Ok(());
            }
        }
        pr_err!("something was allocated\n");
        Err(EINVAL)
    }

    #[test]
    fn random_changes_of_which_many_fail() -> Result {
        let mut random = Random::new(0xfa11);
        let mut refused = 0;
        let mut scene = Scene::new(SHAPES[4])?;
        let steps = rounds(300);
        for step in 0..steps {
            let place = |random: &mut Random| {
                let near = PLACES[random.below(PLACES.len())];
                (near + random.below(70) as u64).min(LAST)
            };
            let (a, b) = (place(&mut random), place(&mut random));
            let len = (1 + random.below(200) as u64).min(LAST + 1 - a.max(b));
            let change = match random.below(8) {
                0..=2 => Change::Insert(a),
                3 => Change::InsertOnDemand(a),
                4 | 5 => Change::Share {
                    from: a,
                    to: b,
                    len,
                },
                _ => Change::Remove(a, a + len),
            };
            let n = 1 + random.below(12) as u32;
            let (was_refused, _) = change_with_failure(&mut scene, change, n)
                .inspect_err(|_| pr_err!("step {step}: {change:?}, failure {n}\n"))?;
            refused += u32::from(was_refused);
            // From time to time everything is shared again.
            if random.one_in(4) {
                scene.clone = scene.tree.snapshot();
            }
        }
        let pool = scene.pool.clone();
        drop(scene);
        check_eq!((pool.used(), pool.nodes()), (0, 0));
        check_refused(refused, steps as u32 / 10)
    }
}
