//! How far trainings are: `tracing` layers that follow their steps, as bars on a terminal and as lines elsewhere.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bitproof_telemetry::{Monotonic as _, SystemMonotonic};
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::Context;
use tracing_subscriber::Layer;

/// Bars by task. Without a terminal there is no layer at all.
#[derive(Clone, Default)]
pub(crate) struct Progress {
    bars: MultiProgress,
    by_task: Arc<Mutex<BTreeMap<String, ProgressBar>>>,
}

impl Progress {
    /// Takes every bar away, so that the summary stands alone.
    pub(crate) fn clear(&self) {
        let mut bars = self.by_task.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        bars.values().for_each(ProgressBar::finish_and_clear);
        bars.clear();
    }

    fn on_progress(&self, fields: &Fields) {
        let Some(task) = &fields.task else { return };
        let mut bars = self.by_task.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(total) = fields.total {
            let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
                let _ = write!(out, "{:.0}/s", state.per_sec());
            };
            let style =
                ProgressStyle::with_template("{msg:12} [{bar:40}] {pos}/{len} steps  {rate}  eta {eta}")
                    .unwrap_or_else(|_| ProgressStyle::default_bar())
                    .with_key("rate", rate);
            let bar = ProgressBar::new(total).with_style(style).with_message(task.clone());
            // What was done before a crash says nothing of the speed.
            let bar = self.bars.add(bar.with_position(fields.step.unwrap_or(0)));
            bar.reset_eta();
            bar.enable_steady_tick(Duration::from_millis(200));
            bars.insert(task.clone(), bar);
        }
        if let (Some(bar), Some(step)) = (bars.get(task), fields.step) {
            bar.set_position(step);
            if let Some(loss) = fields.loss {
                bar.set_message(format!("{task} loss {loss:.4}"));
            }
            if bar.length() == Some(step) {
                bar.finish_and_clear();
            }
        }
    }
}

/// A line on standard error now and then, where there is no terminal: for logs, which nobody wants to be long.
pub(crate) struct Lines {
    clock: SystemMonotonic,
    by_task: Mutex<BTreeMap<String, Training>>,
}

/// A training as far as it was seen.
struct Training {
    total: u64,
    began_at: u64,
    began_ns: u64,
    said_ns: u64,
}

impl Lines {
    /// Nanoseconds between two lines of a training.
    const PAUSE_NS: u64 = 10_000_000_000;

    pub(crate) fn new() -> Self {
        Self { clock: SystemMonotonic::new(), by_task: Mutex::default() }
    }

    fn line(&self, fields: &Fields, now_ns: u64) -> Option<String> {
        let task = fields.task.as_ref()?;
        let mut trainings = self.by_task.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let step = fields.step.unwrap_or(0);
        if let Some(total) = fields.total {
            let training = Training { total, began_at: step, began_ns: now_ns, said_ns: now_ns };
            trainings.insert(task.clone(), training);
            return None;
        }
        let training = trainings.get_mut(task)?;
        if now_ns.saturating_sub(training.said_ns) < Self::PAUSE_NS {
            return None;
        }
        training.said_ns = now_ns;
        let seconds = now_ns.saturating_sub(training.began_ns) as f64 / 1e9;
        let rate = step.saturating_sub(training.began_at) as f64 / seconds;
        let left = training.total.saturating_sub(step) as f64 / rate;
        let loss = fields.loss.map_or(String::new(), |loss| format!("  loss {loss:.4}"));
        Some(format!("{task}: step {step}/{}{loss}  {rate:.1} steps/s  eta {left:.0} s", training.total))
    }
}

#[derive(Default)]
struct Fields {
    task: Option<String>,
    total: Option<u64>,
    step: Option<u64>,
    loss: Option<f64>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "task" {
            self.task = Some(value.to_owned());
        }
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "total" => self.total = Some(value),
            "step" => self.step = Some(value),
            _ => {}
        }
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        if field.name() == "loss" {
            self.loss = Some(value);
        }
    }
    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "bitproof::progress" {
            let mut fields = Fields::default();
            event.record(&mut fields);
            if let Some(line) = self.line(&fields, self.clock.now_ns()) {
                // Nobody is left to tell when standard error is closed.
                let _ = writeln!(io::stderr(), "{line}");
            }
        }
    }
}

impl<S: Subscriber> Layer<S> for Progress {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "bitproof::progress" {
            let mut fields = Fields::default();
            event.record(&mut fields);
            self.on_progress(&fields);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_now_and_then_says_step_loss_speed_and_what_is_left() {
        let lines = Lines::new();
        let seen =
            |total, step, loss| Fields { task: Some("train".to_owned()), total, step: Some(step), loss };
        assert_eq!(lines.line(&seen(None, 1, None), 0), None, "nothing is known of it");
        assert_eq!(lines.line(&seen(Some(1000), 100, None), 1_000_000_000), None);
        assert_eq!(lines.line(&seen(None, 101, Some(2.5)), 2_000_000_000), None, "too soon");
        let said = lines.line(&seen(None, 300, Some(2.25)), 11_000_000_000).unwrap();
        assert_eq!(said, "train: step 300/1000  loss 2.2500  20.0 steps/s  eta 35 s");
        assert_eq!(lines.line(&seen(None, 301, None), 12_000_000_000), None, "too soon after the last");
    }
}
