//! Measurements from `tracing`: a layer that times stages and steps, and the collector behind it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::Layer;

use crate::clock::{Monotonic, SystemMonotonic};
use crate::memory::{peak_rss_bytes, rss_bytes};
use crate::record::{Record, Unit};

/// The target of a span around a stage. Its fields become tags. When it closes, `stage/wall_ns`,
/// `stage/memory_delta_bytes` and `stage/peak_rss_bytes` are recorded.
pub const STAGE: &str = "bitproof::stage";
/// The target of a span around a step inside a stage. When it closes, `<stage>/step_wall_ns` and
/// `<stage>/step_memory_delta_bytes` are recorded, with the tags of both spans.
pub const STEP: &str = "bitproof::step";
/// The target of an event that is a measurement: its fields `name`, `value` and `unit` (`ns`, `bytes`, `count`); the others,
/// and those of the enclosing stage, are tags.
pub const METRIC: &str = "bitproof::metric";

/// The metric that says how many measurements of a task found no room.
pub const DROPPED: &str = "telemetry/dropped";

/// The most records that wait in a collector. Of what comes after only what is measured of whole stages is kept; the rest is
/// dropped and counted, and a budget on it cannot be judged.
pub const MAX_RECORDS: usize = 1 << 20;

struct Shared {
    clock: Box<dyn Monotonic>,
    limit: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    records: Vec<Record>,
    /// By the tags that tell whose they are.
    dropped: BTreeMap<BTreeMap<String, String>, u64>,
}

/// Collects measurements. Cloning it gives another handle to the same collection.
#[derive(Clone)]
pub struct Collector {
    shared: Arc<Shared>,
}

impl Collector {
    /// A collector with that clock and room for [`MAX_RECORDS`].
    pub fn new(clock: impl Monotonic + 'static) -> Self {
        Self::with_limit(clock, MAX_RECORDS)
    }

    /// A collector with room for `limit` records.
    pub fn with_limit(clock: impl Monotonic + 'static, limit: usize) -> Self {
        Self { shared: Arc::new(Shared { clock: Box::new(clock), limit, state: Mutex::default() }) }
    }

    /// A collector with the host's monotonic clock.
    pub fn system() -> Self {
        Self::new(SystemMonotonic::new())
    }

    /// The layer that feeds this collector; make it part of the subscriber.
    pub fn layer(&self) -> TelemetryLayer {
        TelemetryLayer { collector: self.clone() }
    }

    /// Nanoseconds since the clock began.
    pub fn now_ns(&self) -> u64 {
        self.shared.clock.now_ns()
    }

    /// Takes out the records that carry this tag, in the order in which they were made.
    pub fn take(&self, tag: &str, value: &str) -> Vec<Record> {
        let mut state = self.lock();
        let all = std::mem::take(&mut state.records);
        let (taken, rest) = all.into_iter().partition(|r| r.tags.get(tag).is_some_and(|v| v == value));
        state.records = rest;
        let is_of = |tags: &BTreeMap<String, String>| tags.get(tag).is_some_and(|v| v == value);
        let mut taken: Vec<Record> = taken;
        let lost = std::mem::take(&mut state.dropped);
        for (tags, count) in lost {
            if is_of(&tags) {
                let (name, unit, at_ns) = (DROPPED.to_owned(), Unit::Count, self.now_ns());
                taken.push(Record { name, value: clamp(count), unit, at_ns, tags });
            } else {
                state.dropped.insert(tags, count);
            }
        }
        taken
    }

    fn push(&self, record: Record) {
        let mut state = self.lock();
        if state.records.len() < self.shared.limit || record.name.starts_with("stage/") {
            state.records.push(record);
        } else {
            let mut tags = record.tags;
            tags.remove("step");
            *state.dropped.entry(tags).or_default() += 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere must not take the measurements of the others with it.
        self.shared.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// See [`Collector::layer`].
pub struct TelemetryLayer {
    collector: Collector,
}

/// What is kept with an open span.
struct Open {
    tags: BTreeMap<String, String>,
    began_ns: u64,
    rss: Option<u64>,
}

impl TelemetryLayer {
    fn record(&self, name: String, value: i64, unit: Unit, tags: &BTreeMap<String, String>) {
        let at_ns = self.collector.now_ns();
        self.collector.push(Record { name, value, unit, at_ns, tags: tags.clone() });
    }

    fn record_span(&self, prefix: &str, infix: &str, open: &Open) {
        let wall = self.collector.now_ns().saturating_sub(open.began_ns);
        self.record(format!("{prefix}/{infix}wall_ns"), clamp(wall), Unit::Nanoseconds, &open.tags);
        if let (Some(before), Some(after)) = (open.rss, rss_bytes()) {
            let delta = clamp(after) - clamp(before);
            self.record(format!("{prefix}/{infix}memory_delta_bytes"), delta, Unit::Bytes, &open.tags);
        }
    }
}

fn clamp(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for TelemetryLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let target = attributes.metadata().target();
        if target != STAGE && target != STEP {
            return;
        }
        let Some(span) = context.span(id) else { return };
        let mut tags = inherited(span.parent().into_iter().flat_map(|parent| parent.scope()));
        attributes.record(&mut Tags(&mut tags));
        let open = Open { tags, rss: rss_bytes(), began_ns: self.collector.now_ns() };
        span.extensions_mut().insert(open);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let Some(open) = span.extensions_mut().remove::<Open>() else { return };
        if span.metadata().target() == STAGE {
            self.record_span("stage", "", &open);
            if let Some(peak) = peak_rss_bytes() {
                self.record("stage/peak_rss_bytes".to_owned(), clamp(peak), Unit::Bytes, &open.tags);
            }
        } else {
            let stage = open.tags.get("stage").cloned().unwrap_or_else(|| "stage".to_owned());
            self.record_span(&stage, "step_", &open);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if event.metadata().target() != METRIC {
            return;
        }
        let mut tags = inherited(context.event_scope(event).into_iter().flatten());
        event.record(&mut Tags(&mut tags));
        let (name, value, unit) = (tags.remove("name"), tags.remove("value"), tags.remove("unit"));
        tags.remove("message");
        let unit = match unit.as_deref() {
            Some("ns") => Unit::Nanoseconds,
            Some("bytes") => Unit::Bytes,
            _ => Unit::Count,
        };
        if let (Some(name), Some(value)) = (name, value.and_then(|v| v.parse().ok())) {
            self.record(name, value, unit, &tags);
        }
    }
}

/// The tags of the nearest span that has any; it has those of the spans around it already.
fn inherited<'a, S: LookupSpan<'a> + 'a>(
    mut scope: impl Iterator<Item = tracing_subscriber::registry::SpanRef<'a, S>>,
) -> BTreeMap<String, String> {
    scope.find_map(|span| span.extensions().get::<Open>().map(|open| open.tags.clone())).unwrap_or_default()
}

struct Tags<'a>(&'a mut BTreeMap<String, String>);

impl Visit for Tags<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use tracing_subscriber::layer::SubscriberExt as _;

    fn measure(limit: usize) -> (Collector, Vec<Record>) {
        let clock = ManualClock::default();
        let collector = Collector::with_limit(clock.clone(), limit);
        let subscriber = tracing_subscriber::registry().with(collector.layer());
        tracing::subscriber::with_default(subscriber, || {
            let stage = tracing::info_span!(target: STAGE, "stage", task = "t", stage = "train", lane = 1u32);
            stage.in_scope(|| {
                for step in 1..=2u64 {
                    tracing::info_span!(target: STEP, "step", step).in_scope(|| clock.advance_ns(10 * step));
                }
                tracing::info!(target: METRIC, name = "rows", value = 3u64, unit = "count", part = "a");
                clock.advance_ns(5);
            });
        });
        let records = collector.take("task", "t");
        (collector, records)
    }

    #[test]
    fn spans_and_events_become_records_with_the_tags_around_them() {
        let (collector, records) = measure(100);
        let of = |name: &str| -> Vec<(i64, u64, String)> {
            let shown = |r: &Record| {
                let tags: Vec<String> = r.tags.iter().map(|(k, v)| format!("{k}={v}")).collect();
                (r.value, r.at_ns, tags.join(" "))
            };
            records.iter().filter(|r| r.name == name).map(shown).collect()
        };
        let step = |n: u32| format!("lane=1 stage=train step={n} task=t");
        assert_eq!(of("train/step_wall_ns"), [(10, 10, step(1)), (20, 30, step(2))]);
        assert_eq!(of("rows"), [(3, 30, "lane=1 part=a stage=train task=t".to_owned())]);
        assert_eq!(of("stage/wall_ns"), [(35, 35, "lane=1 stage=train task=t".to_owned())]);
        assert!(collector.take("task", "t").is_empty(), "taken once");
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let (_, records) = measure(1);
        let steps: Vec<&Record> = records.iter().filter(|r| r.name.starts_with("train/")).collect();
        assert_eq!(steps.len(), 1);
        assert!(records.iter().any(|r| r.name == "stage/wall_ns"), "whole stages always find room");
        let dropped: i64 = records.iter().filter(|r| r.name == DROPPED).map(|r| r.value).sum();
        assert!(dropped >= 2, "{records:?}");
    }
}
