// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The rights that forking a mount takes, and those that a fork must not give.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::contents::fork;
use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Errno, Outcome, Sys};
use crate::filesystem::FORKS;
use crate::instance::{mount, unmount, Configuration, Instance};
use crate::mapping::{Mapping, READ};
use crate::process::{as_user, become_user, run_program, Child, End};
use crate::sys::{check, chmod, chown, lstat, mkdir, pipe, read_all, write_all, File};
use crate::tests::xattr;

pub const CASES: &[Case] = &[
    case!(an_ordinary_user_may_not).needs(FORKS),
    case!(root_of_a_user_namespace_may_not_fork_the_mount_of_the_first).needs(FORKS),
    case!(a_context_that_was_handed_on_gives_no_rights).needs(FORKS),
    case!(root_of_a_user_namespace_forks_a_mount_of_its_own).needs(FORKS),
    case!(a_fork_belongs_to_the_namespace_of_its_base).needs(FORKS),
    case!(a_mount_that_maps_ids_is_refused).needs(FORKS),
    case!(programs_of_a_noexec_mount_do_not_run_in_its_fork).needs(FORKS),
    case!(devices_of_a_nodev_mount_do_not_open_in_its_fork).needs(FORKS),
];

/// Creates directories that any user may look into.
fn places<const N: usize>(t: &Test, names: [&str; N]) -> Outcome<[PathBuf; N]> {
    chmod(&t.elsewhere, 0o755).or_fail("chmod")?;
    let places = names.map(|name| t.elsewhere.join(name));
    for place in &places {
        mkdir(place, 0o755).or_fail("mkdir")?;
    }
    Ok(places)
}

/// Makes this process user 1000, and root in new namespaces of users and mounts.
fn enter_namespace() -> Outcome {
    become_user(1000, 1000)?;
    // SAFETY: plain calls. Without the first one /proc/self belongs to root.
    unsafe {
        check(libc::prctl(libc::PR_SET_DUMPABLE, 1)).or_fail("PR_SET_DUMPABLE")?;
        check(libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS)).or_fail("unshare")?;
    }
    for (file, text) in [
        ("setgroups", "deny"),
        ("gid_map", "0 1000 1"),
        ("uid_map", "0 1000 1"),
    ] {
        std::fs::write(Path::new("/proc/self").join(file), text).or_fail(file)?;
    }
    Ok(())
}

/// Tries to fork a mount.
fn try_fork(t: &Test, base: &Path) -> Sys {
    let configuration = Configuration::open(t.filesystem.name())?;
    configuration.set("fork", &base.to_string_lossy())?;
    configuration.create()
}

fn an_ordinary_user_may_not(t: &Test) -> Outcome {
    let [at] = places(t, ["at"])?;
    let base = t.mount(&[])?;
    chown(&base.root, 1000, 1000).or_fail("chown")?;
    as_user(1000, 1000, || {
        expect_errno(try_fork(t, &base.root), libc::EPERM, "fsopen")?;
        let option = format!("fork={}", base.root.display());
        let result = mount(t.filesystem.name(), &at, 0, &option);
        expect_errno(result, libc::EPERM, "mount(2)")
    })?;
    base.unmount()
}

fn root_of_a_user_namespace_may_not_fork_the_mount_of_the_first(t: &Test) -> Outcome {
    let [at] = places(t, ["at"])?;
    let base = t.mount(&[])?;
    chown(&base.root, 1000, 1000).or_fail("chown")?;
    let child = Child::spawn(|| {
        enter_namespace()?;
        let own = mount(t.filesystem.name(), &at, 0, "size=1M");
        own.or_fail("a mount of its own")?;
        expect_errno(try_fork(t, &base.root), libc::EPERM, "fsconfig")?;
        let option = format!("fork={}", base.root.display());
        let result = mount(t.filesystem.name(), &at, 0, &option);
        expect_errno(result, libc::EPERM, "mount(2)")
    })?;
    child.join()?;
    try_fork(t, &base.root).or_fail("a fork by root")?;
    base.unmount()
}

/// Takes a descriptor of another process.
fn take(child: &Child, fd: i32) -> Outcome<OwnedFd> {
    // SAFETY: plain calls; the kernel has just given us the descriptors.
    unsafe {
        let pidfd = check(libc::syscall(libc::SYS_pidfd_open, child.pid(), 0));
        let pidfd = OwnedFd::from_raw_fd(pidfd.or_fail("pidfd_open")? as i32);
        let taken = check(libc::syscall(
            libc::SYS_pidfd_getfd,
            pidfd.as_raw_fd(),
            fd,
            0,
        ));
        Ok(OwnedFd::from_raw_fd(taken.or_fail("pidfd_getfd")? as i32))
    }
}

fn a_context_that_was_handed_on_gives_no_rights(t: &Test) -> Outcome {
    chmod(&t.elsewhere, 0o755).or_fail("chmod")?;
    let base = t.mount(&[])?;
    // Root's, which the user creates.
    let configuration = Configuration::open(t.filesystem.name()).or_fail("fsopen")?;
    let path = base.root.to_string_lossy().into_owned();
    configuration.set("fork", &path).or_fail("fork=")?;
    let child = Child::spawn(|| {
        enter_namespace()?;
        expect_errno(configuration.create(), libc::EPERM, "root's context")
    })?;
    child.join()?;
    drop(configuration);
    // The user's, to which root gives the option.
    let ((ready, tell), (wait, go)) = (pipe()?, pipe()?);
    let child = Child::spawn(|| {
        enter_namespace()?;
        let configuration = Configuration::open(t.filesystem.name()).or_fail("fsopen")?;
        let number = configuration.as_raw_fd();
        write_all(&tell, &number.to_ne_bytes())?;
        read_all(&wait, 1)?;
        expect_errno(configuration.create(), libc::EPERM, "the user's context")
    })?;
    let number = read_all(&ready, 4)?.try_into().unwrap_or_default();
    let taken = Configuration::from(take(&child, i32::from_ne_bytes(number))?);
    taken.set("fork", &path).or_fail("fork=")?;
    write_all(&go, b"g")?;
    child.join()?;
    drop(taken);
    base.unmount()
}

fn root_of_a_user_namespace_forks_a_mount_of_its_own(t: &Test) -> Outcome {
    let [one, two, three] = places(t, ["one", "two", "three"])?;
    let child = Child::spawn(|| {
        enter_namespace()?;
        mount(t.filesystem.name(), &one, 0, "size=1M").or_fail("mount")?;
        let file = File::create_with(one.join("file"), b"of the base")?;
        let forked = |base: &Path, at: &Path| {
            let option = format!("fork={}", base.display());
            mount(t.filesystem.name(), at, 0, &option).or_fail(option)
        };
        forked(&one, &two)?;
        forked(&two, &three)?;
        file.write_at(b"changed", 0)?;
        drop(file);
        for at in [&two, &three] {
            let file = File::open(at.join("file"), libc::O_RDWR).or_fail("open")?;
            file.expect_contents(b"of the base", "a fork")?;
            file.write_at(b"also", 0)?;
            let stat = lstat(at.join("file")).or_fail("lstat")?;
            expect_eq((stat.st_uid, stat.st_gid), (0, 0), "owner")?;
        }
        // A user namespace below that has no rights on it.
        let below = Child::spawn(|| {
            // SAFETY: plain call.
            check(unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) })
                .or_fail("unshare")?;
            expect_errno(try_fork(t, &one), libc::EPERM, "from a namespace below")
        })?;
        below.join()?;
        [&two, &one, &three]
            .iter()
            .try_for_each(|at| unmount(at).or_fail("umount"))
    })?;
    child.join()
}

/// Runs a program of the fork as user 1001, and returns what it says.
fn said(program: &Path, arguments: &[&str]) -> Outcome<String> {
    let (output, input) = pipe()?;
    as_user(1001, 1001, || {
        let (end, said) = run_program(program, arguments)?;
        expect_eq(end, End::Exited(0), program.display())?;
        write_all(&input, said.as_bytes())
    })?;
    drop(input);
    let said = read_all(&output, 1000)?;
    Ok(String::from_utf8_lossy(&said).trim().to_owned())
}

/// A program that a user has made root's in a namespace is not that outside of it.
fn a_fork_belongs_to_the_namespace_of_its_base(t: &Test) -> Outcome {
    let [at] = places(t, ["at"])?;
    let ((ready, tell), (wait, go)) = (pipe()?, pipe()?);
    let install = |from: &str, name: &str, mode: u32| -> Outcome {
        let bytes = std::fs::read(from).or_fail(from)?;
        let file = File::create_with(at.join(name), &bytes)?;
        chmod(&file.path, mode).or_fail("chmod")
    };
    let child = Child::spawn(|| {
        enter_namespace()?;
        mount(t.filesystem.name(), &at, 0, "size=8M,mode=755").or_fail("mount")?;
        install("/usr/bin/id", "id", 0o6755)?;
        install("/bin/grep", "grep", 0o755)?;
        xattr::set(at.join("grep"), xattr::CAPABILITY, &xattr::capability(), 0)
            .or_fail("setxattr")?;
        write_all(&tell, b"r")?;
        read_all(&wait, 1)?;
        expect(at.join("id").exists(), "the base is still there")
    })?;
    let begun = read_all(&ready, 1);
    let base = format!("/proc/{}/root{}", child.pid(), at.display());
    let result = begun.and_then(|_| {
        let copy = t.mount_at("fork", &[("fork", &base)])?;
        let of_fork = fork(t, &copy, "fork of the fork")?;
        for fs in [&copy, &of_fork] {
            let stat = lstat(fs.path("id")).or_fail("lstat")?;
            expect_eq(
                (stat.st_uid, stat.st_mode & 0o7777),
                (1000, 0o6755),
                "owner",
            )?;
            expect_eq(said(&fs.path("id"), &["-u"])?, "1001", "its user")?;
            expect_eq(said(&fs.path("id"), &["-g"])?, "1001", "its group")?;
            let arguments = ["CapPrm", "/proc/self/status"];
            let capabilities = said(&fs.path("grep"), &arguments)?;
            expect(
                capabilities.ends_with("0000000000000000"),
                format_args!("without capabilities: {capabilities}"),
            )?;
        }
        Ok(())
    });
    write_all(&go, b"g")?;
    child.join().and(result)
}

fn a_mount_that_maps_ids_is_refused(t: &Test) -> Outcome {
    let [view] = places(t, ["view"])?;
    let base = t.mount(&[])?;
    let output = Command::new("mount")
        .args(["--bind", "-o", "X-mount.idmap=b:0:1000:1"])
        .args([&base.root, &view])
        .output()
        .or_fail("mount")?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    expect(output.status.success(), format_args!("mount: {errors}"))?;
    expect_errno(try_fork(t, &view), libc::EINVAL, "of a mount that maps ids")?;
    try_fork(t, &base.root).or_fail("of the same without")?;
    unmount(&view).or_fail("umount")?;
    base.unmount()
}

/// Mounts the base at another place, with these flags.
fn bind(base: &Instance, at: &Path, flags: u64) -> Outcome {
    let (from, to) = (crate::sys::c_path(&base.root), crate::sys::c_path(at));
    let none = std::ptr::null();
    // SAFETY: NUL-terminated paths that outlive the calls.
    unsafe {
        let (from, to) = (from.as_ptr(), to.as_ptr());
        check(libc::mount(from, to, none, libc::MS_BIND, none.cast())).or_fail("bind")?;
        let flags = libc::MS_BIND | libc::MS_REMOUNT | flags;
        check(libc::mount(none, to, none, flags, none.cast())).or_fail("remount")?;
    }
    Ok(())
}

/// Returns why a program does not run.
fn run(program: &Path) -> Outcome<Sys<End>> {
    let child = Child::spawn(|| {
        let path = crate::sys::c_path(program);
        let arguments = [path.as_ptr(), std::ptr::null()];
        // SAFETY: a NULL-terminated list of a NUL-terminated word. `_exit` ends the process.
        unsafe {
            libc::execv(path.as_ptr(), arguments.as_ptr());
            libc::_exit(100 + Errno::last().0)
        }
    })?;
    Ok(match child.end()? {
        End::Exited(code) if code >= 100 => Err(Errno(code - 100)),
        end => Ok(end),
    })
}

fn programs_of_a_noexec_mount_do_not_run_in_its_fork(t: &Test) -> Outcome {
    let [view] = places(t, ["view"])?;
    let base = t.mount(&[])?;
    let bytes = std::fs::read("/bin/true").or_fail("read")?;
    chmod(&base.create_with("true", &bytes)?.path, 0o755).or_fail("chmod")?;
    bind(&base, &view, libc::MS_NOEXEC)?;
    let free = fork(t, &base, "free")?;
    let bound = t.mount_at("bound", &[("fork", &view.to_string_lossy())])?;
    let of_fork = fork(t, &bound, "fork of the fork")?;
    for (fs, runs) in [
        (&base, true),
        (&free, true),
        (&bound, false),
        (&of_fork, false),
    ] {
        let (program, what) = (fs.path("true"), fs.root.display());
        let result = run(&program)?;
        let file = File::open(&program, libc::O_RDONLY).or_fail("open")?;
        let protection = READ | libc::PROT_EXEC;
        let map = Mapping::try_new(&file, 0, 4096, protection, libc::MAP_PRIVATE);
        if runs {
            expect_eq(result, Ok(End::Exited(0)), what)?;
            map.or_fail("mmap").map(drop)?;
        } else {
            expect_errno(result, libc::EACCES, &what)?;
            expect_errno(map, libc::EPERM, format_args!("mmap in {what}"))?;
        }
    }
    unmount(&view).or_fail("umount")?;
    base.unmount()
}

fn devices_of_a_nodev_mount_do_not_open_in_its_fork(t: &Test) -> Outcome {
    let [view] = places(t, ["view"])?;
    let base = t.mount(&[])?;
    let null = libc::makedev(1, 3);
    crate::sys::path_call!(mknod(base.path("null"), libc::S_IFCHR | 0o666, null))
        .or_fail("mknod")?;
    bind(&base, &view, libc::MS_NODEV)?;
    let free = fork(t, &base, "free")?;
    let bound = t.mount_at("bound", &[("fork", &view.to_string_lossy())])?;
    let of_fork = fork(t, &bound, "fork of the fork")?;
    for (fs, opens) in [
        (&base, true),
        (&free, true),
        (&bound, false),
        (&of_fork, false),
    ] {
        let opened = File::open(fs.path("null"), libc::O_WRONLY);
        match opens {
            true => opened.or_fail("open")?.write_at(b"gone", 0)?,
            false => expect_errno(opened, libc::EACCES, fs.root.display())?,
        }
    }
    unmount(&view).or_fail("umount")?;
    base.unmount()
}
