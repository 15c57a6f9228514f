// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Tracepoints: `events/reflinkfs` of tracefs.

use std::path::PathBuf;

use crate::case::{case, Case, Test};
use crate::failure::{expect, Context, Outcome};
use crate::filesystem::Feature;
use crate::instance::Instance;
use crate::mapping::Mapping;
use crate::pattern::{blocks, BLOCK, BLOCK64};
use crate::sys::{clone_file, copy_file_range, dedupe, mkdir, rmdir, File};

const TRACED: &[Feature] = &[Feature::Reflinkfs, Feature::Tracing];

pub const CASES: &[Case] = &[
    case!(clones_copies_and_deduplications_are_traced).needs(TRACED),
    case!(stores_and_faults_are_traced).needs(TRACED),
    case!(a_lack_of_room_is_traced).needs(TRACED),
];

/// A new trace instance with all events of the filesystem.
struct Trace {
    root: PathBuf,
    // Unmounted after the trace is removed.
    _tracefs: Instance,
}

impl Trace {
    fn start(t: &Test) -> Outcome<Self> {
        let tracefs = Instance::mount("tracefs", t.path("tracefs"), &[])?;
        let root = tracefs.path(&format!(
            "instances/reflinkfs-{}",
            t.path("").to_string_lossy().replace('/', "-")
        ));
        mkdir(&root, 0o700).or_fail("a new trace instance")?;
        let trace = Self {
            root,
            _tracefs: tracefs,
        };
        trace.write("events/reflinkfs/enable", "1")?;
        Ok(trace)
    }

    fn write(&self, name: &str, value: &str) -> Outcome {
        std::fs::write(self.root.join(name), value).or_fail(name)
    }

    /// Expects that an event was traced with these fields.
    fn expect(&self, event: &str, fields: &str) -> Outcome {
        let trace = std::fs::read_to_string(self.root.join("trace")).or_fail("trace")?;
        let traced = trace
            .lines()
            .any(|line| line.contains(&format!(" {event}: ")) && line.contains(fields));
        expect(traced, format_args!("{event} with '{fields}' in:\n{trace}"))
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = self.write("events/reflinkfs/enable", "0");
        let _ = rmdir(&self.root);
    }
}

/// Returns the number of a file in the trace.
fn ino(file: &File) -> Outcome<u64> {
    Ok(file.stat()?.st_ino)
}

/// Returns the device of a file in the trace.
fn dev(file: &File) -> Outcome<String> {
    let dev = file.stat()?.st_dev;
    Ok(format!("dev {}:{}", libc::major(dev), libc::minor(dev)))
}

fn clones_copies_and_deduplications_are_traced(t: &Test) -> Outcome {
    let trace = Trace::start(t)?;
    let from = t.create_with("from", &blocks(1, 2))?;
    let to = t.create("to")?;
    let pair = format!(
        "{} ino {} pos 0 to ino {}",
        dev(&from)?,
        ino(&from)?,
        ino(&to)?
    );
    clone_file(&from, &to).or_fail("clone")?;
    trace.expect("reflinkfs_clone", &format!("{pair} pos 0 len 0 ret 8192"))?;
    let (mut off_in, mut off_out) = (0, BLOCK as i64);
    copy_file_range(&from, Some(&mut off_in), &to, Some(&mut off_out), 100, 0).or_fail("copy")?;
    trace.expect(
        "reflinkfs_copy",
        &format!("{pair} pos 4096 len 100 ret 100"),
    )?;
    let _ = dedupe(&from, 0, BLOCK64, &to, 0).or_fail("dedupe")?;
    trace.expect(
        "reflinkfs_dedupe",
        &format!("{pair} pos 0 len 4096 ret 4096"),
    )
}

fn stores_and_faults_are_traced(t: &Test) -> Outcome {
    let trace = Trace::start(t)?;
    let from = t.create_with("from", &blocks(1, 4))?;
    let to = t.create("to")?;
    clone_file(&from, &to).or_fail("clone")?;
    let file = format!("{} ino {} index", dev(&to)?, ino(&to)?);
    to.write_at(b"x", BLOCK64)?;
    trace.expect("reflinkfs_cow", &format!("{file} 1 blocks 1"))?;
    let map = Mapping::shared(&to, 4 * BLOCK)?;
    map.load_byte(0);
    trace.expect("reflinkfs_fault", &format!("{file} 0 read ret 0"))?;
    map.store(3 * BLOCK, b"y");
    trace.expect("reflinkfs_fault", &format!("{file} 3 write ret 0"))?;
    trace.expect("reflinkfs_cow", &format!("{file} 3 blocks 1"))
}

fn a_lack_of_room_is_traced(t: &Test) -> Outcome {
    let trace = Trace::start(t)?;
    let fs = t.mount(&[("size", "64k")])?;
    let filler = fs.fill(0)?;
    let file = fs.create("file")?;
    expect(
        file.write_at(b"x", 0).is_err(),
        "a write to a full filesystem fails",
    )?;
    let fields = format!("{} ino {} blocks 16 limit 16", dev(&filler)?, ino(&file)?);
    trace.expect("reflinkfs_nospc", &fields)
}
