// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Memory of files that is registered with io_uring(7), which may store to it at any time.

use io_uring::opcode;

use super::io_uring::expect_one;
use crate::case::{case, Case, Test};
use crate::failure::{expect_eq, expect_errno, Context, Errno, Outcome};
use crate::filesystem::Tmpfs;
use crate::mapping::Mapping;
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::ring::{fd, Ring};
use crate::sys::{pipe, write_all};

pub const CASES: &[Case] = &[
    case!(a_private_mapping_stays_private),
    case!(a_shared_mapping_is_registered_only_on_tmpfs),
];

/// Registers memory as buffer 0.
fn register(ring: &Ring, map: &Mapping) -> std::io::Result<()> {
    let vector = libc::iovec {
        iov_base: map.at(0).cast(),
        iov_len: map.len(),
    };
    // SAFETY: the mapping outlives its use by the ring, or its pages do.
    unsafe { ring.0.submitter().register_buffers(&[vector]) }
}

/// Lets the kernel store bytes to the registered buffer.
fn store_fixed(ring: &mut Ring, map: &Mapping, offset: usize, data: &[u8]) -> Outcome {
    let (output, input) = pipe()?;
    write_all(&input, data)?;
    let read = opcode::ReadFixed::new(fd(&output), map.at(offset), data.len() as u32, 0).build();
    expect_one(ring, read, data.len(), "READ_FIXED from a pipe")
}

fn a_private_mapping_stays_private(t: &Test) -> Outcome {
    let data = blocks(1, 8);
    let file = t.create_with("file", &data)?;
    let map = Mapping::private(&file, data.len())?;
    let mut ring = Ring::new()?;
    register(&ring, &map).or_fail("registering a private mapping")?;
    store_fixed(&mut ring, &map, 5, b"mine")?;
    expect_eq(map.load(5, 4), b"mine", "the mapping")?;
    file.expect_contents(&data, "the file")?;
    file.write_at(&blocks(2, 8), 0)?;
    expect_eq(
        map.load(5, 4),
        b"mine",
        "the mapping, after the file was written",
    )?;
    file.truncate(0)?;
    store_fixed(&mut ring, &map, BLOCK, b"again")?;
    file.truncate(8 * BLOCK64)?;
    file.expect_contents(&vec![0; 8 * BLOCK], "the file, cut off and grown")
}

/// A registered buffer may be stored to at any later time, without the filesystem's knowledge: the
/// kernel refuses that for files whose filesystem must know of every store, and allows it for tmpfs
/// only. So no such store can reach a clone. (Stores soon after the clone are in
/// `races::lost_updates::direct_reads_into_a_mapping_are_not_lost_and_never_reach_a_clone` and
/// `isolation::a_store_under_way_stays_in_its_file_when_that_is_cloned`.)
fn a_shared_mapping_is_registered_only_on_tmpfs(t: &Test) -> Outcome {
    let mut model = blocks(1, 8);
    let file = t.create_with("file", &model)?;
    let map = Mapping::shared(&file, model.len())?;
    let mut ring = Ring::new()?;
    if t.filesystem != Tmpfs {
        // Pages that are mapped, for reading or writing, and others.
        for page in [None, Some(3), Some(0)] {
            if let Some(page) = page {
                map.load_byte(page * BLOCK);
                map.store(page * BLOCK, &model[page * BLOCK..][..1]);
            }
            let refused = register(&ring, &map).map_err(Errno::from);
            let what = format!("registering a shared mapping, page {page:?} stored to");
            expect_errno(refused, libc::EFAULT, what)?;
        }
        return file.expect_contents(&model, "the file");
    }
    register(&ring, &map).or_fail("registering a shared mapping")?;
    store_fixed(&mut ring, &map, 3 * BLOCK + 5, b"stored")?;
    model[3 * BLOCK + 5..][..6].copy_from_slice(b"stored");
    file.expect_contents(&model, "the file")?;
    // Blocks without a file get no new owner while the ring has them.
    file.truncate(0)?;
    let other = t.create_with("other", &blocks(2, 64))?;
    store_fixed(&mut ring, &map, 0, b"to nobody")?;
    other.expect_contents(&blocks(2, 64), "a file made of new blocks")
}
