// SPDX-License-Identifier: GPL-2.0 OR MIT
//! FS_IOC_FIEMAP: extents, and their flag `shared`.

use std::path::PathBuf;

use crate::case::{case, Case, Test};
use crate::extents::{
    block_map, expect_letters, expect_shared, extents, fiemap, Block, FLAG_CACHE, FLAG_SYNC,
    FLAG_XATTR,
};
use crate::failure::{expect, expect_eq, expect_errno, Context, Errno, Outcome};
use crate::filesystem::{Btrfs, Feature, Xfs, CLONES_SHOWN, WHOLE_EXTENTS};
use crate::instance::Instance;
use crate::mapping::Mapping;
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};
use crate::sys::{clone_range, dedupe, new_clone, unlink, File};

const SHOWN: &[Feature] = &[Feature::Fiemap];
const ALLOCATES_LATER: &str = "allocates when it writes back, and may shape extents otherwise";
const PREALLOCATES: &str = "preallocates behind the written range";

pub const CASES: &[Case] = &[
    case!(an_empty_file_has_no_extents).needs(SHOWN),
    case!(a_file_that_is_all_hole_has_no_extents).needs(SHOWN),
    case!(extents_cover_the_data_and_not_the_holes).needs(SHOWN),
    case!(neighbours_written_in_order_are_one_extent)
        .needs(SHOWN)
        .except(Xfs, ALLOCATES_LATER)
        .except(Btrfs, ALLOCATES_LATER),
    case!(what_comes_in_any_order_is_in_a_few_extents).needs(&[Feature::Reflinkfs]),
    case!(the_last_extent_and_no_other_is_marked_last).needs(SHOWN),
    case!(both_owners_of_a_block_show_the_same_address).needs(CLONES_SHOWN),
    case!(shared_and_private_stretches_are_kept_apart)
        .needs(CLONES_SHOWN)
        .except(Btrfs, WHOLE_EXTENTS),
    case!(equally_shared_neighbours_are_one_extent)
        .needs(CLONES_SHOWN)
        .except(Xfs, ALLOCATES_LATER)
        .except(Btrfs, ALLOCATES_LATER),
    case!(a_block_shared_by_many_is_shared_until_one_owner_is_left)
        .needs(CLONES_SHOWN)
        .except(Xfs, "frees the blocks of an unlinked file later")
        .except(Btrfs, "frees the blocks of an unlinked file later"),
    case!(different_files_never_show_the_same_address).needs(SHOWN),
    case!(an_address_stays_the_same_through_reads_syncs_and_mappings).needs(SHOWN),
    case!(an_address_stays_while_the_last_owner_writes_in_place)
        .needs(SHOWN)
        .except(Btrfs, "writes in another place each time"),
    case!(a_sync_changes_nothing)
        .needs(SHOWN)
        .except(Xfs, ALLOCATES_LATER)
        .except(Btrfs, ALLOCATES_LATER),
    case!(extents_have_no_flags_but_last_and_shared)
        .needs(SHOWN)
        .except(Xfs, ALLOCATES_LATER)
        .except(Btrfs, ALLOCATES_LATER),
    case!(a_count_of_zero_counts_extents)
        .needs(SHOWN)
        .except(Xfs, PREALLOCATES),
    case!(too_little_room_gives_the_first_extents).needs(SHOWN),
    case!(a_listing_in_pieces_gives_the_same_extents)
        .needs(SHOWN)
        .except(Xfs, PREALLOCATES),
    case!(a_range_gives_the_extents_that_touch_it)
        .needs(SHOWN)
        .except(Btrfs, "cuts the first extent to the range"),
    case!(bad_arguments_are_refused).needs(SHOWN),
    case!(unknown_flags_are_ebadr_and_xattr_is_answered).needs(SHOWN),
    case!(a_bad_pointer_is_efault).needs(SHOWN),
    case!(addresses_say_nothing_of_physical_memory).needs(&[Feature::Reflinkfs]),
    case!(a_partial_last_block_is_a_whole_block)
        .needs(SHOWN)
        .except(Btrfs, "keeps small files inline"),
    case!(a_sparse_file_of_terabytes_is_listed_quickly)
        .needs(SHOWN)
        .except(Xfs, PREALLOCATES),
    case!(deduplicated_blocks_are_shared).needs(CLONES_SHOWN),
    case!(a_block_used_twice_in_one_file_is_shared)
        .needs(CLONES_SHOWN)
        .except(Btrfs, WHOLE_EXTENTS),
    case!(filefrag_reads_it).needs(CLONES_SHOWN),
];

fn an_empty_file_has_no_extents(t: &Test) -> Outcome {
    expect_eq(extents(&t.create("file")?)?, [], "extents")
}

fn a_file_that_is_all_hole_has_no_extents(t: &Test) -> Outcome {
    let file = t.create("file")?;
    file.truncate(1 << 40)?;
    expect_eq(extents(&file)?, [], "extents")
}

fn extents_cover_the_data_and_not_the_holes(t: &Test) -> Outcome {
    let file = t.create("file")?;
    file.truncate(40 * BLOCK64)?;
    for (block, count) in [(3, 1), (10, 5), (20, 1), (22, 1)] {
        file.write_at(&blocks(1, count), block * BLOCK64)?;
    }
    expect_letters(
        &file,
        "...p......ppppp.....p.p.................",
        "data in holes",
    )
}

/// Returns a directory where no other test allocates blocks between ours at the same time: on
/// reflinkfs a new mount, elsewhere that of the test.
fn quiet_place(t: &Test) -> Outcome<(Option<Instance>, PathBuf)> {
    if t.is_reflinkfs() {
        let own = t.mount(&[])?;
        let root = own.root.clone();
        Ok((Some(own), root))
    } else {
        Ok((None, t.dir.clone()))
    }
}

fn neighbours_written_in_order_are_one_extent(t: &Test) -> Outcome {
    let (_mount, place) = quiet_place(t)?;
    let file = File::create(place.join("file"))?;
    file.write_at(&blocks(2, 100), 0)?;
    let found = extents(&file)?;
    expect_eq(
        found.len(),
        1,
        format_args!("extents of 100 blocks written at once: {found:x?}"),
    )?;
    expect_eq(
        (found[0].logical, found[0].length),
        (0, 100 * BLOCK64),
        "the extent",
    )
}

/// At most one for each 256 KiB: in a new file, in a clone, and in a clone whose source is gone.
fn what_comes_in_any_order_is_in_a_few_extents(t: &Test) -> Outcome {
    const BLOCKS: u64 = 1024;
    let expect_few = |file: &File, what: &str| -> Outcome {
        let found = extents(file)?.len() as u64;
        expect(
            found <= BLOCKS / 64,
            format_args!("{what}: {found} extents"),
        )
    };
    let rewrite = |file: &File, what: &str| -> Outcome {
        for i in 0..BLOCKS {
            file.write_at(&blocks(3, 1), i * 389 % BLOCKS * BLOCK64)?;
        }
        expect_few(file, what)
    };
    let (_mount, place) = quiet_place(t)?;
    let file = File::create(place.join("file"))?;
    rewrite(&file, "a new file")?;
    let clone = new_clone(&file, place.join("clone"))?;
    rewrite(&clone, "a clone")?;
    expect_few(&file, "its source")?;
    let other = new_clone(&clone, place.join("other"))?;
    drop(clone);
    unlink(place.join("clone")).or_fail("unlink")?;
    rewrite(&other, "a clone whose source is gone")
}

fn the_last_extent_and_no_other_is_marked_last(t: &Test) -> Outcome {
    let file = t.create("file")?;
    for block in [0, 5, 9] {
        file.write_at(&blocks(3, 1), block * BLOCK64)?;
    }
    file.truncate(20 * BLOCK64)?;
    let found = extents(&file)?;
    let last: Vec<_> = found.iter().map(|e| e.last()).collect();
    expect_eq(last, [false, false, true], "the LAST flags")?;
    file.sync()?;
    let (_, first_two) = fiemap(&file, 0, u64::MAX, FLAG_SYNC, 2).or_fail("FIEMAP")?;
    expect(
        first_two.iter().all(|e| !e.last()),
        "the first two alone are not marked last",
    )
}

fn both_owners_of_a_block_show_the_same_address(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(4, 70))?;
    let before = block_map(&source)?;
    let clone = new_clone(&source, t.path("clone"))?;
    expect_shared(&source, 0, &clone, 0, 70)?;
    let after: Vec<_> = block_map(&source)?.iter().map(|b| b.physical()).collect();
    let before: Vec<_> = before.iter().map(|b| b.physical()).collect();
    expect(after == before, "the source's addresses are the same")
}

fn shared_and_private_stretches_are_kept_apart(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(5, 12))?;
    let to = t.create("to")?;
    clone_range(&source, 4 * BLOCK64, 4 * BLOCK64, &to, 0).or_fail("FICLONERANGE")?;
    expect_letters(&source, "ppppsssspppp", "the source")?;
    for extent in extents(&source)? {
        let inside =
            (extent.logical / BLOCK64..extent.end() / BLOCK64).all(|b| (4..8).contains(&b));
        expect_eq(
            extent.shared(),
            inside,
            format_args!("whether {extent:x?} is shared"),
        )?;
    }
    Ok(())
}

fn equally_shared_neighbours_are_one_extent(t: &Test) -> Outcome {
    let (_mount, place) = quiet_place(t)?;
    let source = File::create(place.join("source"))?;
    source.write_at(&blocks(6, 200), 0)?;
    let clone = new_clone(&source, place.join("clone"))?;
    expect_eq(
        extents(&source)?.len(),
        1,
        "extents of a source whose blocks are all shared",
    )?;
    expect_eq(extents(&clone)?.len(), 1, "extents of its clone")?;
    clone.write_at(b"x", 100 * BLOCK64)?;
    let found = extents(&source)?;
    expect_eq(
        found.len(),
        3,
        format_args!("extents after one block was unshared: {found:x?}"),
    )
}

fn a_block_shared_by_many_is_shared_until_one_owner_is_left(t: &Test) -> Outcome {
    let source = t.create_with("source", &blocks(7, 2))?;
    let clones = ["a", "b", "c"].map(|name| new_clone(&source, t.path(name)));
    for (i, clone) in clones.into_iter().enumerate() {
        expect_letters(&source, "ss", &format!("with {} clones left", 3 - i))?;
        let path = clone?.path;
        unlink(path).or_fail("unlink")?;
    }
    expect_letters(&source, "pp", "with no clone left")
}

fn different_files_never_show_the_same_address(t: &Test) -> Outcome {
    let mut seen = std::collections::HashMap::new();
    let files = (0..10)
        .map(|i| t.create_with(&format!("file-{i}"), &blocks(i, 10)))
        .collect::<Outcome<Vec<_>>>()?;
    for file in &files {
        for block in block_map(file)? {
            let physical = block
                .physical()
                .ok_or("a hole")
                .or_fail("a block that was written")?;
            let other = seen.insert(physical, file.path.clone());
            expect(
                other.is_none(),
                format_args!("address {physical:#x} is in two files"),
            )?;
        }
    }
    Ok(())
}

fn an_address_stays_the_same_through_reads_syncs_and_mappings(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(8, 5))?;
    let before = extents(&file)?;
    file.contents()?;
    file.sync()?;
    let map = Mapping::shared(&file, 5 * BLOCK)?;
    map.load_all();
    map.sync(libc::MS_SYNC).or_fail("msync")?;
    expect_eq(
        extents(&file)?,
        before,
        "extents after reading, syncing and mapping",
    )
}

fn an_address_stays_while_the_last_owner_writes_in_place(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(9, 5))?;
    let before = extents(&file)?;
    file.write_at(&blocks(10, 5), 0)?;
    let map = Mapping::shared(&file, 5 * BLOCK)?;
    map.store(2 * BLOCK, b"stored");
    expect_eq(extents(&file)?, before, "extents after overwriting")
}

fn a_sync_changes_nothing(t: &Test) -> Outcome {
    let file = t.create("file")?;
    for block in [7, 3, 5, 4, 0] {
        file.write_at(&blocks(11, 1), block * BLOCK64)?;
    }
    let list = |flags| fiemap(&file, 0, u64::MAX, flags, 100).or_fail("FIEMAP");
    let before = list(0)?;
    file.sync()?;
    expect_eq(&list(0)?, &before, "extents after fsync")?;
    expect_eq(&list(FLAG_SYNC)?, &before, "extents with FIEMAP_FLAG_SYNC")
}

fn extents_have_no_flags_but_last_and_shared(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(12, 2))?;
    new_clone(&file, t.path("clone"))?;
    file.write_at(b"x", 5 * BLOCK64)?;
    for extent in extents(&file)? {
        let expected = u32::from(extent.last()) | if extent.shared() { 0x2000 } else { 0 };
        expect_eq(extent.flags, expected, format_args!("flags of {extent:x?}"))?;
    }
    Ok(())
}

/// Creates a file of ten extents with holes between them.
fn ten_extents(t: &Test) -> Outcome<File> {
    let file = t.create("file")?;
    for i in 0..10 {
        file.write_at(&blocks(13, 1), 2 * i * BLOCK64)?;
    }
    file.sync()?;
    Ok(file)
}

fn a_count_of_zero_counts_extents(t: &Test) -> Outcome {
    let file = ten_extents(t)?;
    let (count, found) = fiemap(&file, 0, u64::MAX, FLAG_SYNC, 0).or_fail("FIEMAP")?;
    expect_eq(
        (count, found.len()),
        (10, 0),
        "fm_mapped_extents and extents given",
    )
}

fn too_little_room_gives_the_first_extents(t: &Test) -> Outcome {
    let file = ten_extents(t)?;
    let whole = extents(&file)?;
    let (count, found) = fiemap(&file, 0, u64::MAX, FLAG_SYNC, 4).or_fail("FIEMAP")?;
    expect_eq(count, 4, "fm_mapped_extents with room for 4")?;
    expect_eq(&found[..], &whole[..4], "the extents given")
}

fn a_listing_in_pieces_gives_the_same_extents(t: &Test) -> Outcome {
    let file = ten_extents(t)?;
    let whole = extents(&file)?;
    for room in [1, 3] {
        let mut pieces = Vec::new();
        let mut start = 0;
        while pieces.len() < 100 {
            let (_, found) = fiemap(&file, start, u64::MAX - start, 0, room).or_fail("FIEMAP")?;
            let Some(last) = found.last().copied() else {
                break;
            };
            pieces.extend(found);
            if last.last() {
                break;
            }
            start = last.end();
        }
        expect_eq(&pieces, &whole, format_args!("listed {room} at a time"))?;
    }
    Ok(())
}

fn a_range_gives_the_extents_that_touch_it(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(14, 10))?;
    file.truncate(30 * BLOCK64)?;
    file.write_at(&blocks(15, 2), 20 * BLOCK64)?;
    file.sync()?;
    let list = |start: u64, length: u64| -> Outcome<Vec<(u64, u64)>> {
        let (_, found) = fiemap(&file, start, length, FLAG_SYNC, 10).or_fail("FIEMAP")?;
        Ok(found.iter().map(|e| (e.logical, e.end())).collect())
    };
    expect_eq(list(12 * BLOCK64, 3 * BLOCK64)?, [], "inside a hole")?;
    let touched = list(5 * BLOCK64, BLOCK64)?;
    expect(
        touched.len() == 1 && touched[0].0 <= 5 * BLOCK64 && touched[0].1 >= 6 * BLOCK64,
        format_args!("one block inside an extent: {touched:?}"),
    )?;
    let touched = list(15 * BLOCK64, u64::MAX - 15 * BLOCK64)?;
    expect_eq(
        touched,
        [(20 * BLOCK64, 22 * BLOCK64)],
        "from a hole to the end",
    )?;
    expect_eq(list(30 * BLOCK64, BLOCK64)?, [], "behind the end")
}

fn bad_arguments_are_refused(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(16, 1))?;
    expect_errno(fiemap(&file, 0, 0, 0, 1), libc::EINVAL, "a length of 0")?;
    expect_errno(
        fiemap(&file, 1 << 63, 1, 0, 1),
        libc::EFBIG,
        "a start of 2^63",
    )?;
    let many = crate::extents::fiemap_claiming(&file, u32::MAX);
    expect_errno(many, libc::EINVAL, "room for 2^32 - 1 extents")
}

fn unknown_flags_are_ebadr_and_xattr_is_answered(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(17, 1))?;
    fiemap(&file, 0, u64::MAX, FLAG_CACHE, 1)
        .map(|_| ())
        .or_else(|error| match error {
            Errno(libc::EBADR) => Ok(()),
            other => Err(other).or_fail("FIEMAP_FLAG_CACHE"),
        })?;
    expect_errno(
        fiemap(&file, 0, u64::MAX, 1 << 20, 1),
        libc::EBADR,
        "an unknown flag",
    )?;
    match fiemap(&file, 0, u64::MAX, FLAG_XATTR, 1) {
        Ok((count, _)) => expect(count <= 1, "extents of attributes"),
        refused => crate::failure::expect_one_of(
            refused,
            &[libc::EBADR, libc::ENOENT],
            "FIEMAP_FLAG_XATTR",
        ),
    }
}

fn a_bad_pointer_is_efault(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(18, 1))?;
    expect_errno(
        crate::extents::fiemap_at(&file, 8 as *mut u8),
        libc::EFAULT,
        "a bad pointer",
    )
}

fn addresses_say_nothing_of_physical_memory(t: &Test) -> Outcome {
    // Blocks of a new instance have numbers from near 0, wherever their pages are.
    let fs = t.mount(&[("size", "4M")])?;
    let file = fs.create_with("file", &blocks(19, 100))?;
    let addresses: Vec<u64> = block_map(&file)?
        .iter()
        .filter_map(|b| b.physical())
        .collect();
    expect_eq(addresses.len(), 100, "blocks")?;
    let highest = addresses.iter().max().copied().unwrap_or(u64::MAX);
    expect(
        highest <= 1000 * BLOCK64,
        format_args!("the highest address of 100 blocks, {highest:#x}, is a small number"),
    )?;
    // The same steps on another instance give the same numbers: they cannot be page frames.
    let other = t.mount_at("other", &[("size", "4M")])?;
    let file = other.create_with("file", &blocks(20, 100))?;
    let again: Vec<u64> = block_map(&file)?
        .iter()
        .filter_map(|b| b.physical())
        .collect();
    expect(
        again == addresses,
        "two instances number their blocks alike",
    )
}

fn a_partial_last_block_is_a_whole_block(t: &Test) -> Outcome {
    let file = t.create_with("file", &pattern(21, BLOCK + 10))?;
    let found = extents(&file)?;
    let end = found.last().map(|e| e.end());
    expect_eq(end, Some(2 * BLOCK64), "end of the last extent")
}

fn a_sparse_file_of_terabytes_is_listed_quickly(t: &Test) -> Outcome {
    let file = t.create("file")?;
    let places = [1u64 << 20, 1 << 30, 1 << 40, 1 << 42];
    for &at in &places {
        file.write_at(&blocks(22, 1), at)?;
    }
    let found: Vec<_> = extents(&file)?.iter().map(|e| e.logical).collect();
    expect_eq(found, places, "where extents start")
}

fn deduplicated_blocks_are_shared(t: &Test) -> Outcome {
    let one = t.create_with("one", &blocks(23, 4))?;
    let other = t.create_with("other", &blocks(23, 4))?;
    expect_letters(&other, "pppp", "before")?;
    dedupe(&one, 0, 4 * BLOCK64, &other, 0).or_fail("FIDEDUPERANGE")?;
    expect_letters(&one, "ssss", "the source")?;
    expect_letters(&other, "ssss", "the destination")
}

fn a_block_used_twice_in_one_file_is_shared(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(24, 2))?;
    clone_range(&file, 0, BLOCK64, &file, 3 * BLOCK64).or_fail("FICLONERANGE within")?;
    expect_letters(&file, "sp.s", "a file that shares with itself")?;
    let map = block_map(&file)?;
    expect(
        matches!((map[0], map[3]), (Block::Shared(a), Block::Shared(b)) if a == b),
        format_args!("both places show the same address: {map:x?}"),
    )
}

fn filefrag_reads_it(t: &Test) -> Outcome {
    use crate::process::{run_program, End};
    let program = ["/usr/sbin/filefrag", "/sbin/filefrag", "/usr/bin/filefrag"]
        .iter()
        .map(std::path::Path::new)
        .find(|path| path.exists())
        .ok_or("not installed (e2fsprogs)")
        .or_fail("filefrag")?;
    let file = t.create_with("file", &blocks(25, 3))?;
    new_clone(&file, t.path("clone"))?;
    let (end, said) = run_program(program, &["-v", &file.path.to_string_lossy()])?;
    expect_eq(end, End::Exited(0), format_args!("filefrag: {said}"))?;
    expect(
        said.contains("shared"),
        format_args!("filefrag -v says shared: {said}"),
    )
}
