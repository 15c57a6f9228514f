// SPDX-License-Identifier: GPL-2.0 OR MIT
//! bench.json: the same as the table, for programs.

use measure::record::Fs;
use serde_json::{json, Value};

use crate::goals::{Limited, Verdict};
use crate::summary::{Ratio, Summary};

const ALL: [Fs; 5] = [Fs::Reflinkfs, Fs::Tmpfs, Fs::Xfs, Fs::Btrfs, Fs::Processor];

pub fn of(summary: &Summary, counted: Option<&Summary>, verdicts: &[Verdict]) -> Value {
    let goals = verdicts.iter().map(|verdict| {
        let measured = verdict.measured.map(ratio_to_json);
        json!({
            "row": verdict.row, "metric": verdict.metric, "at": verdict.at, "goal": verdict.text,
            "measured": measured, "met": verdict.met, "within_spread": verdict.close,
            "by_instructions": verdict.counted.as_ref().map(|counted| {
                let limit = counted.limit.as_ref().map(limited);
                json!({
                    "measured": counted.measured,
                    "met": counted.met,
                    "in_turns": counted.in_turns,
                    "limit": limit,
                })
            }),
            "limit": verdict.limit.as_ref().map(limited),
        })
    });
    let failures = summary
        .failures
        .iter()
        .map(|(row, fs, error)| json!({ "row": row, "fs": fs.name(), "error": error }));
    json!({
        "machine": summary.machine,
        "settings": summary.settings,
        "measurements": measurements(summary),
        "by_instructions": counted.map(measurements),
        "goals": goals.collect::<Vec<_>>(),
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

fn limited(limit: &Limited) -> Value {
    json!({ "measured": limit.measured, "holds": limit.holds, "why": limit.why })
}
