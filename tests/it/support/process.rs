//! Programs that run for one test: each in a folder of its own, and gone when the test is.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A running program. Dropping it kills the program with all that it has started, and deletes its folder.
pub(crate) struct Process {
    name: String,
    child: Child,
    lines: UnboundedReceiver<String>,
    transcript: Arc<Mutex<String>>,
    folder: TempDir,
    readers: JoinSet<()>,
}

impl Process {
    /// Starts `command` in a new, empty folder.
    pub(crate) fn start(command: Command) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), command)
    }

    /// Starts `command` in `folder`, for programs whose files have to be there before.
    pub(crate) fn start_in(folder: TempDir, mut command: Command) -> Self {
        let name = command.as_std().get_program().to_string_lossy().into_owned();
        // What it leaves lying about goes with its folder.
        command.current_dir(folder.path()).env("TMPDIR", folder.path());
        command.kill_on_drop(true).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let transcript = Arc::default();
        let (sender, lines) = unbounded_channel();
        let mut readers = JoinSet::new();
        readers.spawn(read(child.stdout.take().unwrap(), Arc::clone(&transcript), Some(sender)));
        readers.spawn(read(child.stderr.take().unwrap(), Arc::clone(&transcript), None));
        Self { name, child, lines, transcript, folder, readers }
    }

    /// Waits for the first line on standard output, not seen before, for which `wanted` returns something.
    ///
    /// Panics with all that the program has said if there is none before `deadline` or the program's end.
    pub(crate) async fn line<T>(&mut self, deadline: Duration, mut wanted: impl FnMut(&str) -> Option<T>) -> T {
        let search = async {
            while let Some(line) = self.lines.recv().await {
                if let Some(found) = wanted(&line) {
                    return Some(found);
                }
            }
            None
        };
        match timeout(deadline, search).await {
            Ok(Some(found)) => found,
            Ok(None) => panic!("{} ended before it was ready:\n{}", self.name, self.output()),
            Err(_) => panic!("{} was not ready within {deadline:?}:\n{}", self.name, self.output()),
        }
    }

    /// Everything the program has written so far, standard output and standard error together.
    pub(crate) fn output(&self) -> String {
        self.transcript.lock().unwrap().clone()
    }

    /// Everything the program has written until its end, which it has to have come to.
    pub(crate) async fn rest(&mut self) -> String {
        while self.readers.join_next().await.is_some() {}
        self.output()
    }

    /// The folder in which the program runs.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().unwrap_or_else(|| panic!("{} has ended", self.name))
    }

    /// Sends a signal by name, such as `TERM`, to the program alone.
    pub(crate) fn signal(&self, name: &str) {
        assert!(kill(name, &self.id().to_string()), "could not send SIG{name} to {}", self.name);
    }

    /// The program's standard input. It closes when what is returned here is dropped.
    pub(crate) fn take_stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    /// Waits for the program's end.
    pub(crate) async fn exit(&mut self, deadline: Duration) -> ExitStatus {
        match timeout(deadline, self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(_) => panic!("{} still runs after {deadline:?}:\n{}", self.name, self.output()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Once it was waited for, its id may belong to somebody else.
        if let Some(id) = self.child.id() {
            kill("KILL", &format!("-{id}"));
        }
    }
}

async fn read(stream: impl AsyncRead + Unpin, transcript: Arc<Mutex<String>>, lines: Option<UnboundedSender<String>>) {
    let mut stream = BufReader::new(stream).split(b'\n');
    while let Ok(Some(line)) = stream.next_segment().await {
        let line = String::from_utf8_lossy(&line).into_owned();
        transcript.lock().unwrap().extend([line.as_str(), "\n"]);
        // Whoever no longer waits for lines still wants the program's pipes emptied.
        if let Some(lines) = &lines {
            lines.send(line).ok();
        }
    }
}

/// Whether the signal could be sent. The shell's own `kill` is there on every machine, the program is not.
fn kill(signal: &str, target: &str) -> bool {
    let script = r#"kill -s "$1" -- "$2""#;
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script, "kill", signal, target]).stderr(Stdio::null()).status().unwrap().success()
}

mod tests {
    use std::time::Duration;

    use tokio::process::Command;

    use super::{Process, kill};
    use crate::support::PATIENCE;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start(command)
    }

    #[tokio::test]
    async fn a_line_is_waited_for_and_the_rest_is_kept() {
        let mut process = shell("echo one; echo oops >&2; echo ready 42; pwd; read answer; exit $answer");
        let number = process.line(PATIENCE, |line| line.strip_prefix("ready ")?.parse::<u32>().ok()).await;
        assert_eq!(number, 42);
        let folder = process.folder().canonicalize().unwrap();
        process.line(PATIENCE, |line| (line == folder.to_str().unwrap()).then_some(())).await;
        assert!(process.output().contains("one\n"));

        let mut stdin = process.take_stdin();
        tokio::io::AsyncWriteExt::write_all(&mut stdin, b"7\n").await.unwrap();
        assert_eq!(process.exit(PATIENCE).await.code(), Some(7));
        assert!(process.output().contains("oops\n"));
    }

    #[tokio::test]
    #[should_panic(expected = "sh ended before it was ready:\nno such luck\n")]
    async fn a_program_that_never_gets_ready_is_quoted() {
        shell("echo no such luck").line(PATIENCE, |_| None::<()>).await;
    }

    #[tokio::test]
    async fn dropping_a_process_ends_its_children_too() {
        let mut process = shell("sleep 600 & echo $!; wait");
        let grandchild = process.line(PATIENCE, |line| line.parse::<u32>().ok()).await.to_string();
        assert!(kill("0", &grandchild), "it runs");
        drop(process);
        let gone = async {
            while is_running(&grandchild) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.unwrap();
    }

    #[tokio::test]
    async fn a_signal_reaches_the_program() {
        let mut process = shell("trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done");
        process.line(PATIENCE, |line| (line == "ready").then_some(())).await;
        process.signal("TERM");
        assert_eq!(process.exit(PATIENCE).await.code(), Some(3));
    }

    /// An orphan that has ended may stay in the process table until somebody asks for its status.
    fn is_running(id: &str) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        status.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with(['Z', 'X'])) && !status.is_empty()
    }
}
