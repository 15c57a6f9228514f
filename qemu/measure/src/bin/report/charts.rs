// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The charts: a curve of the costs of each filesystem, and all ratios in one picture.

use std::path::Path;

use anyhow::{anyhow, Result};
use measure::record::{Fs, Unit};
use plotters::prelude::*;

use crate::summary::{Key, Summary};
use crate::table::{size, value, TITLES};

/// A metric that was measured at several sizes or counts.
struct Curve {
    file: &'static str,
    row: u8,
    metric: &'static str,
    title: &'static str,
    /// The unit of the horizontal axis, and the format of its values.
    axis: &'static str,
    bytes: bool,
}

const CURVES: &[Curve] = &[
    Curve {
        file: "clone-by-size.svg",
        row: 1,
        metric: "clone",
        title: "FICLONE of a whole file",
        axis: "size of the file",
        bytes: true,
    },
    Curve {
        file: "clone-by-extents.svg",
        row: 16,
        metric: "clone, by extents",
        title: "FICLONE of a file with rewritten blocks",
        axis: "rewritten blocks",
        bytes: false,
    },
    Curve {
        file: "clone-by-clones.svg",
        row: 16,
        metric: "clone, by clones",
        title: "FICLONE of a file that has clones",
        axis: "existing clones",
        bytes: false,
    },
    Curve {
        file: "first-write-by-size.svg",
        row: 16,
        metric: "first write, by size",
        title: "First write of 4 KiB to a clone",
        axis: "size of the file",
        bytes: true,
    },
    Curve {
        file: "unlink-by-size.svg",
        row: 16,
        metric: "unlink of a clone, by size",
        title: "unlink of a clone",
        axis: "size of the file",
        bytes: true,
    },
    Curve {
        file: "last-owner-by-size.svg",
        row: 16,
        metric: "unlink of the last owner, by size",
        title: "unlink of the last file that has its blocks",
        axis: "size of the file",
        bytes: true,
    },
    Curve {
        file: "range-by-size.svg",
        row: 16,
        metric: "FICLONERANGE, misfit, by size",
        title: "FICLONERANGE that does not fit the tree",
        axis: "size of the range",
        bytes: true,
    },
    Curve {
        file: "dedupe-by-size.svg",
        row: 16,
        metric: "FIDEDUPERANGE, equal, by size",
        title: "FIDEDUPERANGE of equal data",
        axis: "size of the range",
        bytes: true,
    },
    Curve {
        file: "read-by-size.svg",
        row: 16,
        metric: "read 4 KiB, by size",
        title: "Random read of 4 KiB in a sparse file",
        axis: "size of the file",
        bytes: true,
    },
];

const FILESYSTEMS: [(Fs, RGBColor); 4] = [
    (Fs::Reflinkfs, RGBColor(200, 30, 30)),
    (Fs::Tmpfs, RGBColor(60, 60, 60)),
    (Fs::Xfs, RGBColor(30, 110, 200)),
    (Fs::Btrfs, RGBColor(30, 150, 90)),
];

/// Draws the charts of metrics that were measured; keeps the others.
pub fn draw(summary: &Summary, dir: &Path) -> Result<()> {
    for curve in CURVES {
        if !summary.sizes(curve.row, curve.metric).is_empty() {
            draw_curve(summary, curve, &dir.join(curve.file))
                .map_err(|error| anyhow!("{}: {error}", curve.file))?;
        }
    }
    draw_ratios(summary, &dir.join("ratios.svg")).map_err(|error| anyhow!("ratios.svg: {error}"))
}

/// The result of drawing.
type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw_curve(summary: &Summary, curve: &Curve, path: &Path) -> Drawn {
    let points = |fs| -> Vec<(f64, f64)> {
        let sizes = summary.sizes(curve.row, curve.metric);
        let point = |&at: &u64| {
            let key = Key::new(curve.row, curve.metric, Some(at));
            Some((at as f64, summary.get(&key, fs)?.median()))
        };
        sizes.iter().filter_map(point).collect()
    };
    let all: Vec<_> = FILESYSTEMS.iter().flat_map(|(fs, _)| points(*fs)).collect();
    let (width, height) = (
        ends(all.iter().map(|point| point.0)),
        ends(all.iter().map(|point| point.1)),
    );

    let area = SVGBackend::new(path, (640, 400)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(curve.title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(70)
        .build_cartesian_2d(
            (width.0 / 1.5..width.1 * 1.5)
                .log_scale()
                .base(if curve.bytes { 16.0 } else { 10.0 }),
            (height.0 / 2.0..height.1 * 2.0).log_scale(),
        )?;
    let label = |at: &f64| match curve.bytes {
        true => format!("{}B", size(at.round() as u64)),
        false => size(at.round() as u64),
    };
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .y_labels(5)
        .x_desc(curve.axis)
        .x_label_formatter(&label)
        .y_label_formatter(&|time| value(*time, Unit::Seconds))
        .draw()?;
    for (fs, color) in FILESYSTEMS {
        let points = points(fs);
        if points.is_empty() {
            continue;
        }
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)).point_size(3))?
            .label(fs.name())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(area.present()?)
}

/// Returns the smallest and the largest value.
fn ends(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    (
        values.clone().fold(f64::MAX, f64::min),
        values.fold(f64::MIN_POSITIVE, f64::max),
    )
}

/// The filesystems that ratios compare with, and their colors.
const AGAINST: [(&str, &[Fs], RGBColor); 2] = [
    ("tmpfs", &[Fs::Tmpfs], RGBColor(60, 60, 60)),
    (
        "the best of XFS and btrfs",
        &[Fs::Xfs, Fs::Btrfs],
        RGBColor(30, 110, 200),
    ),
];

/// Draws how many times as good as others reflinkfs is, a line for each metric, from a hundredth to
/// a million.
fn draw_ratios(summary: &Summary, path: &Path) -> Drawn {
    let ratio = |key: &Key, among| {
        Some(
            summary
                .ratio_to_best((key, Fs::Reflinkfs), key, among)?
                .median,
        )
    };
    let keys = summary
        .keys
        .iter()
        .filter(|key| key.row != 16 && key.metric != "extents");
    let mut keys: Vec<_> = keys
        .filter(|key| AGAINST.iter().any(|to| ratio(key, to.1).is_some()))
        .collect();
    if keys.is_empty() {
        return Ok(());
    }
    keys.sort_by_key(|key| key.row);
    let all = keys
        .iter()
        .flat_map(|key| AGAINST.iter().filter_map(move |to| ratio(key, to.1)));
    let (least, most) = ends(all.collect::<Vec<_>>().into_iter());
    let (least, most) = (least.min(0.5) / 1.5, most.max(2.0) * 1.5);

    let area = SVGBackend::new(path, (880, 130 + 18 * keys.len() as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(
            "How many times as fast, or as small, reflinkfs is",
            ("sans-serif", 18),
        )
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(390)
        // Room for the legend below.
        .build_cartesian_2d((least..most).log_scale(), -3.0..keys.len() as f64)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(0)
        .light_line_style(WHITE)
        .x_label_formatter(&|ratio| format!("{ratio}"))
        .draw()?;
    chart.draw_series([PathElement::new(
        [(1.0, 0.0), (1.0, keys.len() as f64)],
        BLACK,
    )])?;
    for (name, among, color) in AGAINST {
        let points = keys
            .iter()
            .enumerate()
            .filter_map(|(i, key)| Some((ratio(key, among)?, keys.len() as f64 - i as f64 - 0.5)));
        let lines = points.flat_map(|point| {
            let stem = PathElement::new([(1.0, point.1), point], color.mix(0.4)).into_dyn();
            [stem, Circle::new(point, 4, color.filled()).into_dyn()]
        });
        chart
            .draw_series(lines)?
            .label(format!("against {name}"))
            .legend(move |(x, y)| Circle::new((x + 8, y), 4, color.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    for (i, key) in keys.iter().enumerate() {
        let y = chart
            .backend_coord(&(1.0, keys.len() as f64 - i as f64 - 0.5))
            .1;
        let at = key.at.map_or(String::new(), |at| format!(", {}", size(at)));
        let title = TITLES
            .get(key.row as usize - 1)
            .copied()
            .unwrap_or_default();
        let text = format!("{}. {title}: {}{at}", key.row, key.metric);
        area.draw_text(
            &text,
            &("sans-serif", 13).into_text_style(&area),
            (16, y - 6),
        )?;
    }
    Ok(area.present()?)
}
