// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The shortest part of a list that still fails (Zeller's delta debugging, without complements).

use std::time::Instant;

/// Removes ever smaller parts that are not needed for the failure, until none is left or the time
/// is up.
pub fn shortest<T: Copy>(
    mut list: Vec<T>,
    deadline: Instant,
    mut fails: impl FnMut(&[T]) -> bool,
) -> Vec<T> {
    let mut stretch = list.len().div_ceil(2);
    while stretch > 0 {
        let before = list.len();
        // From the end: operations after the failure go first.
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
        // Removes single operations until each of them is needed.
        if stretch > 1 || list.len() == before {
            stretch /= 2;
        }
    }
    list
}
