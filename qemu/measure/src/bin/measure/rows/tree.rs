// SPDX-License-Identifier: GPL-2.0 OR MIT
//! A real tree: unpacked, cloned and removed by the usual tools.

use std::fs::remove_dir_all;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{ensure, Context, Result};
use measure::record::Fs;

use super::{row, Phase::Each, Row};
use crate::bench::{time, Bench};

pub const ROW: Row = row(
    15,
    "a real tree",
    prepare,
    &[Each(one_copy), Each(many_copies)],
);

/// fs/ and include/ of the kernel's source.
const ARCHIVE: &str = "/tmp/tree.tar";

/// Returns the number of copies at a time; more than one if clones leave room for them.
fn many(bench: &Bench) -> u64 {
    match bench.fs {
        Fs::Tmpfs => 1,
        // On an emulated processor a hundred take minutes.
        Fs::Reflinkfs => bench.choose(100, 10, 1),
        _ => bench.choose(100, 1, 1),
    }
}

fn parts(bench: &Bench) -> &'static [&'static str] {
    let all: &[_] = &["fs", "include"];
    bench.choose(all, all, &["fs/xfs", "fs/btrfs"])
}

fn prepare(bench: &Bench) -> Result<()> {
    bench.setting(format!(
        "{}; copied once, on tmpfs by a plain cp -a; {} copies at a time on reflinkfs",
        parts(bench).join(", "),
        many(bench),
    ))?;
    ensure!(Path::new(ARCHIVE).exists(), "no {ARCHIVE}");
    // Otherwise the first filesystem would find the archive, and tar, uncached.
    run(Command::new("tar")
        .arg("-xOf")
        .arg(ARCHIVE)
        .stdout(Stdio::null()))
}

fn one_copy(bench: &Bench) -> Result<()> {
    let (spent, tree) = time(|| unpack(bench))?;
    bench.each("tar -x", 1, spent)?;
    bench.settle()?;
    copy(bench, &tree, 1, "")?;
    Ok(remove_dir_all(tree)?)
}

/// Once, as it takes as long as many rounds.
fn many_copies(bench: &Bench) -> Result<()> {
    let copies = many(bench);
    if copies == 1 || bench.round > 0 {
        return Ok(());
    }
    let tree = unpack(bench)?;
    bench.settle()?;
    copy(bench, &tree, copies, ", each of many at a time")?;
    Ok(remove_dir_all(tree)?)
}

fn unpack(bench: &Bench) -> Result<PathBuf> {
    let tree = bench.path("tree");
    std::fs::create_dir(&tree)?;
    run(Command::new("tar")
        .arg("-xf")
        .arg(ARCHIVE)
        .arg("-C")
        .arg(&tree)
        .args(parts(bench)))?;
    Ok(tree)
}

/// Makes so many copies, and removes them.
fn copy(bench: &Bench, tree: &Path, copies: u64, suffix: &str) -> Result<()> {
    let (spent, ()) = time(|| (0..copies).try_for_each(|copy| copy_tree(bench, tree, copy)))?;
    bench.each(&format!("cp -a{suffix}"), copies, spent)?;
    bench.settle()?;
    let paths = (0..copies).map(|copy| bench.path(&format!("copy{copy}")));
    let (spent, ()) = time(|| run(Command::new("rm").arg("-rf").args(paths)))?;
    bench.each(&format!("rm -rf{suffix}"), copies, spent)?;
    bench.settle()
}

fn copy_tree(bench: &Bench, tree: &Path, copy: u64) -> Result<()> {
    let reflink = if bench.fs.clones() {
        "--reflink=always"
    } else {
        "--reflink=never"
    };
    run(Command::new("cp")
        .args(["-a", reflink])
        .arg(tree)
        .arg(bench.path(&format!("copy{copy}"))))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
