//! How the controls of a run are shown.

use bitproof_training::governance::{ControlPoint, Entry, Outcome};
use serde_json::{json, Value};

use crate::output::{table, Paint};

/// A place of the governance plan.
pub(crate) fn point_json(point: &ControlPoint, lanes: &[String]) -> Value {
    json!({ "control": point.control.name(), "position": point.position.to_string(), "task": point.task.0,
            "lane": lanes[point.lane as usize], "tick": point.tick, "evidence": point.control.needs() })
}

/// The governance plan.
pub(crate) fn point_table(points: &[ControlPoint], lanes: &[String]) -> String {
    let head = ["control", "", "task", "lane", "tick", "evidence needed"].map(str::to_owned).to_vec();
    let row = |point: &ControlPoint| {
        vec![
            point.control.to_string(),
            point.position.to_string(),
            point.task.to_string(),
            lanes[point.lane as usize].clone(),
            point.tick.to_string(),
            point.control.needs().to_owned(),
        ]
    };
    table(&std::iter::once(head).chain(points.iter().map(row)).collect::<Vec<_>>())
}

/// What a control said. It was read under a plan that has its lane.
pub(crate) fn control_json(entry: &Entry, lanes: &[String]) -> Value {
    json!({ "control": entry.control.name(), "position": entry.position.to_string(), "task": entry.task.0,
            "lane": lanes[entry.lane as usize], "tick": entry.tick, "outcome": entry.outcome.name(),
            "reason": entry.reason, "hint": hint(entry), "evidence": entry.evidence })
}

/// What the controls said.
pub(crate) fn control_table(entries: &[Entry], lanes: &[String], paint: Paint) -> String {
    let mut rows = Vec::new();
    for entry in entries {
        rows.push(vec![
            paint.verdict(entry.outcome.name()),
            entry.control.to_string(),
            format!("{} {}", entry.position, entry.task),
            format!("lane {}, tick {}", lanes[entry.lane as usize], entry.tick),
            entry.reason.clone(),
        ]);
        let under = |hint| [vec![String::new(); 4], vec![format!("hint: {hint}")]].concat();
        rows.extend(hint(entry).map(under));
    }
    table(&rows)
}

fn hint(entry: &Entry) -> Option<&'static str> {
    (entry.outcome == Outcome::Failed).then(|| entry.control.hint())
}
