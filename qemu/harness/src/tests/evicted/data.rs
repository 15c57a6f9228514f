// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The data of files whose inodes have left the cache.

use std::path::PathBuf;

use crate::case::{case, Case, Test};
use crate::eviction::{drop_caches, evict, statx_fields};
use crate::extents::{block_map, extents};
use crate::failure::{expect, expect_bytes, expect_eq, Context, Outcome};
use crate::filesystem::{Btrfs, Xfs, CLONES, CLONES_SHOWN};
use crate::mapping::Mapping;
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};
use crate::stall::Stall;
use crate::sys::{check, clone_file, new_clone, read_all, unlink, File};
use crate::tests::fallocate::fallocate;
use crate::tests::splice::splice;
use crate::tests::tmpfile::give_name;

pub const CASES: &[Case] = &[
    case!(contents_holes_and_room_are_kept),
    case!(what_is_written_afterwards_is_kept_too),
    case!(blocks_stay_where_they_are).needs(CLONES_SHOWN),
    case!(clones_stay_apart).needs(CLONES),
    case!(what_is_mapped_stays_mapped),
    case!(bytes_stored_behind_the_end_do_not_come_back),
    case!(bytes_stored_behind_the_end_are_in_no_clone).needs(CLONES),
    case!(a_store_under_way_from_a_closed_file_stays_out_of_clones)
        .needs(CLONES)
        .except(
            Btrfs,
            "leaves the stores out of clones that are made afterwards",
        )
        .except(Xfs, "writes the page to the block that it shares by then"),
    case!(a_store_under_way_to_a_removed_file_lands_nowhere),
    case!(an_open_file_without_a_name_stays),
    case!(a_file_gets_its_first_name_when_caches_are_empty),
    case!(a_file_that_got_its_name_late_leaves),
];

fn open(path: &PathBuf, flags: i32) -> Outcome<File> {
    File::open(path, flags).or_fail(format_args!("open {}", path.display()))
}

/// Creates files of each kind of content.
fn one_of_each(t: &Test) -> Outcome<Vec<PathBuf>> {
    const KEEP_SIZE: i32 = libc::FALLOC_FL_KEEP_SIZE;
    let files = [
        t.create("empty")?,
        t.create_with("tiny", b"x")?,
        t.create_with("blocks", &blocks(1, 100))?,
        t.create_with("ragged", &pattern(2, 5 * BLOCK + 123))?,
        t.create("hole")?,
        t.create("sparse")?,
        t.create("room")?,
        t.create("room and data")?,
        t.create("room behind the end")?,
        t.create("far away")?,
    ];
    files[4].truncate(1 << 40)?;
    for block in [3, 4, 70, 5000] {
        files[5].write_at(&blocks(block as u8, 1), block * BLOCK64)?;
    }
    fallocate(&files[6], 0, 0, 20 * BLOCK64).or_fail("fallocate")?;
    fallocate(&files[7], 0, 0, 20 * BLOCK64).or_fail("fallocate")?;
    files[7].write_at(&blocks(7, 3), 5 * BLOCK64)?;
    files[8].write_at(b"short", 0)?;
    fallocate(&files[8], KEEP_SIZE, 0, 20 * BLOCK64).or_fail("fallocate")?;
    files[9].write_at(b"end", (1 << 42) + 5)?;
    Ok(files.into_iter().map(|file| file.path).collect())
}

/// The size, the data as ranges, and their bytes.
type Contents = (u64, Vec<(u64, u64)>, Vec<u8>);

/// Returns what is in a file.
#[track_caller]
fn read(path: &PathBuf) -> Outcome<Contents> {
    let file = open(path, libc::O_RDONLY)?;
    let ranges = file.data_ranges()?;
    let mut bytes = Vec::new();
    for (start, end) in &ranges {
        bytes.extend(file.read_at(*start, (end - start) as usize)?);
    }
    Ok((file.size()?, ranges, bytes))
}

fn contents_holes_and_room_are_kept(t: &Test) -> Outcome {
    let paths = one_of_each(t)?;
    // Disk filesystems allocate by then, and give back what they have in reserve.
    drop_caches(t)?;
    let stat = |path: &PathBuf| -> Outcome<_> {
        let mut fields = statx_fields(path)?;
        fields.retain(|(name, _)| {
            *name != "accessed" && (*name != "blocks" || !matches!(t.filesystem, Xfs | Btrfs))
        });
        Ok(fields)
    };
    let before: Vec<_> = paths
        .iter()
        .map(|path| Ok((stat(path)?, read(path)?)))
        .collect::<Outcome<_>>()?;
    for round in 0..3 {
        evict(t, &paths)?;
        for (path, (fields, contents)) in paths.iter().zip(&before) {
            let what = format!("round {round}, {}", path.display());
            expect_eq(&stat(path)?, fields, &what)?;
            let (size, ranges, bytes) = read(path)?;
            expect_eq(
                (size, &ranges),
                (contents.0, &contents.1),
                format_args!("size and data, {what}"),
            )?;
            expect_bytes(&bytes, &contents.2, what)?;
        }
    }
    Ok(())
}

fn what_is_written_afterwards_is_kept_too(t: &Test) -> Outcome {
    let paths = one_of_each(t)?;
    for round in 0..3u8 {
        for path in &paths {
            evict(t, [path])?;
            let file = open(path, libc::O_RDWR)?;
            file.write_at(&pattern(round, 5000), 2000)?;
            let size = file.size()? + 30 * BLOCK64;
            drop(file);
            evict(t, [path])?;
            open(path, libc::O_RDWR)?.truncate(size)?;
            evict(t, [path])?;
            let seen = open(path, libc::O_RDONLY)?.read_at(2000, 5000)?;
            expect_bytes(&seen, &pattern(round, 5000), path.display())?;
            let file = open(path, libc::O_RDONLY)?;
            expect_eq(file.size()?, size, path.display())?;
            let end = file.read_at(size - 100, 200)?;
            let zeros = [0; 100];
            expect_bytes(&end, &zeros, format_args!("the end of {}", path.display()))?;
        }
    }
    Ok(())
}

fn blocks_stay_where_they_are(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(1, 50))?;
    let clone = new_clone(&file, t.path("clone"))?;
    let part = t.create_with("part", &blocks(2, 20))?;
    crate::sys::clone_range(&file, 10 * BLOCK64, 5 * BLOCK64, &part, 3 * BLOCK64)
        .or_fail("FICLONERANGE")?;
    clone.write_at(&blocks(3, 2), 20 * BLOCK64)?;
    let room = t.create("room")?;
    fallocate(&room, 0, 0, 10 * BLOCK64).or_fail("fallocate")?;
    let files = [file, clone, part, room];
    let before: Vec<_> = files
        .iter()
        .map(|file| Ok((block_map(file)?, extents(file)?.len())))
        .collect::<Outcome<_>>()?;
    let paths = files.map(|file| file.path);
    for _ in 0..2 {
        evict(t, &paths)?;
        for (path, before) in paths.iter().zip(&before) {
            let file = open(path, libc::O_RDONLY)?;
            let now = (block_map(&file)?, extents(&file)?.len());
            expect_eq(&now, before, format_args!("blocks of {}", path.display()))?;
        }
    }
    Ok(())
}

fn clones_stay_apart(t: &Test) -> Outcome {
    let data = blocks(1, 300);
    let file = t.create_with("file", &data)?;
    let paths = [file.path.clone(), t.path("clone"), t.path("later")];
    new_clone(&file, &paths[1])?;
    drop(file);
    evict(t, &paths[..2])?;
    let source = open(&paths[0], libc::O_RDONLY)?;
    new_clone(&source, &paths[2])?;
    drop(source);
    let mut models = [data.clone(), data.clone(), data];
    for round in 0..3 {
        for (i, path) in paths.iter().enumerate() {
            // What was mapped writable may stay.
            drop_caches(t)?;
            let file = open(path, libc::O_RDWR)?;
            let at = (round * 3 + i) * 20 * BLOCK + 7;
            let new = pattern(i as u8, 2 * BLOCK);
            file.write_at(&new, at as u64)?;
            models[i][at..][..new.len()].copy_from_slice(&new);
            Mapping::shared(&file, 300 * BLOCK)?.store(at + 10 * BLOCK, &new);
            models[i][at + 10 * BLOCK..][..new.len()].copy_from_slice(&new);
        }
        drop_caches(t)?;
        for (path, model) in paths.iter().zip(&models) {
            open(path, libc::O_RDONLY)?.expect_contents(model, "a clone")?;
        }
    }
    Ok(())
}

fn what_is_mapped_stays_mapped(t: &Test) -> Outcome {
    let mut model = blocks(1, 8);
    let file = t.create_with("file", &model)?;
    let path = file.path.clone();
    let shared = Mapping::shared(&file, model.len())?;
    let read = Mapping::shared_read(&file, model.len())?;
    let private = Mapping::private(&file, model.len())?;
    private.store(7, b"private");
    shared.store(BLOCK, b"stored");
    model[BLOCK..][..6].copy_from_slice(b"stored");
    drop(file);
    for round in 0..3 {
        drop_caches(t)?;
        expect_bytes(&read.load_all(), &model, "a mapping to read")?;
        let file = open(&path, libc::O_RDWR)?;
        file.expect_contents(&model, "the file")?;
        file.write_at(&[round; 5], 3 * BLOCK64)?;
        model[3 * BLOCK..][..5].fill(round);
        shared.store(5 * BLOCK, &[round; 5]);
        model[5 * BLOCK..][..5].fill(round);
    }
    expect_bytes(&private.load(7, 7), b"private", "a private mapping")?;
    drop((shared, read));
    drop_caches(t)?;
    let mut seen = private.load_all();
    seen[..BLOCK].copy_from_slice(&model[..BLOCK]);
    expect_bytes(&seen, &model, "a private mapping, otherwise")?;
    drop(private);
    drop_caches(t)?;
    open(&path, libc::O_RDONLY)?.expect_contents(&model, "at the end")
}

/// Stores bytes behind the end of files, which are closed then. Returns their paths.
fn with_tails(t: &Test, count: usize) -> Outcome<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for i in 0..count {
        let file = t.create_with(&format!("file-{i}"), &pattern(1, BLOCK + 50))?;
        let map = Mapping::shared(&file, 2 * BLOCK)?;
        map.store(BLOCK + 60, b"behind the end");
        map.store(2 * BLOCK - 5, b"tail!");
        paths.push(file.path.clone());
    }
    Ok(paths)
}

pub type Growing = (&'static str, fn(&File) -> Outcome);

/// Ways to move the end of a file of [`with_tails`] beyond what was stored. None writes a byte to the
/// block with the old end.
pub const GROWING: &[Growing] = &[
    ("truncated", |file| file.truncate(2 * BLOCK64)),
    ("truncated far", |file| file.truncate(500 * BLOCK64)),
    ("written", |file| file.write_at(b"more", 5 * BLOCK64)),
    ("allocated", |file| {
        fallocate(file, 0, 3 * BLOCK64, BLOCK64).or_fail("fallocate")
    }),
    ("stored", |file| {
        file.truncate(3 * BLOCK64)?;
        Mapping::shared(file, 3 * BLOCK)?.store(2 * BLOCK, b"stored");
        Ok(())
    }),
];

#[track_caller]
pub fn expect_wiped(file: &File, what: &str) -> Outcome {
    let mut expected = pattern(1, BLOCK + 50);
    expected.resize(2 * BLOCK, 0);
    expect_bytes(&file.read_at(0, 2 * BLOCK)?, &expected, what)
}

fn bytes_stored_behind_the_end_do_not_come_back(t: &Test) -> Outcome {
    let paths = with_tails(t, GROWING.len())?;
    for _ in 0..3 {
        drop_caches(t)?;
    }
    for (path, (what, grow)) in paths.iter().zip(GROWING) {
        let file = open(path, libc::O_RDWR)?;
        file.expect_contents(&pattern(1, BLOCK + 50), "before")?;
        grow(&file)?;
        expect_wiped(&file, what)?;
        drop(file);
        drop_caches(t)?;
        expect_wiped(&open(path, libc::O_RDONLY)?, what)?;
    }
    Ok(())
}

fn bytes_stored_behind_the_end_are_in_no_clone(t: &Test) -> Outcome {
    let paths = with_tails(t, GROWING.len())?;
    for _ in 0..3 {
        drop_caches(t)?;
    }
    for (path, (what, grow)) in paths.iter().zip(GROWING) {
        let clone = t.path("clone");
        new_clone(&open(path, libc::O_RDONLY)?, &clone)?;
        evict(t, [&clone])?;
        let file = open(&clone, libc::O_RDWR)?;
        grow(&file)?;
        expect_wiped(&file, what)?;
        let file = open(path, libc::O_RDWR)?;
        grow(&file)?;
        expect_wiped(&file, what)?;
        unlink(&clone).or_fail("unlink")?;
    }
    Ok(())
}

/// Lets the kernel store a page of `P` to the second page of a mapping of a file: it holds on to the
/// page while the mapping goes, the file is closed, and a step is made.
fn store_late(file: File, pages: usize, meanwhile: impl FnOnce() -> Outcome) -> Outcome {
    let map = Mapping::shared(&file, pages * BLOCK)?;
    let stall = Stall::new()?;
    let vector = |address: usize| libc::iovec {
        iov_base: address as *mut libc::c_void,
        iov_len: BLOCK,
    };
    let (from, to) = (stall.buffer().at(0) as usize, map.at(BLOCK) as usize);
    let store = move || {
        let (local, remote) = (vector(from), vector(to));
        // SAFETY: the kernel checks both, and has taken hold of the page when the mapping goes.
        check(unsafe { libc::process_vm_writev(libc::getpid(), &local, 1, &remote, 1, 0) } as i64)
    };
    let stored = stall
        .during(store, b'P', || {
            drop((map, file));
            meanwhile()
        })?
        .or_fail("process_vm_writev")?;
    expect_eq(stored, BLOCK, "bytes stored")
}

fn a_store_under_way_from_a_closed_file_stays_out_of_clones(t: &Test) -> Outcome {
    const PAGES: usize = 8;
    let data = blocks(1, PAGES);
    let file = t.create_with("file", &data)?;
    let path = file.path.clone();
    let clone = t.path("clone");
    store_late(file, PAGES, || {
        for _ in 0..3 {
            drop_caches(t)?;
        }
        let file = open(&path, libc::O_RDONLY)?;
        new_clone(&file, &clone)?;
        let again = new_clone(&file, t.path("again"))?;
        drop(file);
        drop_caches(t)?;
        clone_file(&open(&path, libc::O_RDONLY)?, &again).or_fail("FICLONE once more")
    })?;
    for _ in 0..2 {
        for path in [&clone, &t.path("again")] {
            let clone = open(path, libc::O_RDONLY)?;
            clone.expect_contents(&data, "a clone made before the bytes were stored")?;
        }
        let mut model = data.clone();
        model[BLOCK..][..BLOCK].fill(b'P');
        open(&path, libc::O_RDONLY)?.expect_contents(&model, "the file that was stored to")?;
        drop_caches(t)?;
    }
    // From here on it is an ordinary file.
    unlink(&path).or_fail("unlink")?;
    drop_caches(t)?;
    open(&clone, libc::O_RDONLY)?.expect_contents(&data, "the clone, alone")
}

fn a_store_under_way_to_a_removed_file_lands_nowhere(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(1, 8))?;
    let path = file.path.clone();
    let mut others = Vec::new();
    store_late(file, 8, || {
        drop_caches(t)?;
        unlink(&path).or_fail("unlink")?;
        drop_caches(t)?;
        for i in 0..4 {
            others.push(t.create_with(&format!("other-{i}"), &blocks(2, 30))?);
        }
        Ok(())
    })?;
    for other in &others {
        other.expect_contents(&blocks(2, 30), "a file made of new blocks")?;
    }
    Ok(())
}

fn an_open_file_without_a_name_stays(t: &Test) -> Outcome {
    let data = blocks(1, 10);
    let file = t.create_with("file", &data)?;
    t.create_with("other", &data)?;
    let (output, input) = crate::sys::pipe()?;
    unlink(&file.path).or_fail("unlink")?;
    let number = file.stat()?.st_ino;
    for round in 0..3 {
        evict(t, [t.path("other")])?;
        let mut model = data.clone();
        model[..5].fill(round);
        file.write_at(&[round; 5], 0)?;
        file.expect_contents(&model, "a file without a name")?;
        let stat = file.stat()?;
        expect_eq((stat.st_nlink, stat.st_ino), (0, number), "links, number")?;
    }
    let mut at = BLOCK as i64;
    splice(&file, Some(&mut at), &input, None, 9).or_fail("splice")?;
    drop(file);
    drop_caches(t)?;
    expect_bytes(&read_all(&output, 9)?, &data[BLOCK..][..9], "in a pipe")
}

fn a_file_gets_its_first_name_when_caches_are_empty(t: &Test) -> Outcome {
    let data = pattern(1, 3 * BLOCK + 5);
    let open_nameless = || File::open_mode(&t.dir, libc::O_TMPFILE | libc::O_RDWR, 0o640);
    let lost = open_nameless().or_fail("O_TMPFILE")?;
    lost.write_at(&data, 0)?;
    let file = open_nameless().or_fail("O_TMPFILE")?;
    file.write_at(&data, 0)?;
    let map = Mapping::shared(&file, BLOCK)?;
    map.store(0, &data[..9]);
    for _ in 0..3 {
        drop_caches(t)?;
    }
    let number = file.stat()?.st_ino;
    let path = t.path("name");
    give_name(&file, &path).or_fail("linkat")?;
    drop((file, map, lost));
    for _ in 0..2 {
        // What was mapped writable may stay.
        drop_caches(t)?;
        let named = open(&path, libc::O_RDONLY)?;
        named.expect_contents(&data, "by its name")?;
        let stat = named.stat()?;
        expect_eq((stat.st_nlink, stat.st_ino), (1, number), "links, number")?;
    }
    unlink(&path).or_fail("unlink")?;
    drop_caches(t)?;
    expect(!path.exists(), "the name is gone")
}

fn a_file_that_got_its_name_late_leaves(t: &Test) -> Outcome {
    let data = pattern(1, 3 * BLOCK + 5);
    let file = File::open_mode(&t.dir, libc::O_TMPFILE | libc::O_RDWR, 0o640);
    let file = file.or_fail("O_TMPFILE")?;
    file.write_at(&data, 0)?;
    let path = t.path("name");
    give_name(&file, &path).or_fail("linkat")?;
    drop(file);
    for _ in 0..2 {
        evict(t, [&path])?;
        open(&path, libc::O_RDONLY)?.expect_contents(&data, "by its name")?;
    }
    Ok(())
}
