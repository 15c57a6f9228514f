// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Stores by other processes: a debugger, process_vm_writev(2); and core dumps.

use std::os::fd::AsRawFd;
use std::path::Path;

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_bytes, expect_eq, Context, Errno, Failure, Outcome};
use crate::filesystem::{Feature, CLONES};
use crate::mapping::Mapping;
use crate::pattern::{blocks, BLOCK};
use crate::process::{Child, End};
use crate::sys::{c_path, check, clone_file, pipe, read_all, write_all, File};
use crate::wait::eventually;

pub const CASES: &[Case] = &[
    case!(a_debugger_changes_a_running_programs_text_for_it_alone)
        .needs(&[Feature::WriteProtection]),
    case!(a_debugger_changes_a_cloned_programs_text_for_it_alone)
        .needs(&[Feature::WriteProtection, Feature::Reflink]),
    case!(another_process_stores_to_a_shared_mapping).needs(CLONES),
    case!(another_process_stores_to_a_private_mapping),
    case!(a_program_that_lives_here_dumps_its_core_here),
];

fn install(t: &Test, name: &str) -> Outcome<File> {
    let bytes = std::fs::read("/usr/bin/sleep").or_fail("read /usr/bin/sleep")?;
    let file = t.create_with(name, &bytes)?;
    crate::sys::chmod(&file.path, 0o755).or_fail("chmod")?;
    Ok(file)
}

fn exec(path: &Path) -> Outcome {
    let path = c_path(path);
    let words = [path.as_ptr(), c"100".as_ptr(), std::ptr::null()];
    // SAFETY: NUL-terminated words in a NULL-terminated list.
    unsafe { libc::execv(path.as_ptr(), words.as_ptr()) };
    Err(Errno::last()).or_fail("exec")
}

/// Runs `program` under a debugger that changes its text.
fn poke_text_of(program: &Path) -> Outcome {
    let child = Child::spawn(|| {
        // SAFETY: plain call.
        check(unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) }).or_fail("PTRACE_TRACEME")?;
        exec(program)
    })?;
    let pid = child.pid();
    let mut status = 0;
    // SAFETY: `status` is valid for writing.
    check(unsafe { libc::waitpid(pid, &mut status, 0) }).or_fail("waitpid")?;
    expect(
        libc::WIFSTOPPED(status),
        "it stops at its first instruction",
    )?;
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).or_fail("read maps")?;
    let name = program.to_string_lossy();
    let text = maps
        .lines()
        .find(|line| line.contains(" r-xp ") && line.ends_with(&*name));
    let start = text.and_then(|line| line.split('-').next());
    let start = start.and_then(|hex| usize::from_str_radix(hex, 16).ok());
    let at = start.ok_or("not there").or_fail("the program's text")? + 64;
    // SAFETY: the child is stopped; the address is in its text.
    unsafe {
        let before = libc::ptrace(libc::PTRACE_PEEKTEXT, pid, at, 0);
        check(libc::ptrace(libc::PTRACE_POKEDATA, pid, at, !before)).or_fail("PTRACE_POKEDATA")?;
        let after = libc::ptrace(libc::PTRACE_PEEKTEXT, pid, at, 0);
        expect_eq(after, !before, "the word in the process")?;
    }
    child.kill(libc::SIGKILL);
    child.end()?;
    Ok(())
}

fn a_debugger_changes_a_running_programs_text_for_it_alone(t: &Test) -> Outcome {
    let path = install(t, "program")?.path.clone();
    poke_text_of(&path)?;
    let original = std::fs::read("/usr/bin/sleep").or_fail("read")?;
    File::open(&path, libc::O_RDONLY)
        .or_fail("open")?
        .expect_contents(&original, "the program")
}

fn a_debugger_changes_a_cloned_programs_text_for_it_alone(t: &Test) -> Outcome {
    let source = install(t, "program")?;
    let clone = t.create("clone")?;
    clone_file(&source, &clone).or_fail("FICLONE")?;
    crate::sys::chmod(&clone.path, 0o755).or_fail("chmod")?;
    let paths = [source.path.clone(), clone.path.clone()];
    drop((source, clone));
    let original = std::fs::read("/usr/bin/sleep").or_fail("read")?;
    for path in &paths {
        poke_text_of(path)?;
        for path in &paths {
            let file = File::open(path, libc::O_RDONLY).or_fail("open")?;
            file.expect_contents(&original, "source and clone")?;
        }
    }
    Ok(())
}

/// Forks a child with this mapping, which waits until it is told to end.
fn holder() -> Outcome<(Child, std::os::fd::OwnedFd)> {
    let (output, input) = pipe()?;
    let raw = input.as_raw_fd();
    let child = Child::spawn(|| {
        // SAFETY: the child's own copy of the descriptor.
        unsafe { libc::close(raw) };
        read_all(&output, 1)?;
        Ok(())
    })?;
    Ok((child, input))
}

fn store_in(pid: libc::pid_t, at: *mut u8, data: &[u8]) -> Outcome {
    let local = libc::iovec {
        iov_base: data.as_ptr().cast_mut().cast(),
        iov_len: data.len(),
    };
    let remote = libc::iovec {
        iov_base: at.cast(),
        iov_len: data.len(),
    };
    // SAFETY: the local vector describes `data`, which is read.
    let n = check(unsafe { libc::process_vm_writev(pid, &local, 1, &remote, 1, 0) as i64 })
        .or_fail("process_vm_writev")?;
    expect_eq(n, data.len(), "bytes stored")
}

fn another_process_stores_to_a_shared_mapping(t: &Test) -> Outcome {
    let mut data = blocks(1, 8);
    let file = t.create_with("file", &data)?;
    let map = Mapping::shared(&file, data.len())?;
    let (child, input) = holder()?;
    let clone = crate::sys::new_clone(&file, t.path("clone"))?;
    store_in(child.pid(), map.at(BLOCK - 3), b"across")?;
    clone.expect_contents(&data, "the clone")?;
    data[BLOCK - 3..BLOCK + 3].copy_from_slice(b"across");
    file.expect_contents(&data, "the file")?;
    expect_bytes(&map.load_all(), &data, "the mapping here")?;
    write_all(&input, b"x")?;
    child.join()
}

fn another_process_stores_to_a_private_mapping(t: &Test) -> Outcome {
    let data = blocks(1, 8);
    let file = t.create_with("file", &data)?;
    let map = Mapping::private(&file, data.len())?;
    let (child, input) = holder()?;
    store_in(child.pid(), map.at(5), b"there")?;
    file.expect_contents(&data, "the file")?;
    expect_bytes(&map.load_all(), &data, "the mapping here")?;
    write_all(&input, b"x")?;
    child.join()
}

fn a_program_that_lives_here_dumps_its_core_here(t: &Test) -> Outcome {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").or_fail("read")?;
    expect_eq(pattern.trim(), "core", "the guest's core_pattern")?;
    let path = install(t, "program")?.path.clone();
    let child = Child::spawn(|| {
        let limit = libc::rlimit {
            rlim_cur: libc::RLIM_INFINITY,
            rlim_max: libc::RLIM_INFINITY,
        };
        let dir = c_path(&t.dir);
        // SAFETY: plain calls with valid arguments.
        unsafe {
            check(libc::setrlimit(libc::RLIMIT_CORE, &limit)).or_fail("setrlimit")?;
            check(libc::chdir(dir.as_ptr())).or_fail("chdir")?;
        }
        exec(&path)
    })?;
    let name = path.file_name().map(|name| name.to_owned());
    // It runs the program once its name is that.
    eventually("the program runs", || {
        let running = std::fs::read_link(format!("/proc/{}/exe", child.pid())).unwrap_or_default();
        Ok(running.file_name().map(|name| name.to_owned()) == name)
    })?;
    child.kill(libc::SIGABRT);
    expect_eq(child.end()?, End::Killed(libc::SIGABRT), "how it ended")?;
    let found = std::fs::read_dir(&t.dir)
        .or_fail("readdir")?
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with("core"))
        .ok_or_else(|| Failure::new("there is no core"))?;
    let core = std::fs::read(found.path()).or_fail("read the core")?;
    expect(core.starts_with(b"\x7fELF"), "it begins as cores do")?;
    expect(
        core.len() > 4 * BLOCK,
        format_args!("it has {} bytes", core.len()),
    )?;
    // Its argument is in its memory.
    expect(
        core.windows(4).any(|w| w == b"100\0"),
        "the memory of the process is in it",
    )
}
