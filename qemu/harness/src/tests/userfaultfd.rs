// SPDX-License-Identifier: GPL-2.0 OR MIT
//! userfaultfd(2) with asynchronous write protection, which tracks writes to any mapping: page
//! table entries without a page get a marker.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::SeqCst;

use crate::case::{case, worker, Case, Test};
use crate::failure::{expect, expect_eq, Context, Outcome};
use crate::filesystem::CLONES;
use crate::mapping::Mapping;
use crate::pattern::{blocks, BLOCK};
use crate::process::Child;
use crate::sys::{new_clone, File};
use crate::uffd::{self, request, UFFDIO_API, UFFDIO_REGISTER, UFFDIO_WRITEPROTECT, UFFD_API};
use crate::wait::eventually;

pub const CASES: &[Case] = &[
    case!(protected_pages_that_are_not_there_yet_can_be_read_and_written),
    case!(protected_pages_that_are_there_can_be_read_and_written),
    case!(protected_pages_survive_a_clone).needs(CLONES),
    case!(pages_are_protected_beside_stores),
];

const FEATURE_WP_UNPOPULATED: u64 = 1 << 13;
const FEATURE_WP_ASYNC: u64 = 1 << 15;
const REGISTER_MODE_WP: u64 = 2;
const WRITEPROTECT_MODE_WP: u64 = 1;

const PAGES: usize = 200;

/// Tracks writes to a mapping, from now on. `None` if the kernel cannot.
fn track(map: &Mapping) -> Outcome<Option<OwnedFd>> {
    let uffd = uffd::open()?;
    let features = FEATURE_WP_UNPOPULATED | FEATURE_WP_ASYNC;
    if request(&uffd, UFFDIO_API, &mut [UFFD_API, features, 0]).is_err() {
        return Ok(None);
    }
    let (start, len) = (map.at(0) as u64, map.len() as u64);
    request(
        &uffd,
        UFFDIO_REGISTER,
        &mut [start, len, REGISTER_MODE_WP, 0],
    )
    .or_fail("UFFDIO_REGISTER")?;
    protect(&uffd, map)?;
    Ok(Some(uffd))
}

fn protect(uffd: &OwnedFd, map: &Mapping) -> Outcome {
    let (start, len) = (map.at(0) as u64, map.len() as u64);
    request(
        uffd,
        UFFDIO_WRITEPROTECT,
        &mut [start, len, WRITEPROTECT_MODE_WP],
    )
    .or_fail("UFFDIO_WRITEPROTECT")
}

/// Runs a step in a child process, as an endless fault would keep it for ever.
fn soon(step: impl FnOnce() -> Outcome) -> Outcome {
    let child = Child::spawn(step)?;
    eventually("it ends", || Ok(child.is_over()))?;
    child.join()
}

/// Stores to the middle of a file with a hole in every third block, to a page of each kind.
fn load_and_store(file: &File, map: &Mapping, data: &[u8]) -> Outcome {
    expect(map.load_all() == data, "the loaded bytes")?;
    let mut data = data.to_vec();
    for page in (0..PAGES).step_by(7) {
        map.store(page * BLOCK + 9, b"stored");
        data[page * BLOCK + 9..][..6].copy_from_slice(b"stored");
    }
    expect(map.load_all() == data, "the bytes loaded after stores")?;
    file.expect_contents(&data, "the file after stores")
}

fn sparse(t: &Test) -> Outcome<(File, Vec<u8>)> {
    let mut data = blocks(1, PAGES);
    let file = t.create("file")?;
    file.truncate((PAGES * BLOCK) as u64)?;
    for (i, block) in data.chunks_mut(BLOCK).enumerate() {
        if i % 3 == 0 {
            block.fill(0);
        } else {
            file.write_at(block, (i * BLOCK) as u64)?;
        }
    }
    Ok((file, data))
}

fn protected_pages_that_are_not_there_yet_can_be_read_and_written(t: &Test) -> Outcome {
    let (file, data) = sparse(t)?;
    soon(|| {
        let map = Mapping::shared(&file, PAGES * BLOCK)?;
        let Some(_uffd) = track(&map)? else {
            return Ok(());
        };
        // Stores first, to half of them.
        for page in (0..PAGES).step_by(2) {
            let byte = data[page * BLOCK];
            map.store(page * BLOCK, &[byte]);
        }
        load_and_store(&file, &map, &data)
    })
}

fn protected_pages_that_are_there_can_be_read_and_written(t: &Test) -> Outcome {
    let (file, data) = sparse(t)?;
    soon(|| {
        let map = Mapping::shared(&file, PAGES * BLOCK)?;
        expect(map.load_all() == data, "the bytes loaded before")?;
        let Some(uffd) = track(&map)? else {
            return Ok(());
        };
        load_and_store(&file, &map, &data)?;
        protect(&uffd, &map)?;
        map.store(0, b"again");
        expect_eq(file.read_at(0, 5)?, b"again".to_vec(), "the stored bytes")
    })
}

/// A clone removes the pages from the page table, and keeps the markers.
fn protected_pages_survive_a_clone(t: &Test) -> Outcome {
    let (file, data) = sparse(t)?;
    soon(|| {
        let map = Mapping::shared(&file, PAGES * BLOCK)?;
        expect(map.load_all() == data, "the bytes loaded before")?;
        map.store(BLOCK, &data[BLOCK..BLOCK + 1]);
        let Some(_uffd) = track(&map)? else {
            return Ok(());
        };
        let clone = new_clone(&file, t.path("clone"))?;
        load_and_store(&file, &map, &data)?;
        clone.expect_contents(&data, "the clone")
    })
}

fn pages_are_protected_beside_stores(t: &Test) -> Outcome {
    let (file, _) = sparse(t)?;
    soon(|| {
        let map = Mapping::shared(&file, PAGES * BLOCK)?;
        let Some(uffd) = track(&map)? else {
            return Ok(());
        };
        t.race(vec![
            worker("protects, and drops pages", || {
                protect(&uffd, &map)?;
                map.advise(libc::MADV_DONTNEED).or_fail("MADV_DONTNEED")
            }),
            worker("loads and stores", || {
                for page in 0..PAGES {
                    if page % 2 == 0 {
                        map.word(page * BLOCK).load(SeqCst);
                    }
                    map.word(page * BLOCK).store(page as u64, SeqCst);
                }
                Ok(())
            }),
        ])?;
        for page in 0..PAGES {
            let stored = file.read_at((page * BLOCK) as u64, 8)?;
            expect(
                stored == (page as u64).to_le_bytes(),
                format_args!("page {page}"),
            )?;
        }
        Ok(())
    })
}
