//! What a part of a test makes the server log.

use std::future::Future;
use std::io::Write;
use std::sync::{Arc, Mutex};

use tracing::instrument::WithSubscriber;
use tracing_subscriber::layer::SubscriberExt;

/// A page on which everything is written down that is logged.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Runs `life` on one thread and writes down what is logged meanwhile, by the tasks of its servers too.
    pub(crate) fn hears<T>(&self, life: impl Future<Output = T>) -> T {
        let writer = self.clone();
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        let only = tracing_subscriber::filter::filter_fn(|event| {
            ["vestibule", "audit", "access"].iter().any(|ours| event.target().starts_with(ours))
        });
        let subscriber = tracing_subscriber::registry().with(only).with(lines);
        // While there is only one subscriber, an event that other tests come to first is switched off for it too.
        let _second = tracing::Dispatch::new(tracing_subscriber::registry());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tracing::subscriber::with_default(subscriber, || runtime.block_on(life.with_current_subscriber()))
    }

    /// All that has been written.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// What has been written since the text was this long, in bytes.
    pub(crate) fn since(&self, length: usize) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()[length..]).into_owned()
    }

    /// How long the text is, in bytes.
    pub(crate) fn length(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
