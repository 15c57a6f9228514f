// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Programs that run from the filesystem.

use std::path::Path;

use crate::case::{case, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Outcome};
use crate::filesystem::Feature;
use crate::mapping::{Mapping, READ};
use crate::pattern::BLOCK64;
use crate::process::{run_program, Child, End};
use crate::sys::{chmod, new_clone, rename, unlink, File};
use crate::wait::eventually;

pub const CASES: &[Case] = &[
    case!(a_program_copied_here_runs),
    case!(a_clone_of_a_program_runs).needs(&[Feature::Reflink]),
    case!(a_large_program_runs),
    case!(a_script_runs),
    case!(a_program_without_permission_does_not_run),
    case!(a_file_that_is_no_program_is_enoexec),
    case!(a_running_program_cannot_be_written),
    case!(a_file_open_for_writing_cannot_be_run),
    case!(a_clone_of_a_running_program_can_be_written).needs(&[Feature::Reflink]),
    case!(a_running_program_can_be_replaced_by_rename),
    case!(code_in_a_mapping_runs),
    case!(code_that_was_written_again_runs),
    case!(a_shared_library_loads_from_here),
    case!(a_set_user_program_changes_user),
    case!(a_program_run_by_many_at_once_works),
];

fn install(t: &Test, from: &str, name: &str) -> Outcome<std::path::PathBuf> {
    let bytes = std::fs::read(from).or_fail(format_args!("read {from}"))?;
    let file = t.create_with(name, &bytes)?;
    chmod(&file.path, 0o755).or_fail("chmod")?;
    Ok(file.path.clone())
}

fn expect_says(path: &Path, arguments: &[&str], expected: &str) -> Outcome {
    let (end, said) = run_program(path, arguments)?;
    expect_eq(end, End::Exited(0), format_args!("{}", path.display()))?;
    expect_eq(
        said.as_str(),
        expected,
        format_args!("what {} prints", path.display()),
    )
}

fn a_program_copied_here_runs(t: &Test) -> Outcome {
    let program = install(t, "/bin/echo", "echo")?;
    expect_says(&program, &["it", "runs"], "it runs\n")
}

fn a_clone_of_a_program_runs(t: &Test) -> Outcome {
    let program = install(t, "/bin/echo", "echo")?;
    let source = File::open(&program, libc::O_RDONLY).or_fail("open")?;
    let clone = new_clone(&source, t.path("clone"))?;
    chmod(&clone.path, 0o755).or_fail("chmod")?;
    drop(clone);
    expect_says(&t.path("clone"), &["clone"], "clone\n")?;
    expect_says(&program, &["source"], "source\n")
}

fn a_large_program_runs(t: &Test) -> Outcome {
    let program = install(t, "/bin/bash", "bash")?;
    let script = "for i in 1 2 3; do printf $i; done; [[ abc =~ b ]] && echo yes";
    expect_says(&program, &["-c", script], "123yes\n")
}

fn a_script_runs(t: &Test) -> Outcome {
    let file = t.create_with("script", b"#!/bin/sh\necho \"$1 $0\"\n")?;
    chmod(&file.path, 0o755).or_fail("chmod")?;
    let path = file.path.clone();
    drop(file);
    expect_says(&path, &["from"], &format!("from {}\n", path.display()))?;
    // With an interpreter on this filesystem, too.
    install(t, "/bin/sh", "sh")?;
    let line = format!("#!{}\necho own\n", t.path("sh").display());
    let file = t.create_with("own", line.as_bytes())?;
    chmod(&file.path, 0o755).or_fail("chmod")?;
    drop(file);
    expect_says(&t.path("own"), &[], "own\n")
}

fn a_program_without_permission_does_not_run(t: &Test) -> Outcome {
    let program = install(t, "/bin/true", "true")?;
    chmod(&program, 0o644).or_fail("chmod")?;
    let run = run_program(&program, &[]);
    expect(
        matches!(&run, Err(failure) if failure.0.contains("EACCES")),
        format_args!("running a file of mode 644: {run:?}"),
    )
}

fn a_file_that_is_no_program_is_enoexec(t: &Test) -> Outcome {
    for bytes in [&b"not a program"[..], b"", b"\x7fELF and nothing more"] {
        let file = t.create_with("file", bytes)?;
        chmod(&file.path, 0o755).or_fail("chmod")?;
        let path = file.path.clone();
        drop(file);
        let run = run_program(&path, &[]);
        expect(
            matches!(&run, Err(failure) if failure.0.contains("ENOEXEC")),
            format_args!("running {bytes:?}: {run:?}"),
        )?;
    }
    Ok(())
}

/// Starts a program of this filesystem that runs until it is killed.
fn start(program: &Path) -> Outcome<Child> {
    let child = Child::spawn(|| {
        let words = [
            crate::sys::c_path(program),
            crate::sys::c_path("60".as_ref()),
        ];
        let pointers = [words[0].as_ptr(), words[1].as_ptr(), std::ptr::null()];
        // SAFETY: NUL-terminated words in a NULL-terminated list.
        unsafe { libc::execv(pointers[0], pointers.as_ptr()) };
        Err(crate::failure::Errno::last()).or_fail("exec")
    })?;
    let link = format!("/proc/{}/exe", child.pid());
    eventually("the program starts", || {
        Ok(std::fs::read_link(&link).is_ok_and(|path| path == program))
    })?;
    Ok(child)
}

fn stop(child: Child) -> Outcome {
    child.kill(libc::SIGKILL);
    expect_eq(
        child.end()?,
        End::Killed(libc::SIGKILL),
        "how the program ended",
    )
}

fn a_running_program_cannot_be_written(t: &Test) -> Outcome {
    let program = install(t, "/bin/sleep", "sleep")?;
    let child = start(&program)?;
    let opened = File::open(&program, libc::O_RDWR);
    expect_errno(
        opened,
        libc::ETXTBSY,
        "opening a running program for writing",
    )?;
    let opened = File::open(&program, libc::O_WRONLY | libc::O_TRUNC);
    expect_errno(opened, libc::ETXTBSY, "opening it with O_TRUNC")?;
    expect_errno(
        crate::sys::truncate(&program, 0),
        libc::ETXTBSY,
        "truncating it",
    )?;
    stop(child)?;
    File::open(&program, libc::O_RDWR).or_fail("opening it for writing once it has ended")?;
    Ok(())
}

fn a_file_open_for_writing_cannot_be_run(t: &Test) -> Outcome {
    let program = install(t, "/bin/true", "true")?;
    let writer = File::open(&program, libc::O_WRONLY).or_fail("open")?;
    let run = run_program(&program, &[]);
    expect(
        matches!(&run, Err(failure) if failure.0.contains("ETXTBSY")),
        format_args!("running a file that is open for writing: {run:?}"),
    )?;
    drop(writer);
    expect_says(&program, &[], "")
}

fn a_clone_of_a_running_program_can_be_written(t: &Test) -> Outcome {
    let program = install(t, "/bin/sleep", "sleep")?;
    let child = start(&program)?;
    let source = File::open(&program, libc::O_RDONLY).or_fail("open")?;
    let before = source.contents()?;
    let clone = new_clone(&source, t.path("clone"))?;
    clone.write_at(&vec![0; before.len()], 0)?;
    source.expect_contents(&before, "the running program")?;
    expect(!child.is_over(), "it still runs")?;
    stop(child)
}

fn a_running_program_can_be_replaced_by_rename(t: &Test) -> Outcome {
    let program = install(t, "/bin/sleep", "sleep")?;
    let child = start(&program)?;
    install(t, "/bin/echo", "new")?;
    rename(t.path("new"), &program).or_fail("rename onto a running program")?;
    expect_says(&program, &["new"], "new\n")?;
    expect(!child.is_over(), "the old one still runs")?;
    unlink(&program).or_fail("unlink")?;
    stop(child)
}

/// A function that returns `result`.
fn code(result: u8) -> Vec<u8> {
    match std::env::consts::ARCH {
        // mov eax, result; ret
        "x86_64" => vec![0xb8, result, 0, 0, 0, 0xc3],
        // mov w0, result; ret
        "aarch64" => [0x5280_0000 | (u32::from(result) << 5), 0xd65f_03c0]
            .map(u32::to_le_bytes)
            .concat(),
        _ => unimplemented!("code for this architecture"),
    }
}

/// Maps the file, runs the code at its beginning, and returns its result.
fn run_code(file: &File, flags: i32) -> Outcome<i32> {
    let map = Mapping::try_new(file, 0, 4096, READ | libc::PROT_EXEC, flags).or_fail("mmap")?;
    // SAFETY: the bytes are a function of the C calling convention.
    let function: extern "C" fn() -> i32 = unsafe { std::mem::transmute(map.at(0)) };
    Ok(function())
}

const MAPPINGS: [i32; 2] = [libc::MAP_PRIVATE, libc::MAP_SHARED];

fn code_in_a_mapping_runs(t: &Test) -> Outcome {
    let file = t.create_with("code", &code(42))?;
    for flags in MAPPINGS {
        expect_eq(
            run_code(&file, flags)?,
            42,
            "the result of code in a mapping",
        )?;
    }
    Ok(())
}

/// On machines whose instruction caches do not see stores the kernel must make them see.
fn code_that_was_written_again_runs(t: &Test) -> Outcome {
    let file = t.create_with("code", &code(1))?;
    expect_eq(run_code(&file, libc::MAP_SHARED)?, 1, "at first")?;
    for result in 2..100 {
        file.write_at(&code(result), 0)?;
        for flags in MAPPINGS {
            expect_eq(
                run_code(&file, flags)?,
                result.into(),
                "the result of code that was written again",
            )?;
        }
    }
    Ok(())
}

fn a_shared_library_loads_from_here(t: &Test) -> Outcome {
    let maps = std::fs::read_to_string("/proc/self/maps").or_fail("read /proc/self/maps")?;
    let library = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .find(|path| path.contains("libc.so"))
        .ok_or("no C library in /proc/self/maps")
        .or_fail("the C library")?;
    let copy = install(t, library, "libc.so.6")?;
    let directory = copy
        .parent()
        .map(|p| p.to_string_lossy().into_owned())
        .unwrap_or_default();
    let variable = format!("LD_LIBRARY_PATH={directory}");
    let script = format!("{variable} /bin/cat /proc/self/maps");
    let (end, said) = run_program("/bin/sh".as_ref(), &["-c", &script])?;
    expect_eq(end, End::Exited(0), "cat with the C library from here")?;
    let name = copy.to_string_lossy().into_owned();
    expect(
        said.contains(&name),
        format_args!("the library is mapped from {name}"),
    )
}

fn a_set_user_program_changes_user(t: &Test) -> Outcome {
    chmod(&t.dir, 0o755).or_fail("chmod")?;
    let program = install(t, "/usr/bin/id", "id")?;
    crate::sys::chown(&program, 4321, 0).or_fail("chown")?;
    chmod(&program, 0o4755).or_fail("chmod")?;
    expect_says(&program, &["-u"], "4321\n")
}

fn a_program_run_by_many_at_once_works(t: &Test) -> Outcome {
    let program = install(t, "/bin/echo", "echo")?;
    let run = |i: usize| expect_says(&program, &[&format!("{i}")], &format!("{i}\n"));
    let children = (0..6)
        .map(|i| Child::spawn(move || (0..t.rounds(10)).try_for_each(|n| run(i * 100 + n))))
        .collect::<Outcome<Vec<_>>>()?;
    children.into_iter().try_for_each(|child| child.join())?;
    let file = File::open(&program, libc::O_RDONLY).or_fail("open")?;
    expect(file.size()? > BLOCK64, "the program is still there")
}
