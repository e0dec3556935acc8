//! Bytes that cannot change unnoticed.
//!
//! Typed digests, one canonical encoding, hash chains, an append-only log file, an audit log with an RFC 6962
//! tree under signed heads, keys, and content-addressed objects. The crate knows nothing of tasks, tensors or
//! metrics.
//!
//! # Invariants
//! - What a function returned without an error is durable, and is found again or reported as damaged.
//! - Bytes that were read are bounded by [`limits`] before they are used; corruption is an error with an offset.
//! - No clock but [`clock`], and no time in anything that a chain covers.
//!
//! # Where to start
//! [`Store`] opens the folder that holds everything; [`chain::Chain`] links entries; [`log::LogWriter`] keeps
//! them; [`events::AuditLog`] says who did what under a signed head; [`objects::Objects`] holds contents.
//!
//! ```
//! use bitproof_core_ledger::chain::Chain;
//!
//! let mut ledger = Chain::bound_to(&[0; 32]);
//! let records = [ledger.push(b"first"), ledger.push(b"second")];
//!
//! let mut check = Chain::bound_to(&[0; 32]);
//! assert_eq!(check.accept(&records[0])?, b"first");
//! assert!(check.clone().accept(&records[0]).is_err());
//! check.accept(&records[1])?;
//! assert_eq!(check.head(), ledger.head());
//! # Ok::<(), bitproof_core_ledger::chain::ChainError>(())
//! ```

pub mod canon;
pub mod chain;
pub mod clock;
pub mod digest;
pub mod dsse;
pub mod events;
pub mod file_stat;
pub mod files;
pub mod folder;
pub mod growth_proof;
pub mod inventory;
pub mod keyring;
pub mod keys;
pub mod limits;
pub mod log;
pub mod merkle;
pub mod note;
pub mod objects;
pub mod sha256;
pub mod signature;
pub mod signed_log;
pub mod statement;
pub mod storage;
pub mod store;
pub mod tlog_proof;
pub mod tree_hash;

pub use digest::{Content, Digest};
pub use store::Store;
