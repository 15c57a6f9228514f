// SPDX-License-Identifier: GPL-2.0

//! Sorting.
//!
//! Not by `sort_unstable`: objtool cannot follow what rustc makes of it. Nor by the kernel's
//! `sort()`, which swaps and compares by callbacks, and would be `unsafe` here.

/// Sorts in ascending order, in place: a heap sort.
pub(super) fn sort(list: &mut [u64]) {
    fn sift_down(heap: &mut [u64], root: usize) {
        let mut root = root;
        loop {
            let left = 2 * root + 1;
            let Some(larger) = (left..heap.len().min(left + 2)).max_by_key(|&i| heap[i]) else {
                return;
            };
            if heap[root] >= heap[larger] {
                return;
            }
            heap.swap(root, larger);
            root = larger;
        }
    }
    for root in (0..list.len() / 2).rev() {
        sift_down(list, root);
    }
    for end in (1..list.len()).rev() {
        list.swap(0, end);
        sift_down(&mut list[..end], 0);
    }
}
