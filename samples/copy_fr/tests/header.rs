// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Builds and runs `header.c`, the tests of the library in C, with this machine's compilers.

use std::{env, fs, path::Path, process::Command};

fn run(command: &mut Command) {
    let output = command.output().expect("the command starts");
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}

fn build_and_run(name: &str, compiler: &str, words: &[&str]) {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = env::temp_dir().join(format!("copy_fr-{name}-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    run(Command::new(compiler)
        .args(words)
        .args(["-O2", "-Wall", "-Wextra", "-pedantic", "-Werror"])
        .arg("-D_FILE_OFFSET_BITS=64")
        .arg("-I")
        .arg(top.join("../include"))
        .arg(top.join("tests/header.c"))
        .arg("-o")
        .arg(dir.join("program")));
    run(Command::new(dir.join("program")).current_dir(&dir));
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn works_in_c() {
    build_and_run("gnu11", "cc", &["-std=gnu11"]);
}

#[test]
fn works_in_cpp() {
    build_and_run("cpp17", "c++", &["-x", "c++", "-std=c++17"]);
}
