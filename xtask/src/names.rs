//! Reads the names that all parts share (`api/src/names.rs`) with their meaning, for the reference page: its doc comments are
//! the text, so there is nothing to keep in step.

const SOURCE: &str = include_str!("../../api/src/names.rs");

#[derive(Debug, PartialEq)]
pub struct Name {
    pub value: String,
    pub meaning: String,
}

/// Every text constant, in the order in which they stand.
pub fn texts() -> Vec<Name> {
    let mut names = vec![];
    let mut meaning = String::new();
    for line in SOURCE.lines() {
        if let Some(comment) = line.strip_prefix("/// ") {
            if !meaning.is_empty() {
                meaning.push(' ');
            }
            meaning.push_str(comment);
            continue;
        }
        if let Some((_, value)) =
            line.strip_prefix("pub const ").and_then(|rest| rest.split_once(": &str = \""))
        {
            let value = value.trim_end_matches("\";").to_owned();
            names.push(Name { value, meaning: std::mem::take(&mut meaning) });
        }
        meaning.clear();
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_annotation_has_a_meaning() {
        let names = texts();
        assert!(names.iter().any(|name| name.value == "mesh.dev/inject"));
        let mute: Vec<_> =
            names.iter().filter(|name| name.value.contains("mesh.dev/") && name.meaning.is_empty()).collect();
        assert_eq!(mute, [] as [&Name; 0]);
    }
}
