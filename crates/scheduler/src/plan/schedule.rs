//! Lanes and ticks for a graph.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::graph::Links;
use super::{PlanError, Slot};
use crate::task::{TaskId, TaskSpec};

/// The slot of each of `tasks`, which are sorted by id.
pub(super) fn slots(tasks: &[&TaskSpec], lanes: usize, links: &Links) -> Result<Vec<Slot>, PlanError> {
    // The tasks lie scattered in memory; what is read of each again and again does not.
    let costs: Vec<u64> = tasks.iter().map(|task| task.cost).collect();
    let ranks = upward_ranks(tasks, &costs, links)?;
    let mut waiting: Vec<u32> = (0..tasks.len()).map(|i| links.before.list(i).len() as u32).collect();
    let mut ready: BinaryHeap<(u64, Reverse<u32>)> = BinaryHeap::new();
    ready.extend((0..).zip(&waiting).filter(|(_, &n)| n == 0).map(|(i, _)| (ranks[i as usize], Reverse(i))));
    let mut lanes = Lanes::new(lanes);
    let mut slots = vec![Slot { lane: 0, tick: 0 }; tasks.len()];
    let mut ends = vec![0u64; tasks.len()];
    while let Some((_, Reverse(i))) = ready.pop() {
        let i = i as usize;
        let earliest = links.before.list(i).iter().map(|&d| ends[d as usize]).max().unwrap_or(0);
        let lane = tasks[i].lane.map_or_else(|| lanes.first_free(earliest), |lane| lane as usize);
        let tick = earliest.max(lanes.free_at(lane));
        slots[i] = Slot { lane: lane as u32, tick };
        ends[i] = tick + costs[i];
        lanes.occupy(lane, ends[i]);
        for &next in links.after.list(i) {
            let left = &mut waiting[next as usize];
            *left -= 1;
            if *left == 0 {
                ready.push((ranks[next as usize], Reverse(next)));
            }
        }
    }
    Ok(slots)
}

/// When each lane becomes free: the leaves of a binary tree, of which each node knows the least below it.
struct Lanes {
    /// The root is 1, the children of `i` are `2 i` and `2 i + 1`; the leaves are a power of two.
    least: Vec<u64>,
}

impl Lanes {
    fn new(lanes: usize) -> Self {
        let leaves = lanes.next_power_of_two();
        let mut least = vec![0; 2 * leaves];
        // A leaf that is no lane is never free.
        least[leaves + lanes..].fill(u64::MAX);
        for node in (1..leaves).rev() {
            least[node] = least[2 * node].min(least[2 * node + 1]);
        }
        Self { least }
    }

    fn leaf(&self, lane: usize) -> usize {
        self.least.len() / 2 + lane
    }

    fn free_at(&self, lane: usize) -> u64 {
        self.least[self.leaf(lane)]
    }

    /// The lowest of the lanes on which a task that cannot start before `earliest` starts first.
    fn first_free(&self, earliest: u64) -> usize {
        let start = earliest.max(self.least[1]);
        let mut node = 1;
        while node < self.leaf(0) {
            node *= 2;
            if self.least[node] > start {
                node += 1;
            }
        }
        node - self.leaf(0)
    }

    fn occupy(&mut self, lane: usize, until: u64) {
        let mut node = self.leaf(lane);
        self.least[node] = until;
        while node > 1 {
            node /= 2;
            self.least[node] = self.least[2 * node].min(self.least[2 * node + 1]);
        }
    }
}

/// The cost of the longest chain that starts at each task. At most [`super::MAX_TASKS`] costs of [`super::MAX_COST`] are
/// added, so no sum overflows.
fn upward_ranks(tasks: &[&TaskSpec], costs: &[u64], links: &Links) -> Result<Vec<u64>, PlanError> {
    let mut waiting: Vec<u32> = (0..tasks.len()).map(|i| links.after.list(i).len() as u32).collect();
    let mut ends: Vec<usize> = (0..tasks.len()).filter(|&i| waiting[i] == 0).collect();
    let mut ranks = vec![0u64; tasks.len()];
    let mut done = 0;
    while let Some(i) = ends.pop() {
        done += 1;
        let longest = links.after.list(i).iter().map(|&s| ranks[s as usize]).max().unwrap_or(0);
        ranks[i] = costs[i] + longest;
        for &d in links.before.list(i) {
            let left = &mut waiting[d as usize];
            *left -= 1;
            if *left == 0 {
                ends.push(d as usize);
            }
        }
    }
    if done == tasks.len() {
        Ok(ranks)
    } else {
        Err(PlanError::Cycle { path: cycle(tasks, links, &waiting) })
    }
}

/// Every task with a count above 0 waits for another: following any of them ends in a cycle.
fn cycle(tasks: &[&TaskSpec], links: &Links, waiting: &[u32]) -> Vec<TaskId> {
    let left = |i: usize| waiting[i] > 0;
    let mut place = vec![None; waiting.len()];
    let mut path = Vec::new();
    let mut at = (0..waiting.len()).find(|&i| left(i)).expect("a task is left");
    let start = loop {
        if let Some(start) = place[at] {
            break start;
        }
        place[at] = Some(path.len());
        path.push(at);
        let mut followers = links.after.list(at).iter().map(|&s| s as usize);
        at = followers.find(|&s| left(s)).expect("a task that is left has a follower that is");
    };
    path.push(at);
    path[start..].iter().map(|&i| tasks[i].id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lane_is_the_one_that_a_look_at_all_of_them_finds() {
        let mut state = 1u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for lanes in [1, 2, 3, 5, 8, 13] {
            let mut tree = Lanes::new(lanes);
            let mut free = vec![0u64; lanes];
            for _ in 0..200 {
                let earliest = random(60);
                let expected = (0..lanes).map(|lane| (free[lane].max(earliest), lane)).min().unwrap().1;
                assert_eq!(tree.first_free(earliest), expected, "{free:?} at {earliest}");
                let lane = if random(4) == 0 { random(lanes as u64) as usize } else { expected };
                free[lane] = free[lane].max(earliest) + 1 + random(9);
                tree.occupy(lane, free[lane]);
            }
        }
    }
}
