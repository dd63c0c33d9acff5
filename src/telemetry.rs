//! What the program says of itself: one subscriber for `tracing`, which hears `log` too.

use std::io;

use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, fmt};

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// The form of a line.
    pub format: LogFormat,
    /// Which lines there are.
    pub level: LogLevel,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// Which events are logged: a level, or several for parts of the program, as in `info,vestibule::gateway=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevel(String);

impl Default for LogLevel {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl LogLevel {
    /// Reads the directives of `tracing_subscriber`'s filter.
    ///
    /// # Errors
    /// If they are none, or a level is misspelt.
    pub fn parse(text: &str) -> Result<Self, InvalidLogLevel> {
        // A lone word that is no level would be taken for the name of a part, and all other parts would fall silent.
        let is_level = |part: &str| !part.is_empty() && part.parse::<LevelFilter>().is_ok();
        let is_misspelt = |part: &str| !part.contains(['=', '[']) && !is_level(part.trim());
        if text.split(',').any(is_misspelt) || EnvFilter::builder().parse(text).is_err() {
            return Err(InvalidLogLevel);
        }
        Ok(Self(text.to_owned()))
    }

    fn filter(&self) -> EnvFilter {
        EnvFilter::builder().parse_lossy(&self.0)
    }
}

/// The text is no log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is neither a level nor a list of directives")]
pub struct InvalidLogLevel;

/// Somebody else has taken over logging before: it can be done once in a process.
#[derive(Debug, thiserror::Error)]
#[error("logging has been set up already in this process")]
pub struct AlreadySet(#[from] TryInitError);

/// Logs to standard error from now on.
///
/// # Errors
/// If the process has a subscriber or a logger already.
pub fn init(settings: &LogSettings) -> Result<(), AlreadySet> {
    install(settings, io::stderr)
}

fn install<W>(settings: &LogSettings, writer: W) -> Result<(), AlreadySet>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    Ok(subscriber(settings, writer).try_init()?)
}

fn subscriber<W>(settings: &LogSettings, writer: W) -> impl Subscriber + Send + Sync + 'static
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = match settings.format {
        LogFormat::Text => fmt::layer().with_ansi(false).with_writer(writer).boxed(),
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(writer).boxed(),
    };
    tracing_subscriber::registry().with(settings.level.filter()).with(filter_fn(is_fit_to_print)).with(lines)
}

/// Whatever the settings say, other people's code is not asked for details: it does not know which of the bytes that it
/// handles are secret. Pingora prints bearers and query strings below info, and at info every broken connection.
fn is_fit_to_print(event: &Metadata<'_>) -> bool {
    let target = event.target();
    let of = |name: &str| target.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    let most = if ["vestibule", "audit"].into_iter().any(of) {
        LevelFilter::TRACE
    } else if target.starts_with("pingora") {
        LevelFilter::WARN
    } else {
        LevelFilter::INFO
    };
    *event.level() <= most
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn settings(format: LogFormat, level: &str) -> LogSettings {
        LogSettings { format, level: LogLevel::parse(level).expect(level) }
    }

    impl Page {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("no panic").clone()).expect("text")
        }
    }

    fn logged(settings: &LogSettings, events: impl Fn()) -> String {
        let page = Page::default();
        let writer = page.clone();
        tracing::subscriber::with_default(subscriber(settings, move || writer.clone()), events);
        page.text()
    }

    #[test]
    fn details_of_other_peoples_code_are_never_logged() {
        // BCP-4.9-01
        let text = logged(&settings(LogFormat::Text, "trace,pingora_core=trace,hyper=trace"), || {
            tracing::trace!(target: "vestibule::gateway", "ours in detail");
            tracing::debug!(target: "audit", "an audit event");
            tracing::warn!(target: "pingora_core::protocols", "worth a warning");
            tracing::info!(target: "pingora_proxy", "authorization: Bearer canary");
            tracing::info!(target: "hyper::client", "worth knowing");
            tracing::debug!(target: "hyper::client", "canary");
            tracing::debug!(target: "vestibule_like", "canary");
        });
        for kept in ["ours in detail", "an audit event", "worth a warning", "worth knowing"] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
        assert!(!text.contains("canary"), "{text}");
    }

    #[test]
    fn the_level_decides_about_our_own() {
        let events = || {
            tracing::debug!(target: "vestibule::gateway", "detail");
            tracing::info!(target: "vestibule", "news");
        };
        assert!(!logged(&settings(LogFormat::Text, "info"), events).contains("detail"));
        assert!(logged(&settings(LogFormat::Text, "info,vestibule::gateway=debug"), events).contains("detail"));
        assert_eq!(logged(&settings(LogFormat::Text, "off"), events), "");
    }

    #[test]
    fn machines_get_one_json_object_a_line() {
        let text = logged(&settings(LogFormat::Json, "info"), || {
            tracing::info!(target: "audit", reason = "idle", "session.ended");
            tracing::info!(target: "audit", "login.started\nforged");
        });
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[0]["message"], &lines[0]["reason"]), (&"session.ended".into(), &"idle".into()));
    }

    #[test]
    fn a_misspelt_level_is_refused() {
        for good in ["info", "WARN", "off", "info,vestibule::gateway=debug", "warn,audit=info"] {
            assert!(LogLevel::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "wran", "info,", "verbose", "vestibule=loud", "info;debug"] {
            assert!(LogLevel::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn it_is_set_up_once_and_then_hears_the_other_way_of_logging_too() {
        let page = Page::default();
        let writer = page.clone();
        let settings = settings(LogFormat::Text, "trace");
        install(&settings, move || writer.clone()).expect("the only test that does this");
        log::info!(target: "pingora_core::apps", "authorization: Bearer canary");
        log::warn!(target: "pingora_core::apps", "worth a warning");
        let text = page.text();
        assert!(text.contains("worth a warning") && !text.contains("canary"), "{text}");
        assert!(init(&settings).is_err());
    }
}
