//! How far a command is kept from what it does not declare, and what this machine can do about it.
//!
//! | tier | reads | writes | network | paths |
//! |---|---|---|---|---|
//! | `strict` | nothing else exists | its folder, a `/tmp` of its own | none | `/bitproof` on every machine |
//! | `landlock` | refused elsewhere; that a file exists, and its size, can be seen | its folder and `$TMPDIR` | no TCP; UDP and Unix sockets are open on kernels before 7.1 | the machine's |
//! | `none` | everything | everything | everything | the machine's |
//!
//! `best` is `landlock` where the kernel has it, else `none`. It is not `strict`, whose start takes some 5 ms and needs a program that
//! is not everywhere: a result must not hang on what is installed, and a run of a thousand small stages not on their starts.
//!
//! In every tier a command reads the system: [`SYSTEM`], `/proc`, and the devices of accelerators.

use super::spec::Isolation;

#[cfg(target_os = "linux")]
pub(super) mod bubblewrap;
#[cfg(target_os = "linux")]
pub(super) mod landlock;

/// What every command may read and execute, where it is there: programs, libraries and the configuration that they
/// read themselves, but no file of any user.
pub const SYSTEM: [&str; 43] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/crypto-policies",
    "/etc/debian_version",
    "/etc/fonts",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/locale.alias",
    "/etc/locale.conf",
    "/etc/localtime",
    "/etc/magic",
    "/etc/magic.mime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/OpenCL",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki",
    "/etc/protocols",
    "/etc/python3",
    "/etc/services",
    "/etc/ssl",
    "/etc/terminfo",
    "/etc/vulkan",
    "/sys/bus",
    "/sys/class",
    "/sys/dev",
    "/sys/devices",
    "/sys/fs/cgroup",
];

/// How far a command was kept from what it does not declare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reached {
    /// Not at all.
    None,
    /// By Landlock.
    Landlock {
        /// The kernel's version of it: truncation is refused from 3, TCP from 4, signals and abstract sockets from 6.
        abi: u32,
    },
    /// By bubblewrap.
    Bubblewrap {
        /// What it calls its version.
        version: String,
    },
}

/// An isolation that is not to be had on this machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("isolation = \"{demanded}\" cannot be reached here: {why}\n  hint: {hint}")]
pub struct Unmet {
    /// What is demanded.
    pub demanded: Isolation,
    /// Why not.
    pub why: String,
    /// What to do.
    pub hint: &'static str,
}

/// What this machine can do of what is demanded. It is found out once.
///
/// # Errors
/// [`Unmet`].
pub fn reach(demanded: Isolation) -> Result<Reached, Unmet> {
    match demanded {
        Isolation::None => Ok(Reached::None),
        Isolation::Best => Ok(landlock_abi().map_or(Reached::None, |abi| Reached::Landlock { abi })),
        Isolation::Landlock => landlock_abi().map(|abi| Reached::Landlock { abi }).ok_or_else(|| Unmet {
            demanded,
            why: "this kernel has no Landlock".to_owned(),
            hint: "Linux 5.13 has it, where it is switched on (lsm=…,landlock); isolation = \"best\" takes what there is",
        }),
        Isolation::Strict => bubblewrap_here(demanded),
    }
}

fn landlock_abi() -> Option<u32> {
    #[cfg(target_os = "linux")]
    {
        static ABI: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
        Some(*ABI.get_or_init(super::spawn::landlock_abi)).filter(|abi| *abi > 0)
    }
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(target_os = "linux")]
fn bubblewrap_here(demanded: Isolation) -> Result<Reached, Unmet> {
    static VERSION: std::sync::OnceLock<Result<String, (String, &'static str)>> = std::sync::OnceLock::new();
    match VERSION.get_or_init(bubblewrap::probe) {
        Ok(version) => Ok(Reached::Bubblewrap { version: version.clone() }),
        Err((why, hint)) => Err(Unmet { demanded, why: why.clone(), hint }),
    }
}

#[cfg(not(target_os = "linux"))]
fn bubblewrap_here(demanded: Isolation) -> Result<Reached, Unmet> {
    let why = "bubblewrap needs Linux".to_owned();
    Err(Unmet {
        demanded,
        why,
        hint: "run it on Linux, or in a container; isolation = \"best\" takes what there is",
    })
}

/// Devices that compute, with what drives them.
#[cfg(target_os = "linux")]
fn accelerators() -> Vec<std::path::PathBuf> {
    let known = |name: &str| name.starts_with("nvidia") || ["dri", "kfd", "accel"].contains(&name);
    let listed = std::fs::read_dir("/dev").into_iter().flatten().flatten();
    let found = listed.filter(|entry| entry.file_name().to_str().is_some_and(known));
    found.map(|entry| entry.path()).collect()
}
