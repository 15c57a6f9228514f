// SPDX-License-Identifier: GPL-2.0 OR MIT
//! A real tree: unpacked, cloned and removed by the tools that people use.

use std::fs::remove_dir_all;
use std::path::Path;
use std::process::Command;

use anyhow::{ensure, Context, Result};
use measure::record::Fs;

use super::{row, Phase::Each, Row};
use crate::bench::{time, Bench};

pub const ROW: Row = Row {
    rounds: |_| 1,
    ..row(15, "a real tree", prepare, &[Each(round)])
};

/// fs/ and include/ of the kernel's source.
const ARCHIVE: &str = "/tmp/tree.tar";

/// How often the tree is copied in a round.
fn copies(bench: &Bench) -> u64 {
    match bench.fs {
        // On an emulated processor a hundred take minutes.
        Fs::Reflinkfs => bench.choose(100, 20, 1),
        // There is no room for more.
        Fs::Tmpfs => bench.choose(5, 1, 1),
        _ => bench.choose(100, 1, 1),
    }
}

fn parts(bench: &Bench) -> &'static [&'static str] {
    let all: &[_] = &["fs", "include"];
    bench.choose(all, all, &["fs/xfs", "fs/btrfs"])
}

fn prepare(bench: &Bench) -> Result<()> {
    bench.setting(format!(
        "{}; copied {} times, on others {}, on tmpfs by a plain cp -a",
        parts(bench).join(", "),
        bench.choose(100, 20, 1),
        bench.choose("100, where there is room", "once a round", "once, too"),
    ))?;
    ensure!(Path::new(ARCHIVE).exists(), "no {ARCHIVE}");
    Ok(())
}

fn round(bench: &Bench) -> Result<()> {
    let tree = bench.path("tree");
    std::fs::create_dir(&tree)?;
    let (spent, ()) = time(|| {
        run(Command::new("tar")
            .arg("-xf")
            .arg(ARCHIVE)
            .arg("-C")
            .arg(&tree)
            .args(parts(bench)))
    })?;
    bench.each("tar -x", 1, spent)?;
    bench.settle()?;
    let copies = copies(bench);
    let (spent, ()) = time(|| (0..copies).try_for_each(|copy| copy_tree(bench, &tree, copy)))?;
    bench.each("cp -a", copies, spent)?;
    bench.settle()?;
    let paths = (0..copies).map(|copy| bench.path(&format!("copy{copy}")));
    let (spent, ()) = time(|| run(Command::new("rm").arg("-rf").args(paths)))?;
    bench.each("rm -rf", copies, spent)?;
    bench.settle()?;
    Ok(remove_dir_all(tree)?)
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
