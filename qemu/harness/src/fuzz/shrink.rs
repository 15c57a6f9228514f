// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The shortest part of a list that still fails (Zeller's delta debugging, without complements).

use std::time::Instant;

/// Leaves out what can be left out, in ever smaller stretches, until nothing can or time is up.
pub fn shortest<T: Copy>(
    mut list: Vec<T>,
    deadline: Instant,
    mut fails: impl FnMut(&[T]) -> bool,
) -> Vec<T> {
    let mut stretch = list.len().div_ceil(2);
    while stretch > 0 {
        let before = list.len();
        // From the end: what comes after the failure goes first.
        let mut end = list.len();
        while end > 0 {
            if Instant::now() > deadline {
                return list;
            }
            let start = end.saturating_sub(stretch);
            let without: Vec<T> = [&list[..start], &list[end..]].concat();
            if fails(&without) {
                list = without;
            }
            end = start;
        }
        // One by one until each of them is needed.
        if stretch > 1 || list.len() == before {
            stretch /= 2;
        }
    }
    list
}
