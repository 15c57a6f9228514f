// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Reads the output of `measure`, one line of JSON for each measurement; prints a table, writes
//! bench.json and charts.

mod charts;
mod json;
mod summary;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

#[derive(Parser)]
#[command(about = "Prints the measurements")]
struct Options {
    /// The output of `measure`
    #[arg(long)]
    input: PathBuf,
    /// The same, with counted instructions
    #[arg(long)]
    counted: Option<PathBuf>,
    /// The directory for bench.json and the charts
    #[arg(long)]
    output: PathBuf,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let summary = read(&options.input)?;
    let counted = options.counted.as_deref().map(read).transpose()?;
    table::print(&summary, counted.as_ref());
    let json = serde_json::to_string_pretty(&json::of(&summary, counted.as_ref()))?;
    std::fs::write(options.output.join("bench.json"), json + "\n")?;
    charts::draw(&summary, &options.output)?;
    let complete = summary.seconds.is_some() && summary.failures.is_empty();
    Ok(if complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn read(path: &Path) -> Result<summary::Summary> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    summary::Summary::read(&text)
}
