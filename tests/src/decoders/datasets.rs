//! What the `dataset` stage reads, and the parts that it makes.

use bitproof_training::data::{
    read_csv, read_idx, read_npy_dataset, read_tensors, read_text, CsvOptions, DataError, Part, ReadError,
    Table, TargetKind, Targets,
};
use bitproof_training::pipeline::{ColumnRef, LabelColumn};

pub(super) fn dataset_part(bytes: &[u8]) -> bool {
    Part::decode(bytes).is_ok_and(|part| {
        assert_eq!(part.encode(), bytes);
        match &part {
            Part::Examples(examples) => {
                assert_eq!(examples.targets.len(), part.rows());
                assert_eq!(examples.shape.iter().product::<usize>(), examples.features.ncols());
            }
            Part::Text(text) => {
                assert!(text.tokens.iter().all(|&token| (token as usize) < text.vocabulary.len()));
                assert!(text.window > 0 && part.rows() <= text.tokens.len());
            }
        }
        true
    })
}

/// What every table promises, whatever it was read from.
fn holds(table: &Table) {
    let examples = &table.examples;
    let rows = examples.features.nrows();
    assert!(rows > 0 && examples.targets.len() == rows && table.own_test < rows);
    assert_eq!(examples.shape.iter().product::<usize>(), examples.features.ncols());
    assert!(examples.features.iter().all(|x| x.is_finite()), "a number that is none");
    match &examples.targets {
        Targets::Classes { labels, classes } => {
            assert_eq!(*classes as usize, table.classes.len());
            assert!((0..*classes).all(|class| labels.contains(&class)), "a class that no row has");
            assert!(labels.iter().all(|label| label < classes));
        }
        Targets::Values(values) => assert!(values.iter().all(|x| x.is_finite()) && table.classes.is_empty()),
    }
}

fn took(read: Result<Table, DataError>) -> bool {
    match read {
        Ok(table) => holds(&table),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    }
    true
}

/// One byte says how the file is read; then the file.
pub(super) fn csv(bytes: &[u8]) -> bool {
    let Some((&how, file)) = bytes.split_first() else { return false };
    let label = match how >> 3 & 3 {
        0 => LabelColumn::First,
        1 => LabelColumn::Last,
        2 => LabelColumn::Column(ColumnRef::Index(usize::from(how >> 5))),
        _ => LabelColumn::Column(ColumnRef::Name("label".to_owned())),
    };
    let separator = [None, Some(','), Some(';'), Some('\t')][usize::from(how >> 1 & 3)];
    // An index takes the bits that say more with the other labels.
    let more = if how >> 3 & 3 == 2 { 0 } else { how >> 5 };
    let targets = if more & 1 == 1 { TargetKind::Values } else { TargetKind::Classes };
    let one_hot = if more & 2 == 2 { vec![ColumnRef::Index(usize::from(more >> 2))] } else { Vec::new() };
    let options = CsvOptions { header: how & 1 == 1, separator, label, one_hot };
    let read = read_csv(file, &options, targets);
    if let Ok(table) = &read {
        assert_eq!(table.examples.features.ncols(), table.columns.len());
    }
    took(read)
}

/// One byte says what the labels are and, beside them, two bytes how long the file of features is; then the two files.
fn two_files(bytes: &[u8], read: fn(&[&[u8]], TargetKind) -> Result<Table, ReadError>) -> bool {
    let Some((&[how, low, high], files)) = bytes.split_first_chunk::<3>() else { return false };
    let Some((features, labels)) = files.split_at_checked(usize::from(u16::from_le_bytes([low, high])))
    else {
        return false;
    };
    let targets = if how & 1 == 1 { TargetKind::Values } else { TargetKind::Classes };
    if how & 2 == 2 {
        // The same once more as a test part: what is good is good twice.
        let twice = read(&[features, labels, features, labels], targets);
        if let Ok(table) = &twice {
            assert_eq!(table.own_test * 2, table.examples.features.nrows());
        }
        return took(twice.map_err(|error| error.source));
    }
    took(read(&[features, labels], targets).map_err(|error| error.source))
}

pub(super) fn idx(bytes: &[u8]) -> bool {
    two_files(bytes, read_idx)
}

pub(super) fn npy(bytes: &[u8]) -> bool {
    two_files(bytes, read_npy_dataset)
}

/// Tensors of any type and order, of which `x` are the features and `y` the labels.
pub(super) fn tensors(bytes: &[u8]) -> bool {
    let classes = read_tensors(bytes, "x", "y", TargetKind::Classes);
    let values = read_tensors(bytes, "x", "y", TargetKind::Values);
    if let (Ok(classes), Ok(values)) = (&classes, &values) {
        assert_eq!(classes.examples.features, values.examples.features);
    }
    took(classes) | took(values)
}

pub(super) fn text(bytes: &[u8]) -> bool {
    read_text(bytes).is_ok_and(|text| {
        assert!(text.vocabulary.is_sorted() && text.vocabulary.len() > 1);
        let again: String = text.tokens.iter().map(|&token| text.vocabulary[token as usize]).collect();
        // What was read reads as itself, unless its ends look like what goes from the ends of a file.
        if !again.starts_with('\u{feff}') && !again.ends_with('\u{1a}') && !again.contains("\r\n") {
            assert_eq!(read_text(again.as_bytes()).as_ref(), Ok(&text));
        }
        true
    })
}
