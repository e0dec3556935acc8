//! The order of the packages: who may depend on whom, over normal, build and dev edges alike (cargo itself accepts a dev
//! edge that points upwards).

use super::manifests::declaration;
use super::{text_of, Finding, SourceFile};
use crate::workspace::{Edge, Workspace};

/// Each package and the packages of the workspace that it needs. A package may only need packages above it, and a name
/// that is not needed any more is refused like one that is missing.
const LAYERS: &[Layer] = &[
    ("bitproof-core-ledger", &[]),
    ("bitproof-scheduler", &["bitproof-core-ledger"]),
    ("bitproof-kernels", &[]),
    ("bitproof-experiment-graph", &["bitproof-core-ledger"]),
    ("bitproof-telemetry", &[]),
    (
        "bitproof-training",
        &[
            "bitproof-core-ledger",
            "bitproof-scheduler",
            "bitproof-kernels",
            "bitproof-experiment-graph",
            "bitproof-telemetry",
        ],
    ),
    (
        "bitproof-audit",
        &["bitproof-core-ledger", "bitproof-scheduler", "bitproof-experiment-graph", "bitproof-training"],
    ),
    (
        "bitproof",
        &[
            "bitproof-core-ledger",
            "bitproof-scheduler",
            "bitproof-kernels",
            "bitproof-experiment-graph",
            "bitproof-telemetry",
            "bitproof-training",
            "bitproof-audit",
        ],
    ),
    (
        "bitproof-tests",
        &[
            "bitproof-core-ledger",
            "bitproof-scheduler",
            "bitproof-kernels",
            "bitproof-experiment-graph",
            "bitproof-telemetry",
            "bitproof-training",
            "bitproof-audit",
        ],
    ),
    (
        "bitproof-benches",
        &[
            "bitproof-core-ledger",
            "bitproof-scheduler",
            "bitproof-kernels",
            "bitproof-telemetry",
            "bitproof-training",
        ],
    ),
    ("bitproof-embed-ledger", &["bitproof-core-ledger"]),
    ("bitproof-embed-kernels", &["bitproof-kernels"]),
    ("bitproof-embed-scheduler", &["bitproof-scheduler"]),
    ("bitproof-embed-training", &["bitproof-kernels", "bitproof-training"]),
    ("xtask", &[]),
];

type Layer = (&'static str, &'static [&'static str]);

/// Where [`LAYERS`] stands.
const TABLE: &str = "xtask/src/tidy/layers.rs";

pub(super) fn check_workspace(workspace: &Workspace, files: &[SourceFile]) -> Vec<Finding> {
    let members: Vec<&str> = workspace.members.iter().map(|member| member.name.as_str()).collect();
    let edges: Vec<Edge> = workspace
        .members
        .iter()
        .flat_map(|member| &member.dependencies)
        .filter(|edge| members.contains(&edge.to.as_str()))
        .cloned()
        .collect();
    let place = |edge: &Edge| {
        let manifest = workspace.member(&edge.from).map_or_else(String::new, |member| member.manifest());
        let line = declaration(text_of(files, &manifest).unwrap_or_default(), &edge.to);
        (manifest, line)
    };
    let table = text_of(files, TABLE).unwrap_or_default();
    check(LAYERS, &members, &edges, place, table)
}

/// `place` gives the manifest and line of an edge, `table` is the text that holds `layers`.
fn check(
    layers: &[Layer],
    members: &[&str],
    edges: &[Edge],
    place: impl Fn(&Edge) -> (String, usize),
    table: &str,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for edge in edges {
        let allowed = layers.iter().find(|(from, _)| *from == edge.from).map_or(&[][..], |(_, to)| to);
        if !allowed.contains(&edge.to.as_str()) {
            let (file, line) = place(edge);
            let what = format!("{} must not depend on {} (a {} dependency)", edge.from, edge.to, edge.kind);
            let may = if allowed.is_empty() {
                "no package of the workspace".to_owned()
            } else {
                allowed.join(", ")
            };
            let instead = format!("it may use {may}; pass the value in from above, or move the type down");
            findings.push(Finding::new(&file, line, what, instead));
        }
    }
    for (index, (from, needed)) in layers.iter().enumerate() {
        let row = |what: String, instead: &str| {
            let row =
                table.lines().position(|line| line.contains(&format!("\"{from}\""))).map_or(1, |at| at + 1);
            Finding::new(TABLE, row, what, instead)
        };
        if !members.contains(from) {
            findings.push(row(format!("there is no package {from}"), "take its row out of LAYERS"));
            continue;
        }
        for to in *needed {
            if !layers[..index].iter().any(|(above, _)| above == to) {
                findings.push(row(
                    format!("{from} may use {to}, which does not stand above it"),
                    "order the rows",
                ));
            }
            if !edges.iter().any(|edge| edge.from == *from && edge.to == *to) {
                let what = format!("{from} may use {to}, but does not");
                findings.push(row(what, "take the name out of LAYERS: an edge nobody needs stays shut"));
            }
        }
    }
    for member in members.iter().filter(|member| !layers.iter().any(|(name, _)| name == *member)) {
        let what = format!("the package {member} has no layer");
        findings.push(Finding::new(TABLE, 1, what, "give it a row in LAYERS, below what it needs"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[Layer] = &[("low", &[]), ("high", &["low"])];

    fn edge(from: &str, to: &str, kind: &'static str) -> Edge {
        Edge { from: from.to_owned(), to: to.to_owned(), ident: to.to_owned(), kind }
    }

    fn findings(layers: &[Layer], members: &[&str], edges: &[Edge]) -> Vec<String> {
        let place = |edge: &Edge| (format!("{}/Cargo.toml", edge.from), 12);
        let table = "\n(\"low\", []),\n(\"high\", [\"low\"]),";
        let found = check(layers, members, edges, place, table);
        found.iter().map(|f| format!("{}:{}: {}", f.file, f.line, f.what)).collect()
    }

    #[test]
    fn needed_and_allowed_edges_pass() {
        let none: [&str; 0] = [];
        assert_eq!(findings(TWO, &["low", "high"], &[edge("high", "low", "normal")]), none);
        assert_eq!(findings(TWO, &["low", "high"], &[edge("high", "low", "dev")]), none);
    }

    #[test]
    fn an_upward_edge_is_refused_whatever_its_kind() {
        for kind in ["normal", "build", "dev"] {
            let edges = [edge("high", "low", "normal"), edge("low", "high", kind)];
            let expected = format!("low/Cargo.toml:12: low must not depend on high (a {kind} dependency)");
            assert_eq!(findings(TWO, &["low", "high"], &edges), [expected]);
        }
    }

    #[test]
    fn an_edge_nobody_needs_is_refused() {
        assert_eq!(
            findings(TWO, &["low", "high"], &[]),
            [format!("{TABLE}:3: high may use low, but does not")]
        );
    }

    #[test]
    fn packages_and_rows_belong_together() {
        let edges = [edge("high", "low", "normal")];
        assert_eq!(
            findings(TWO, &["low", "high", "new"], &edges),
            [format!("{TABLE}:1: the package new has no layer")]
        );
        assert_eq!(findings(TWO, &["low"], &[]), [format!("{TABLE}:3: there is no package high")]);
    }

    #[test]
    fn rows_stand_in_layer_order() {
        let upside_down: &[Layer] = &[("high", &["low"]), ("low", &[])];
        assert_eq!(
            findings(upside_down, &["low", "high"], &[edge("high", "low", "normal")]),
            [format!("{TABLE}:3: high may use low, which does not stand above it")]
        );
    }
}
