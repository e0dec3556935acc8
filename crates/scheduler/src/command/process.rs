//! A program at work: what it prints is read, its time and the wish to stop are watched, and its end is waited for.

use std::io::{self, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

use super::capture::Captured;
use crate::cancel::Cancel;

/// How long a program has to end by itself when it is told to.
pub const GRACE: Duration = Duration::from_secs(2);
/// How long the killing of everything may take before its supervisor is given up.
const KILLING: Duration = Duration::from_secs(20);

/// The supervisor's word for it, where there is one.
const KILL_ALL: Signal = if cfg!(target_os = "linux") { Signal::HUP } else { Signal::KILL };

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// Why a program was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    TimedOut,
    Cancelled,
}

/// A program that has ended, with all its descendants.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) exit: Exit,
    pub(super) stopped: Option<Stopped>,
    pub(super) stdout: Captured,
    pub(super) stderr: Captured,
    /// Whether what it printed was read to the end; something that could not be killed may keep it open.
    pub(super) read_to_end: bool,
}

/// How many programs run.
static RUNNING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// Counts a program for as long as it lives.
struct Counted;

impl Counted {
    fn new() -> Self {
        *RUNNING.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        *RUNNING.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        RUNNING.1.notify_all();
    }
}

/// Waits until no command runs in this process, at most so long. For whoever is about to end it: a command that runs then is
/// ended with it.
pub fn wait_for_all(patience: Duration) {
    let running = RUNNING.0.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = RUNNING.1.wait_timeout_while(running, patience, |running| *running > 0);
    drop(waited.unwrap_or_else(PoisonError::into_inner));
}

/// Runs `command` until it ends by itself, `timeout` is over or `cancel` says so.
///
/// # Errors
/// When it cannot be started or watched; nothing of it runs then.
pub(super) fn run(mut command: Command, timeout: Option<Duration>, cancel: &Cancel) -> io::Result<Ended> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let _counted = Counted::new();
    let mut child = command.spawn()?;
    // What it inherits is closed here.
    drop(command);
    let watched = Watched::new(&mut child).and_then(|watched| watched.wait(timeout, cancel));
    if watched.is_err() {
        send(Pid::from_child(&child), KILL_ALL);
    }
    let status = child.wait()?;
    let (stopped, [stdout, stderr], read_to_end) = watched?;
    use std::os::unix::process::ExitStatusExt as _;
    let exit = status.code().map_or_else(|| Exit::Signal(status.signal().unwrap_or(0)), Exit::Code);
    Ok(Ended { exit, stopped, stdout, stderr, read_to_end })
}

enum Event {
    Ended,
    Cancelled,
}

struct Watched {
    pid: Pid,
    events: Receiver<Event>,
    sender: Sender<Event>,
    streams: [Arc<Mutex<Captured>>; 2],
    /// Disconnected when both streams are at their end.
    open: Receiver<()>,
}

impl Watched {
    fn new(child: &mut Child) -> io::Result<Self> {
        let pid = Pid::from_child(child);
        let (sender, events) = mpsc::channel();
        let ended = sender.clone();
        start("await command", move || {
            // Not reaped: until then its number is not given to another.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            let _ = rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::Pid(pid), options));
            let _ = ended.send(Event::Ended);
        })?;
        let (reading, open) = mpsc::channel();
        let stdout = read(child.stdout.take(), reading.clone())?;
        let stderr = read(child.stderr.take(), reading)?;
        Ok(Self { pid, events, sender, streams: [stdout, stderr], open })
    }

    fn wait(
        self,
        timeout: Option<Duration>,
        cancel: &Cancel,
    ) -> io::Result<(Option<Stopped>, [Captured; 2], bool)> {
        let cancelled = self.sender.clone();
        let subscription = cancel.subscribe(move || cancelled.send(Event::Cancelled).unwrap_or_default());
        let first = match timeout {
            Some(timeout) => self.events.recv_timeout(timeout),
            None => self.events.recv().map_err(RecvTimeoutError::from),
        };
        let stopped = match first {
            Ok(Event::Ended) => None,
            Ok(Event::Cancelled) => Some(Stopped::Cancelled),
            Err(_) => Some(Stopped::TimedOut),
        };
        if let Some(stopped) = stopped {
            tracing::debug!(?stopped, "stopping the command");
            self.stop();
        }
        drop(subscription);
        let read_to_end = matches!(self.open.recv_timeout(GRACE), Err(RecvTimeoutError::Disconnected));
        let streams = self
            .streams
            .map(|stream| std::mem::take(&mut *stream.lock().unwrap_or_else(PoisonError::into_inner)));
        Ok((stopped, streams, read_to_end))
    }

    /// Tells it to end, then makes it end.
    fn stop(&self) {
        for (signal, patience) in [(Signal::TERM, GRACE), (KILL_ALL, KILLING), (Signal::KILL, KILLING)] {
            send(self.pid, signal);
            if self.has_ended_within(patience) {
                return;
            }
        }
    }

    fn has_ended_within(&self, patience: Duration) -> bool {
        loop {
            match self.events.recv_timeout(patience) {
                Ok(Event::Ended) => return true,
                // It is being stopped already, and this comes once at most.
                Ok(Event::Cancelled) => (),
                Err(_) => return false,
            }
        }
    }
}

/// To the supervisor, where there is one, else to the program's group.
fn send(pid: Pid, signal: Signal) {
    let sent = if cfg!(target_os = "linux") {
        rustix::process::kill_process(pid, signal)
    } else {
        rustix::process::kill_process_group(pid, signal)
    };
    if let Err(error) = sent {
        tracing::debug!(%error, ?signal, "a signal was not sent");
    }
}

/// Reads a stream to its end on a thread of its own. `reading` is dropped at the end.
fn read(stream: Option<impl Read + Send + 'static>, reading: Sender<()>) -> io::Result<Arc<Mutex<Captured>>> {
    let captured = Arc::new(Mutex::new(Captured::default()));
    let shared = Arc::clone(&captured);
    start("read command", move || {
        let _reading = reading;
        let Some(mut stream) = stream else { return };
        let mut buffer = vec![0; 1 << 16];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(n) => shared.lock().unwrap_or_else(PoisonError::into_inner).push(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(_) => return,
            }
        }
    })?;
    Ok(captured)
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}
