//! Starting a program so that nothing of it outlives its stage: the one file of this crate with unsafe code.
//!
//! Between fork and exec the new process forks once more. One half goes on to exec. The other is its *supervisor*: it adopts
//! every descendant that loses its parent, whatever session a daemon put itself into, waits for the program, kills
//! what is left of its descendants, and ends as the program ended. What waits for the supervisor therefore waits for all of them.
//!
//! | signal to the supervisor | what it does |
//! |---|---|
//! | SIGTERM | passes it on to the program's process group |
//! | SIGHUP, also sent by the kernel when the thread that spawned it ends | kills every descendant |
//! | others | nothing; it is in the terminal's foreground group and ignores its keys |
//!
//! A supervisor that is itself killed takes the program with it, but not the program's daemons; Landlock keeps the program from
//! doing that, and in bubblewrap they end with their namespace. It keeps a view of the memory that this process had when it was forked,
//! so pages written to later are held twice until the stage ends.

#![expect(unsafe_code, reason = "what happens between fork and exec has no safe interface")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

use libc::{c_int, c_uint, pid_t, sigset_t};

/// What the program is started with besides what [`Command`] says.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// The Landlock ruleset that it is held to.
    pub(super) ruleset: Option<OwnedFd>,
    /// A file that stays open in it, under the same number.
    pub(super) inherited: Option<OwnedFd>,
}

/// Puts a supervisor between this process and the program that `command` starts, and the program into a session of its own,
/// with default signals, no file but the standard ones, no privileges to gain and no core file.
///
/// The thread that spawns it must wait for it: the supervisor ends with that thread.
pub(super) fn supervise(command: &mut Command, entry: Entry) {
    let this = std::process::id();
    let before_exec = move || {
        let ruleset = entry.ruleset.as_ref().map(AsRawFd::as_raw_fd);
        let inherited = entry.inherited.as_ref().map(AsRawFd::as_raw_fd);
        // SAFETY: it runs between fork and exec, where `pre_exec` calls it.
        unsafe { enter(this.cast_signed(), ruleset, inherited) }
    };
    // SAFETY: `enter` makes system calls alone: it allocates nothing, takes no lock and cannot panic. The files whose numbers
    // it uses belong to the closure, so they are open. Its one library function that is more than a system call is `fork`, which POSIX.1-2017
    // lists as safe here; glibc and musl release their own locks in the child of the fork that came before.
    unsafe { command.pre_exec(before_exec) };
}

/// The newest version of Landlock that the kernel speaks; 0 for none.
pub(super) fn landlock_abi() -> u32 {
    const VERSION: c_uint = 1;
    // SAFETY: with this flag the kernel reads no memory and opens nothing.
    let abi = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, ptr::null::<u8>(), 0usize, VERSION) };
    u32::try_from(abi).unwrap_or(0)
}

/// # Safety
/// Between fork and exec only: it changes the whole process, and one half of it does not return.
unsafe fn enter(spawner: pid_t, ruleset: Option<RawFd>, inherited: Option<RawFd>) -> io::Result<()> {
    // SAFETY: plain system calls on this process, with pointers to variables that outlive them.
    unsafe {
        // Also for the supervisor, which ends by the program's signal.
        let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        check(libc::setrlimit(libc::RLIMIT_CORE, &no_core))?;
        check(libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))?;
        let mut every = MaybeUninit::uninit();
        libc::sigfillset(every.as_mut_ptr());
        check(libc::sigprocmask(libc::SIG_SETMASK, every.as_ptr(), ptr::null_mut()))?;
        let supervisor = libc::getpid();
        match check(libc::fork())? {
            0 => become_program(supervisor, ruleset, inherited),
            program => become_supervisor(spawner, program),
        }
    }
}

/// # Safety
/// As for [`enter`], in the half that goes on to exec.
unsafe fn become_program(
    supervisor: pid_t,
    ruleset: Option<RawFd>,
    inherited: Option<RawFd>,
) -> io::Result<()> {
    const SIGNALS: c_int = 64;
    const CLOEXEC: c_uint = 4;
    // SAFETY: plain system calls on this process, with pointers to variables that outlive them.
    unsafe {
        check(libc::setsid())?;
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0))?;
        if libc::getppid() != supervisor {
            // It ended before it could be followed.
            libc::_exit(1);
        }
        // An ignored signal would stay ignored. Some have no disposition; those stay as they are.
        for signal in 1..=SIGNALS {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none = MaybeUninit::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        check(libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut()))?;
        libc::umask(0o022);
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        // What a caller of this process left open must not become an undeclared input.
        if libc::syscall(libc::SYS_close_range, 3, c_uint::MAX, CLOEXEC) < 0 {
            for fd in 3..open_files_limit() {
                libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
        if let Some(inherited) = inherited {
            check(libc::fcntl(inherited, libc::F_SETFD, 0))?;
        }
        if let Some(ruleset) = ruleset {
            if libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0) < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }
}

/// # Safety
/// As for [`enter`], in the half that stays; every signal is blocked.
unsafe fn become_supervisor(spawner: pid_t, program: pid_t) -> ! {
    // SAFETY: plain system calls on this process and its children, with pointers to variables that outlive them.
    unsafe {
        // Among them the locks of this process, and the pipe whose closing says that exec succeeded.
        if libc::syscall(libc::SYS_close_range, 0, c_uint::MAX, 0) < 0 {
            for fd in 0..open_files_limit() {
                libc::close(fd);
            }
        }
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGHUP, 0, 0, 0);
        let mut kill_all = libc::getppid() != spawner;
        // Where it is ignored, children vanish without being waited for.
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        let mut ended = None;
        let mut awaited = MaybeUninit::uninit();
        libc::sigemptyset(awaited.as_mut_ptr());
        let mut awaited = awaited.assume_init();
        for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGHUP] {
            libc::sigaddset(&mut awaited, signal);
        }
        while !kill_all {
            reap(program, &mut ended);
            if ended.is_some() {
                break;
            }
            match libc::sigwaitinfo(&awaited, ptr::null_mut()) {
                libc::SIGHUP => kill_all = true,
                libc::SIGTERM => {
                    libc::kill(-program, libc::SIGTERM);
                }
                _ => (),
            }
        }
        kill_descendants(program, &mut ended, &awaited);
        end_as(ended)
    }
}

/// Whether there are children still.
///
/// # Safety
/// In the supervisor only: it takes the status of every child.
unsafe fn reap(program: pid_t, ended: &mut Option<c_int>) -> bool {
    loop {
        let mut status = 0;
        // SAFETY: it writes to `status` alone.
        match unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) } {
            0 => return true,
            pid if pid == program => *ended = Some(status),
            pid if pid > 0 => (),
            _ => return false,
        }
    }
}

/// Kills until nothing is left. A descendant whose parent ended becomes a child, so in the end every one is a child.
///
/// # Safety
/// In the supervisor only.
unsafe fn kill_descendants(program: pid_t, ended: &mut Option<c_int>, awaited: &sigset_t) {
    // A list may lack a child while others end: look again, though nothing more is heard.
    let pause = libc::timespec { tv_sec: 0, tv_nsec: 10_000_000 };
    // SAFETY: plain system calls on children, with pointers to variables that outlive them.
    unsafe {
        while reap(program, ended) {
            if !kill_children() {
                libc::kill(-program, libc::SIGKILL);
                if ended.is_some() {
                    return;
                }
            }
            libc::sigtimedwait(awaited, ptr::null_mut(), &pause);
        }
    }
}

/// Kills every child that the kernel lists; `false` where there is no list.
///
/// # Safety
/// In the supervisor only: a child that is listed has not been waited for, so its number is its own.
unsafe fn kill_children() -> bool {
    let mut list = [0u8; 4096];
    // SAFETY: the path ends with a zero byte, and at most as many bytes are read as the buffer has.
    let length = unsafe {
        let fd = libc::open(c"/proc/thread-self/children".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return false;
        }
        let length = libc::read(fd, list.as_mut_ptr().cast(), list.len());
        libc::close(fd);
        length
    };
    let mut pid: pid_t = 0;
    for byte in list.iter().take(usize::try_from(length).unwrap_or(0)) {
        if byte.is_ascii_digit() {
            pid = pid.wrapping_mul(10).wrapping_add(pid_t::from(byte - b'0'));
        } else {
            // A number that the buffer cut has no space after it; its turn comes when others are gone.
            if pid > 0 {
                // SAFETY: it is a child's.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            pid = 0;
        }
    }
    true
}

/// Ends with the program's exit code, or by its signal.
///
/// # Safety
/// In the supervisor only.
unsafe fn end_as(ended: Option<c_int>) -> ! {
    // SAFETY: plain system calls on this process, with pointers to variables that outlive them.
    unsafe {
        let Some(status) = ended else { libc::_exit(1) };
        if libc::WIFEXITED(status) {
            libc::_exit(libc::WEXITSTATUS(status));
        }
        let signal = libc::WTERMSIG(status);
        libc::signal(signal, libc::SIG_DFL);
        let mut none = MaybeUninit::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::kill(libc::getpid(), signal);
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
        libc::_exit(128 + signal)
    }
}

/// Where the search for open files ends on a kernel that cannot close a range of them (before 5.11).
fn open_files_limit() -> c_int {
    const MOST: libc::rlim_t = 1 << 20;
    let mut limit = libc::rlimit { rlim_cur: MOST, rlim_max: MOST };
    // SAFETY: it writes to `limit` alone.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    limit.rlim_cur.min(MOST) as c_int
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
