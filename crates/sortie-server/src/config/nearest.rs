//! Which known word somebody may have meant.

/// The known word that is nearest to `word`, if one is near: a third of its letters may be wrong.
pub(crate) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = |word: &str| word.to_lowercase().replace('-', "_");
    let word = plain(word);
    let allowed = (word.chars().count() / 3).max(1);
    known
        .iter()
        .map(|known| (distance(&word, &plain(known)), *known))
        .filter(|(distance, _known)| *distance <= allowed)
        .min_by_key(|(distance, _known)| *distance)
        .map(|(_distance, known)| known)
}

/// How many letters must be put in, taken out, changed, or swapped with their neighbour.
fn distance(word: &str, known: &str) -> usize {
    let known: Vec<char> = known.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=known.len()).collect();
    let mut previous = None;
    for (row, letter) in word.chars().enumerate() {
        let mut here = vec![row + 1];
        for (column, other) in known.iter().enumerate() {
            let changed = above[column] + usize::from(letter != *other);
            let mut least = changed.min(above[column + 1] + 1).min(here[column] + 1);
            let swapped = column > 0 && previous == Some(*other) && letter == known[column - 1];
            if swapped {
                least = least.min(before[column - 1] + 1);
            }
            here.push(least);
        }
        before = std::mem::replace(&mut above, here);
        previous = Some(letter);
    }
    above[known.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_near_and_other_words_are_not() {
        let known = ["hedge", "pipe_target", "connections_max", "primary", "idle"];
        for (word, meant) in [
            ("hegde", Some("hedge")),
            ("Hedge", Some("hedge")),
            ("pipe-target", Some("pipe_target")),
            ("pipetarget", Some("pipe_target")),
            ("connection_max", Some("connections_max")),
            ("primry", Some("primary")),
            ("id", None),
            ("", None),
            ("shard", None),
            ("ydle", Some("idle")),
        ] {
            assert_eq!(nearest(word, &known), meant, "{word}");
        }
    }

    #[test]
    fn distances() {
        for (left, right, expected) in
            [("", "", 0), ("", "ab", 2), ("ab", "ba", 1), ("kitten", "sitting", 3), ("é", "e", 1)]
        {
            assert_eq!(distance(left, right), expected, "{left} {right}");
            assert_eq!(distance(right, left), expected, "{right} {left}");
        }
    }
}
