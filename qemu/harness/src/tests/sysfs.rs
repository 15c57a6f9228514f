// SPDX-License-Identifier: GPL-2.0 OR MIT
//! /sys/fs/reflinkfs: what each mount holds, and the sums of all.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::bounds::leave_in_pipe;
use super::xattr;
use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, Context, Outcome};
use crate::filesystem::Feature;
use crate::pattern::blocks;
use crate::process::as_user;
use crate::sys::{check, link, mkdir, new_clone};
use crate::wait::eventually;

pub const CASES: &[Case] = &[
    case!(sums_of_all_mounts_are_shown).needs(&[Feature::Reflinkfs]),
    case!(the_summary_of_a_mount_says_what_it_holds).needs(&[Feature::Reflinkfs]),
    case!(a_mount_of_a_user_namespace_has_a_summary_for_root).needs(&[Feature::Reflinkfs]),
];

const SUMMARIES: &str = "/sys/fs/reflinkfs";

/// Returns the directory that shows the memory of the mount at `root`, which the kernel names.
pub(super) fn summary_path(root: &Path) -> Outcome<PathBuf> {
    #[repr(C)]
    struct SysfsPath {
        len: u8,
        name: [u8; 128],
    }
    let mut path = SysfsPath {
        len: 0,
        name: [0; 128],
    };
    let dir = std::fs::File::open(root).or_fail("open")?;
    // FS_IOC_GETFSSYSFSPATH, _IOR(0x15, 1, struct fs_sysfs_path).
    let request = 0x8081_1501;
    // SAFETY: the descriptor is open, and `path` is valid for writes.
    let result = unsafe { libc::ioctl(dir.as_raw_fd(), request, &mut path) };
    check(result).or_fail("FS_IOC_GETFSSYSFSPATH")?;
    let name = String::from_utf8_lossy(&path.name[..path.len as usize]);
    let device = std::fs::metadata(root).or_fail("stat")?.dev();
    let (major, minor) = (libc::major(device), libc::minor(device));
    expect_eq(&*name, &*format!("reflinkfs/{major}:{minor}"), "its name")?;
    Ok(Path::new("/sys/fs").join(&*name))
}

/// Returns the numbers in a directory, by their files' names.
pub(super) fn summary(path: &Path) -> Outcome<BTreeMap<String, u64>> {
    let mut numbers = BTreeMap::new();
    for entry in std::fs::read_dir(path).or_fail(path.display())? {
        let entry = entry.or_fail("readdir")?;
        let text = std::fs::read_to_string(entry.path()).or_fail("read")?;
        let number = text.trim_end().parse().or_fail(&text)?;
        numbers.insert(entry.file_name().to_string_lossy().into_owned(), number);
    }
    Ok(numbers)
}

fn the_summary_of_a_mount_says_what_it_holds(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "1M"), ("nr_inodes", "100")])?;
    let path = summary_path(&fs.root)?;
    let expect_summary = |expected: [u64; 8], what: &str| -> Outcome {
        let names = [
            "blocks",
            "blocks_orphaned",
            "blocks_replaced",
            "blocks_limit",
            "nodes",
            "inodes_and_further_names",
            "attribute_bytes",
            "inodes_limit",
        ];
        let summary = summary(&path)?;
        for (name, expected) in names.into_iter().zip(expected) {
            expect_eq(summary[name], expected, format_args!("{name}: {what}"))?;
        }
        expect(
            (summary["nodes"] * 512..=summary["nodes"] * 1024).contains(&summary["node_bytes"]),
            "bytes of nodes",
        )
    };
    expect_summary([0, 0, 0, 256, 0, 1, 0, 100], "an empty mount")?;
    let file = fs.create_with("file", &blocks(1, 100))?;
    new_clone(&file, fs.path("clone"))?;
    link(fs.path("clone"), fs.path("link")).or_fail("link")?;
    expect_summary(
        [100, 0, 0, 256, 3, 4, 0, 100],
        "a file, a clone with two names",
    )?;
    xattr::set(&file.path, "user.a", &[1; 100], 0).or_fail("set")?;
    let attribute = 72 + 6 + 100;
    expect_summary([100, 0, 0, 256, 3, 4, attribute, 100], "an attribute")?;
    let kept = leave_in_pipe(&fs, "kept", true)?;
    let orphans = "with a block in a pipe";
    expect_summary([116, 16, 0, 256, 3, 5, attribute, 100], orphans)?;
    file.write_at(&[2; 8192], 4096).or_fail("write")?;
    let copied = summary(&path)?;
    let space = fs.space()?;
    let used = space.blocks - space.free;
    expect_eq(copied["blocks_charged"], used, "blocks charged, as in df")?;
    let used = space.inodes - space.free_inodes;
    expect_eq(copied["inodes_charged"], used, "inodes charged, as in df")?;
    expect_eq(
        copied["blocks_replaced"],
        2,
        "two blocks of a clone written",
    )?;
    expect_eq(copied["blocks"], 118, "they exist beside the old ones")?;
    drop(kept);
    let mode =
        |path: PathBuf| std::fs::metadata(path).map(|file| file.permissions().mode() & 0o7777);
    expect_eq(
        mode(path.join("blocks")).or_fail("stat")?,
        0o400,
        "permissions",
    )?;
    as_user(1000, 1000, || {
        let read = std::fs::read(path.join("blocks"));
        expect(read.is_err(), "others cannot read it")
    })?;
    let open = std::fs::File::open(path.join("blocks")).or_fail("open")?;
    drop(file);
    fs.unmount()?;
    expect(!path.exists(), "there is none after the mount")?;
    expect(
        std::io::read_to_string(&open).is_err(),
        "nor can it be read through an open descriptor",
    )
}

fn sums_of_all_mounts_are_shown(t: &Test) -> Outcome {
    // Other tests have mounts, too.
    let all = || summary(&Path::new(SUMMARIES).join("all"));
    let fs = t.mount(&[("size", "64M")])?;
    fs.create_with("file", &blocks(1, 9000))?;
    let (one, all) = (summary(&summary_path(&fs.root)?)?, all()?);
    for (name, value) in &one {
        if !name.ends_with("_limit") {
            expect(all[name] >= *value, format_args!("{name} of all mounts"))?;
        }
    }
    expect(all["mounts"] >= 2, "this mount, and that under test")?;
    expect(all["blocks"] >= 9000, "blocks of this mount")
}

fn a_mount_of_a_user_namespace_has_a_summary_for_root(t: &Test) -> Outcome {
    let dir = t.elsewhere.join("mounted");
    mkdir(&dir, 0o777).or_fail("mkdir")?;
    crate::sys::chmod(&t.elsewhere, 0o755).or_fail("chmod")?;
    let script = format!(
        "mount -t reflinkfs -o size=1M none {dir} && head -c 20000 /dev/zero >{dir}/file && \
         stat -c %Hd:%Ld {dir} && ! cat {SUMMARIES}/*/blocks 2>&1 && echo ready && read wait",
        dir = dir.display()
    );
    let mut child = std::process::Command::new("setpriv")
        .args(["--reuid=1000", "--regid=1000", "--clear-groups"])
        .args(["unshare", "-Urm", "sh", "-c", &script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .or_fail("unshare")?;
    let output = child.stdout.take().ok_or("none").or_fail("stdout")?;
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(output));
    let mut said = Vec::new();
    while said.last().map(String::as_str) != Some("ready") {
        match lines.next() {
            Some(Ok(line)) => said.push(line),
            _ => break,
        }
    }
    expect(
        said.len() >= 2 && said.last().map(String::as_str) == Some("ready"),
        format_args!("its contents: {said:?}"),
    )?;
    let path = Path::new(SUMMARIES).join(&said[0]);
    expect_eq(summary(&path)?["blocks"], 5, "its blocks")?;
    drop(child.stdin.take());
    child.wait().or_fail("wait")?;
    eventually("the summary goes with the mount", || Ok(!path.exists()))
}
