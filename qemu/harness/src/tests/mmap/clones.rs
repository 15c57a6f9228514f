// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Mapped files that are cloned, and clones that are mapped.

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_bytes, expect_eq, Context, Outcome};
use crate::filesystem::{CLONES, CLONES_COUNTED};
use crate::mapping::Mapping;
use crate::memory;
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::sys::{clone_file, clone_range, new_clone, unlink};

pub const CASES: &[Case] = &[
    case!(clone_then_store_breaks_sharing).needs(CLONES),
    case!(a_page_mapped_for_writing_before_the_clone_is_protected).needs(CLONES),
    case!(both_sides_mapped_before_and_after_are_right).needs(CLONES),
    case!(a_store_after_a_clone_takes_one_block).needs(CLONES_COUNTED),
    case!(a_clone_of_what_was_stored_to_takes_no_block).needs(CLONES_COUNTED),
    case!(each_store_takes_one_block).needs(CLONES_COUNTED),
    case!(a_store_by_the_last_owner_takes_no_block).needs(CLONES_COUNTED),
    case!(a_mapping_of_the_destination_shows_what_was_cloned_onto_it).needs(CLONES),
    case!(a_mapping_of_the_destination_shows_a_cloned_hole).needs(CLONES),
    case!(a_private_mapping_of_a_clone_is_right).needs(CLONES),
    case!(a_write_to_a_shared_block_shows_in_mappings_of_its_file_only).needs(CLONES),
    case!(a_hundred_mapped_clones_hold_one_set_of_pages).needs(CLONES_COUNTED),
    case!(a_block_that_has_to_be_copied_beside_a_write_shows_stores).needs(CLONES),
];

fn clone_then_store_breaks_sharing(t: &Test) -> Outcome {
    let data = blocks(38, 4);
    let source = t.create_with("source", &data)?;
    let clone = new_clone(&source, t.path("clone"))?;
    let map = Mapping::shared(&source, 4 * BLOCK)?;
    map.store(BLOCK + 5, b"source");
    clone.expect_contents(&data, "the clone after a store to the source")?;
    let clone_map = Mapping::shared(&clone, 4 * BLOCK)?;
    clone_map.store(2 * BLOCK + 5, b"clone");
    let mut model = data.clone();
    model[BLOCK + 5..BLOCK + 11].copy_from_slice(b"source");
    source.expect_contents(&model, "the source")?;
    expect_bytes(&map.load_all(), &model, "the mapping of the source")?;
    let mut model = data;
    model[2 * BLOCK + 5..2 * BLOCK + 10].copy_from_slice(b"clone");
    clone.expect_contents(&model, "the clone")?;
    expect_bytes(&clone_map.load_all(), &model, "the mapping of the clone")
}

fn a_page_mapped_for_writing_before_the_clone_is_protected(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(39, 3))?;
    let map = Mapping::shared(&source, 3 * BLOCK)?;
    for i in 0..t.rounds(50) {
        // At the time of the clone each page can be stored to without a fault.
        for page in 0..3 {
            map.word(page * BLOCK)
                .store(2 * i as u64, std::sync::atomic::Ordering::SeqCst);
        }
        let clone = new_clone(&source, t.path("clone"))?;
        let before = clone.contents()?;
        for page in 0..3 {
            map.word(page * BLOCK)
                .store(2 * i as u64 + 1, std::sync::atomic::Ordering::SeqCst);
        }
        clone.expect_contents(&before, &format!("clone {i} after stores to its source"))?;
        expect_bytes(
            &source.read_at(0, 8)?,
            &(2 * i as u64 + 1).to_le_bytes(),
            "the source after the stores",
        )?;
    }
    Ok(())
}

fn both_sides_mapped_before_and_after_are_right(t: &Test) -> Outcome {
    let data = blocks(40, 4);
    let source = t.create_with("source", &data)?;
    let to = t.create_with("to", &blocks(41, 4))?;
    let before = [
        Mapping::shared(&source, 4 * BLOCK)?,
        Mapping::shared(&to, 4 * BLOCK)?,
    ];
    for map in &before {
        let first = map.load_byte(0);
        map.store(0, &[first]);
        map.load_all();
    }
    clone_file(&source, &to).or_fail("FICLONE")?;
    let after = [
        Mapping::shared(&source, 4 * BLOCK)?,
        Mapping::shared(&to, 4 * BLOCK)?,
    ];
    for map in before.iter().chain(&after) {
        expect_bytes(&map.load_all(), &data, "each mapping after the clone")?;
    }
    let mut models = [data.clone(), data];
    let maps = [
        (0, &before[0]),
        (1, &before[1]),
        (0, &after[0]),
        (1, &after[1]),
    ];
    for (i, (file, map)) in maps.into_iter().enumerate() {
        let at = i * BLOCK + 7;
        map.store(at, b"stored");
        models[file][at..at + 6].copy_from_slice(b"stored");
        for (file, model) in models.iter().enumerate() {
            expect_bytes(
                &before[file].load_all(),
                model,
                format!("old mapping of file {file}"),
            )?;
            expect_bytes(
                &after[file].load_all(),
                model,
                format!("new mapping of file {file}"),
            )?;
        }
    }
    source.expect_contents(&models[0], "the source")?;
    to.expect_contents(&models[1], "the destination")
}

fn a_store_after_a_clone_takes_one_block(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "2M")])?;
    let source = fs.create_with("source", &blocks(42, 100))?;
    let map = Mapping::shared(&source, 100 * BLOCK)?;
    map.load_all();
    let clone = new_clone(&source, fs.path("clone"))?;
    let before = fs.used()?;
    map.load_all();
    expect_eq(fs.used()?, before, "blocks used after loads")?;
    map.store(70 * BLOCK, b"x");
    map.store(70 * BLOCK + 1, b"y");
    expect_eq(
        fs.used()?,
        before + 1,
        "blocks used after two stores to one page",
    )?;
    Mapping::shared(&clone, 100 * BLOCK)?.store(70 * BLOCK, b"z");
    expect_eq(
        fs.used()?,
        before + 1,
        "blocks used after a store to the other owner's block",
    )
}

/// A page that is still mapped counts as unpinned.
fn a_clone_of_what_was_stored_to_takes_no_block(t: &Test) -> Outcome {
    const COUNT: usize = 20;
    let fs = t.mount(&[("size", "2M")])?;
    let source = fs.create_with("source", &blocks(55, COUNT))?;
    let map = Mapping::shared(&source, COUNT * BLOCK)?;
    for page in 0..COUNT {
        map.store(page * BLOCK, b"stored");
    }
    // Other references to a page, for a moment, make the clone copy it.
    let mut taken = u64::MAX;
    for turn in 0..5 {
        let before = fs.used()?;
        new_clone(&source, fs.path(&format!("clone-{turn}")))?;
        taken = taken.min(fs.used()? - before);
    }
    expect_eq(taken, 0, "blocks that a clone takes")
}

fn each_store_takes_one_block(t: &Test) -> Outcome {
    const COUNT: usize = 512;
    let fs = t.mount(&[("size", "64M")])?;
    let data = blocks(53, COUNT);
    let source = fs.create_with("source", &data)?;
    let clone = new_clone(&source, fs.path("clone"))?;
    let map = Mapping::shared(&clone, COUNT * BLOCK)?;
    let (before, mut model) = (fs.used()?, data.clone());
    // In a row, with gaps, backwards.
    let stores = (0..200)
        .chain((200..300).step_by(3))
        .chain((350..500).rev());
    for (n, i) in stores.enumerate() {
        map.store(i * BLOCK + 1, b"stored");
        model[i * BLOCK + 1..][..6].copy_from_slice(b"stored");
        let stores = n as u64 + 1;
        expect_eq(
            fs.used()?,
            before + stores,
            format!("blocks used after {stores} stores"),
        )?;
    }
    clone.expect_contents(&model, "the clone")?;
    source.expect_contents(&data, "the source")
}

fn a_store_by_the_last_owner_takes_no_block(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "256k")])?;
    let source = fs.create_with("source", &blocks(43, 20))?;
    let map = Mapping::shared(&source, 20 * BLOCK)?;
    let clone = new_clone(&source, fs.path("clone"))?;
    map.load_all();
    drop(clone);
    unlink(fs.path("clone")).or_fail("unlink")?;
    let before = fs.used()?;
    for page in 0..20 {
        map.store(page * BLOCK, b"x");
    }
    expect_eq(
        fs.used()?,
        before,
        "blocks used after the only owner stored everywhere",
    )
}

fn a_mapping_of_the_destination_shows_what_was_cloned_onto_it(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(44, 4))?;
    let to = t.create_with("to", &blocks(45, 4))?;
    let maps = [
        Mapping::shared(&to, 4 * BLOCK)?,
        Mapping::shared_read(&to, 4 * BLOCK)?,
        Mapping::private(&to, 4 * BLOCK)?,
    ];
    for map in &maps {
        map.load_all();
    }
    maps[0].store(BLOCK, b"overwritten soon");
    clone_range(&source, 0, 2 * BLOCK64, &to, BLOCK64).or_fail("FICLONERANGE")?;
    let mut model = blocks(45, 4);
    model[BLOCK..3 * BLOCK].copy_from_slice(&blocks(44, 4)[..2 * BLOCK]);
    for map in &maps {
        expect_bytes(&map.load_all(), &model, "a mapping of the destination")?;
    }
    to.expect_contents(&model, "the destination")
}

fn a_mapping_of_the_destination_shows_a_cloned_hole(t: &Test) -> Outcome {
    let hole = t.create("hole")?;
    hole.truncate(4 * BLOCK64)?;
    let to = t.create_with("to", &blocks(46, 4))?;
    let map = Mapping::shared(&to, 4 * BLOCK)?;
    map.store(0, b"x");
    map.load_all();
    clone_file(&hole, &to).or_fail("FICLONE")?;
    expect(
        map.load_all().iter().all(|&b| b == 0),
        "zeros in the mapping",
    )?;
    map.store(BLOCK, b"stored");
    expect_bytes(
        &to.read_at(BLOCK64, 7)?,
        b"stored\0",
        "a store into the cloned hole",
    )?;
    hole.expect_contents(&[0; 4 * BLOCK], "the hole that was cloned")
}

fn a_private_mapping_of_a_clone_is_right(t: &Test) -> Outcome {
    let data = blocks(50, 3);
    let source = t.create_with("source", &data)?;
    let clone = new_clone(&source, t.path("clone"))?;
    let map = Mapping::private(&clone, 3 * BLOCK)?;
    expect_bytes(&map.load_all(), &data, "the mapping")?;
    map.store(0, b"private");
    source.write_at(b"source", BLOCK64)?;
    expect_bytes(
        &map.load(BLOCK, BLOCK),
        &data[BLOCK..2 * BLOCK],
        "after a write to the source",
    )?;
    clone.write_at(b"clone", BLOCK64)?;
    expect_bytes(&map.load(BLOCK, 5), b"clone", "after a write to the clone")?;
    expect_bytes(&map.load(0, 7), b"private", "the private copy")?;
    expect_bytes(
        &clone.read_at(0, BLOCK)?,
        &data[..BLOCK],
        "the clone itself",
    )
}

fn a_write_to_a_shared_block_shows_in_mappings_of_its_file_only(t: &Test) -> Outcome {
    let data = blocks(51, 2);
    let source = t.create_with("source", &data)?;
    let clone = new_clone(&source, t.path("clone"))?;
    let source_map = Mapping::shared_read(&source, 2 * BLOCK)?;
    let clone_map = Mapping::shared_read(&clone, 2 * BLOCK)?;
    expect_bytes(&source_map.load_all(), &data, "the source's mapping")?;
    expect_bytes(&clone_map.load_all(), &data, "the clone's mapping")?;
    source.write_at(b"source", 0)?;
    expect_bytes(
        &source_map.load(0, 6),
        b"source",
        "the source's mapping after a write to it",
    )?;
    expect_bytes(
        &clone_map.load_all(),
        &data,
        "the clone's mapping after that",
    )?;
    clone.write_at(b"clone", BLOCK64)?;
    expect_bytes(
        &clone_map.load(BLOCK, 5),
        b"clone",
        "the clone's mapping after a write to it",
    )?;
    expect_bytes(
        &source_map.load(BLOCK, BLOCK),
        &data[BLOCK..],
        "the source's mapping after that",
    )
}

fn a_hundred_mapped_clones_hold_one_set_of_pages(t: &Test) -> Outcome {
    const PAGES: usize = 256;
    let count = t.rounds(100).max(20);
    let fs = t.mount(&[("size", "64M")])?;
    let data = blocks(52, PAGES);
    let source = fs.create_with("source", &data)?;
    let clones = (0..count)
        .map(|i| new_clone(&source, fs.path(&format!("clone-{i}"))))
        .collect::<Outcome<Vec<_>>>()?;
    let used = fs.used()?;
    let memory = memory::available()?;
    let maps = clones
        .iter()
        .map(|clone| Mapping::shared_read(clone, PAGES * BLOCK))
        .collect::<Outcome<Vec<_>>>()?;
    for (i, map) in maps.iter().enumerate() {
        for page in 0..PAGES {
            expect_eq(
                map.load_byte(page * BLOCK + 1),
                data[page * BLOCK + 1],
                format_args!("page {page} of clone {i}"),
            )?;
        }
    }
    expect_eq(
        fs.used()?,
        used,
        "blocks used after all clones were mapped and read",
    )?;
    let taken = memory.saturating_sub(memory::available()?);
    let all = (count * PAGES * BLOCK) as u64;
    expect(
        taken < all / 2,
        format_args!("{count} clones of 1 MiB mapped: {taken} bytes of memory taken, one copy each would be {all}"),
    )
}

/// A block can be in at most 2^15 places. A full block is copied when neighbouring blocks are
/// written in a clone, and the copy replaces the mapped block.
fn a_block_that_has_to_be_copied_beside_a_write_shows_stores(t: &Test) -> Outcome {
    const FULL: u64 = 1 << 15;
    let data = blocks(54, 3);
    let file = t.create_with("file", &data)?;
    let many = t.create("many")?;
    clone_range(&file, BLOCK64, BLOCK64, &many, 0).or_fail("FICLONERANGE of a block")?;
    let mut len = BLOCK64;
    while len < FULL * BLOCK64 {
        clone_range(&many, 0, len, &many, len).or_fail("FICLONERANGE that doubles a file")?;
        len *= 2;
    }
    // A block later, so that no two leaves are the same.
    let others = t.create("others")?;
    clone_range(&many, 0, len, &others, BLOCK64).or_fail("FICLONERANGE, a block later")?;
    for _ in 0..64 {
        let at = others.stat()?.st_size as u64;
        clone_range(&file, BLOCK64, BLOCK64, &others, at).or_fail("FICLONERANGE at the end")?;
    }

    // The nodes of the first file take the rest.
    let clones = (0..4)
        .map(|i| new_clone(&file, t.path(&format!("clone-{i}"))))
        .collect::<Outcome<Vec<_>>>()?;
    for clone in &clones[1..] {
        clone.write_at(b"written", 2 * BLOCK64)?;
    }
    let maps = [
        Mapping::shared(&clones[0], 3 * BLOCK)?,
        Mapping::shared(&clones[0], 3 * BLOCK)?,
    ];
    expect_bytes(&maps[0].load_all(), &data, "the mapping")?;
    clones[0].write_at(b"written", 2 * BLOCK64)?;
    maps[1].store(BLOCK + 1, b"stored");
    let mut model = data.clone();
    model[2 * BLOCK..][..7].copy_from_slice(b"written");
    model[BLOCK + 1..][..6].copy_from_slice(b"stored");
    for map in &maps {
        expect_bytes(&map.load_all(), &model, "each mapping")?;
    }
    clones[0].expect_contents(&model, "the clone")?;
    file.expect_contents(&data, "the source of the clone")
}
