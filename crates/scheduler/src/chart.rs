//! A plan for people: a lane chart in text, and Mermaid.

use std::fmt::Write as _;

use crate::plan::Plan;
use crate::task::InputSource;

const CHART_COLUMNS: u64 = 60;

/// A line for each lane: tasks as bars along the ticks, and how much of the plan's length the lane works.
pub fn lanes(plan: &Plan) -> String {
    let makespan = plan.makespan();
    let lanes = plan.lane_use();
    let width = lanes.iter().map(|lane| lane.name.chars().count()).max().unwrap_or(0);
    let mut tasks = vec![Vec::new(); lanes.len()];
    plan.tasks().for_each(|task| tasks[task.slot.lane as usize].push(task));
    let column =
        |tick: u64| (u128::from(tick) * u128::from(CHART_COLUMNS) / u128::from(makespan.max(1))) as usize;
    let mut text = String::new();
    for (lane, tasks) in lanes.iter().zip(tasks) {
        let mut cells = vec!['\u{b7}'; CHART_COLUMNS as usize];
        let mut free = 0;
        for task in tasks {
            // A task that is narrower than a column takes one, so that it is seen; its neighbour gives way.
            let start = column(task.slot.tick).max(free).min(cells.len() - 1);
            free = column(task.slot.tick + task.spec.cost).max(start + 1);
            let label = task.spec.id.0.chars().chain(std::iter::repeat('='));
            let bar = std::iter::once('|').chain(label);
            cells[start..free].iter_mut().zip(bar).for_each(|(cell, c)| *cell = c);
        }
        let cells: String = cells.into_iter().collect();
        let (name, percent) = (lane.name, lane.per_mille() / 10);
        writeln!(text, "lane {name:<width$}  {cells}  {percent:>3} %").expect("writing to a string");
    }
    text
}

/// The plan as a Mermaid flow chart: a subgraph for each lane, an edge for each input, and the tasks of the critical path
/// with a thick border.
pub fn mermaid(plan: &Plan) -> String {
    let sequences = plan.sequences();
    let critical: Vec<String> =
        plan.critical_path_tasks().iter().map(|task| format!("t{}", task.sequence)).collect();
    let mut text = String::from("flowchart LR\n");
    let mut line = |indent: usize, content: &str| {
        writeln!(text, "{:indent$}{content}", "").expect("writing to a string");
    };
    for (i, data) in plan.spec().data.iter().enumerate() {
        line(2, &format!("d{i}[(\"{}\")]", label(&data.name)));
    }
    for (lane, name) in plan.spec().lanes.iter().enumerate() {
        line(2, &format!("subgraph lane{lane}[\"lane {}\"]", label(name)));
        for task in plan.tasks().filter(|t| t.slot.lane as usize == lane) {
            line(4, &format!("t{}[\"{} @{}\"]", task.sequence, label(&task.spec.id.0), task.slot.tick));
        }
        line(2, "end");
    }
    for task in plan.tasks() {
        for input in &task.spec.inputs {
            let (from, name) = match input {
                InputSource::Data(name) => {
                    let at = plan.spec().data.iter().position(|d| d.name == *name).unwrap_or_default();
                    (format!("d{at}"), String::new())
                }
                InputSource::Output { task, output } => {
                    (format!("t{}", sequences[task]), format!("|\"{}\"|", label(output)))
                }
            };
            line(2, &format!("{from} -->{name} t{}", task.sequence));
        }
        for after in &task.spec.after {
            line(2, &format!("t{} -.-> t{}", sequences[after], task.sequence));
        }
    }
    line(2, "classDef critical stroke-width:4px");
    line(2, &format!("class {} critical", critical.join(",")));
    text
}

fn label(text: &str) -> String {
    text.replace('"', "#quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::{spec, task};

    #[test]
    fn charts_show_lanes_ticks_and_inputs() {
        let tasks = vec![task("a", 1, &[]), task("b", 3, &["a"]), task("c", 2, &["a"])];
        let plan = Plan::new(spec(2, tasks)).unwrap();
        let dots = |n| "\u{b7}".repeat(n);
        let first = format!("|a{}|b{}", "=".repeat(13), "=".repeat(43));
        let second = format!("{}|c{}{}", dots(15), "=".repeat(28), dots(15));
        assert_eq!(lanes(&plan), format!("lane 0  {first}  100 %\nlane 1  {second}   50 %\n"));
        let narrow = vec![task("a", 1, &[]), task("b", 500, &["a"]), task("c", 1, &["b"])];
        let chart = lanes(&Plan::new(spec(1, narrow)).unwrap());
        assert_eq!(chart, format!("lane 0  ||b{}|  100 %\n", "=".repeat(56)), "narrow tasks are seen");
        let chart = mermaid(&plan);
        assert!(chart.contains("  t0 -->|\"out\"| t2\n"));
        assert!(chart.ends_with("  class t0,t1 critical\n"), "{chart}");
    }
}
