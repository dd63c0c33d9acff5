//! `GET /bff/client.js`, the module that pages import, and `GET /bff/popup`, where a login in a pop-up ends.

use super::pages::Page;

/// What is edited. Its strings hold no escapes, and its regular expressions neither spaces nor quotes.
const SOURCE: &str = include_str!("client.js");

/// Tells all tabs that somebody has signed in here, and closes the window; a moment later, so that it is told before.
const LANDING: &str = "new BroadcastChannel(\"vestibule\").postMessage([\"popup\"]);setTimeout(close,100)";

/// The module without what only readers of its source need: comments on lines of their own, indentation, and spaces
/// beside signs. Names stay, so that it can be read in a debugger.
pub(super) fn served() -> String {
    squeezed(SOURCE)
}

fn squeezed(source: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
    let mut served = String::with_capacity(source.len());
    let mut quote = None;
    for line in source.lines().map(str::trim_start).filter(|line| !(line.starts_with("//") || line.starts_with("/**")))
    {
        // A line's end separates as a space does: every statement has its semicolon.
        let mut gap = true;
        for c in line.chars() {
            if quote.is_some() {
                quote = quote.filter(|open| *open != c);
            } else if c.is_whitespace() {
                gap = true;
                continue;
            } else {
                if gap && is_word(c) && served.ends_with(is_word) {
                    served.push(' ');
                }
                if c == '}' && served.ends_with(';') {
                    served.pop();
                }
                quote = Some(c).filter(|c| matches!(c, '"' | '`'));
            }
            gap = false;
            served.push(c);
        }
    }
    served
}

/// The last page of a login in a pop-up.
pub(super) fn landing() -> Page {
    Page {
        title: "You are signed in",
        text: "You may close this window and go on where you were.".to_owned(),
        links: Vec::new(),
        refresh: None,
        script: Some(LANDING),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_served_module_is_small() {
        let served = served();
        assert!(served.len() < 4096, "{} bytes", served.len());
        assert!(!served.contains("//"), "no comment is left: {served}");
        // What squeezing relies on.
        assert!(!served.contains("\\\"") && !served.contains('\''), "{served}");
    }

    #[test]
    fn squeezing_leaves_strings_alone_and_words_apart() {
        let source = "// a\nconst a = \"x  ; }\";\n/** b */\nexport async (b) => {\n  return `  ${b} `;\n};\nif (c) d();\nelse e();\n";
        assert_eq!(squeezed(source), "const a=\"x  ; }\";export async(b)=>{return`  ${b} `};if(c)d();else e();");
    }
}
