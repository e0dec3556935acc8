//! The file as a tree whose every value knows its place, and a reader that asks it for keys.

use std::cell::RefCell;
use std::collections::BTreeSet;

use toml::de::{DeTable, DeValue};

use super::{PipelineError, Place};

/// A value with its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Table(Vec<Entry>),
    /// A date or time, or an integer beyond 64 bits.
    Other(&'static str),
}

/// A key with its place and value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) node: Node,
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "true or false",
            Self::Int(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

/// A text whose places are asked for, each in the logarithm of its number of lines.
pub(super) struct Lines<'a> {
    text: &'a str,
    /// Where each line begins.
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        Self { text, starts: std::iter::once(0).chain(ends).collect() }
    }

    /// Line and column, from 1, of a byte offset.
    pub(super) fn place_at(&self, offset: usize) -> Place {
        let offset = self.text.floor_char_boundary(offset.min(self.text.len()));
        let line = self.starts.partition_point(|&start| start <= offset);
        let column = self.text[self.starts[line - 1]..offset].chars().count() + 1;
        Place::File { line, column }
    }
}

/// Builds the tree; `place` maps a byte offset to a place.
pub(super) fn table(table: &DeTable<'_>, place: &dyn Fn(usize) -> Place) -> Vec<Entry> {
    let mut entries: Vec<(usize, Entry)> = table
        .iter()
        .map(|(key, value)| {
            let entry = Entry {
                key: key.get_ref().to_string(),
                place: place(key.span().start),
                node: node(value.get_ref(), value.span().start, place),
            };
            (key.span().start, entry)
        })
        .collect();
    entries.sort_by_key(|(offset, _)| *offset);
    entries.into_iter().map(|(_, entry)| entry).collect()
}

/// Builds the tree of a value that starts at `offset`.
pub(super) fn node(value: &DeValue<'_>, offset: usize, place: &dyn Fn(usize) -> Place) -> Node {
    let value = match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(digits) => i64::from_str_radix(&digits.as_str().replace('_', ""), digits.radix())
            .map_or(Value::Other("a whole number beyond 64 bits"), Value::Int),
        DeValue::Float(digits) => {
            digits.as_str().replace('_', "").parse().map_or(Value::Other("a number"), Value::Float)
        }
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(items) => {
            Value::List(items.iter().map(|i| node(i.get_ref(), i.span().start, place)).collect())
        }
        DeValue::Table(inner) => Value::Table(table(inner, place)),
    };
    Node { place: place(offset), value }
}

/// Makes errors that name the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reporter<'a> {
    pub(super) source: &'a str,
}

impl Reporter<'_> {
    pub(super) fn error(
        self,
        place: &Place,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> PipelineError {
        PipelineError {
            source: self.source.to_owned(),
            place: place.clone(),
            message: message.into(),
            hint: hint.into(),
        }
    }

    fn wrong_type(self, node: &Node, name: &str, expected: &str) -> PipelineError {
        let message = format!("{name} must be {expected}, got {}", node.value.kind());
        self.error(&node.place, message, format!("write {name} as {expected}"))
    }

    pub(super) fn text<'n>(self, node: &'n Node, name: &str) -> Result<&'n str, PipelineError> {
        match &node.value {
            Value::Text(text) => Ok(text),
            _ => Err(self.wrong_type(node, name, "a text in quotes")),
        }
    }

    pub(super) fn bool(self, node: &Node, name: &str) -> Result<bool, PipelineError> {
        match node.value {
            Value::Bool(value) => Ok(value),
            _ => Err(self.wrong_type(node, name, "true or false")),
        }
    }

    /// A whole number within bounds.
    pub(super) fn int(self, node: &Node, name: &str, min: i64, max: i64) -> Result<i64, PipelineError> {
        match node.value {
            Value::Int(value) if (min..=max).contains(&value) => Ok(value),
            Value::Int(value) => {
                let message = format!("{name} must be from {min} to {max}, got {value}");
                Err(self.error(&node.place, message, format!("choose {name} within its bounds")))
            }
            _ => Err(self.wrong_type(node, name, &format!("a whole number from {min} to {max}"))),
        }
    }

    /// A finite number that `fits`; `bounds` says in words what does.
    pub(super) fn number(
        self,
        node: &Node,
        name: &str,
        bounds: &str,
        fits: impl Fn(f64) -> bool,
    ) -> Result<f64, PipelineError> {
        let value = match node.value {
            Value::Int(value) => value as f64,
            Value::Float(value) => value,
            _ => return Err(self.wrong_type(node, name, &format!("a number {bounds}"))),
        };
        if value.is_finite() && fits(value) {
            return Ok(value);
        }
        let message = format!("{name} must be a number {bounds}, got {value}");
        Err(self.error(&node.place, message, format!("choose {name} within its bounds")))
    }

    pub(super) fn list<'n>(self, node: &'n Node, name: &str) -> Result<&'n [Node], PipelineError> {
        match &node.value {
            Value::List(items) => Ok(items),
            _ => Err(self.wrong_type(node, name, "a list in brackets")),
        }
    }

    pub(super) fn texts(self, node: &Node, name: &str) -> Result<Vec<(String, Place)>, PipelineError> {
        let item = |n: &Node| Ok((self.text(n, &format!("each of {name}"))?.to_owned(), n.place.clone()));
        self.list(node, name)?.iter().map(item).collect()
    }

    pub(super) fn table<'n>(self, node: &'n Node, name: &str) -> Result<&'n [Entry], PipelineError> {
        match &node.value {
            Value::Table(entries) => Ok(entries),
            _ => Err(self.wrong_type(node, name, "a table")),
        }
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(
        self,
        node: &Node,
        name: &str,
        words: &[(&str, T)],
    ) -> Result<T, PipelineError> {
        let text = self.text(node, name)?;
        words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.error(&node.place, format!("{name} cannot be {text:?}"), nearest_hint(text, &known))
        })
    }
}

/// `did you mean "epochs"?`, or the whole list when nothing is near.
pub(super) fn nearest_hint(wrong: &str, known: &[&str]) -> String {
    let near = known.iter().map(|k| (strsim::damerau_levenshtein(wrong, k), *k)).min();
    match near {
        Some((distance, name)) if distance <= 1 + wrong.chars().count() / 3 => {
            format!("did you mean {name:?}?")
        }
        _ if known.is_empty() => "there are none".to_owned(),
        _ => format!("there are: {}", known.join(", ")),
    }
}

/// A table from which keys are taken; what is left at the end is unknown.
pub(super) struct Keys<'a> {
    pub(super) reporter: Reporter<'a>,
    pub(super) place: &'a Place,
    /// How the table is called in messages: `[[stage]]`.
    pub(super) name: &'a str,
    entries: &'a [Entry],
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(reporter: Reporter<'a>, place: &'a Place, name: &'a str, entries: &'a [Entry]) -> Self {
        Self { reporter, place, name, entries, asked: RefCell::default() }
    }

    pub(super) fn optional(&self, key: &'static str) -> Option<&'a Node> {
        self.asked.borrow_mut().insert(key);
        self.entries.iter().find(|e| e.key == key).map(|e| &e.node)
    }

    /// What stands there, though nobody wants to know it.
    pub(super) fn given(&self, key: &str) -> Option<&'a Node> {
        self.entries.iter().find(|e| e.key == key).map(|e| &e.node)
    }

    pub(super) fn required(&self, key: &'static str) -> Result<&'a Node, PipelineError> {
        self.optional(key).ok_or_else(|| {
            // A key that was misspelt is told as such, not as one that is missing.
            let near = |e: &&Entry| strsim::damerau_levenshtein(&e.key, key) <= 1 + key.len() / 4;
            match self.entries.iter().find(near) {
                Some(entry) => self.unknown(entry, &[key]),
                None => self.reporter.error(
                    self.place,
                    format!("{} has no {key}", self.name),
                    format!("add {key} = …"),
                ),
            }
        })
    }

    fn unknown(&self, entry: &Entry, known: &[&str]) -> PipelineError {
        let message = format!("unknown key {:?} in {}", entry.key, self.name);
        self.reporter.error(&entry.place, message, nearest_hint(&entry.key, known))
    }

    /// Refuses keys that nobody asked for.
    pub(super) fn finish(self) -> Result<(), PipelineError> {
        let asked = self.asked.borrow();
        match self.entries.iter().find(|e| !asked.contains(e.key.as_str())) {
            None => Ok(()),
            Some(entry) => Err(self.unknown(entry, &asked.iter().copied().collect::<Vec<_>>())),
        }
    }
}
