// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Each allocation and each disk access of a flagged call fails in turn, on a kernel with fault
//! injection: each block has the old bytes or the new ones, and nothing leaks.

use std::path::Path;

use super::failures::{expect_no_harm, old_contents, Change, COMMON, OTHER, SOURCE};
use super::flags::{copy, copy_all, range, run, Disk, Range, COPY, DEDUP, REFLINK};
use crate::case::{case, Case, Test};
use crate::failure::{expect_eq, expect_errno, Context, Errno, Outcome, Sys};
use crate::filesystem::{Ext4, Feature, Xfs};
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::process::as_user;
use crate::sys::{chmod, copy_file_range, File};

const NEEDS: &[Feature] = &[
    Feature::Reflink,
    Feature::Instance,
    Feature::Fiemap,
    Feature::FaultInjection,
];

pub const CASES: &[Case] = &[
    case!(a_flagged_copy_of_whole_blocks_fails_without_harm).needs(NEEDS),
    case!(a_flagged_copy_at_any_offset_fails_without_harm).needs(NEEDS),
    case!(a_flagged_reflink_fails_without_harm).needs(NEEDS),
    case!(a_flagged_deduplication_fails_without_harm).needs(NEEDS),
    case!(a_disk_that_fails_gives_eio).needs(&[Feature::FaultInjection]),
    case!(a_quota_gives_a_short_count_then_edquot).needs(&[Feature::XfsQuota]),
];

/// Makes one call with NULL offsets, and checks the positions against its result. Setting and
/// reading positions cannot fail.
fn call(from: &File, to: &File, place: Range, flags: u32) -> Sys<usize> {
    from.seek(place.off_in as i64, libc::SEEK_SET)?;
    to.seek(place.off_out as i64, libc::SEEK_SET)?;
    let result = copy_file_range(from, None, to, None, place.len, flags);
    let moved = result.unwrap_or(0) as u64;
    let positions = (from.seek(0, libc::SEEK_CUR)?, to.seek(0, libc::SEEK_CUR)?);
    if positions != (place.off_in + moved, place.off_out + moved) {
        // An errno that no call returns.
        return Err(Errno(libc::EDOM));
    }
    result
}

fn expect_flagged_harmless(t: &Test, name: &'static str, place: Range, flags: u32) -> Outcome {
    let [source, mut contents, _] = old_contents();
    super::flags::apply(&mut contents, &source, place, place.len);
    let mut change = Change::new(name, OTHER, contents);
    if flags == COPY {
        change = change.counted_from(place.off_out as usize);
    }
    expect_no_harm(t, &change, |scene| {
        call(&scene.files[SOURCE], &scene.files[OTHER], place, flags)
    })
}

fn a_flagged_copy_of_whole_blocks_fails_without_harm(t: &Test) -> Outcome {
    expect_flagged_harmless(
        t,
        "COPY_FR_COPY of blocks",
        range(BLOCK64, 42 * BLOCK64, 20 * BLOCK),
        COPY,
    )
}

fn a_flagged_copy_at_any_offset_fails_without_harm(t: &Test) -> Outcome {
    expect_flagged_harmless(
        t,
        "COPY_FR_COPY",
        range(100, 50 * BLOCK64 + 200, 20 * BLOCK + 50),
        COPY,
    )
}

fn a_flagged_reflink_fails_without_harm(t: &Test) -> Outcome {
    expect_flagged_harmless(
        t,
        "COPY_FR_REFLINK",
        range(BLOCK64, 13 * BLOCK64, 40 * BLOCK),
        REFLINK,
    )
}

fn a_flagged_deduplication_fails_without_harm(t: &Test) -> Outcome {
    expect_flagged_harmless(t, "COPY_FR_DEDUP", range(0, 0, COMMON * BLOCK), DEDUP)
}

const FAIL_REQUESTS: &str = "/sys/kernel/debug/fail_make_request";
const THIS_TASK: &str = "/proc/thread-self/make-it-fail";

fn write_setting(path: impl AsRef<Path>, value: &str) -> Outcome {
    let path = path.as_ref();
    std::fs::write(path, value).or_fail(format_args!("write {value} to {}", path.display()))
}

/// A disk whose reads and writes fail if this task asks for it. Other tasks write the log of XFS;
/// if the log failed, the filesystem would shut down.
struct FailingDisk(std::path::PathBuf);

impl FailingDisk {
    fn new(device: &str) -> Outcome<Self> {
        for (name, value) in [
            ("probability", "100"),
            ("interval", "1"),
            ("times", "-1"),
            ("space", "0"),
            ("verbose", "0"),
            ("task-filter", "Y"),
        ] {
            write_setting(Path::new(FAIL_REQUESTS).join(name), value)?;
        }
        let switch = Path::new("/sys/block").join(device).join("make-it-fail");
        write_setting(&switch, "1")?;
        write_setting(THIS_TASK, "1")?;
        Ok(Self(switch))
    }
}

impl Drop for FailingDisk {
    fn drop(&mut self) {
        let _ = std::fs::write(THIS_TASK, "0");
        let _ = std::fs::write(&self.0, "0");
    }
}

fn drop_caches() -> Outcome {
    // SAFETY: plain call.
    unsafe { libc::sync() };
    write_setting("/proc/sys/vm/drop_caches", "3")
}

/// On ext4, which the kernel with fault injection has; it has no disk filesystem that can share.
fn a_disk_that_fails_gives_eio(t: &Test) -> Outcome {
    let disk = Disk::of(t, Ext4, "failing", "loop")?;
    let root = disk.root.to_string_lossy();
    let device = run(&["/bin/findmnt", "-n", "-o", "SOURCE", &root])?;
    let device = device.trim().trim_start_matches("/dev/");
    let data = blocks(1, 64);
    let source = disk.create_with("source", &data)?;
    let to = disk.create_with("to", &data)?;
    let result = call_failing(device, || copy(&source, &to, range(0, 0, data.len()), COPY))?;
    expect_errno(result, libc::EIO, "a copy from a failing disk")?;
    source.expect_contents(&data, "the source once the disk works")?;
    to.expect_contents(&data, "the destination once the disk works")?;
    copy_all(&source, &to, range(0, 0, data.len()), COPY)?;
    drop((source, to));
    disk.unmount()
}

/// Makes a call with an empty cache and a failing disk.
fn call_failing<T>(device: &str, call: impl FnOnce() -> T) -> Outcome<T> {
    drop_caches()?;
    let failing = FailingDisk::new(device)?;
    let result = call();
    drop(failing);
    Ok(result)
}

fn a_quota_gives_a_short_count_then_edquot(t: &Test) -> Outcome {
    let disk = Disk::of(t, Xfs, "quota", "loop,uquota")?;
    chmod(&disk.root, 0o777).or_fail("chmod")?;
    let data = blocks(2, 256);
    drop(disk.create_with("source", &data)?);
    let root = disk.root.to_string_lossy();
    run(&[
        "/usr/sbin/xfs_quota",
        "-x",
        "-c",
        "limit bhard=256k 1000",
        &root,
    ])?;
    as_user(1000, 1000, || {
        let source = File::open(disk.path("source"), libc::O_RDONLY).or_fail("open")?;
        let to = disk.create_with("to", b"")?;
        let mut done = 0;
        let last = loop {
            let rest = range(done as u64, done as u64, data.len() - done);
            match copy(&source, &to, rest, COPY) {
                Ok(n) if n > 0 && n < rest.len => done += n,
                other => break other,
            }
        };
        let what = format!("a copy beyond the quota, after {done} bytes");
        expect_errno(last, libc::EDQUOT, what)?;
        expect_eq(done, 256 << 10, "bytes copied up to the quota")?;
        to.expect_contents(&data[..done], "the copied range")?;
        to.truncate(0)?;
        // A shared block counts for each owner.
        let result = copy(&source, &to, range(0, 0, data.len()), REFLINK);
        expect_errno(result, libc::EDQUOT, "sharing beyond the quota")
    })?;
    disk.unmount()
}
