//! The control register of floating point.
#![expect(unsafe_code, reason = "the FPCR register cannot be reached from safe code")]

use std::arch::asm;

/// The register's width.
pub(crate) type Control = u64;

/// FPCR as a program finds it at its start: round to nearest, denormals kept, NaN payloads propagated.
pub(crate) const DEFAULT_CONTROL: Control = 0;

/// Any bit of FPCR may change a result.
pub(crate) const CONTROL_MASK: Control = u64::MAX;

/// The floating-point control register.
pub(crate) fn read_control() -> Control {
    let value: u64;
    // SAFETY: reads a register that user code may read; no memory is touched.
    unsafe { asm!("mrs {}, fpcr", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Sets FPCR. Callers restore what they found: compiled code counts on the default.
pub(crate) fn write_control(value: Control) {
    // SAFETY: writes a register that user code may write, with the default or a value read from it. Not `nomem`, so that
    // memory accesses are not moved across.
    unsafe { asm!("msr fpcr, {}", in(reg) value, options(nostack, preserves_flags)) };
}
