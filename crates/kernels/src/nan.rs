/// Any NaN becomes the quiet NaN `0x7fc00000`; every other value is returned unchanged.
///
/// Which payload a NaN carries depends on operand order and processor, so bytes that are recorded or hashed go through
/// this first.
pub fn canonical_nan(value: f32) -> f32 {
    if value.is_nan() {
        f32::from_bits(0x7fc0_0000)
    } else {
        value
    }
}

/// [`canonical_nan`] on every element, in place.
pub fn canonicalise(values: &mut [f32]) {
    for value in values {
        *value = canonical_nan(*value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nan_is_changed() {
        let bits = [0x7fc0_0001, 0xffc0_0000, 0x7f80_0001, 0x8000_0000, 0x7f80_0000, 0x0000_0001];
        let mut values = bits.map(f32::from_bits);
        canonicalise(&mut values);
        let after = values.map(f32::to_bits);
        assert_eq!(after, [0x7fc0_0000, 0x7fc0_0000, 0x7fc0_0000, 0x8000_0000, 0x7f80_0000, 0x0000_0001]);
    }
}
