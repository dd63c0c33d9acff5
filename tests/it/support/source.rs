//! Rust source seen as a reviewer sees it: without comments, without tests, texts told apart from code.

use std::ops::Range;
use std::path::Path;

/// One file below `src/`. Offsets and lines are those of the file as it is on disk.
pub(crate) struct Source {
    /// The path below `src/`, with `/` between its parts.
    pub(crate) path: String,
    /// The code alone: comments, string contents and test items are blanks.
    pub(crate) code: String,
    /// The same with the contents of strings.
    pub(crate) text: String,
    /// The modules that this file declares for tests only, in files of their own.
    test_modules: Vec<String>,
}

impl Source {
    /// Reads a file's text.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let (mut code, mut text) = blanked(text);
        let mut test_modules = Vec::new();
        for item in test_items(&code) {
            test_modules.extend(declared_module(&code[item.clone()]));
            blank(&mut code, item.clone());
            blank(&mut text, item);
        }
        Self { path: path.to_owned(), code, text, test_modules }
    }

    /// All files below `root`, in order of their paths, but those that are modules for tests only.
    pub(crate) fn all_below(root: &Path) -> Vec<Self> {
        let mut files = Vec::new();
        collect(root, root, &mut files);
        files.sort_by(|one, other| one.path.cmp(&other.path));
        let for_tests: Vec<String> = files.iter().flat_map(Self::test_module_paths).collect();
        files.retain(|file| {
            let module = file.path.trim_end_matches(".rs").trim_end_matches("/mod");
            !for_tests.iter().any(|path| module == path || module.starts_with(&format!("{path}/")))
        });
        files
    }

    /// The number of the line, from 1, in which `offset` lies.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.code[..offset].matches('\n').count() + 1
    }

    /// How many lines hold code; blank ones, comments and tests do not count.
    pub(crate) fn code_lines(&self) -> usize {
        self.text.lines().filter(|line| !line.trim().is_empty()).count()
    }

    fn test_module_paths(&self) -> Vec<String> {
        let stem = self.path.trim_end_matches(".rs");
        let parent = match stem.rsplit_once('/') {
            Some((folder, "mod")) => format!("{folder}/"),
            None if matches!(stem, "lib" | "main") => String::new(),
            Some(_) | None => format!("{stem}/"),
        };
        self.test_modules.iter().map(|name| format!("{parent}{name}")).collect()
    }
}

/// Whether `c` may be part of an identifier.
pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<Source>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let parts: Vec<_> = path.strip_prefix(root).unwrap().iter().map(|part| part.to_string_lossy()).collect();
            files.push(Source::new(&parts.join("/"), &std::fs::read_to_string(&path).unwrap()));
        }
    }
}

/// What a piece of source is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Piece {
    Code,
    Comment,
    Text,
}

/// The source twice: as code alone, and as code with the contents of its strings.
fn blanked(source: &str) -> (String, String) {
    let (mut code, mut text) = (source.to_owned(), source.to_owned());
    let mut start = 0;
    while start < source.len() {
        let (piece, length) = next_piece(source, start);
        let range = start..start + length;
        match piece {
            Piece::Code => {}
            Piece::Text => blank(&mut code, range),
            Piece::Comment => {
                blank(&mut code, range.clone());
                blank(&mut text, range);
            }
        }
        start += length;
    }
    (code, text)
}

/// What begins at `start`, and how long it is.
fn next_piece(source: &str, start: usize) -> (Piece, usize) {
    let rest = &source[start..];
    let first = rest.chars().next().unwrap_or_default();
    if rest.starts_with("//") {
        return (Piece::Comment, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (Piece::Comment, block_comment(rest));
    }
    if first == '"' {
        return (Piece::Text, quoted(rest, 1, '"'));
    }
    if first == '\'' {
        return character(rest).map_or((Piece::Code, 1), |length| (Piece::Text, length));
    }
    if is_word(first) {
        let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        return raw_string(rest, word).map_or((Piece::Code, word), |length| (Piece::Text, length));
    }
    (Piece::Code, first.len_utf8())
}

/// Block comments nest.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        let step = match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => {
                depth += 1;
                2
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                2
            }
            _ => 1,
        };
        at += step;
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(rest: &str, opening: usize, closing: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(opening) {
        if !escaped && c == closing {
            return at + c.len_utf8();
        }
        escaped = !escaped && c == '\\';
    }
    rest.len()
}

/// The length of a character literal; none if it is a lifetime.
fn character(rest: &str) -> Option<usize> {
    let mut chars = rest.char_indices().skip(1);
    let (_, content) = chars.next()?;
    if content == '\\' {
        return Some(quoted(rest, 1, '\''));
    }
    let (at, closing) = chars.next()?;
    (closing == '\'').then_some(at + 1)
}

/// The length of a raw string that begins with `r`, `br` or `cr`, a word of the given length.
fn raw_string(rest: &str, word: usize) -> Option<usize> {
    if !matches!(&rest[..word], "r" | "br" | "cr") {
        return None;
    }
    let hashes = rest[word..].chars().take_while(|c| *c == '#').count();
    let content = word + hashes + 1;
    if !rest[word + hashes..].starts_with('"') {
        return None;
    }
    let closing = format!("\"{}", "#".repeat(hashes));
    Some(rest[content..].find(&closing).map_or(rest.len(), |at| content + at + closing.len()))
}

/// Every item below a `#[cfg(test)]`, the attribute included.
fn test_items(code: &str) -> Vec<Range<usize>> {
    const ATTRIBUTE: &str = "#[cfg(test)]";
    let mut items: Vec<Range<usize>> = Vec::new();
    for (start, _) in code.match_indices(ATTRIBUTE) {
        if items.last().is_none_or(|last| last.end <= start) {
            items.push(start..end_of_item(code, start + ATTRIBUTE.len()));
        }
    }
    items
}

/// An item ends with its own closing brace, or with a semicolon outside all brackets.
fn end_of_item(code: &str, start: usize) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code[start..].char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && c == '}' {
                    return start + at + 1;
                }
            }
            ';' if depth == 0 => return start + at + 1,
            _ => {}
        }
    }
    code.len()
}

/// The name in `mod name;`.
fn declared_module(item: &str) -> Option<String> {
    let (_, name) = item.trim_end().strip_suffix(';')?.rsplit_once("mod ")?;
    name.chars().all(is_word).then(|| name.to_owned())
}

/// Puts blanks in place of all but the line ends, so that offsets and lines stay.
fn blank(text: &mut String, range: Range<usize>) {
    let blanks: String = text[range.clone()].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect();
    text.replace_range(range, &blanks);
}

mod tests {
    use super::Source;

    fn code(text: &str) -> String {
        Source::new("a.rs", text).code.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn comments_and_texts_are_no_code() {
        assert_eq!(code("a // b \"\nc /* d /* e */ f */ g"), "a c g");
        assert_eq!(code(r#"a("b \" // c") d"#), "a( ) d");
        assert_eq!(code("a(r#\"b\" // c\"#) d; br\"e\\\" f"), "a( ) d; f");
        assert_eq!(
            code(r"let a: &'static str = b('\'', '/', '\u{1F600}', 'ü', c'); // '"),
            "let a: &'static str = b( , , , , c');"
        );
        assert_eq!(code("for_r(error, 'a)"), "for_r(error, 'a)");
        assert_eq!(Source::new("a.rs", "a(\"b\") // c").text.trim_end(), "a(\"b\")");
    }

    #[test]
    fn test_items_are_left_out_and_lines_stay() {
        let text = "fn a() {}\n\n#[cfg(test)]\nuse b;\n#[cfg(test)]\nfn c([d; 2]: e) { f { '}' } }\nfn g() {}\n#[cfg(test)]\nmod tests {\n  h\n}\n";
        let source = Source::new("a.rs", text);
        assert_eq!(code(text), "fn a() {} fn g() {}");
        assert_eq!(source.line(source.code.find("fn g").unwrap()), 7);
        assert_eq!(source.code_lines(), 2);
    }

    #[test]
    fn modules_for_tests_are_known_by_their_paths() {
        let paths = |path| Source::new(path, "mod a;\n#[cfg(test)]\npub(crate) mod contract;").test_module_paths();
        assert_eq!(paths("lib.rs"), ["contract"]);
        assert_eq!(paths("ledger/mod.rs"), ["ledger/contract"]);
        assert_eq!(paths("ledger/store.rs"), ["ledger/store/contract"]);
        assert_eq!(paths("ledger.rs"), ["ledger/contract"]);
    }
}
