//! Columns of categories, each cell as the number of its category.

use std::collections::{BTreeMap, BTreeSet};

/// Columns while they are read.
pub(super) struct Categories {
    columns: Vec<Reading>,
}

#[derive(Default, Clone)]
struct Reading {
    /// The categories by when they were first seen.
    seen: BTreeMap<String, u32>,
    cells: Vec<u32>,
}

/// A column that was read.
pub(super) struct Ordered {
    /// Its categories, in order.
    pub(super) names: Vec<String>,
    /// The category of each row: an index into `names`.
    cells: Vec<u32>,
}

impl Categories {
    pub(super) fn new(columns: usize) -> Self {
        Self { columns: vec![Reading::default(); columns] }
    }

    pub(super) fn push(&mut self, column: usize, category: &str) {
        let Reading { seen, cells } = &mut self.columns[column];
        let next = seen.len() as u32;
        let id = match seen.get(category) {
            Some(&id) => id,
            None => *seen.entry(category.to_owned()).or_insert(next),
        };
        cells.push(id);
    }

    pub(super) fn finish(self) -> Vec<Ordered> {
        let ordered = |Reading { seen, mut cells }: Reading| {
            let names = classes(seen.keys().cloned().collect());
            let mut place = vec![0; names.len()];
            names.iter().zip(0..).for_each(|(name, i)| place[seen[name] as usize] = i);
            cells.iter_mut().for_each(|id| *id = place[*id as usize]);
            Ordered { names, cells }
        };
        self.columns.into_iter().map(ordered).collect()
    }
}

impl Ordered {
    /// A number for each category: 1 for that of the row.
    pub(super) fn extend_one_hot(&self, row: usize, features: &mut Vec<f32>) {
        let start = features.len();
        features.resize(start + self.names.len(), 0.0);
        features[start + self.cells[row] as usize] = 1.0;
    }
}

/// Names in order: ascending as numbers if all are whole numbers, else as texts.
pub(super) fn classes(distinct: BTreeSet<String>) -> Vec<String> {
    let mut classes: Vec<String> = distinct.into_iter().collect();
    if classes.iter().all(|c| c.parse::<u32>().is_ok()) {
        classes.sort_by_key(|c| (c.parse::<u32>().unwrap_or(u32::MAX), c.clone()));
    }
    classes
}
