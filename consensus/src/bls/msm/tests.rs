//! One body for every processor level: sums against those of `blst`.

use super::lanes::{NEGATE, NO_ENTRY, PointLanes, Sum};
use super::plan::Plan;
use super::*;
use crate::Serial;
use crate::bls::multi_scalar_mul;

fn multiple(n: u64) -> G1Affine {
    (G1::generator() * Scalar::from_u64(n)).into()
}

fn random(seed: u64) -> Scalar {
    Scalar::from_bytes_reduced(blake3::hash(&seed.to_le_bytes()).as_bytes())
}

/// Points of the subgroup without a known relation, infinity among them.
fn points(count: usize) -> Vec<G1Affine> {
    let point = |i| if i % 97 == 5 { G1::infinity() } else { G1::generator() * random(i as u64) };
    G1::batch_to_affine(&(0..count).map(point).collect::<Vec<_>>())
}

fn check_entries<L: PointLanes>(lanes: L) {
    let points = points(50);
    let mut stored = Vec::new();
    lanes.store(&points, &mut stored);
    let back: Vec<_> = stored.iter().map(|point| lanes.restore(point)).collect();
    assert_eq!(back, points);

    let entries = [0, 5, NO_ENTRY, 7 | NEGATE, 5 | NEGATE, 49, 48 | NEGATE, 1];
    let mut blocks = vec![lanes.block_infinity(); 8 / L::LANES];
    lanes.gather(&stored, &entries, &mut blocks);
    let expected = entries.map(|entry| match entry {
        NO_ENTRY => G1Affine::default(),
        entry if entry & NEGATE != 0 => (-G1::from(points[(entry ^ NEGATE) as usize])).into(),
        entry => points[entry as usize],
    });
    assert_eq!(unload(lanes, &blocks), expected);
}

fn unload<L: PointLanes>(lanes: L, blocks: &[L::Block]) -> Vec<G1Affine> {
    let mut stored = vec![lanes.stored_infinity(); blocks.len() * L::LANES];
    blocks.iter().zip(stored.chunks_mut(L::LANES)).for_each(|(block, place)| lanes.scatter(block, place));
    stored.iter().map(|point| lanes.restore(point)).collect()
}

/// Every pair of points that are equal, opposite, infinite, of small order or none of that, in every lane, and many
/// times in one call. Results are used again, as what a sum gives may not be reduced.
fn check_sums<L: PointLanes>(lanes: L) {
    let mut cases: Vec<_> = [0, 1, 2, 3, 4, 77].map(multiple).to_vec();
    cases.extend(cases.clone().iter().map(|point| G1Affine::from(-G1::from(*point))));
    cases.push(of_order_three());
    let count = cases.len();
    let pairs: Vec<_> =
        (0..7 * count * count).map(|i| (cases[i / count % count], cases[i % count])).collect();
    let (mut left, mut right): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
    left.resize(left.len().next_multiple_of(8), G1Affine::default());
    right.resize(left.len(), G1Affine::default());
    let mut stored = Vec::new();
    lanes.store(&left, &mut stored);
    lanes.store(&right, &mut stored);
    let entries: Vec<_> = (0..stored.len() as u32).collect();
    let mut blocks = vec![lanes.block_infinity(); stored.len() / L::LANES];
    lanes.gather(&stored, &entries, &mut blocks);

    let half = blocks.len() as u32 / 2;
    let sums: Vec<_> = (0..half).map(|i| Sum { target: i, other: half + i }).collect();
    let doublings: Vec<_> = (0..half).map(|i| Sum { target: i, other: i }).collect();
    let mut expected: Vec<_> = left.iter().map(|point| G1::from(*point)).collect();
    let mut scratch = L::Scratch::default();
    for _ in 0..3 {
        lanes.add(&mut blocks, &sums, &mut scratch);
        expected.iter_mut().zip(&right).for_each(|(sum, point)| *sum = sum.add_affine(point));
        assert_eq!(unload(lanes, &blocks[..half as usize]), G1::batch_to_affine(&expected));
        lanes.add(&mut blocks, &doublings, &mut scratch);
        expected.iter_mut().for_each(|sum| *sum = sum.double());
        assert_eq!(unload(lanes, &blocks[..half as usize]), G1::batch_to_affine(&expected));
    }
    lanes.add(&mut blocks, &[], &mut scratch);
}

/// The point with x = 0 and y = 2, whose double is its opposite.
fn of_order_three() -> G1Affine {
    let y = field::add(&field::BLST_ONE, &field::BLST_ONE);
    G1Affine(blst::blst_p1_affine { x: blst::blst_fp::default(), y })
}

#[test]
fn sums_of_pairs() {
    check_entries(Single);
    check_sums(Single);
    #[cfg(target_arch = "x86_64")]
    if let Some(lanes) = Vector::new(CpuLevel::detect()) {
        check_entries(lanes);
        check_sums(lanes);
    }
}

/// Every form that this machine has.
fn forms(points: &[G1Affine]) -> Vec<Bases> {
    let levels = CpuLevel::available();
    let mut forms = vec![Bases::new(levels[0], points)];
    let best = levels[levels.len() - 1];
    if best.has_ifma() {
        forms.push(Bases::new(best, points));
    }
    forms
}

/// All sums of `scalars` against `blst`, without a table and with small and large ones.
fn check(points: &[G1Affine], all: &[Vec<Scalar>]) {
    for plain in forms(points) {
        let point_bytes = plain.size_bytes() / points.len();
        for multiples in [1, 2, 7, 64] {
            let bases = plain.with_table(points.len() * point_bytes * multiples, &Serial);
            assert!(
                bases.size_bytes() <= points.len() * point_bytes * multiples && bases.len() == points.len()
            );
            for scalars in all {
                let expected = multi_scalar_mul(&points[..scalars.len()], scalars);
                assert_eq!(bases.sum(scalars), expected, "{} points, {multiples} multiples", scalars.len());
            }
        }
    }
}

#[test]
fn random_scalars() {
    let points = points(700);
    let all = [0, 1, 2, 9, 255, 256, 700].map(|count| (0..count).map(random).collect());
    check(&points, &all);
}

#[test]
fn scalars_that_collide() {
    let mut points = vec![multiple(1); 200];
    points.extend((0..100).map(|i| multiple(i % 7)));
    points.extend((0..100).map(|i| G1Affine::from(-G1::from(multiple(1 + i % 3)))));
    let edges =
        [Scalar::ZERO, Scalar::ONE, -Scalar::ONE, Scalar::from_u64(0x8000), -Scalar::from_u64(0x8001)];
    let mut all = vec![];
    for scalar in edges.into_iter().chain([random(7)]) {
        all.push(vec![scalar; 400]);
    }
    all.push((0..400).map(|i| edges[i % edges.len()]).collect());
    all.push((0..400).map(|i| Scalar::from_u64(2).pow(i)).collect());
    let mut lonely = vec![Scalar::ZERO; 400];
    lonely[399] = random(1);
    all.push(lonely);
    check(&points, &all);
}

#[test]
fn plans() {
    assert_eq!(Plan::best(1 << 15, 16), Plan { bits: 16, sets: 1 });
    assert_eq!(Plan::best(1 << 15, 1).multiples(), 1);
    for points in [0, 1, 256, 1 << 15] {
        for multiples in 1..40 {
            let plan = Plan::best(points, multiples);
            assert!(plan.multiples() <= multiples);
            assert!(plan.cost(points) <= Plan::best(points, multiples.max(2) - 1).cost(points));
        }
    }
}
