// SPDX-License-Identifier: GPL-2.0 OR MIT
//! bench.json: the same as the table, for programs.

use measure::record::Fs;
use serde_json::{json, Value};

use crate::summary::{Ratio, Summary};

const ALL: [Fs; 5] = [Fs::Reflinkfs, Fs::Tmpfs, Fs::Xfs, Fs::Btrfs, Fs::Processor];

pub fn of(summary: &Summary, counted: Option<&Summary>) -> Value {
    let failures = summary
        .failures
        .iter()
        .map(|(row, fs, error)| json!({ "row": row, "fs": fs.name(), "error": error }));
    json!({
        "machine": summary.machine,
        "settings": summary.settings,
        "measurements": measurements(summary),
        "by_instructions": counted.map(measurements),
        "failures": failures.collect::<Vec<_>>(),
        "seconds": summary.seconds,
    })
}

fn measurements(summary: &Summary) -> Value {
    let all = summary.keys.iter().map(|key| {
        let results = ALL.iter().filter_map(|&fs| {
            let series = summary.get(key, fs)?;
            let result = json!({
                "median": series.median(), "deviation": series.spread(), "rounds": series.values(),
            });
            Some((fs.name().to_owned(), result))
        });
        let unit = ALL.iter().find_map(|&fs| Some(summary.get(key, fs)?.unit));
        let ratio = |among: &[Fs]| {
            let ratio = summary.ratio_to_best((key, Fs::Reflinkfs), key, among);
            ratio.map(ratio_to_json)
        };
        json!({
            "row": key.row, "metric": key.metric, "at": key.at, "unit": unit,
            "results": Value::Object(results.collect()),
            "times_tmpfs": ratio(&[Fs::Tmpfs]),
            "times_best_of_disks": ratio(&[Fs::Xfs, Fs::Btrfs]),
        })
    });
    all.collect()
}

fn ratio_to_json(ratio: Ratio) -> Value {
    json!({ "median": ratio.median, "low": ratio.low, "high": ratio.high })
}
