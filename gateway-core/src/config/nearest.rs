//! "did you mean": the known word nearest to one that is not known.

/// The candidate within a third of the word's length in edits, the nearest first.
pub(super) fn nearest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(word.len()) <= 3 * allowed)
        .map(|candidate| (edits(word, candidate), candidate))
        .filter(|(edits, _)| *edits <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// `, did you mean `x`?` or, when nothing is near and the list is short, what there is.
pub(super) fn hint(word: &str, candidates: &[&str]) -> String {
    match nearest(word, candidates.iter().copied()) {
        Some(candidate) => format!(", did you mean `{candidate}`?"),
        None if candidates.is_empty() || candidates.len() > 24 => String::new(),
        None => format!("; there is {}", listed(candidates)),
    }
}

/// "`a`, `b`, `c`"
pub(super) fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}

/// Levenshtein distance, where a swap of two neighbours counts as one edit.
fn edits(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let changed = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = changed.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slip_of_the_finger_is_recognised() {
        let known = ["upstream", "upstreams", "listeners", "timeouts", "name"];

        assert_eq!(nearest("upstraem", known), Some("upstream"));
        assert_eq!(nearest("listener", known), Some("listeners"));
        assert_eq!(nearest("timeout", known), Some("timeouts"));
        assert_eq!(nearest("nmae", known), Some("name"));
        assert_eq!(nearest("balance", known), None);
    }

    #[test]
    fn hint_lists_what_there_is_when_nothing_is_near() {
        assert_eq!(hint("zzz", &["auto", "json"]), "; there is `auto`, `json`");
        assert_eq!(hint("jsn", &["auto", "json"]), ", did you mean `json`?");
        assert_eq!(hint("zzz", &[]), "");
    }
}
