// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Space: counted and freed to the block, and calls on a full filesystem.

use crate::case::{case, worker, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Errno, Outcome};
use crate::filesystem::{Tmpfs, CLONES_COUNTED, INSTANCE};
use crate::instance::Instance;
use crate::mapping::Mapping;
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};
use crate::sys::{
    clone_file, clone_range, copy_once, dedupe, mkdir, new_clone, rename, symlink, unlink, Deduped,
    File,
};

pub const CASES: &[Case] = &[
    case!(each_written_block_is_counted_once).needs(INSTANCE),
    case!(names_take_no_blocks).needs(INSTANCE),
    case!(truncation_and_removal_give_back_every_block).needs(INSTANCE),
    case!(an_unlinked_open_file_holds_its_space).needs(INSTANCE),
    case!(replacing_a_file_by_rename_gives_its_space_back).needs(INSTANCE),
    case!(overwriting_needs_no_space).needs(INSTANCE),
    case!(a_full_filesystem_writes_what_fits_and_then_refuses).needs(INSTANCE),
    case!(a_refused_write_changes_nothing).needs(INSTANCE),
    case!(a_write_across_old_and_new_blocks_fills_what_it_can).needs(INSTANCE),
    case!(a_full_filesystem_still_reads_truncates_and_removes).needs(INSTANCE),
    case!(a_hole_is_read_through_a_mapping_when_full)
        .needs(INSTANCE)
        .except(Tmpfs, "takes a page for each page of a hole that is read"),
    case!(a_full_filesystem_works_again_once_there_is_room).needs(INSTANCE),
    case!(everything_fails_cleanly_at_every_number_of_free_blocks).needs(CLONES_COUNTED),
    case!(clones_work_on_a_full_filesystem).needs(CLONES_COUNTED),
    case!(deduplication_works_on_a_full_filesystem_and_makes_room).needs(CLONES_COUNTED),
    case!(a_write_to_a_shared_block_needs_space).needs(CLONES_COUNTED),
    case!(a_partly_failed_write_to_shared_blocks_keeps_both_files).needs(CLONES_COUNTED),
    case!(truncating_inside_a_shared_block_keeps_the_other_file).needs(CLONES_COUNTED),
    case!(a_clone_over_data_gives_its_space_back).needs(CLONES_COUNTED),
    case!(cloning_a_hole_over_data_gives_its_space_back).needs(CLONES_COUNTED),
    case!(a_block_shared_many_times_is_counted_once).needs(CLONES_COUNTED),
    case!(space_comes_back_when_many_clones_go_in_any_order).needs(CLONES_COUNTED),
    case!(filling_and_emptying_races_leave_nothing_behind).needs(INSTANCE),
    case!(the_limit_is_never_passed_by_racing_writers).needs(INSTANCE),
    case!(one_block_is_enough_to_be_a_filesystem).needs(INSTANCE),
];

fn each_written_block_is_counted_once(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "4M")])?;
    let file = fs.create("file")?;
    let mut expected = fs.used()?;
    for (offset, len, more) in [
        (0, 1, 1),
        (0, BLOCK, 0),
        (4096, 1, 1),
        (1 << 40, 3 * BLOCK, 3),
        (5, 8192, 1),
    ] {
        file.write_at(&pattern(1, len), offset)?;
        expected += more;
        expect_eq(
            fs.used()?,
            expected,
            format_args!("blocks used after {len} at {offset}"),
        )?;
        expect_eq(
            fs.space()?.available,
            fs.space()?.free,
            "available and free blocks",
        )?;
    }
    file.truncate(1 << 50)?;
    file.read_at(1 << 49, 5 * BLOCK)?;
    expect_eq(
        fs.used()?,
        expected,
        "blocks used after extending and reading a hole",
    )
}

fn names_take_no_blocks(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let before = fs.space()?;
    for i in 0..50 {
        fs.create(&format!("file-{i}"))?;
        mkdir(fs.path(&format!("dir-{i}")), 0o755).or_fail("mkdir")?;
        symlink("short", fs.path(&format!("symlink-{i}"))).or_fail("symlink")?;
    }
    expect_eq(fs.used()?, before.used(), "blocks used after 150 names")?;
    expect_eq(
        fs.space()?.free_inodes,
        before.free_inodes - 150,
        "free inodes",
    )?;
    for i in 0..50 {
        unlink(fs.path(&format!("file-{i}"))).or_fail("unlink")?;
        crate::sys::rmdir(fs.path(&format!("dir-{i}"))).or_fail("rmdir")?;
        unlink(fs.path(&format!("symlink-{i}"))).or_fail("unlink")?;
    }
    expect_eq(fs.space()?, before, "space after they were removed")
}

fn truncation_and_removal_give_back_every_block(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "4M")])?;
    let before = fs.space()?;
    let file = fs.create_with("file", &blocks(2, 500))?;
    for (size, left) in [
        (499 * BLOCK64 + 1, 500),
        (300 * BLOCK64, 300),
        (100, 1),
        (0, 0),
    ] {
        file.truncate(size)?;
        expect_eq(
            fs.used()?,
            before.used() + left,
            format_args!("blocks used at {size}"),
        )?;
    }
    file.write_at(&blocks(3, 500), 77)?;
    drop(file);
    unlink(fs.path("file")).or_fail("unlink")?;
    expect_eq(fs.space()?, before, "space after removal")
}

fn an_unlinked_open_file_holds_its_space(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let before = fs.space()?;
    let file = fs.create_with("file", &blocks(4, 10))?;
    unlink(fs.path("file")).or_fail("unlink")?;
    expect_eq(
        fs.used()?,
        before.used() + 10,
        "blocks used while it is open",
    )?;
    drop(file);
    expect_eq(fs.space()?, before, "space after close")
}

fn replacing_a_file_by_rename_gives_its_space_back(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    fs.create_with("old", &blocks(5, 20))?;
    fs.create_with("new", &blocks(6, 3))?;
    rename(fs.path("new"), fs.path("old")).or_fail("rename")?;
    expect_eq(fs.used()?, 3, "blocks used by the rest")
}

fn overwriting_needs_no_space(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "64k")])?;
    let file = fs.create_with("file", &blocks(7, 10))?;
    fs.fill(0)?;
    file.write_at(&blocks(8, 10), 0)?;
    Mapping::shared(&file, 10 * BLOCK)?.store(0, b"stored");
    file.write_at(b"stored", 0)?;
    expect_eq(fs.space()?.free, 0, "free blocks")
}

fn a_full_filesystem_writes_what_fits_and_then_refuses(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "64k")])?;
    let file = fs.create("file")?;
    let data = blocks(9, 20);
    let n = file
        .try_pwrite(&data, 0)
        .or_fail("a write of 20 blocks into 16")?;
    expect_eq(n, 16 * BLOCK, "bytes written")?;
    expect_errno(
        file.try_pwrite(b"x", 16 * BLOCK64),
        libc::ENOSPC,
        "one more byte",
    )?;
    expect_errno(
        file.try_pwrite(b"x", 1 << 40),
        libc::ENOSPC,
        "a byte far away",
    )?;
    file.expect_contents(&data[..16 * BLOCK], "the file")?;
    // From inside a block: the rest of that block, and no more.
    file.truncate(10 * BLOCK64 + 100)?;
    let n = file
        .try_pwrite(&data, 10 * BLOCK64 + 100)
        .or_fail("a write from inside a block")?;
    expect_eq(n, 6 * BLOCK - 100, "bytes written from inside a block")
}

fn a_refused_write_changes_nothing(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "64k")])?;
    let file = fs.create_with("file", b"start")?;
    fs.fill(0)?;
    let before = file.stat()?;
    for offset in [BLOCK64, 5 * BLOCK64 + 7, 1 << 40] {
        expect_errno(
            file.try_pwrite(b"x", offset),
            libc::ENOSPC,
            format_args!("at {offset}"),
        )?;
        expect_eq(file.size()?, 5, "size")?;
        expect_eq(file.stat()?.st_blocks, before.st_blocks, "blocks")?;
    }
    file.expect_contents(b"start", "the file")
}

fn a_write_across_old_and_new_blocks_fills_what_it_can(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "64k")])?;
    let file = fs.create("file")?;
    file.truncate(6 * BLOCK64)?;
    file.write_at(&blocks(10, 1), 0)?;
    file.write_at(&blocks(10, 1), 2 * BLOCK64)?;
    fs.fill(1)?;
    // Block 0 exists, 1 takes the last free one, 2 exists, 3 fails.
    let data = blocks(11, 6);
    let n = file
        .try_pwrite(&data, 0)
        .or_fail("a write over data and holes")?;
    expect_eq(n, 3 * BLOCK, "bytes written")?;
    let mut model = data[..3 * BLOCK].to_vec();
    model.resize(6 * BLOCK, 0);
    file.expect_contents(&model, "the file")
}

fn a_full_filesystem_still_reads_truncates_and_removes(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "64k")])?;
    let file = fs.create_with("file", &blocks(12, 3))?;
    fs.fill(0)?;
    file.expect_contents(&blocks(12, 3), "read when full")?;
    expect_eq(
        Mapping::shared(&file, BLOCK)?.load_byte(0),
        blocks(12, 1)[0],
        "mapped when full",
    )?;
    file.truncate(BLOCK64 + 50)?;
    rename(fs.path("file"), fs.path("renamed")).or_fail("rename when full")?;
    mkdir(fs.path("dir"), 0o755).or_fail("mkdir when full")?;
    drop(file);
    unlink(fs.path("renamed")).or_fail("unlink when full")
}

fn a_hole_is_read_through_a_mapping_when_full(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "64k")])?;
    let sparse = fs.create("sparse")?;
    sparse.truncate(4 * BLOCK64)?;
    fs.fill(0)?;
    let map = Mapping::shared(&sparse, 4 * BLOCK)?;
    expect(
        map.load_all().iter().all(|&b| b == 0),
        "a hole, mapped when full",
    )?;
    expect_eq(fs.space()?.free, 0, "free blocks")
}

fn a_full_filesystem_works_again_once_there_is_room(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "64k")])?;
    let filler = fs.fill(0)?;
    let file = fs.create("file")?;
    for round in 0..10 {
        expect_errno(
            file.try_pwrite(b"x", 0),
            libc::ENOSPC,
            format_args!("round {round}"),
        )?;
        filler.truncate(15 * BLOCK64)?;
        file.write_at(b"x", 0)?;
        expect_eq(fs.space()?.free, 0, "free blocks")?;
        file.truncate(0)?;
        filler.write_at(&blocks(1, 1), 15 * BLOCK64)?;
    }
    Ok(())
}

fn everything_fails_cleanly_at_every_number_of_free_blocks(t: &Test) -> Outcome {
    type Step = fn(&Instance, &File, &File) -> crate::failure::Sys;
    let steps: [(&str, Step); 8] = [
        ("a write to shared blocks", |_, _, to| {
            to.try_pwrite(&blocks(21, 5), 100).map(|_| ())
        }),
        ("a write to the source", |_, from, _| {
            from.try_pwrite(&blocks(22, 5), 0).map(|_| ())
        }),
        ("a copy that shares", |_, from, to| {
            copy_once(from, 0, to, 8 * BLOCK64, 4 * BLOCK).map(|_| ())
        }),
        ("a copy with ragged ends", |_, from, to| {
            copy_once(from, 50, to, 8 * BLOCK64 + 50, 4 * BLOCK).map(|_| ())
        }),
        ("a copy that cannot share", |_, from, to| {
            copy_once(from, 1, to, 8 * BLOCK64, 4 * BLOCK).map(|_| ())
        }),
        ("a clone of a range", |_, from, to| {
            clone_range(from, 0, 3 * BLOCK64, to, 9 * BLOCK64)
        }),
        ("a truncation inside a shared block", |_, _, to| {
            to.try_truncate(3 * BLOCK64 + 9)
        }),
        ("a new file", |fs, _, _| {
            let flags = libc::O_RDWR | libc::O_CREAT;
            let file = File::open(fs.path("new"), flags)?;
            file.try_pwrite(&blocks(23, 2), 0).map(|_| ())
        }),
    ];
    for (what, step) in steps {
        for free in 0..7 {
            let fs = t.mount_at(
                &format!("{}-{free}", what.replace(' ', "-")),
                &[("size", "128k")],
            )?;
            let from = fs.create_with("from", &blocks(20, 6))?;
            let to = fs.create("to")?;
            clone_file(&from, &to).or_fail("FICLONE")?;
            let filler = fs.fill(free)?;
            let what = format!("{what} with {free} blocks free");
            let (before_from, before_to) = (from.contents()?, to.contents()?);
            let result = step(&fs, &from, &to);
            if let Err(error) = result {
                expect_eq(error, Errno(libc::ENOSPC), &what)?;
            }
            let (after_from, after_to) = (from.contents()?, to.contents()?);
            // The other file is unchanged.
            if what.contains("source") {
                expect(
                    after_to == before_to,
                    format_args!("{what}: the clone is untouched"),
                )?;
            } else {
                expect(
                    after_from == before_from,
                    format_args!("{what}: the source is untouched"),
                )?;
            }
            if result.is_err() && !what.contains("new file") {
                expect(
                    after_to == before_to,
                    format_args!("{what}: a failure changes nothing"),
                )?;
            }
            expect(
                fs.space()?.free <= free + 2,
                format_args!("{what}: no space appears"),
            )?;
            filler.truncate(0)?;
            drop((from, to, filler));
            for name in ["from", "to"] {
                unlink(fs.path(name)).or_fail("unlink")?;
            }
            let _ = unlink(fs.path("new"));
            expect_eq(
                fs.used()?,
                0,
                format_args!("{what}: blocks used at the end"),
            )?;
            fs.unmount()?;
        }
    }
    Ok(())
}

fn clones_work_on_a_full_filesystem(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "64k")])?;
    let source = fs.create_with("source", &pattern(13, 5 * BLOCK + 9))?;
    fs.fill(0)?;
    let clone = new_clone(&source, fs.path("clone"))?;
    clone.expect_contents(&pattern(13, 5 * BLOCK + 9), "a clone made when full")?;
    let copy = fs.create("copy")?;
    let n = copy_once(&source, 0, &copy, 0, 5 * BLOCK).or_fail("copy_file_range when full")?;
    expect_eq(n, 5 * BLOCK, "bytes copied when full")?;
    expect_eq(fs.space()?.free, 0, "free blocks")
}

fn deduplication_works_on_a_full_filesystem_and_makes_room(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "64k")])?;
    let one = fs.create_with("one", &blocks(14, 5))?;
    let other = fs.create_with("other", &blocks(14, 5))?;
    fs.fill(0)?;
    let result = dedupe(&one, 0, 5 * BLOCK64, &other, 0).or_fail("FIDEDUPERANGE")?;
    expect_eq(result, Deduped::Same(5 * BLOCK64), "equal files")?;
    expect_eq(fs.space()?.free, 5, "free blocks")
}

fn a_write_to_a_shared_block_needs_space(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "64k")])?;
    let data = blocks(15, 3);
    let source = fs.create_with("source", &data)?;
    let clone = new_clone(&source, fs.path("clone"))?;
    let filler = fs.fill(0)?;
    for file in [&source, &clone] {
        expect_errno(
            file.try_pwrite(b"x", 5),
            libc::ENOSPC,
            "a write to a shared block",
        )?;
        file.expect_contents(&data, "after the refusal")?;
    }
    drop(clone);
    unlink(fs.path("clone")).or_fail("unlink")?;
    source.write_at(b"x", 5)?;
    expect_eq(
        fs.space()?.free,
        0,
        "free blocks after the only owner wrote",
    )?;
    drop(filler);
    Ok(())
}

fn a_partly_failed_write_to_shared_blocks_keeps_both_files(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "64k")])?;
    let data = blocks(16, 5);
    let source = fs.create_with("source", &data)?;
    let clone = new_clone(&source, fs.path("clone"))?;
    fs.fill(2)?;
    let n = clone
        .try_pwrite(&blocks(17, 5), 0)
        .or_fail("a write of five shared blocks")?;
    expect_eq(n, 2 * BLOCK, "bytes written with two blocks free")?;
    source.expect_contents(&data, "the source")?;
    let mut model = data.clone();
    model[..2 * BLOCK].copy_from_slice(&blocks(17, 5)[..2 * BLOCK]);
    clone.expect_contents(&model, "the clone")
}

fn truncating_inside_a_shared_block_keeps_the_other_file(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "64k")])?;
    let data = blocks(18, 3);
    let source = fs.create_with("source", &data)?;
    let clone = new_clone(&source, fs.path("clone"))?;
    let filler = fs.fill(0)?;
    // The block's end must become zeros in one file only, which may need a block.
    match clone.try_truncate(BLOCK64 + 100) {
        Ok(()) => {
            filler.truncate(0)?;
            clone.truncate(3 * BLOCK64)?;
            let mut model = data.clone();
            model[BLOCK + 100..].fill(0);
            clone.expect_contents(&model, "the clone, extended again")?;
        }
        refused => {
            expect_errno(refused, libc::ENOSPC, "truncation when full")?;
            clone.expect_contents(&data, "the clone after the refusal")?;
        }
    }
    source.expect_contents(&data, "the source")
}

fn a_clone_over_data_gives_its_space_back(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "4M")])?;
    let source = fs.create_with("source", &blocks(19, 100))?;
    let to = fs.create_with("to", &blocks(20, 200))?;
    clone_range(&source, 0, 100 * BLOCK64, &to, 50 * BLOCK64).or_fail("FICLONERANGE")?;
    expect_eq(
        fs.used()?,
        200,
        "blocks used after 100 were replaced by shared ones",
    )?;
    clone_range(&source, 10 * BLOCK64, 50 * BLOCK64, &to, 70 * BLOCK64).or_fail("FICLONERANGE")?;
    expect_eq(
        fs.used()?,
        200,
        "blocks used after shared ones were replaced",
    )
}

fn cloning_a_hole_over_data_gives_its_space_back(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "4M")])?;
    let hole = fs.create("hole")?;
    hole.truncate(200 * BLOCK64)?;
    let to = fs.create_with("to", &blocks(21, 200))?;
    clone_range(&hole, 0, 130 * BLOCK64, &to, 10 * BLOCK64).or_fail("FICLONERANGE")?;
    expect_eq(fs.used()?, 70, "blocks used")?;
    expect_eq(to.data_blocks()?, 70, "st_blocks, in blocks")
}

fn a_block_shared_many_times_is_counted_once(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M")])?;
    let source = fs.create_with("source", &blocks(22, 1))?;
    let to = fs.create("to")?;
    let count = t.rounds(500).max(100) as u64;
    for i in 0..count {
        clone_range(&source, 0, BLOCK64, &to, i * BLOCK64).or_fail("FICLONERANGE")?;
    }
    expect_eq(
        fs.used()?,
        1,
        format_args!("blocks used by one block in {count} places"),
    )?;
    expect_eq(to.data_blocks()?, count, "st_blocks, in blocks")?;
    to.write_at(b"x", 7 * BLOCK64)?;
    expect_eq(fs.used()?, 2, "blocks used after one place was written")?;
    drop((source, to));
    unlink(fs.path("to")).or_fail("unlink")?;
    expect_eq(fs.used()?, 1, "blocks used by the source")
}

fn space_comes_back_when_many_clones_go_in_any_order(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "16M")])?;
    let before = fs.space()?;
    let count = t.rounds(40).max(10);
    for order in 0..3 {
        let mut newest = fs.create_with("clone-0", &blocks(23, 80))?;
        for i in 1..count {
            let clone = new_clone(&newest, fs.path(&format!("clone-{i}")))?;
            clone.write_at(&blocks(i as u8, 2), (i as u64 * 3 % 78) * BLOCK64 + 5)?;
            newest = clone;
        }
        drop(newest);
        let mut names: Vec<_> = (0..count).collect();
        match order {
            0 => {}
            1 => names.reverse(),
            _ => names.sort_by_key(|i| crate::pattern::mix(*i as u64)),
        }
        for i in names {
            unlink(fs.path(&format!("clone-{i}"))).or_fail("unlink")?;
        }
        expect_eq(
            fs.space()?,
            before,
            format_args!("space after order {order}"),
        )?;
    }
    Ok(())
}

fn filling_and_emptying_races_leave_nothing_behind(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "256k")])?;
    let before = fs.space()?;
    let fill_and_empty = |name: &'static str| {
        let path = fs.path(name);
        move || {
            let file = File::create(&path)?;
            let mut offset = 0;
            loop {
                match file.try_pwrite(&[1; 3 * BLOCK], offset) {
                    Ok(n) => offset += n as u64,
                    Err(Errno(libc::ENOSPC)) => break,
                    Err(error) => return Err(error).or_fail("pwrite"),
                }
            }
            drop(file);
            unlink(&path).or_fail("unlink")
        }
    };
    t.race(vec![
        worker("fills", fill_and_empty("a")),
        worker("fills too", fill_and_empty("b")),
        worker("watches", || {
            let space = fs.space()?;
            expect(
                space.free <= space.blocks,
                format_args!("free blocks are possible: {space:?}"),
            )
        }),
    ])?;
    expect_eq(fs.space()?, before, "space afterwards")
}

fn the_limit_is_never_passed_by_racing_writers(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "64k")])?;
    let write = |name: &'static str| {
        let file = fs.create(name);
        move || {
            let file = file
                .as_ref()
                .map_err(|f| crate::failure::Failure(f.0.clone()))?;
            for block in 0..16 {
                match file.try_pwrite(&[1], block * BLOCK64) {
                    Ok(_) | Err(Errno(libc::ENOSPC)) => {}
                    Err(error) => return Err(error).or_fail("pwrite"),
                }
            }
            let own = file.data_blocks()?;
            expect(
                own <= 16,
                format_args!("{own} blocks in one file of a filesystem of 16"),
            )?;
            file.truncate(0)
        }
    };
    t.race(vec![
        worker("writes", write("a")),
        worker("writes too", write("b")),
        worker("writes as well", write("c")),
    ])?;
    expect_eq(fs.used()?, 0, "blocks used afterwards")
}

fn one_block_is_enough_to_be_a_filesystem(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "4k")])?;
    let file = fs.create_with("file", &blocks(24, 1))?;
    expect_errno(
        file.try_pwrite(b"x", BLOCK64),
        libc::ENOSPC,
        "a second block",
    )?;
    file.expect_contents(&blocks(24, 1), "the file")
}
