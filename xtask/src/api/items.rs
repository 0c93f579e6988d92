//! From stripped source text to public signatures, one line each.

/// Attributes that users see.
const SEEN: &[&str] = &["#[derive(", "#[non_exhaustive", "#[must_use", "#[deprecated", "#[cfg("];

/// The public signatures of a crate, given all its stripped sources.
pub(super) fn signatures(texts: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut implementations = Vec::new();
    for text in texts {
        Walk { lines: &mut lines, implementations: &mut implementations }.items(text, None);
    }
    let public = |header: &str| {
        let name = self_type(header);
        lines.iter().any(|line| {
            ["struct", "enum", "trait", "union", "type"].iter().any(|kind| {
                line.split_once(&format!("pub {kind} "))
                    .is_some_and(|(_, rest)| first_name(rest) == name)
            })
        })
    };
    let shown: Vec<String> = implementations.into_iter().filter(|header| public(header)).collect();
    lines.extend(shown);
    lines
}

/// What an item's members belong to.
#[derive(Clone, Copy)]
enum Owner<'a> {
    /// Only `pub` members count.
    Inherent(&'a str),
    /// Every member counts.
    Trait(&'a str),
}

struct Walk<'a> {
    lines: &'a mut Vec<String>,
    /// Headers of trait implementations, of public and private types.
    implementations: &'a mut Vec<String>,
}

impl Walk<'_> {
    fn items(&mut self, text: &str, owner: Option<Owner<'_>>) {
        let mut rest = text.trim_start();
        let mut attributes: Vec<String> = Vec::new();
        while !rest.is_empty() {
            if rest.starts_with('#') {
                let end = rest.find('[').map_or(rest.len(), |open| open + balanced(&rest[open..]));
                attributes.push(tidied(&rest[..end]));
                rest = rest[end..].trim_start();
                continue;
            }
            let (head, body, after) = item(rest);
            if !attributes.iter().any(|attribute| attribute.starts_with("#[cfg(test)")) {
                attributes.retain(|attribute| SEEN.iter().any(|seen| attribute.starts_with(seen)));
                self.item(&attributes, &tidied(head), body, owner);
            }
            attributes.clear();
            rest = after.trim_start();
        }
    }

    fn item(&mut self, attributes: &[String], head: &str, body: &str, owner: Option<Owner<'_>>) {
        let public = head.starts_with("pub ");
        let bare = head.strip_prefix("pub ").unwrap_or(head);
        if head.starts_with("pub use self::") {
            return; // Towards the root; the one that users name is in lib.rs.
        }
        if bare.starts_with("mod ") {
            return self.items(body, None);
        }
        if head.starts_with("impl") {
            if self_type_at(head).is_some() {
                self.implementations.push(head.to_owned());
                return;
            }
            return self.items(body, Some(Owner::Inherent(head)));
        }
        let (shown, prefix) = match owner {
            Some(Owner::Trait(name)) => (true, format!("{name}: ")),
            Some(Owner::Inherent(name)) => (public, format!("{name}: ")),
            None => (public, String::new()),
        };
        let exported = head.starts_with("macro_rules!") && !attributes.is_empty();
        if !shown && !exported {
            return;
        }
        let attributes: String =
            attributes.iter().flat_map(|attribute| [attribute.as_str(), " "]).collect();
        let head =
            if bare.starts_with("struct ") { without_private_fields(head) } else { head.into() };
        self.lines.push(format!("{prefix}{attributes}{head}"));
        if bare.starts_with("trait ") {
            self.items(body, Some(Owner::Trait(&head)));
        } else if bare.starts_with("struct ") {
            self.members(&head, body, |member| member.starts_with("pub "));
        } else if bare.starts_with("enum ") {
            self.members(&head, body, |_| true);
        }
    }

    /// Fields and variants.
    fn members(&mut self, head: &str, body: &str, shown: impl Fn(&str) -> bool) {
        for member in split_at_commas(body) {
            let mut member = tidied(member);
            while member.starts_with('#') {
                let end = member.find('[').map_or(member.len(), |at| at + balanced(&member[at..]));
                member = member[end..].trim_start().to_owned();
            }
            if !member.is_empty() && shown(&member) {
                self.lines.push(format!("{head}: {member}"));
            }
        }
    }
}

/// Splits off the first item: its head, what is in its braces, and what follows.
fn item(text: &str) -> (&str, &str, &str) {
    let words = text.strip_prefix("pub").unwrap_or(text).trim_start();
    let words = if words.starts_with('(') { words[balanced(words)..].trim_start() } else { words };
    let to_semicolon =
        ["use ", "static ", "type ", "extern crate "].iter().any(|w| words.starts_with(w))
            || (words.starts_with("const ")
                && !["fn ", "unsafe ", "async "].iter().any(|w| words[6..].starts_with(w)));
    let mut at = 0;
    let mut value_at = None;
    while let Some(c) = text[at..].chars().next() {
        match c {
            ';' => return (&text[..value_at.unwrap_or(at)], "", &text[at + 1..]),
            '=' if words.starts_with("const ") || words.starts_with("static ") => {
                value_at = value_at.or(Some(at));
            }
            '{' if !to_semicolon => {
                let end = at + balanced(&text[at..]);
                return (&text[..at], &text[at + 1..end.max(at + 2) - 1], &text[end..]);
            }
            '(' | '[' | '{' => {
                at += balanced(&text[at..]);
                continue;
            }
            _ => {}
        }
        at += c.len_utf8();
    }
    (text, "", "")
}

/// The length of the bracketed text that `text` begins with.
fn balanced(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + c.len_utf8();
                }
            }
            _ => {}
        }
    }
    text.len()
}

/// The parts between commas that are in no bracket, angle brackets included.
fn split_at_commas(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start, mut previous) = (0_i32, 0, ' ');
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' | '<' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            '>' if previous != '-' && previous != '=' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        previous = c;
    }
    parts.push(&text[start..]);
    parts
}

/// `struct Shard(u32, pub u8)` becomes `struct Shard(_, pub u8)`.
fn without_private_fields(head: &str) -> String {
    let Some(open) = head.find('(').filter(|open| !head[..*open].contains(" where ")) else {
        return head.to_owned();
    };
    let end = open + balanced(&head[open..]);
    let fields: Vec<&str> = split_at_commas(&head[open + 1..end - 1])
        .into_iter()
        .map(str::trim)
        .map(|field| if field.starts_with("pub ") { field } else { "_" })
        .collect();
    format!("{}({}){}", &head[..open], fields.join(", "), &head[end..])
}

/// Where the type starts in `impl Trait for Type`; `None` in an inherent `impl`.
fn self_type_at(header: &str) -> Option<usize> {
    let bounds = header.find(" where ").unwrap_or(header.len());
    // `for<'a>` is a bound, ` for Type` is not.
    header[..bounds].rfind(" for ").map(|at| at + " for ".len())
}

fn self_type(header: &str) -> &str {
    let name = &header[self_type_at(header).unwrap_or(0)..];
    first_name(name.trim_start_matches(['&', ' ']))
}

/// `crate::a::Flight<K>` is `Flight`.
fn first_name(text: &str) -> &str {
    let end =
        text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(text.len());
    text[..end].trim_end_matches(':').rsplit("::").next().unwrap_or_default()
}

/// One line, spaced as rustfmt would if the line were long enough.
fn tidied(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for (from, to) in
        [("( ", "("), (", )", ")"), (",)", ")"), (" )", ")"), (", }", " }"), (", >", ">")]
    {
        line = line.replace(from, to);
    }
    line.trim_end_matches(',').to_owned()
}
