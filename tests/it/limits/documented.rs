//! The table of limits says what the code says.

use std::fs;
use std::path::Path;

#[test]
fn the_table_of_limits_is_true() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(root.join("docs/limits.md")).unwrap();
    let mut rows = 0;
    for row in table.lines().filter(|line| line.starts_with('|') && line.contains("` in `")) {
        let cells: Vec<&str> = row.trim_matches('|').rsplitn(3, '|').map(str::trim).collect();
        let [place, value, _] = cells[..] else { panic!("{row}") };
        let (name, file) = place.trim_matches('`').split_once("` in `").unwrap();
        let code = fs::read_to_string(root.join(file)).unwrap_or_else(|problem| panic!("{file}: {problem}"));
        let definition = code.lines().find_map(|line| line.split_once(&format!("const {name}: ")));
        let (_, definition) = definition.unwrap_or_else(|| panic!("{name} is in {file}"));
        let expression = definition.split_once(" = ").unwrap().1.trim_end_matches(';');
        let digits: String = value.chars().filter(char::is_ascii_digit).collect();
        assert_eq!(digits.parse(), Ok(evaluate(expression)), "{name} in {file}");
        rows += 1;
    }
    assert!(rows > 30, "the table is there");
}

/// Products and shifts of whole numbers.
fn evaluate(expression: &str) -> u64 {
    if let Some((left, right)) = expression.split_once(" << ") {
        return evaluate(left) << evaluate(right);
    }
    expression.split(" * ").map(|factor| factor.replace('_', "").parse::<u64>().expect("a whole number")).product()
}
