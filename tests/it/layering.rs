//! The rules of the rings, which `src/lib.rs` states, checked against every file of the crate.

use std::fmt;
use std::path::Path;

use crate::support::source::{Source, is_word};

/// A file longer than this holds more than one thing.
const MOST_CODE_LINES: usize = 400;

#[test]
fn every_file_keeps_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = Source::all_below(&root);
    assert!(files.iter().any(|file| file.path == "lib.rs"), "found no source below {}", root.display());
    let report: Vec<_> = files.iter().flat_map(violations).map(|violation| violation.to_string()).collect();
    assert!(report.is_empty(), "\n{}", report.join("\n"));
}

struct Rule {
    number: u8,
    text: &'static str,
    /// The offsets in the file at which the rule is broken.
    broken_at: fn(&Source) -> Vec<usize>,
}

const RULES: [Rule; 9] = [
    Rule {
        number: 1,
        text: "`oauth` names no tokio, reqwest, pingora, tracing, async",
        broken_at: |file| {
            let pure = in_ring(file, &["oauth"]);
            if pure { names(file, &["tokio", "reqwest", "pingora", "tracing", "async", "await"]) } else { Vec::new() }
        },
    },
    Rule {
        number: 2,
        text: "`session` and `ledger/protocol.rs` do no I/O; in `ledger` only the back ends do",
        broken_at: |file| {
            let paths = names(file, &["std::fs", "std::net", "std::process", "tokio::fs", "tokio::net"]);
            let input_and_output = [paths, foreign_names(file, &["redb", "redis"])].concat();
            if in_ring(file, &["session", "ledger/protocol"]) {
                [names(file, &["tokio", "reqwest", "pingora", "async", "await"]), input_and_output].concat()
            } else if in_ring(file, &["ledger"]) && !in_ring(file, LEDGER_BACK_ENDS) {
                input_and_output
            } else {
                Vec::new()
            }
        },
    },
    Rule {
        number: 3,
        text: "`gateway` names no pingora and no reqwest: it speaks plain `http` types",
        broken_at: |file| {
            if in_ring(file, &["gateway"]) { names(file, &["pingora", "reqwest"]) } else { Vec::new() }
        },
    },
    Rule {
        number: 4,
        text: "reqwest is named in `issuer` only; pingora in `proxy` and `server`; toml and std::env in `config` and `cli`",
        broken_at: |file| {
            let outside = |rings: &[&str], words: &[&str]| {
                if in_ring(file, rings) { Vec::new() } else { names(file, words) }
            };
            [
                outside(&["issuer"], &["reqwest"]),
                outside(&["proxy", "server"], &["pingora"]),
                outside(&["config", "cli"], &["toml::", "std::env", "env::"]),
            ]
            .concat()
        },
    },
    Rule {
        number: 5,
        text: "`config` is imported by `server` and `cli` only",
        broken_at: |file| {
            if in_ring(file, &["config", "server", "cli"]) {
                return Vec::new();
            }
            let paths = ["crate::config", "super::config", "vestibule::config"];
            [names(file, &paths), imported_in_a_group(file, "config")].concat()
        },
    },
    Rule {
        number: 6,
        text: "the clock is read in `clock.rs`, randomness is made in `server.rs`; elsewhere both are arguments",
        broken_at: |file| {
            let mut found = Vec::new();
            if file.path != "clock.rs" {
                found.extend(names(file, &["SystemTime::now"]));
                // Waits are told apart by their full name; they stand still where a test stops tokio's time.
                let of_tokio = |at: &usize| file.code[..*at].ends_with("tokio::time::");
                found.extend(names(file, &["Instant::now"]).into_iter().filter(|at| !of_tokio(at)));
            }
            // A signature's own random number is between the library and the operating system.
            if !matches!(file.path.as_str(), "server.rs" | "oauth/dpop.rs") {
                found.extend(names(file, &["getrandom", "OsRng", "SysRng", "SystemRandom", "thread_rng", "rand::"]));
            }
            found
        },
    },
    Rule {
        number: 7,
        text: "no static of ours has interior mutability: what is shared is passed in",
        broken_at: |file| [names(file, &["thread_local!", "lazy_static!"]), mutable_statics(file)].concat(),
    },
    Rule {
        number: 8,
        text: "status codes and `Set-Cookie` text are written in `gateway/reply.rs` and `session/cookies.rs` only",
        broken_at: |file| {
            let mut found = Vec::new();
            if !in_ring(file, MAY_WRITE_STATUS) {
                found.extend(written_statuses(file));
            }
            if !in_ring(file, MAY_NAME_SET_COOKIE) {
                found.extend(names(file, &["SET_COOKIE"]));
                found.extend(file.text.to_ascii_lowercase().match_indices("set-cookie").map(|(at, _)| at));
            }
            found
        },
    },
    Rule {
        number: 0,
        text: "a file holds at most 400 lines of code without its tests",
        broken_at: |file| if file.code_lines() > MOST_CODE_LINES { vec![0] } else { Vec::new() },
    },
];

const LEDGER_BACK_ENDS: &[&str] = &["ledger/memory", "ledger/file", "ledger/redis"];

/// Besides the gateway's replies: a file's answer depends on its range and validators (206, 304, 416), and the listener
/// for administrators answers no browser.
const MAY_WRITE_STATUS: &[&str] = &["gateway/reply", "proxy/files", "admin"];

/// Besides the two that write it: what an upstream sets under our names is taken away from its answer.
const MAY_NAME_SET_COOKIE: &[&str] = &["gateway/reply", "session/cookies", "gateway/headers", "proxy/headers"];

struct Violation<'a> {
    file: &'a Source,
    line: usize,
    rule: &'a Rule,
}

impl fmt::Display for Violation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src/{}:{}: ", self.file.path, self.line)?;
        match self.rule.number {
            0 => write!(f, "{}; it has {}", self.rule.text, self.file.code_lines()),
            number => write!(f, "rule {number}: {}", self.rule.text),
        }
    }
}

fn violations(file: &Source) -> Vec<Violation<'_>> {
    let mut found = Vec::new();
    for rule in &RULES {
        let mut lines: Vec<_> = (rule.broken_at)(file).into_iter().map(|at| file.line(at)).collect();
        lines.sort_unstable();
        lines.dedup();
        found.extend(lines.into_iter().map(|line| Violation { file, line, rule }));
    }
    found
}

/// Whether the file is one of these modules, or lies below one.
fn in_ring(file: &Source, modules: &[&str]) -> bool {
    modules
        .iter()
        .any(|module| file.path.strip_prefix(module).is_some_and(|rest| rest == ".rs" || rest.starts_with('/')))
}

/// Where one of these names or paths is used; a crate's name stands for its relatives too (`tokio` for `tokio_util`).
fn names(file: &Source, words: &[&str]) -> Vec<usize> {
    let begins = |at: usize| !file.code[..at].ends_with(|c| is_word(c) || c == '\'');
    let ends = |at: usize, word: &str| {
        let rest = &file.code[at + word.len()..];
        !word.ends_with(is_word) || rest.starts_with('_') || !rest.starts_with(is_word)
    };
    let uses = |word| file.code.match_indices(word).map(|(at, _)| at).filter(move |at| begins(*at) && ends(*at, word));
    words.iter().flat_map(|word| uses(*word)).collect()
}

/// As [`names`], but for crates whose names modules of ours have too.
fn foreign_names(file: &Source, words: &[&str]) -> Vec<usize> {
    let ours =
        |at: usize| ["mod ", "self::", "super::", "ledger::"].iter().any(|start| file.code[..at].ends_with(start));
    names(file, words).into_iter().filter(|at| !ours(*at)).collect()
}

/// Where `use crate::{…}` brings the module in.
fn imported_in_a_group(file: &Source, module: &str) -> Vec<usize> {
    let groups = ["crate::{", "super::{", "vestibule::{"].into_iter().flat_map(|start| file.code.match_indices(start));
    let imports = groups.filter(|(at, _)| {
        let group = file.code[*at..].split(';').next().unwrap_or_default();
        group.split(['{', ',', '}']).any(|name| name.trim().split("::").next() == Some(module))
    });
    imports.map(|(at, _)| at).collect()
}

/// Where a `static` begins whose type can change behind a shared reference.
fn mutable_statics(file: &Source) -> Vec<usize> {
    const CELLS: [&str; 9] =
        ["Mutex", "RwLock", "Atomic", "OnceLock", "LazyLock", "Cell", "ArcSwap", "Lazy<", "static mut"];
    let declaration = |at: usize| file.code[at..].split(['=', ';']).next().unwrap_or_default();
    names(file, &["static "])
        .into_iter()
        .filter(|at| CELLS.iter().any(|cell| declaration(*at).contains(cell)))
        .collect()
}

/// Where a status code is made. Comparing one, or matching it, is reading.
fn written_statuses(file: &Source) -> Vec<usize> {
    let set = file.code.match_indices(".status(").filter(|(at, call)| {
        let arguments = &file.code[at + call.len()..];
        !arguments.trim_start().starts_with(')')
    });
    let named = file.code.match_indices("StatusCode::").filter(|(at, path)| {
        let before = file.code[..*at].trim_end_matches(|c| is_word(c) || c == ':').trim_end();
        let after = file.code[at + path.len()..].trim_start_matches(is_word).trim_start();
        let line = file.code[..*at].lines().next_back().unwrap_or_default();
        let compared = ["==", "!=", "|"].iter().any(|sign| before.ends_with(sign) || after.starts_with(sign));
        let matched = after.starts_with("=>") || after.starts_with("if ") || line.contains("matches!(");
        // `StatusCode::as_u16`, and in oauth and issuer everything: they only ever read.
        let method = after.starts_with('(') && !file.code[at + path.len()..].starts_with("from_");
        !(compared || matched || method || in_ring(file, &["oauth", "issuer"]))
    });
    let built = ["status_mut()", "ResponseHeader::build("].into_iter().flat_map(|call| file.code.match_indices(call));
    set.chain(named).chain(built).map(|(at, _)| at).collect()
}

mod tests {
    use super::{MOST_CODE_LINES, Source, violations};

    fn broken(path: &str, text: &str) -> Vec<(u8, usize)> {
        violations(&Source::new(path, text)).iter().map(|found| (found.rule.number, found.line)).collect()
    }

    #[test]
    fn a_planted_violation_of_each_rule_is_found() {
        let planted = [
            (1, "oauth/token.rs", "use tokio::sync::Mutex;"),
            (1, "oauth/mod.rs", "#[async_trait::async_trait]"),
            (1, "oauth/mod.rs", "pub async fn a() {}"),
            (1, "oauth.rs", "tracing::info!(\"a\");"),
            (2, "session/cookies.rs", "fn a() { std::fs::read(b) }"),
            (2, "session/mod.rs", "let a = b().await;"),
            (2, "ledger/protocol.rs", "use tokio::time::sleep;"),
            (2, "ledger/view.rs", "use tokio::net::TcpStream;"),
            (2, "ledger/mod.rs", "use redis::Client;"),
            (3, "gateway/api.rs", "use pingora_http::RequestHeader;"),
            (3, "gateway/mod.rs", "fn a(b: reqwest::Error) {}"),
            (4, "admin/health.rs", "reqwest::get(a)"),
            (4, "admin/mod.rs", "use pingora::prelude::*;"),
            (4, "telemetry.rs", "std::env::var(\"A\")"),
            (4, "server.rs", "use std::env;\n"),
            (4, "session/mod.rs", "toml::from_str(a)"),
            (5, "gateway/mod.rs", "use crate::config::Config;"),
            (5, "main.rs", "use vestibule::config;"),
            (5, "proxy/mod.rs", "use crate::{clock, config::Config};"),
            (6, "gateway/broker.rs", "let now = SystemTime::now();"),
            (6, "server.rs", "let now = Instant::now();"),
            (6, "session/keyring.rs", "getrandom::fill(&mut key)"),
            (6, "oauth/pkce.rs", "OsRng.fill_bytes(&mut a)"),
            (7, "gateway/mod.rs", "static A: Mutex<u8> = Mutex::new(0);"),
            (7, "telemetry.rs", "pub(crate) static A:\n    std::sync::atomic::AtomicU64 = b;"),
            (7, "telemetry.rs", "static mut A: u8 = 0;"),
            (7, "proxy/mod.rs", "thread_local! { a }"),
            (8, "gateway/api.rs", "Response::builder().status(401)"),
            (8, "gateway/user.rs", "reply(StatusCode::UNAUTHORIZED, body)"),
            (8, "gateway/user.rs", "StatusCode::from_u16(401)"),
            (8, "proxy/mod.rs", "*response.status_mut() = a;"),
            (8, "proxy/mod.rs", "ResponseHeader::build(200, None)"),
            (8, "gateway/login.rs", "headers.append(SET_COOKIE, a)"),
            (8, "proxy/mod.rs", "header.append_header(\"Set-Cookie\", a)"),
        ];
        for (rule, path, text) in planted {
            let padded = format!("//! A file.\n\n{text}\n");
            let found = broken(path, &padded);
            assert!(found.contains(&(rule, 3)), "{path}: {text}: {found:?}");
        }
        let long = "a;\n".repeat(MOST_CODE_LINES + 1);
        assert_eq!(broken("a.rs", &long), [(0, 1)]);
    }

    #[test]
    fn what_only_looks_like_a_violation_is_left_alone() {
        let innocent = [
            ("oauth/mod.rs", "//! No tokio, no async.\nlet asynchronous = \"reqwest\"; /* pingora */"),
            ("oauth/token.rs", "if response.status() == StatusCode::OK {}"),
            ("issuer/transport.rs", "Err(StatusCode::TOO_MANY_REQUESTS) => reqwest::a()"),
            ("session/mod.rs", "#[cfg(test)]\nmod tests {\n    use tokio::time; static A: Mutex<u8> = b;\n}"),
            ("ledger/redis.rs", "use redis::Client; use tokio::net::TcpStream;"),
            ("ledger/redis/script.rs", "redis::Script::new(a)"),
            ("ledger/mod.rs", "mod redis;\npub use self::redis::RedisStore; use tokio::time::sleep;"),
            ("gateway/broker.rs", "let deadline = tokio::time::Instant::now() + a;"),
            ("gateway/api.rs", "match status { StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => a, _ => b }"),
            ("gateway/api.rs", "matches!(status, StatusCode::UNAUTHORIZED)"),
            ("proxy/mod.rs", "if response.status() != http::StatusCode::OK { a(response.status().as_u16()) }"),
            ("proxy/headers.rs", "headers.get_all(http::header::SET_COOKIE)"),
            ("gateway/reply.rs", "Response::builder().status(StatusCode::OK).header(SET_COOKIE, a)"),
            ("proxy/files.rs", "Response::builder().status(StatusCode::NOT_MODIFIED)"),
            ("config/file.rs", "toml::from_str(&a)"),
            ("config/mod.rs", "use crate::config::problem::Problem; std::env::var(a)"),
            ("lib.rs", "pub mod config;"),
            ("telemetry.rs", "let level = \"pingora=warn\"; env!(\"CARGO_PKG_VERSION\")"),
            ("main.rs", "static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;"),
            ("gateway/mod.rs", "const A: &'static str = \"Mutex\"; fn b(c: &'static Mutex<u8>) {}"),
            ("clock.rs", "std::time::SystemTime::now()"),
            ("server.rs", "getrandom::fill(buffer); pingora::proxy::http_proxy(a)"),
        ];
        for (path, text) in innocent {
            assert_eq!(broken(path, text), [], "{path}: {text}");
        }
    }

    #[test]
    fn a_violation_names_file_line_and_rule() {
        let file = Source::new("gateway/api.rs", "\nuse pingora::a;");
        let report: Vec<_> = violations(&file).iter().map(ToString::to_string).collect();
        assert_eq!(
            report[0],
            "src/gateway/api.rs:2: rule 3: `gateway` names no pingora and no reqwest: it speaks plain `http` types"
        );
        assert!(report[1].starts_with("src/gateway/api.rs:2: rule 4: "), "{report:?}");
    }
}
