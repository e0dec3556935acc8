//! The control register of SSE and AVX arithmetic.
#![expect(unsafe_code, reason = "the MXCSR register cannot be reached from safe code")]

use std::arch::asm;

/// The register's width.
pub(crate) type Control = u32;

/// MXCSR as a program finds it at its start: all exceptions masked, round to nearest, denormals kept.
pub(crate) const DEFAULT_CONTROL: Control = 0x1f80;

/// The bits of MXCSR that change a result: FTZ (15), rounding (14, 13) and DAZ (6).
pub(crate) const CONTROL_MASK: Control = 0xe040;

/// The control and status register of SSE and AVX arithmetic.
pub(crate) fn read_control() -> Control {
    let mut value = 0u32;
    // SAFETY: every x86-64 processor has the instruction; it writes four bytes to a valid, aligned address.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut value, options(nostack, preserves_flags)) };
    value
}

/// Sets MXCSR. Callers restore what they found: compiled code counts on the default.
pub(crate) fn write_control(value: Control) {
    // SAFETY: reads four bytes from a valid, aligned address. No reserved bit is set, since the value is the default or
    // what `read_control` returned with control bits changed, so the instruction cannot fault.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack, preserves_flags)) };
}
