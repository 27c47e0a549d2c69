//! Work along the columns of a segment: the chunks at the same place of all its records. Erasure coding of pieces runs
//! along these, while pieces lie in memory record by record.

use crate::bls::Scalar;
use crate::constants::{RECORD_CHUNKS, SCALAR_BYTES};
use crate::cpu::CpuLevel;
use crate::erasure::{ErasureError, Recovery};
use crate::fft::{Kind, transform_at};
use crate::field::Ifma;

/// Columns that one job handles: 8 KiB of each record, so that few cache lines are shared between jobs.
pub(crate) const GROUP_COLUMNS: usize = 256;
/// Jobs for all columns.
pub(crate) const GROUPS: usize = RECORD_CHUNKS / GROUP_COLUMNS;

/// A run of chunks of one record.
pub(crate) type Run<'a> = &'a mut [[u8; SCALAR_BYTES]];

/// The records' chunks by group of columns: entry `[g][r]` is run `g` of record `r`.
pub(crate) fn split_columns<'a>(records: impl Iterator<Item = Run<'a>>) -> Vec<Vec<Run<'a>>> {
    let mut groups: Vec<Vec<Run<'a>>> = (0..GROUPS).map(|_| Vec::new()).collect();
    for record in records {
        for (group, run) in groups.iter_mut().zip(record.chunks_exact_mut(GROUP_COLUMNS)) {
            group.push(run);
        }
    }
    groups
}

/// The runs of chunks of one group.
pub(crate) fn group_of<'a>(
    records: impl Iterator<Item = &'a [[u8; SCALAR_BYTES]]>,
    group: usize,
) -> Vec<&'a [[u8; SCALAR_BYTES]]> {
    records.map(|record| &record[group * GROUP_COLUMNS..][..GROUP_COLUMNS]).collect()
}

/// Erasure codes each column of a group: parity run j becomes what [`crate::erasure::extend`] makes of source run j's place. All
/// chunks must be scalars; there are as many runs of parity as of source, a power of two.
pub(crate) fn extend_columns(level: CpuLevel, source: &[&[[u8; SCALAR_BYTES]]], parity: &mut [Run<'_>]) {
    if let Some(ifma) = Ifma::of(level) {
        return ifma.extend_columns(source, parity);
    }
    let mut scalars = vec![Scalar::ZERO; source.len()];
    for column in 0..source[0].len() {
        for (scalar, run) in scalars.iter_mut().zip(source) {
            *scalar = Scalar::from_bytes(&run[column]).expect("chunks of history are scalars");
        }
        transform_at(level, Kind::OddPoints, &mut scalars).expect("as many runs as a width");
        for (run, scalar) in parity.iter_mut().zip(&scalars) {
            run[column] = scalar.to_bytes();
        }
    }
}

/// Recovers each column of a group: `runs[i]` becomes that of the record at place `needed[i]`, which is missing. `given` has an entry for each
/// place of `recovery`, present where it was said to be; all chunks given must be scalars.
pub(crate) fn recover_columns(
    recovery: &Recovery,
    given: &[Option<&[[u8; SCALAR_BYTES]]>],
    needed: &[usize],
    runs: &mut [Run<'_>],
) -> Result<(), ErasureError> {
    assert_eq!(needed.len(), runs.len());
    if let Some(ifma) = Ifma::of(recovery.level()) {
        return ifma.recover_columns(recovery, given, needed, runs);
    }
    let mut values = vec![Scalar::ZERO; given.len()];
    for column in 0..runs[0].len() {
        for (value, run) in values.iter_mut().zip(given) {
            if let Some(run) = run {
                *value = Scalar::from_bytes(&run[column]).expect("chunks were checked");
            }
        }
        recovery.recover(&mut values)?;
        for (run, place) in runs.iter_mut().zip(needed) {
            run[column] = values[*place].to_bytes();
        }
    }
    Ok(())
}

/// For each column of a group the sum of its chunks, each times its run's factor. All chunks must be scalars.
pub(crate) fn combine_columns(
    level: CpuLevel,
    factors: &[u128],
    runs: &[&[[u8; SCALAR_BYTES]]],
    sums: &mut [Scalar],
) {
    if let Some(ifma) = Ifma::of(level) {
        return ifma.combine(factors, runs, sums);
    }
    sums.fill(Scalar::ZERO);
    for (factor, run) in factors.iter().zip(runs) {
        let factor = Scalar::from_u128(*factor);
        for (sum, chunk) in sums.iter_mut().zip(*run) {
            *sum += Scalar::from_bytes(chunk).expect("chunks were checked") * factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::erasure::extend;

    const COLUMNS: usize = 16;

    /// Random scalars, and the largest one.
    fn runs(count: usize) -> Vec<Vec<[u8; SCALAR_BYTES]>> {
        let chunk = |run: usize, column: usize| match (run + column) % 5 {
            0 => (-Scalar::ONE).to_bytes(),
            _ => Scalar::from_bytes_reduced(
                blake3::hash(&[run as u8, (run >> 8) as u8, column as u8]).as_bytes(),
            )
            .to_bytes(),
        };
        (0..count).map(|run| (0..COLUMNS).map(|column| chunk(run, column)).collect()).collect()
    }

    fn column(runs: &[Vec<[u8; SCALAR_BYTES]>], column: usize) -> Vec<Scalar> {
        runs.iter().map(|run| Scalar::from_bytes(&run[column]).unwrap()).collect()
    }

    #[test]
    fn every_level_extends_columns() {
        for count in [1, 2, 16, 128] {
            let source = runs(count);
            let slices: Vec<_> = source.iter().map(Vec::as_slice).collect();
            for level in CpuLevel::available() {
                let mut parity = vec![vec![[0; SCALAR_BYTES]; COLUMNS]; count];
                extend_columns(
                    level,
                    &slices,
                    &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>(),
                );
                for at in 0..COLUMNS {
                    let mut expected = vec![Scalar::ZERO; count];
                    extend(&column(&source, at), &mut expected).unwrap();
                    assert_eq!(column(&parity, at), expected, "{level}: column {at} of {count} runs");
                }
            }
        }
    }

    #[test]
    fn every_level_recovers_columns() {
        let source = runs(32);
        let slices: Vec<_> = source.iter().map(Vec::as_slice).collect();
        let mut parity = vec![vec![[0; SCALAR_BYTES]; COLUMNS]; 32];
        let portable = CpuLevel::available()[0];
        extend_columns(portable, &slices, &mut parity.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
        let mut all: Vec<_> = source.into_iter().zip(parity).flat_map(|(a, b)| [a, b]).collect();
        // Half of them, and three more.
        let present: Vec<_> =
            (0..64).map(|place| place * 5 % 8 < 4 || [3, 20, 63].contains(&place)).collect();
        let needed: Vec<_> = (0..64).filter(|place| !present[*place]).step_by(2).collect();
        let spare = (0..64).rfind(|place| present[*place]).unwrap();
        for level in CpuLevel::available() {
            let recovery = Recovery::at_level(level, &present).unwrap();
            let mut recovered = vec![vec![[0; SCALAR_BYTES]; COLUMNS]; needed.len()];
            let mut recover = |all: &[Vec<[u8; SCALAR_BYTES]>]| {
                let given: Vec<_> = all
                    .iter()
                    .zip(&present)
                    .map(|(run, present)| present.then_some(run.as_slice()))
                    .collect();
                let mut runs: Vec<_> = recovered.iter_mut().map(Vec::as_mut_slice).collect();
                recover_columns(&recovery, &given, &needed, &mut runs)
            };
            all[spare][9][31] ^= 1;
            assert_eq!(recover(&all), Err(ErasureError::Inconsistent { index: spare }), "{level}");
            all[spare][9][31] ^= 1;
            recover(&all).unwrap();
            for (run, place) in recovered.iter().zip(&needed) {
                assert_eq!(*run, all[*place], "{level}: place {place}");
            }
        }
    }

    /// More runs than can be summed without reduction, and the largest factor.
    #[test]
    fn every_level_combines_columns() {
        for count in [1, 3, 512, 1100] {
            let source = runs(count);
            let slices: Vec<_> = source.iter().map(Vec::as_slice).collect();
            let factors: Vec<_> = (0..count as u128).map(|run| u128::MAX - run * run * run).collect();
            for level in CpuLevel::available() {
                let mut sums = [Scalar::ONE; COLUMNS];
                combine_columns(level, &factors, &slices, &mut sums);
                for (at, sum) in sums.into_iter().enumerate() {
                    let terms = column(&source, at).into_iter().zip(&factors);
                    let expected = terms.fold(Scalar::ZERO, |sum, (scalar, factor)| {
                        sum + scalar * Scalar::from_u128(*factor)
                    });
                    assert_eq!(sum, expected, "{level}: column {at} of {count} runs");
                }
            }
        }
    }

    #[test]
    fn groups_cover_records() {
        let record: Vec<_> = (0..RECORD_CHUNKS as u32)
            .map(|place| {
                let mut chunk = [0; SCALAR_BYTES];
                chunk[..4].copy_from_slice(&place.to_be_bytes());
                chunk
            })
            .collect();
        let mut copy = record.clone();
        for (group, runs) in split_columns([copy.as_mut_slice()].into_iter()).into_iter().enumerate() {
            assert_eq!(group_of([record.as_slice()].into_iter(), group), runs);
        }
    }
}
