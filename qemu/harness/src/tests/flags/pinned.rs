// SPDX-License-Identifier: GPL-2.0 OR MIT
//! A flagged call that reports blocks as shared has shared them: it ends before a block that cannot
//! be shared, as another process may still write to it.

use std::os::fd::AsRawFd;
use std::path::Path;

use super::{copy, range, DEDUP, PLAIN, REFLINK};
use crate::case::{case, Case, Test};
use crate::extents::{expect_nothing_shared, expect_shared};
use crate::failure::{expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::Feature;
use crate::instance::Instance;
use crate::mapping::Mapping;
use crate::pattern::{blocks, BLOCK};
use crate::sys::{check, clone_file, dedupe, pipe, Deduped, File};

pub const CASES: &[Case] = &[
    case!(a_pinned_block_is_not_said_to_be_shared).needs(&[Feature::Reflinkfs]),
    case!(a_pinned_block_among_many_is_not_said_to_be_shared).needs(&[Feature::Reflinkfs]),
    case!(a_pinned_block_below_overlayfs_is_not_said_to_be_shared)
        .needs(&[Feature::Reflinkfs, Feature::Overlayfs]),
];

/// Checks each call in `dir` while block `pinned` of a file of `n` blocks is pinned, and
/// afterwards.
fn expect_honest(dir: &Path, n: usize, pinned: usize) -> Outcome {
    let create_with = |name: &str, bytes: &[u8]| File::create_with(dir.join(name), bytes);
    let create = |name: &str| File::create(dir.join(name));
    let data = blocks(1, n);
    let len = n * BLOCK;
    let source = create_with("source", &data)?;
    let map = Mapping::shared(&source, len)?;
    let at = pinned * BLOCK;
    map.store(at, &data[at..at + 1]);
    let (output, input) = pipe()?;
    let vector = libc::iovec {
        iov_base: map.at(at).cast(),
        iov_len: BLOCK,
    };
    // SAFETY: the kernel takes a reference to the page of a mapping that is there.
    check(unsafe { libc::vmsplice(input.as_raw_fd(), &vector, 1, 0) } as i64)
        .or_fail("vmsplice")?;

    let fresh = |flags| -> Outcome<File> {
        match flags {
            DEDUP => create_with("to", &data),
            _ => create("to"),
        }
    };
    for flags in [REFLINK, DEDUP] {
        let to = fresh(flags)?;
        let done = copy(&source, &to, range(0, 0, len), flags);
        if pinned == 0 {
            expect_errno(done, libc::EBUSY, "a call whose first block is pinned")?;
            expect_nothing_shared(&source, &to)?;
        } else {
            expect_eq(
                done.or_fail("the call")?,
                at,
                "bytes up to the pinned block",
            )?;
            expect_shared(&source, 0, &to, 0, pinned)?;
            let rest = copy(&source, &to, range(at as u64, at as u64, len - at), flags);
            expect_errno(rest, libc::EBUSY, "the pinned block itself")?;
        }
    }
    // Other calls copy it, or leave it alone.
    let to = fresh(PLAIN)?;
    clone_file(&source, &to).or_fail("FICLONE")?;
    to.expect_contents(&data, "the clone")?;
    let to = fresh(PLAIN)?;
    let done = copy(&source, &to, range(0, 0, len), PLAIN).or_fail("the copy")?;
    expect_eq(done, len, "bytes copied")?;
    to.expect_contents(&data, "the copy")?;
    let to = fresh(DEDUP)?;
    let same = dedupe(&source, 0, len as u64, &to, 0).or_fail("FIDEDUPERANGE")?;
    expect_eq(same, Deduped::Same(len as u64), "FIDEDUPERANGE")?;
    to.expect_contents(&data, "the deduplicated range")?;

    // It is still owned by the source.
    map.store(at, b"later");
    let mut changed = data.clone();
    changed[at..at + 5].copy_from_slice(b"later");
    source.expect_contents(&changed, "the source")?;
    let piped = crate::sys::read_all(&output, BLOCK)?;
    expect_eq(&piped[..5], b"later", "the bytes in the pipe")?;

    drop((output, input, map));
    for flags in [REFLINK, DEDUP] {
        let to = match flags {
            DEDUP => create_with("to", &changed)?,
            _ => create("to")?,
        };
        let done = copy(&source, &to, range(0, 0, len), flags).or_fail("the call")?;
        expect_eq(done, len, "bytes shared after the pin is gone")?;
        expect_shared(&source, 0, &to, 0, n)?;
    }
    Ok(())
}

fn a_pinned_block_is_not_said_to_be_shared(t: &Test) -> Outcome {
    for pinned in [0, 3, 7] {
        expect_honest(&t.dir, 8, pinned)?;
    }
    Ok(())
}

/// Enough blocks to be compared without the locks, and shared as a whole.
fn a_pinned_block_among_many_is_not_said_to_be_shared(t: &Test) -> Outcome {
    for pinned in [0, 700] {
        expect_honest(&t.dir, 1200, pinned)?;
    }
    Ok(())
}

/// The call reaches this filesystem through overlayfs, whose upper layer is on it, as a clone or a
/// deduplication.
fn a_pinned_block_below_overlayfs_is_not_said_to_be_shared(t: &Test) -> Outcome {
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| t.mkdir(name));
    let (lower, upper, work) = (lower?, upper?, work?);
    let merged = t.elsewhere.join("merged");
    let options = [
        ("lowerdir", lower.to_str()),
        ("upperdir", upper.to_str()),
        ("workdir", work.to_str()),
    ];
    let options = options.map(|(key, path)| (key, path.unwrap_or_default()));
    let overlay = Instance::mount("overlay", merged, &options)?;
    for pinned in [0, 3, 7] {
        expect_honest(&overlay.root, 8, pinned)?;
    }
    for pinned in [0, 700] {
        expect_honest(&overlay.root, 1200, pinned)?;
    }
    // Unaligned ranges are refused as without overlayfs, although it may shorten the length.
    let data = blocks(1, 3);
    let source = File::create_with(overlay.path("source"), &data)?;
    for flags in [REFLINK, DEDUP] {
        let to = File::create_with(overlay.path("to"), &data)?;
        let done = copy(&source, &to, range(0, 0, BLOCK + 1), flags);
        expect_errno(done, libc::EINVAL, "a length that is not aligned")?;
        expect_nothing_shared(&source, &to)?;
    }
    Ok(())
}
