//! What somebody who misspelled a name probably meant.

/// More unlike than this is another word.
const ALIKE: f64 = 0.8;

/// The known name that is most alike, if one is alike at all.
pub fn alike<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|known| (strsim::jaro_winkler(name, known), known));
    scored.filter(|(score, _)| *score >= ALIKE).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}
