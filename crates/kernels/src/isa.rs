use std::cell::Cell;
use std::ffi::OsStr;
use std::sync::OnceLock;

use thiserror::Error;

use crate::simd::Vectorized;

/// An instruction set that this processor has. Only detection makes one, so holding it is the proof that code compiled
/// for it may be called. It decides how fast a kernel is and never what it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Path);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    /// Any processor: the scalar code of the specification.
    Scalar,
    /// x86-64 with AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// x86-64 with AVX-512 F, DQ, BW and VL beside AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// aarch64, where fused multiply-add and NEON belong to the base architecture.
    #[cfg(target_arch = "aarch64")]
    Neon,
}

thread_local! {
    static FORCED: Cell<Option<Isa>> = const { Cell::new(None) };
}

/// `BITPROOF_ISA` asks for something that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IsaError {
    /// No instruction set of that name is known.
    #[error("BITPROOF_ISA={name} is unknown; use one of {KNOWN:?}")]
    Unknown {
        /// The value, as far as it is text.
        name: String,
    },
    /// The name is known, but this processor lacks it.
    #[error("BITPROOF_ISA={name} is not available on this processor; it has {available:?}")]
    Unavailable {
        /// The value.
        name: &'static str,
        /// What could be asked for here.
        available: Vec<&'static str>,
    },
}

/// Every name that some processor may have.
const KNOWN: [&str; 4] = ["scalar", "avx2", "avx512", "neon"];

impl Isa {
    /// The instruction set that kernels use: the best one, or what `BITPROOF_ISA` asks for. Decided once per process;
    /// a variable that cannot be obeyed is ignored here and reported by [`Isa::from_env`].
    pub fn get() -> Isa {
        static CHOICE: OnceLock<Isa> = OnceLock::new();
        FORCED
            .get()
            .unwrap_or_else(|| *CHOICE.get_or_init(|| Isa::from_env().unwrap_or_else(|_| Isa::best())))
    }

    /// Runs `f`, in which kernels called by this thread use this instruction set. The bits are the same; this is how tests
    /// show it. Kernels ask once, when they are called, so the threads that help them follow.
    #[doc(hidden)]
    pub fn force<R>(self, f: impl FnOnce() -> R) -> R {
        struct Restore(Option<Isa>);
        impl Drop for Restore {
            fn drop(&mut self) {
                FORCED.set(self.0);
            }
        }
        let _restore = Restore(FORCED.replace(Some(self)));
        f()
    }

    /// What `BITPROOF_ISA` asks for, or the best one when it is unset or empty.
    ///
    /// # Errors
    /// [`IsaError`] for an unknown name and for one that this processor lacks.
    pub fn from_env() -> Result<Isa, IsaError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one variable of this crate; it cannot change a bit"
        )]
        let value = std::env::var_os("BITPROOF_ISA");
        Isa::choose(value.as_deref())
    }

    /// All instruction sets of this processor, `scalar` first and the best one last.
    pub fn available() -> Vec<Isa> {
        let mut found = vec![Isa(Path::Scalar)];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            found.push(Isa(Path::Avx2));
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
            {
                found.push(Isa(Path::Avx512));
            }
        }
        #[cfg(target_arch = "aarch64")]
        found.push(Isa(Path::Neon));
        found
    }

    /// `scalar`, `avx2`, `avx512` or `neon`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Path::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => "avx512",
            #[cfg(target_arch = "aarch64")]
            Path::Neon => "neon",
        }
    }

    pub(crate) fn path(self) -> Path {
        self.0
    }

    /// Rows of C that the matrix product advances together: bands for threads end on multiples of it.
    pub(crate) fn tile_rows(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => 6,
            _ => 8,
        }
    }

    /// Runs a piece of work in the lanes of this instruction set; gives it back where it has none, to be done by the
    /// scalar code.
    pub(crate) fn vectorize<O: Vectorized>(self, op: O) -> Result<O::Output, O> {
        match self.0 {
            Path::Scalar => Err(op),
            #[cfg(target_arch = "x86_64")]
            Path::Avx2 => Ok(crate::x86::avx2::run(self, op)),
            #[cfg(target_arch = "x86_64")]
            Path::Avx512 => Ok(crate::x86::avx512::run(self, op)),
            #[cfg(target_arch = "aarch64")]
            Path::Neon => Ok(crate::arm::neon::run(op)),
        }
    }

    /// Runs a piece of work that the scalar path does not have.
    ///
    /// # Panics
    /// On the scalar path.
    pub(crate) fn run<O: Vectorized<Output = ()>>(self, op: O) {
        assert!(self.vectorize(op).is_ok(), "the scalar path has no lanes");
    }

    fn best() -> Isa {
        Isa::available().pop().expect("scalar is always available")
    }

    fn choose(value: Option<&OsStr>) -> Result<Isa, IsaError> {
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            return Ok(Isa::best());
        };
        let Some(&name) = KNOWN.iter().find(|&&known| value == known) else {
            return Err(IsaError::Unknown { name: value.to_string_lossy().into_owned() });
        };
        let available = Isa::available();
        available.iter().copied().find(|isa| isa.name() == name).ok_or_else(|| IsaError::Unavailable {
            name,
            available: available.iter().map(|isa| isa.name()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forced_choice_ends_with_its_call() {
        let before = Isa::get();
        for isa in Isa::available() {
            assert_eq!(isa.force(Isa::get), isa);
            let caught = std::panic::catch_unwind(|| isa.force(|| panic!("on purpose")));
            assert!(caught.is_err());
            assert_eq!(Isa::get(), before);
        }
    }

    #[test]
    fn names_are_obeyed_or_refused() {
        assert_eq!(Isa::choose(None), Ok(Isa::best()));
        assert_eq!(Isa::choose(Some(OsStr::new(""))), Ok(Isa::best()));
        assert_eq!(Isa::choose(Some(OsStr::new("scalar"))).map(Isa::name), Ok("scalar"));
        for isa in Isa::available() {
            assert_eq!(Isa::choose(Some(OsStr::new(isa.name()))), Ok(isa));
        }
        assert_eq!(
            Isa::choose(Some(OsStr::new("AVX2"))),
            Err(IsaError::Unknown { name: "AVX2".to_owned() }),
            "names are exact"
        );
        let foreign = if cfg!(target_arch = "aarch64") { "avx2" } else { "neon" };
        let refusal = Isa::choose(Some(OsStr::new(foreign))).unwrap_err();
        assert!(matches!(&refusal, IsaError::Unavailable { name, available }
            if *name == foreign && available[0] == "scalar"));
        assert!(refusal.to_string().contains(foreign));
    }
}
