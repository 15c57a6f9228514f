// SPDX-License-Identifier: GPL-2.0 OR MIT
//! A frozen filesystem: writers wait, readers do not.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_errno, Context, Outcome};
use crate::filesystem::{Tmpfs, INSTANCE};
use crate::frozen::{ioctl, while_frozen, FIFREEZE, FITHAW};
use crate::mapping::Mapping;
use crate::pattern::{blocks, BLOCK};
use crate::process::Child;
use crate::sys::{chmod, clone_file, mkdir, new_clone, pipe, read_all, sleep_ms, write_all, File};

const CANNOT: &str = "cannot be frozen";

pub const CASES: &[Case] = &[
    case!(writers_wait_until_it_is_thawed)
        .needs(INSTANCE)
        .except(Tmpfs, CANNOT),
    case!(stores_through_what_is_mapped_wait_until_it_is_thawed)
        .needs(INSTANCE)
        .except(Tmpfs, CANNOT),
    case!(readers_do_not_wait)
        .needs(INSTANCE)
        .except(Tmpfs, CANNOT),
    case!(freezing_twice_and_thawing_twice_are_refused)
        .needs(INSTANCE)
        .except(Tmpfs, CANNOT),
    case!(the_administrator_of_a_user_namespace_cannot_freeze_its_mount)
        .needs(INSTANCE)
        .except(Tmpfs, CANNOT),
    case!(a_mount_of_a_user_namespace_is_frozen_and_thawed_by_the_first_one)
        .needs(INSTANCE)
        .except(Tmpfs, CANNOT),
];

fn writers_wait_until_it_is_thawed(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "4M")])?;
    let data = blocks(1, 4);
    let file = fs.create_with("file", &data)?;
    let target = fs.create("target")?;
    let mapping = Mapping::shared(&file, BLOCK)?;
    let path = fs.path("new");
    let steps: [(&str, &dyn Fn() -> Outcome); 5] = [
        ("write", &|| file.write_at(b"written", 0)),
        ("truncate", &|| target.truncate(0)),
        ("clone", &|| clone_file(&file, &target).or_fail("FICLONE")),
        ("create", &|| File::create(&path).map(drop)),
        ("store", &|| {
            mapping.store(BLOCK - 5, b"store");
            Ok(())
        }),
    ];
    let waiting = while_frozen(&fs, || {
        let waiting = steps
            .iter()
            .map(|(name, step)| Ok((*name, Child::spawn(step)?)));
        let waiting = waiting.collect::<Outcome<Vec<_>>>()?;
        sleep_ms(300);
        for (name, process) in &waiting {
            expect(!process.is_over(), format_args!("{name} waits"))?;
        }
        Ok(waiting)
    })?;
    for (_, process) in waiting {
        process.join()?;
    }
    expect(mapping.load(BLOCK - 5, 5) == b"store", "the store was done")
}

fn stores_through_what_is_mapped_wait_until_it_is_thawed(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "4M")])?;
    let file = fs.create_with("file", &blocks(1, 4))?;
    let mapping = Mapping::shared(&file, 4 * BLOCK)?;
    let ((ready, tell), (wait, go)) = (pipe()?, pipe()?);
    let stores = |i: usize| {
        let (mapping, tell, wait) = (&mapping, &tell, &wait);
        Child::spawn(move || {
            // From now on it can be stored to without a fault; the child does not have its parent's
            // mapping.
            mapping.store(i * BLOCK, b"before");
            write_all(tell, b"r")?;
            read_all(wait, 1)?;
            mapping.store(i * BLOCK, b"store");
            Ok(())
        })
    };
    let waiting = [1, 2]
        .into_iter()
        .map(stores)
        .collect::<Outcome<Vec<_>>>()?;
    read_all(&ready, waiting.len())?;
    while_frozen(&fs, || {
        write_all(&go, b"gg")?;
        sleep_ms(300);
        let waits = waiting.iter().all(|process| !process.is_over());
        expect(waits, "both stores wait")?;
        expect(
            mapping.load(BLOCK, 6) == b"before",
            "the store has not happened",
        )
    })?;
    waiting.into_iter().try_for_each(Child::join)?;
    for i in [1, 2] {
        expect(mapping.load(i * BLOCK, 5) == b"store", "the store was done")?;
    }
    Ok(())
}

fn readers_do_not_wait(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "4M")])?;
    let data = blocks(1, 4);
    let file = fs.create_with("file", &data)?;
    let clone = new_clone(&file, fs.path("clone"))?;
    while_frozen(&fs, || {
        clone.expect_contents(&data, "the clone")?;
        let mapping = Mapping::shared_read(&file, 4 * BLOCK)?;
        expect(mapping.load_all() == data, "the mapping")?;
        fs.space().map(drop)
    })
}

fn freezing_twice_and_thawing_twice_are_refused(t: &Test) -> Outcome {
    let fs = t.mount(&[("size", "4M")])?;
    ioctl(&fs.root, FIFREEZE).or_fail("FIFREEZE")?;
    let again = ioctl(&fs.root, FIFREEZE);
    ioctl(&fs.root, FITHAW).or_fail("FITHAW")?;
    expect_errno(again, libc::EBUSY, "freezing twice")?;
    expect_errno(ioctl(&fs.root, FITHAW), libc::EINVAL, "thawing twice")?;
    fs.create_with("file", b"works").map(drop)
}

/// Creates a directory where an unprivileged user can mount in a namespace.
fn mount_point(t: &Test) -> Outcome<PathBuf> {
    let dir = t.elsewhere.join("mount-point");
    mkdir(&dir, 0o755).or_fail("mkdir")?;
    chmod(&t.elsewhere, 0o755).or_fail("chmod")?;
    Ok(dir)
}

/// Returns a shell of an unprivileged user, root in its own namespaces, that mounts the filesystem
/// at `dir` ($2) and then runs `script`.
fn unshared(t: &Test, dir: &Path, script: &str) -> Command {
    let mut command = Command::new("unshare");
    let script = format!("mount -t $1 -o size=4M none $2; {script}");
    command
        .args(["-Urm", "sh", "-ec", &script, "sh", t.filesystem.name()])
        .arg(dir)
        .uid(1000)
        .gid(1000);
    command
}

fn the_administrator_of_a_user_namespace_cannot_freeze_its_mount(t: &Test) -> Outcome {
    let dir = mount_point(t)?;
    let script = "! fsfreeze -f $2 || exit 7; ! fsfreeze -u $2 || exit 8
        echo data >$2/file; umount $2; echo done";
    let output = unshared(t, &dir, script).output().or_fail("unshare")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    expect(output.status.success(), format_args!("it failed: {errors}"))?;
    let refusals = errors.matches("Operation not permitted").count();
    expect(refusals == 2, format_args!("two refusals: {errors}"))?;
    expect(output.stdout == b"done\n", "the mount is as it was")
}

fn a_mount_of_a_user_namespace_is_frozen_and_thawed_by_the_first_one(t: &Test) -> Outcome {
    let dir = mount_point(t)?;
    let script = "echo ready; read line; ! fsfreeze -u $2 2>/dev/null || exit 7
        echo refused; echo data >$2/file; echo written; read line; umount $2";
    let mut shell = unshared(t, &dir, script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .or_fail("unshare")?;
    let (mut to, from) = match (shell.stdin.take(), shell.stdout.take()) {
        (Some(to), Some(from)) => (to, BufReader::new(from)),
        _ => return Err("no pipes").or_fail("spawn"),
    };
    let mut said = from.lines();
    let mut expect_said = |word: &str| {
        let line = said.next().transpose().or_fail("read")?.unwrap_or_default();
        expect(line == word, format_args!("it said {line:?}, not {word}"))
    };
    expect_said("ready")?;
    let root = format!("/proc/{}/root{}", shell.id(), dir.display());
    ioctl(root.as_ref(), FIFREEZE).or_fail("FIFREEZE")?;
    let asked = to.write_all(b"go on\n").or_fail("write");
    let refused = asked.and_then(|()| expect_said("refused"));
    ioctl(root.as_ref(), FITHAW).or_fail("FITHAW")?;
    refused?;
    expect_said("written")?;
    to.write_all(b"go on\n").or_fail("write")?;
    let status = shell.wait().or_fail("wait")?;
    expect(status.success(), format_args!("it ended with {status}"))
}
