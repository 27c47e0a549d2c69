//! Arithmetic on eights against scalars one by one, at the bounds that it is stated for.

use super::Ifma;
use super::convert::{from_chunks, from_scalars, interleave, to_chunks, to_scalars, transpose};
use super::eight::{
    Eight, Limbs, add, butterfly, canonical, carry, divide, first_not_canonical, multiply, plain_butterfly,
    shrink, splat, subtract,
};
use super::twiddles::montgomery;
use crate::bls::{MODULUS, Scalar};
use crate::cpu::CpuLevel;
use proptest::prelude::*;

/// Runs `body` if the machine can; says so if it cannot.
fn with_ifma(body: unsafe fn()) {
    match Ifma::of(CpuLevel::detect()) {
        // SAFETY: the token says that the machine has AVX-512 IFMA, which includes all that the bodies ask for.
        Some(_) => unsafe { body() },
        None => eprintln!("skipped: no AVX-512 IFMA here"),
    }
}

/// 0, 1, 2, r - 2, r - 1, and numbers between.
fn edges() -> [Scalar; 8] {
    let small = Scalar::from_u64;
    let middle = small(7).pow(1 << 40);
    [small(0), small(1), small(2), -small(2), -small(1), middle, -middle, small(2).pow(254)]
}

/// k r plus each number: the same scalars at the upper end of a bound.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn lifted(scalars: &[Scalar; 8], k: u64) -> Eight {
    let mut out = from_scalars(scalars);
    let modulus = splat(&super::eight::limbs(MODULUS));
    for _ in 0..k {
        out = add(&out, &modulus);
    }
    out
}

#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn read(number: &Eight) -> [Scalar; 8] {
    to_scalars(&canonical(number))
}

#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn assert_carried(number: &Eight) {
    for limb in number.0 {
        // SAFETY: a vector is as large as eight words, and every bit pattern is one.
        let words: [u64; 8] = unsafe { std::mem::transmute(limb) };
        assert!(words.iter().all(|word| *word < 1 << 52), "{number:?}");
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn reductions() {
    for k in 0..=34 {
        let number = lifted(&edges(), k);
        assert_eq!(read(&number), edges(), "{k}");
        let reduced = shrink(&carry(&number));
        assert_carried(&reduced);
        assert_eq!(read(&reduced), edges(), "{k}");
        for bits in [0, 1, 7, 15, 16, 32] {
            let divided = divide(&number, bits);
            assert_carried(&divided);
            let factor = Scalar::from_u64(1 << bits);
            assert_eq!(read(&divided).map(|half| half * factor), edges(), "{k} / 2^{bits}");
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn products_at_the_bounds() {
    for k in [0, 1, 33, 34] {
        let number = lifted(&edges(), k);
        for factor in edges() {
            let factor_limbs = splat(&montgomery(factor));
            let product = multiply(&carry(&number), &factor_limbs);
            assert_eq!(read(&product), edges().map(|edge| edge * factor));
            // Below 2, so that it may be subtracted: less r, it is canonical or negative.
            let less = carry(&subtract(&product, &lifted(&[Scalar::ZERO; 8], 1)));
            assert_eq!(first_not_canonical(&less), None);
            let others = edges().map(|edge| edge + Scalar::from_u64(5));
            for plain in [false, true] {
                let (mut a, mut b) = (lifted(&others, k.min(32)), number);
                let factor = if plain { Scalar::ONE } else { factor };
                if plain {
                    plain_butterfly(&mut a, &mut b);
                } else {
                    butterfly(&mut a, &mut b, &factor_limbs);
                }
                for (i, (a, b)) in read(&a).into_iter().zip(read(&b)).enumerate() {
                    let product = edges()[i] * factor;
                    assert_eq!((a, b), (others[i] + product, others[i] - product));
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn ways_in_and_out() {
    let chunks = edges().map(Scalar::to_bytes);
    let number = from_chunks(&chunks);
    assert_eq!(first_not_canonical(&number), None);
    assert_eq!(to_chunks(&number), chunks);
    assert_eq!(to_scalars(&from_scalars(&edges())), edges());
    for place in 0..8 {
        let mut chunks = chunks;
        chunks[place..].fill([0xff; 32]);
        assert_eq!(first_not_canonical(&from_chunks(&chunks)), Some(place));
    }
    let modulus: Limbs = super::eight::limbs(MODULUS);
    assert_eq!(first_not_canonical(&splat(&modulus)), Some(0));

    let rows: [[Scalar; 8]; 8] =
        std::array::from_fn(|i| std::array::from_fn(|j| Scalar::from_u64((10 * i + j) as u64)));
    let mut numbers = [number; 8];
    for (number, row) in numbers.iter_mut().zip(&rows) {
        *number = from_scalars(row);
    }
    for (j, column) in transpose(numbers).iter().enumerate() {
        assert_eq!(to_scalars(column), std::array::from_fn(|i| rows[i][j]));
    }
    let [low, high] = interleave(&numbers[0], &numbers[1]);
    let turns: Vec<_> = rows[0].iter().zip(&rows[1]).flat_map(|(a, b)| [*a, *b]).collect();
    assert_eq!([to_scalars(&low), to_scalars(&high)].concat(), turns);
}

#[test]
fn numbers_shrink_to_canonical_ones() {
    with_ifma(reductions);
}

#[test]
fn products_are_right_at_the_bounds() {
    with_ifma(products_at_the_bounds);
}

#[test]
fn bytes_and_scalars_make_the_way_there_and_back() {
    with_ifma(ways_in_and_out);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn products_of_random_numbers(bytes: [[u8; 32]; 16], k in 0..=34_u64) {
        #[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
        fn product(a: &[Scalar; 8], b: &[Scalar; 8], k: u64) -> [Scalar; 8] {
            let b = b.map(|b| b * Scalar::from_u64(16));
            read(&multiply(&carry(&lifted(a, k)), &from_scalars(&b)))
        }
        let numbers = bytes.map(|bytes| Scalar::from_bytes_reduced(&bytes));
        let (a, b): ([_; 8], [_; 8]) = (numbers[..8].try_into().unwrap(), numbers[8..].try_into().unwrap());
        if Ifma::of(CpuLevel::detect()).is_some() {
            // SAFETY: just asked for.
            let found = unsafe { product(&a, &b, k) };
            prop_assert_eq!(found, std::array::from_fn(|i| a[i] * b[i]));
        }
    }
}
