//! The table of `docs/conformance.md` names tests; here it is held to them.

use std::collections::BTreeSet;
use std::path::Path;

const TABLE: &str = include_str!("../../../docs/conformance.md");
const STATES: [&str; 4] = ["held", "held in part", "not yet", "does not apply"];

struct Row {
    id: &'static str,
    state: &'static str,
    by: &'static str,
}

fn rows() -> Vec<Row> {
    TABLE
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .filter_map(|line| match line.split(" | ").collect::<Vec<_>>()[..] {
            [id, _, state, by] if id != "Row" => Some(Row { id, state, by }),
            _ => None,
        })
        .collect()
}

/// The texts between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Every function that is a test, by name.
fn tests_below(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("node_modules") {
            tests_below(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let functions = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            found.extend(functions.map(str::to_owned));
        }
    }
}

#[test]
fn every_test_that_the_table_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = BTreeSet::new();
    for folder in ["src", "tests", "examples"] {
        tests_below(&root.join(folder), &mut tests);
    }
    let missing: Vec<String> = rows()
        .iter()
        .flat_map(|row| quoted(row.by).map(move |name| (row.id, name)))
        .filter(|(_, name)| !tests.contains(*name))
        .map(|(id, name)| format!("{id}: {name}"))
        .collect();
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
}

#[test]
fn every_row_is_there_once_has_a_state_and_says_by_what_it_is_held() {
    let rows = rows();
    assert!(rows.len() > 200, "{} rows", rows.len());
    let mut ids = BTreeSet::new();
    for row in &rows {
        assert!(ids.insert(row.id), "{} is there twice", row.id);
        assert!(STATES.contains(&row.state), "{}: {}", row.id, row.state);
        let names_a_test = quoted(row.by).next().is_some();
        match row.state {
            "held" => assert!(names_a_test, "{} is held by nothing", row.id),
            "held in part" => assert!(names_a_test && row.by.contains(": "), "{} says not which part", row.id),
            _ => assert!(!row.by.trim().is_empty(), "{} gives no reason", row.id),
        }
    }
}
