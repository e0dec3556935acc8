//! The progress bar: a `tracing` layer that follows the steps of a training on a terminal.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

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
            let bar = self.bars.add(ProgressBar::new(total).with_style(style).with_message(task.clone()));
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

impl<S: Subscriber> Layer<S> for Progress {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "bitproof::progress" {
            let mut fields = Fields::default();
            event.record(&mut fields);
            self.on_progress(&fields);
        }
    }
}
