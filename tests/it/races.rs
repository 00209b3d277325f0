//! `tests/races.md` says which test keeps which promise. Here it is kept true: every number, and every test by its name.

use std::fs;
use std::path::Path;

/// The promises.
const NUMBERS: std::ops::RangeInclusive<u32> = 1..=53;

struct Row {
    number: u32,
    /// Path and name of each.
    tests: Vec<(String, String)>,
}

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn rows() -> Vec<Row> {
    let table = read("tests/races.md");
    table.lines().filter(|line| line.starts_with("| ")).filter_map(row).collect()
}

/// A row of the table; none for its head.
fn row(line: &str) -> Option<Row> {
    let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [number, scenario, must_hold, tests] = cells[..] else { panic!("four cells: {line}") };
    let number = number.parse().ok()?;
    assert!(!scenario.is_empty() && !must_hold.is_empty(), "{number} says nothing");
    let named = tests.split("<br>").filter_map(|test| test.trim().strip_prefix('`')?.strip_suffix('`'));
    let tests = named.map(|test| {
        let (path, name) = test.split_once("::").unwrap_or_else(|| panic!("{number}: {test} has no name"));
        (path.to_owned(), name.to_owned())
    });
    Some(Row { number, tests: tests.collect() })
}

/// How a test of this name begins in a file of this kind.
fn beginning(path: &str, name: &str) -> String {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("rs") => format!("async fn {name}("),
        Some("py") if path.starts_with("tests/cluster/") => format!("async def {name}(world: World)"),
        Some("py") => format!("def {name}(self"),
        Some("mjs") => format!("test(\"{name}\", "),
        _other => panic!("{path}: of no kind that has tests"),
    }
}

#[test]
fn every_number_is_there_once_and_has_a_test() {
    let rows = rows();
    assert_eq!(rows.iter().map(|row| row.number).collect::<Vec<_>>(), NUMBERS.collect::<Vec<_>>());
    for row in rows {
        assert!(!row.tests.is_empty(), "{}", row.number);
    }
}

#[test]
fn every_test_is_where_the_table_says() {
    for row in rows() {
        for (path, name) in row.tests {
            assert!(read(&path).contains(&beginning(&path, &name)), "{}: no {name} in {path}", row.number);
        }
    }
}
