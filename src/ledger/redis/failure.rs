//! What went wrong, in words that say what to do, and what it means for the connection.

use redis::{ErrorKind, RedisError};

use super::super::StoreError;
use super::settings::Node;

/// What an answer says about where to go on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The server refused; the connection is good.
    Refused,
    /// It does not know the script. Nothing was done.
    UnknownScript,
    /// It is no master (any more). Nothing was done.
    NoMaster,
    /// Another node has the slot. Nothing was done.
    Moved(Node),
    /// Another node has the key already, and the slot soon. Nothing was done.
    Ask(Node),
    /// The connection is not good any more. It may have been done.
    Broken,
}

/// The word in which a server says what kind of error it is. Servers before 7 wrap an error in a script in another:
/// `ERR Error running script (call to f_…): @user_script:3: -OOM command not allowed …`.
fn code(error: &RedisError) -> Option<&str> {
    let wrapped = error.detail().and_then(|detail| {
        let (_, inner) = detail.split_once("@user_script")?.1.split_once(": -")?;
        inner.split_whitespace().next()
    });
    // In a script, what the user has no right to is told without a code of its own.
    let denied = error
        .detail()
        .is_some_and(|detail| detail.contains("can't run this command") || detail.contains("ACL failure in script"));
    match error.code() {
        Some("ERR") if denied => Some("NOPERM"),
        Some("ERR") => wrapped.or(Some("ERR")),
        code => code,
    }
}

/// What `error`, from the server at `node`, says about where to go on.
pub(super) fn verdict(node: &Node, error: &RedisError) -> Verdict {
    let target = || {
        let (host, port) = error.detail()?.split_whitespace().nth(1)?.rsplit_once(':')?;
        // An empty host is the one that answered.
        let host = if host.is_empty() { &node.host } else { host.trim_start_matches('[').trim_end_matches(']') };
        Some(Node { host: host.to_owned(), port: port.parse().ok()? })
    };
    match code(error) {
        Some("NOSCRIPT") => Verdict::UnknownScript,
        Some("READONLY" | "MASTERDOWN") => Verdict::NoMaster,
        Some("MOVED") => target().map_or(Verdict::Broken, Verdict::Moved),
        Some("ASK") => target().map_or(Verdict::Broken, Verdict::Ask),
        Some(_) => Verdict::Refused,
        None => Verdict::Broken,
    }
}

/// `error`, from the server at `node`, for people.
pub(super) fn describe(node: &Node, error: &RedisError) -> StoreError {
    let said = error.detail().unwrap_or_default();
    let text = match code(error) {
        Some("OOM") => {
            return StoreError::Full(format!("{node} has reached its maxmemory; raise it"));
        }
        Some("WRONGPASS") => WRONG_PASSWORD.to_owned(),
        Some("NOAUTH") => "it asks for a password; set ledger.password".to_owned(),
        Some("NOPERM") => {
            format!("the user may not do this ({said}); give the user of ledger.username the right, or name another")
        }
        Some("READONLY") => "it is a replica and takes no writes; name the master, or its sentinels".to_owned(),
        Some("LOADING") => "it is still loading its data".to_owned(),
        Some("MASTERDOWN") => "it is a replica that has lost its master".to_owned(),
        Some("MISCONF") => "it cannot save to its disk and refuses writes; see its log".to_owned(),
        Some("CLUSTERDOWN") => "the cluster is down: not all of its slots are served".to_owned(),
        Some("TRYAGAIN") => "the cluster is moving this slot".to_owned(),
        Some("BUSY") => "it is busy with a script of somebody else".to_owned(),
        Some("WRONGTYPE") => {
            "one of the keys holds something else; is ledger.prefix shared with another program?".to_owned()
        }
        Some(code) => format!("it answered {code} {said}"),
        None if error.kind() == ErrorKind::AuthenticationFailed => WRONG_PASSWORD.to_owned(),
        None if error.is_connection_dropped() => "the connection was closed".to_owned(),
        None => format!("{} ({said})", error.category()),
    };
    unreachable(node, &text)
}

const WRONG_PASSWORD: &str = "wrong password or user name; check ledger.password and ledger.username";

/// A failure at `node`.
pub(super) fn unreachable(node: &Node, text: &str) -> StoreError {
    StoreError::Unreachable(format!("{node}: {text}"))
}

/// Why no connection came about.
pub(super) fn not_connected(node: &Node, error: &std::io::Error) -> StoreError {
    if error.kind() == std::io::ErrorKind::ConnectionRefused {
        return unreachable(node, "connection refused; is the server running?");
    }
    unreachable(node, &error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: &str, port: u16) -> Node {
        Node { host: host.to_owned(), port }
    }

    fn error(line: &str) -> RedisError {
        let answer = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).expect("is an answer");
        answer.extract_error().expect_err("is an error")
    }

    #[test]
    fn an_answer_says_where_to_go_on() {
        let here = node("10.0.0.1", 6379);
        let verdict = |line| verdict(&here, &error(line));
        assert_eq!(verdict("NOSCRIPT No matching script."), Verdict::UnknownScript);
        assert_eq!(verdict("MOVED 3999 10.0.0.2:6381"), Verdict::Moved(node("10.0.0.2", 6381)));
        assert_eq!(verdict("MOVED 3999 :6381"), Verdict::Moved(node("10.0.0.1", 6381)));
        assert_eq!(verdict("ASK 3999 fd00::2:6381"), Verdict::Ask(node("fd00::2", 6381)));
        assert_eq!(verdict("READONLY You can't write against a read only replica."), Verdict::NoMaster);
        assert_eq!(verdict("ERR unknown"), Verdict::Refused);
    }

    /// The form in which Redis 6.2 reports what its scripts run into.
    #[test]
    fn an_error_within_a_script_of_an_older_server_is_recognised() {
        let within = |line| {
            error(&format!(
                "ERR Error running script (call to f_0123456789abcdef): @user_script:18: @user_script: 18: {line}"
            ))
        };
        let here = node("redis", 6379);
        assert_eq!(
            verdict(&here, &within("-READONLY You can't write against a read only replica.")),
            Verdict::NoMaster
        );
        let full = StoreError::Full("redis:6379 has reached its maxmemory; raise it".to_owned());
        assert_eq!(describe(&here, &within("-OOM command not allowed when used memory > 'maxmemory'.")), full);
    }

    #[test]
    fn a_refusal_names_the_server_and_the_way_out() {
        let text = |line| describe(&node("::1", 6379), &error(line)).to_string();
        assert_eq!(
            text("WRONGPASS invalid username-password pair or user is disabled."),
            "the ledger cannot be reached: [::1]:6379: wrong password or user name; check ledger.password and \
             ledger.username"
        );
        assert!(text("NOPERM this user has no permissions to run the 'xread' command").contains("'xread'"));
        assert!(text("MISCONF Redis is configured to save RDB snapshots").contains("cannot save to its disk"));
        assert!(text("CLUSTERDOWN Hash slot not served").contains("not all of its slots"));
        assert!(text("LOADING Redis is loading the dataset in memory").contains("still loading"));
    }
}
