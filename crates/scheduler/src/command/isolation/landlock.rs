//! The ruleset that a command is held to in the tier `landlock`.
//!
//! What the kernel is too old for is left out; which version it has is evidence.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use landlock::{
    path_beneath_rules, Access, AccessFs, AccessNet, BitFlags, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, Scope, ABI,
};

use super::{accelerators, SYSTEM};

/// The newest version whose restrictions are asked for. Whatever it can refuse and no rule below allows is refused.
const NEWEST: ABI = ABI::V10;
/// What a command writes to and reads from that is no file.
const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// The ruleset of a command that reads `tools` and whose own folders are `own`.
pub(in crate::command) fn ruleset(
    tools: &BTreeSet<PathBuf>,
    own: [&Path; 2],
) -> Result<Option<OwnedFd>, RulesetError> {
    let read = AccessFs::from_read(NEWEST);
    let device = AccessFs::ReadFile | AccessFs::WriteFile;
    // A device file would be a way around every rule, for those who may make one.
    let everything: BitFlags<AccessFs> =
        AccessFs::from_all(NEWEST) & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev);
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rules(path_beneath_rules(SYSTEM, read))?
        .add_rules(path_beneath_rules(["/proc"], read))?
        .add_rules(path_beneath_rules(tools, read))?
        .add_rules(path_beneath_rules(DEVICES, device))?
        .add_rules(path_beneath_rules(accelerators(), device | AccessFs::ReadDir | AccessFs::IoctlDev))?
        .add_rules(path_beneath_rules(own, everything))?;
    Ok(ruleset.into())
}
