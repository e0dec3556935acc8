use bitproof_scheduler::chart;
use bitproof_training::governance;
use bitproof_training::workflow::{prepare, WorkflowError};
use serde_json::json;

use super::run::request;
use crate::args::{Effort, Plan, PlanFormat};
use crate::context::App;
use crate::controls::{point_json, point_table};
use crate::exit::{Exit, Failure};
use crate::output::table;

pub(super) fn execute(app: &App, args: &Plan) -> Result<Exit, Failure> {
    let effort = Effort { workers: None, threads: None };
    let prepared = prepare(&request(app, &args.pipeline, &effort))?;
    let plan = &prepared.plan;
    let spec = plan.spec();
    let inputs = |task: &bitproof_scheduler::TaskSpec| -> Vec<String> {
        task.inputs.iter().map(ToString::to_string).collect()
    };
    let controls = governance::compile(plan).map_err(WorkflowError::from)?;
    let critical: Vec<&str> = plan.critical_path_tasks().iter().map(|task| task.spec.id.0.as_str()).collect();
    app.answer(
        || {
            let tasks: Vec<_> = plan
                .tasks()
                .map(|t| {
                    json!({
                        "task": t.spec.id.0, "stage": t.spec.stage, "sequence": t.sequence,
                        "code": t.spec.code.to_string(),
                        "lane": spec.lanes[t.slot.lane as usize], "tick": t.slot.tick, "cost": t.spec.cost,
                        "inputs": inputs(t.spec), "outputs": t.spec.outputs,
                    })
                })
                .collect();
            let lane_use: Vec<_> = plan
                .lane_use()
                .iter()
                .map(|lane| {
                    let utilisation = lane.per_mille() as f64 / 1000.0;
                    json!({ "lane": lane.name, "busy": lane.busy, "utilisation": utilisation })
                })
                .collect();
            json!({
                "schema": "bitproof/plan/v1", "plan_digest": plan.digest(), "pipeline": spec.pipeline,
                "seed": spec.seed, "lanes": spec.lanes, "kernels_spec": spec.numerics,
                "makespan": plan.makespan(), "critical_path": plan.critical_path(),
                "critical_path_tasks": critical, "lane_use": lane_use, "tasks": tasks,
                "controls": controls.iter().map(|point| point_json(point, &spec.lanes)).collect::<Vec<_>>(),
            })
        },
        || match args.format {
            PlanFormat::Mermaid => chart::mermaid(plan),
            PlanFormat::Text => {
                let head = ["#", "task", "lane", "tick", "cost", "inputs"].map(str::to_owned).to_vec();
                let row = |t: bitproof_scheduler::PlannedTask<'_>| {
                    vec![
                        t.sequence.to_string(),
                        t.spec.id.to_string(),
                        spec.lanes[t.slot.lane as usize].clone(),
                        t.slot.tick.to_string(),
                        t.spec.cost.to_string(),
                        inputs(t.spec).join(", "),
                    ]
                };
                let rows: Vec<_> = std::iter::once(head).chain(plan.tasks().map(row)).collect();
                let controls = match controls.is_empty() {
                    true => String::new(),
                    false => format!("{}\n", point_table(&controls, &spec.lanes)),
                };
                format!(
                    "{}: {} tasks on {} lanes, {} ticks (critical path {}), seed {}\n\n{}\n{}\n{controls}critical path {}\nplan {}\n",
                    app.paint.bold(&spec.pipeline),
                    plan.len(),
                    spec.lanes.len(),
                    plan.makespan(),
                    plan.critical_path(),
                    spec.seed,
                    chart::lanes(plan),
                    table(&rows),
                    critical.join(" -> "),
                    plan.digest()
                )
            }
        },
    )?;
    Ok(Exit::Done)
}
