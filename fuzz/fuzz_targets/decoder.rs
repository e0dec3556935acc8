//! Feeds the decoder of this target's name.
#![no_main]

use bitproof_tests::decoders::{decoder, Decoder};
use libfuzzer_sys::fuzz_target;

const NAME: &str = env!("CARGO_BIN_NAME");

fuzz_target!(|bytes: &[u8]| {
    let Decoder { takes, .. } = decoder(NAME);
    takes(bytes);
});
