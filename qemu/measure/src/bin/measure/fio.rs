// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Reads and writes by fio.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{bail, Context, Result};
use serde_json::Value;

/// One job: a name, and its file.
pub struct Job {
    pub name: String,
    pub file: PathBuf,
}

/// Options of all jobs: only the calls, on files that are in memory. The buffers are mappings:
/// buffers that malloc() places next to each other collide with the file's pages in the small TLB
/// of an emulated processor, which makes some jobs five times slower than others.
const COMMON: &[&str] = &[
    "--output-format=json",
    "--ioengine=psync",
    "--thread",
    "--fallocate=none",
    "--invalidate=0",
    "--mem=mmap",
    "--eta=never",
    "--disk_util=0",
    "--scramble_buffers=0",
    "--norandommap",
    "--group_reporting",
];

/// Runs the jobs one after the other, with the same options. Returns the bytes per second of each.
pub fn run(jobs: &[Job], options: &[&str]) -> Result<Vec<f64>> {
    let mut command = Command::new("fio");
    command.args(COMMON).args(options);
    for job in jobs {
        command
            .arg(format!("--name={}", job.name))
            .arg("--stonewall")
            .arg(format!("--filename={}", job.file.display()));
    }
    let output = command.output().context("fio")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!(
            "fio: {} {}{text}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    // Warnings precede the result.
    let json = text.find('{').map_or("", |start| &text[start..]);
    let result: Value = serde_json::from_str(json).context("what fio printed")?;
    jobs.iter()
        .map(|job| bandwidth(&result, &job.name))
        .collect()
}

/// Returns the bytes per second, computed from the latencies if fio has them (no
/// `--gtod_reduce=1`), as it reports the run time in whole milliseconds only.
fn speed(way: &Value) -> Option<f64> {
    let calls = &way["lat_ns"];
    match (calls["N"].as_f64()?, calls["mean"].as_f64()?) {
        (n, mean) if n > 0.0 => Some(way["io_bytes"].as_f64()? / (n * mean * 1e-9)),
        _ => way["bw_bytes"].as_f64(),
    }
}

fn bandwidth(result: &Value, name: &str) -> Result<f64> {
    let jobs = result["jobs"].as_array().context("fio printed no jobs")?;
    let job = jobs.iter().find(|job| job["jobname"] == name);
    let job = job.with_context(|| format!("fio printed no job {name}"))?;
    let sum: f64 = ["read", "write"]
        .iter()
        .filter_map(|way| speed(&job[way]))
        .sum();
    if job["error"] != 0 || sum == 0.0 {
        bail!(
            "fio: {name}: error {}, {sum} bytes per second",
            job["error"]
        );
    }
    Ok(sum)
}
