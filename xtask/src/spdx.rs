//! SPDX licence expressions: is there a choice in which every part is allowed?

/// Says whether `expression` can be satisfied by licences that `allowed` accepts.
///
/// `AND` binds tighter than `OR`, as in SPDX; the old `MIT/Apache-2.0` means `OR`. What cannot be
/// parsed is not allowed.
pub(crate) fn satisfied(expression: &str, allowed: impl Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, at: 0, allowed: &allowed };
    parser.any() == Some(true) && parser.at == words.len()
}

struct Parser<'a, F> {
    words: &'a [&'a str],
    at: usize,
    allowed: &'a F,
}

impl<F: Fn(&str) -> bool> Parser<'_, F> {
    fn any(&mut self) -> Option<bool> {
        let mut value = self.all()?;
        while self.take("OR") {
            value |= self.all()?;
        }
        Some(value)
    }

    fn all(&mut self) -> Option<bool> {
        let mut value = self.one()?;
        while self.take("AND") {
            value &= self.one()?;
        }
        Some(value)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let value = self.any()?;
            return self.take(")").then_some(value);
        }
        let name = (*self.words.get(self.at)?).to_owned();
        self.at += 1;
        if self.take("WITH") {
            let exception = *self.words.get(self.at)?;
            self.at += 1;
            return Some((self.allowed)(&format!("{name} WITH {exception}")));
        }
        Some((self.allowed)(&name))
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.words.get(self.at) == Some(&word);
        self.at += usize::from(found);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression: &str, expected: bool) {
        let allowed =
            |name: &str| ["MIT", "Zlib", "Apache-2.0 WITH LLVM-exception"].contains(&name);
        assert_eq!(satisfied(expression, allowed), expected, "{expression}");
    }

    #[test]
    fn one_allowed_choice_is_enough() {
        check("MIT", true);
        check("GPL-3.0", false);
        check("GPL-3.0 OR MIT", true);
        check("GPL-3.0/MIT", true);
        check("GPL-3.0 / BSD", false);
    }

    #[test]
    fn every_part_of_a_conjunction_counts() {
        check("MIT AND Zlib", true);
        check("MIT AND GPL-3.0", false);
        check("(GPL-3.0 OR MIT) AND Zlib", true);
        check("GPL-3.0 AND Zlib OR MIT", true);
        check("MIT AND (GPL-3.0 OR BSD)", false);
        check("Apache-2.0 WITH LLVM-exception", true);
        check("MIT WITH LLVM-exception", false);
    }

    #[test]
    fn what_cannot_be_parsed_is_refused() {
        check("", false);
        check("(MIT", false);
        check("MIT MIT", false);
        check("MIT OR", false);
    }
}
