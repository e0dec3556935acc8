//! Every operation on lanes against its definition in scalar code, on every instruction set of this processor.

use super::*;
use crate::Isa;

const SPECIALS: [f32; 20] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.3,
    -2.5,
    3.0,
    1e-30,
    -1e30,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    f32::MAX,
    f32::MIN_POSITIVE,
    f32::from_bits(1),
    f32::from_bits(0x8000_0001),
    f32::from_bits(0x007f_ffff),
    f32::EPSILON,
    1.0 + f32::EPSILON,
    0.1,
];

fn bits(x: f32) -> u32 {
    crate::canonical_nan(x).to_bits()
}

fn bits64(x: f64) -> u64 {
    if x.is_nan() {
        return f64::NAN.to_bits();
    }
    x.to_bits()
}

/// What each lane's element is called by: the row of operands that begins there.
fn triple(at: usize) -> [f32; 3] {
    [at, at / SPECIALS.len() + at, at / 7 + 5].map(|at| SPECIALS[at % SPECIALS.len()])
}

fn wide(x: f32) -> f64 {
    f64::from(x) * (1.0 + 1e-12)
}

struct Single;

impl Vectorized for Single {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for from in 0..SPECIALS.len() * SPECIALS.len() {
            let operand =
                |which: usize| -> Vec<f32> { (0..S::LANES).map(|lane| triple(from + lane)[which]).collect() };
            let operands = [operand(0), operand(1), operand(2)];
            let [a, b, c] = [simd.load(&operands[0]), simd.load(&operands[1]), simd.load(&operands[2])];
            let same = |name: &str, got: S::F32, expected: &dyn Fn(f32, f32, f32) -> f32| {
                let mut out = vec![7.0; S::LANES];
                got.store(&mut out);
                for (lane, got) in out.into_iter().enumerate() {
                    let [a, b, c] = triple(from + lane);
                    assert_eq!(
                        bits(got),
                        bits(expected(a, b, c)),
                        "{name}({a:e}, {b:e}, {c:e}) in lane {lane}"
                    );
                }
            };
            same("add", a + b, &|a, b, _| a + b);
            same("sub", a - b, &|a, b, _| a - b);
            same("mul", a * b, &|a, b, _| a * b);
            same("div", a / b, &|a, b, _| a / b);
            same("mul_add", a.mul_add(b, c), &|a, b, c| a.mul_add(b, c));
            same("max", a.max(b), &|a, b, _| if a > b { a } else { b });
            same("lt", S::F32::select(a.lt(b), a, c), &|a, b, c| if a < b { a } else { c });
            same("le", S::F32::select(a.le(b), a, c), &|a, b, c| if a <= b { a } else { c });
            same("eq", S::F32::select(a.eq(b), a, c), &|a, b, c| if a == b { a } else { c });
            same("splat", simd.splat(0.3), &|_, _, _| 0.3);
            let any = (0..S::LANES).map(|lane| triple(from + lane)).any(|[a, b, _]| a < b);
            assert_eq!(S::F32::any(a.lt(b)), any);
        }
        partial_loads_and_stores(simd);
    }
}

fn partial_loads_and_stores<S: Simd>(simd: S) {
    for count in 0..=S::LANES {
        let from: Vec<f32> = (0..count).map(|lane| lane as f32 + 1.0).collect();
        let mut all = vec![7.0; S::LANES];
        simd.load_partial(&from).store(&mut all);
        assert_eq!(all[..count], from);
        assert!(all[count..].iter().all(|x| x.to_bits() == 0));
        let mut to = vec![7.0; count + 1];
        simd.splat(3.0).store_partial(&mut to[..count]);
        assert!(to[..count].iter().all(|&x| x == 3.0) && to[count] == 7.0);
    }
}

struct Double;

impl Vectorized for Double {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let one = |values: &[f64]| simd.load64(values);
        double::<S, S::F64>(simd, &one, "one");
        let two = |values: &[f64]| Pair(simd.load64(values), simd.load64(&values[S::LANES_64..]));
        double::<S, Pair<S::F64>>(simd, &two, "a pair");
        let narrow: Vec<f32> = SPECIALS[..S::LANES_64].to_vec();
        let mut out = vec![7.0; S::LANES_64];
        simd.widen(&narrow).store64(&mut out);
        assert!(out.iter().zip(&narrow).all(|(&wide, &x)| bits64(wide) == bits64(f64::from(x))));
    }
}

fn double<S: Simd, V: F64Lanes>(_: S, load: &dyn Fn(&[f64]) -> V, what: &str) {
    let table: [f64; 16] = std::array::from_fn(|index| index as f64 + 0.5);
    let columns: [[f64; 16]; 3] = std::array::from_fn(|column| table.map(|x| x * 10.0 + column as f64));
    let rows: [[f64; 3]; 16] = std::array::from_fn(|row| columns.map(|column| column[row]));
    for from in 0..SPECIALS.len() * SPECIALS.len() {
        let operands: [Vec<f64>; 3] =
            [0, 1, 2].map(|which| (0..V::LANES).map(|lane| wide(triple(from + lane)[which])).collect());
        let [a, b, c] = [0, 1, 2].map(|which| load(&operands[which]));
        let same = |name: &str, got: V, expected: &dyn Fn(f64, f64, f64) -> f64| {
            let (mut out, mut narrow) = (vec![7.0; V::LANES], vec![7.0; V::LANES]);
            got.store64(&mut out);
            got.narrow(&mut narrow);
            for lane in 0..V::LANES {
                let [a, b, c] = [0, 1, 2].map(|which| operands[which][lane]);
                let expected = expected(a, b, c);
                assert_eq!(
                    bits64(out[lane]),
                    bits64(expected),
                    "{name}({a:e}, {b:e}, {c:e}) in lane {lane} of {what}"
                );
                assert_eq!(
                    bits(narrow[lane]),
                    bits(expected as f32),
                    "{name}, narrowed, in lane {lane} of {what}"
                );
            }
        };
        let on_bits = |f: fn(u64, u64) -> u64| {
            move |a: f64, b: f64, _: f64| f64::from_bits(f(a.to_bits(), b.to_bits()))
        };
        same("add", a + b, &|a, b, _| a + b);
        same("sub", a - b, &|a, b, _| a - b);
        same("mul", a * b, &|a, b, _| a * b);
        same("div", a / b, &|a, b, _| a / b);
        same("mul_add", a.mul_add(b, c), &|a, b, c| a.mul_add(b, c));
        same("neg_mul_add", a.neg_mul_add(b, c), &|a, b, c| (-a).mul_add(b, c));
        same("sqrt", a.sqrt(), &|a, _, _| a.sqrt());
        same("min", a.min(b), &|a, b, _| if a < b { a } else { b });
        same("max", a.max(b), &|a, b, _| if a > b { a } else { b });
        same("and", a.and(b), &on_bits(|a, b| a & b));
        same("or", a.or(b), &on_bits(|a, b| a | b));
        same("xor", a.xor(b), &on_bits(|a, b| a ^ b));
        same("add_bits", a.add_bits(b), &on_bits(u64::wrapping_add));
        same("sub_bits", a.sub_bits(b), &on_bits(u64::wrapping_sub));
        same("shift_left", a.shift_left::<12>(), &on_bits(|a, _| a << 12));
        same("shift_right", a.shift_right::<12>(), &on_bits(|a, _| a >> 12));
        same("lt", V::select(a.lt(b), a, c), &|a, b, c| if a < b { a } else { c });
        same("eq", V::select(a.eq(b), a, c), &|a, b, c| if a == b { a } else { c });
        same("is_odd", V::select(a.is_odd(), b, c), &|a, b, c| if a.to_bits() & 1 == 1 { b } else { c });
        same("look_up", a.look_up(&table), &|a, _, _| table[(a.to_bits() & 15) as usize]);
        let found = a.look_up_rows(&columns, &rows);
        for column in 0..3 {
            same("look_up_rows", found[column], &|a, _, _| rows[(a.to_bits() & 15) as usize][column]);
        }
        let less = |lane: usize| operands[0][lane] < operands[1][lane];
        assert_eq!(V::any(a.lt(b)), (0..V::LANES).any(less));
        assert_eq!(V::all(a.lt(b)), (0..V::LANES).all(less));
    }
}

#[test]
fn lanes_of_f32_are_scalar_operations() {
    for isa in Isa::available() {
        let _scalar_has_none = isa.vectorize(Single);
    }
}

#[test]
fn lanes_of_f64_are_scalar_operations() {
    for isa in Isa::available() {
        let _scalar_has_none = isa.vectorize(Double);
    }
}
