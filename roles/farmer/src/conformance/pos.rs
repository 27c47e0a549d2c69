//! pos.json: tables, proofs and their verification.

use super::context::Context;
use super::json::{
    Check, array, array_of, equal, flag, hash_equal, hex_of, labelled, list, number, optional, size, text,
};
use super::report::Report;
use consensus::constants::{POS_PROOF_SIZE, RECORD_CHUNKS};
use consensus::pos::{Observer, Pointer, Proof, Seed, Tables, challenge_target, is_valid};
use serde_json::Value;

/// Buckets of y, and y values of one.
const BUCKET_SIZE: u32 = 15113;

#[derive(Clone, Copy)]
struct Entry {
    y: u32,
    metadata: u128,
    pointer: Pointer,
}

/// Keeps every entry of every table.
#[derive(Default)]
struct AllEntries([Vec<Entry>; 7]);

impl Observer for AllEntries {
    fn entry(&mut self, table: u8, y: u32, metadata: u128, pointer: Pointer) {
        self.0[usize::from(table) - 1].push(Entry { y, metadata, pointer });
    }
}

/// The tables of one seed with all that went into them.
struct Grown {
    seed: Seed,
    tables: Tables,
    entries: AllEntries,
    /// Of each s-bucket, from whatever is under test.
    proofs: Vec<Option<Proof>>,
}

impl Grown {
    /// Entries of table 7 for a challenge index, in the order in which they are considered.
    fn proofs_in_order(&self, challenge_index: u32) -> Vec<(u32, Proof)> {
        let target = challenge_target(challenge_index);
        let last = &self.entries.0[6];
        let start = last.partition_point(|entry| entry.y >> 6 < target);
        let candidates = last[start..].iter().take_while(|entry| entry.y >> 6 == target);
        candidates.map(|entry| (entry.y, self.tables.proof_of(entry.pointer))).collect()
    }
}

pub(super) fn run(vectors: &Value, context: &Context, report: &mut Report) {
    let mut tables = Some(Tables::new(context.level));
    let seeds = match list(vectors, "seeds") {
        Ok(seeds) => seeds,
        Err(error) => return report.case("pos seeds", || Err(error)),
    };
    for (i, case) in seeds.iter().enumerate() {
        let mut grown = None;
        report.case(format_args!("pos seed {i} grow"), || {
            let tables = tables.take().unwrap_or_else(|| Tables::new(context.level));
            grown = Some(grow(case, tables, context)?);
            Ok(())
        });
        let Some(grown) = grown else { continue };
        report.case(format_args!("pos seed {i} every s-bucket"), || check_s_buckets(case, &grown));
        report.case(format_args!("pos seed {i} counts"), || check_counts(case, &grown));
        report.case(format_args!("pos seed {i} proofs"), || {
            check_all(case, "proofs", |proof| check_proof(proof, &grown))
        });
        report.case(format_args!("pos seed {i} several proofs"), || {
            check_all(case, "multi_proof_examples", |example| check_order(example, &grown))
        });
        report.case(format_args!("pos seed {i} wide challenges"), || {
            check_all(case, "wide_challenges", |challenge| check_wide(challenge, &grown))
        });
        if optional(case, "lowest_y_tie_examples").is_some() {
            report.case(format_args!("pos seed {i} ties"), || check_ties(case, &grown));
        }
        if optional(case, "tables").is_some() {
            report.case(format_args!("pos seed {i} tables"), || check_tables(case, &grown));
        }
        tables = Some(grown.tables);
    }
}

fn check_all(case: &Value, key: &str, check: impl Fn(&Value) -> Check) -> Check {
    list(case, key)?
        .iter()
        .enumerate()
        .try_for_each(|(i, case)| check(case).map_err(|e| format!("{key} {i}: {e}")))
}

fn grow(case: &Value, mut tables: Tables, context: &Context) -> Check<Grown> {
    let seed: Seed = array(case, "seed")?;
    equal("seed of the label", &labelled(text(case, "seed_label")?, 32)[..], &seed)?;
    let mut entries = AllEntries::default();
    tables.build_observed(&seed, &mut entries);
    // Consensus order: by y, then by position.
    entries.0[6].sort_by_key(|entry| (entry.y, entry.pointer));
    let proofs = match &context.device {
        Some(device) => device.proofs(&seed)?,
        None => (0..=u16::MAX).map(|s_bucket| tables.proof(s_bucket)).collect(),
    };
    Ok(Grown { seed, tables, entries, proofs })
}

fn check_s_buckets(case: &Value, grown: &Grown) -> Check {
    let (mut with_proofs, mut with_hashes) = (blake3::Hasher::new(), blake3::Hasher::new());
    let (mut bitmap, mut found) = (vec![0u8; 8192], Vec::new());
    for (s_bucket, proof) in (0..=u16::MAX).zip(&grown.proofs) {
        let Some(proof) = proof else { continue };
        found.push(s_bucket);
        bitmap[usize::from(s_bucket / 8)] |= 1 << (s_bucket % 8);
        let (index, hash) = (u32::from(s_bucket).to_le_bytes(), blake3::hash(proof));
        with_proofs.update(&index).update(proof).update(hash.as_bytes());
        with_hashes.update(&index).update(hash.as_bytes());
    }
    equal("s-buckets with a proof", found.len(), size(case, "num_s_buckets_with_proof")?)?;
    hash_equal("bitmap", &bitmap, case, "bitmap_blake3")?;
    if let Some(expected) = optional(case, "bitmap_hex_lsb0") {
        equal("bitmap", &bitmap, &hex_of(expected)?)?;
    }
    let last = found.get(RECORD_CHUNKS - 1).map(|s_bucket| usize::from(*s_bucket));
    equal(
        "s-bucket of the 32768th proof",
        last,
        optional(case, "s_bucket_of_32768th_proof").and_then(Value::as_u64).map(|n| n as usize),
    )?;
    equal("digest of hashes", with_hashes.finalize().to_string().as_str(), text(case, "digest_index_hash")?)?;
    equal(
        "digest of proofs",
        with_proofs.finalize().to_string().as_str(),
        text(case, "digest_index_proof_hash")?,
    )
}

fn check_counts(case: &Value, grown: &Grown) -> Check {
    let (mut several, mut total, mut most, mut ties) = (0, 0, 0, 0);
    for s_bucket in 0..=u16::MAX {
        let target = challenge_target(u32::from(s_bucket));
        let last = &grown.entries.0[6];
        let start = last.partition_point(|entry| entry.y >> 6 < target);
        let count = last[start..].iter().take_while(|entry| entry.y >> 6 == target).count();
        several += usize::from(count > 1);
        total += count;
        most = count.max(most);
        ties += usize::from(count > 1 && last[start].y == last[start + 1].y);
    }
    equal("s-buckets with several proofs", several, size(case, "s_buckets_with_more_than_one_proof")?)?;
    equal("proofs", total, size(case, "total_proofs_over_s_buckets")?)?;
    equal("most proofs of an s-bucket", most, size(case, "max_proofs_for_one_s_bucket")?)?;
    match optional(case, "s_buckets_whose_lowest_y_is_shared_by_2_or_more_entries") {
        Some(expected) => equal("ties", ties, super::json::number_of(expected)? as usize),
        None => Ok(()),
    }
}

fn index_of(case: &Value, key: &str) -> Check<u32> {
    u32::try_from(number(case, key)?).map_err(|_| format!("'{key}' is too large"))
}

fn check_proof(case: &Value, grown: &Grown) -> Check {
    let (index, proof): (_, Proof) = (index_of(case, "index")?, array(case, "proof")?);
    equal("challenge bytes", index.to_le_bytes(), array(case, "challenge_bytes")?)?;
    equal("first 20 bits", challenge_target(index), index_of(case, "first_20_bits")?)?;
    let s_bucket = u16::try_from(index).map_err(|_| "index is no s-bucket")?;
    equal("proof", grown.proofs[usize::from(s_bucket)], Some(proof))?;
    hash_equal("proof hash", &proof, case, "proof_hash")?;
    equal("valid", is_valid(&grown.seed, index, &proof), flag(case, "valid")?)?;
    list(case, "negative")?.iter().try_for_each(|case| check_negative(case, &grown.seed, index, &proof))
}

fn check_negative(case: &Value, seed: &Seed, index: u32, proof: &Proof) -> Check {
    let (mut seed, mut index, mut proof) = (*seed, index, *proof);
    let mutation = text(case, "mutation")?;
    if optional(case, "byte").is_some() {
        let byte = size(case, "byte")?;
        *proof.get_mut(byte).ok_or("byte is outside of the proof")? ^= number(case, "xor")? as u8;
    } else if optional(case, "index").is_some() {
        index = index_of(case, "index")?;
    } else {
        match mutation {
            "swap first 80 bytes with last 80 bytes" => proof.rotate_left(80),
            "all zero proof" => proof = [0; POS_PROOF_SIZE],
            "index+1 with same proof" => index = index.wrapping_add(1),
            "seed last byte ^0x01" => seed[31] ^= 1,
            other => return Err(format!("unknown mutation '{other}'")),
        }
    }
    equal(mutation, is_valid(&seed, index, &proof), flag(case, "valid")?)
}

fn check_order(case: &Value, grown: &Grown) -> Check {
    let index = index_of(case, "index")?;
    let expected = list(case, "proofs_in_order")?.iter().map(array_of).collect::<Check<Vec<Proof>>>()?;
    let found: Vec<Proof> = grown.proofs_in_order(index).into_iter().map(|(_, proof)| proof).collect();
    equal("proofs in order", &found, &expected)?;
    if flag(case, "all_verify").unwrap_or(true) {
        equal("all verify", found.iter().all(|proof| is_valid(&grown.seed, index, proof)), true)?;
    }
    Ok(())
}

fn check_wide(case: &Value, grown: &Grown) -> Check {
    let index = index_of(case, "challenge_index")?;
    equal("first 20 bits", challenge_target(index), index_of(case, "first_20_bits")?)?;
    let found = grown.proofs_in_order(index).first().map(|(_, proof)| *proof);
    let expected = optional(case, "proof").map(array_of).transpose()?;
    equal("proof", found, expected)?;
    let valid = found.map(|proof| is_valid(&grown.seed, index, &proof));
    equal("valid", valid, optional(case, "valid").and_then(Value::as_bool))
}

fn check_ties(case: &Value, grown: &Grown) -> Check {
    check_all(case, "lowest_y_tie_examples", |example| {
        let (index, y) = (index_of(example, "index")?, index_of(example, "y")?);
        check_order(example, grown)?;
        let found = grown.proofs_in_order(index);
        equal("y of the tie", found.iter().take(2).all(|(found, _)| *found == y), true)
    })
}

fn check_tables(case: &Value, grown: &Grown) -> Check {
    check_all(case, "tables", |table| {
        let number = size(table, "table")?;
        let entries = grown.entries.0.get(number.wrapping_sub(1)).ok_or("no such table")?;
        let mut sorted: Vec<(u32, u128)> = entries.iter().map(|entry| (entry.y, entry.metadata)).collect();
        sorted.sort_unstable();
        equal("entries", sorted.len(), size(table, "entries")?)?;
        let (mut ys, mut all) = (blake3::Hasher::new(), blake3::Hasher::new());
        for (y, metadata) in &sorted {
            ys.update(&y.to_le_bytes());
            all.update(&y.to_le_bytes()).update(&metadata.to_be_bytes());
        }
        equal("y digest", ys.finalize().to_string().as_str(), text(table, "sorted_y_digest")?)?;
        equal("digest", all.finalize().to_string().as_str(), text(table, "sorted_y_metadata_digest")?)?;
        let occupancy = fullest(entries.iter().map(|entry| (entry.y / BUCKET_SIZE) as usize));
        equal("fullest bucket", occupancy, size(table, "max_bucket_occupancy")?)?;
        let is_first = number == 1;
        let matches =
            if is_first { 0 } else { fullest(entries.iter().map(|entry| entry.pointer.left_bucket())) };
        equal("most matches of a pair", matches, size(table, "max_matches_per_bucket_pair")?)?;
        for (found, expected) in sorted.iter().zip(list(table, "first_entries")?) {
            equal("y of a first entry", u64::from(found.0), super::json::number_of(&expected[0])?)?;
            equal("metadata of a first entry", found.1.to_be_bytes(), array_of(&expected[1])?)?;
        }
        Ok(())
    })
}

/// How many fall on the bucket that gets most.
fn fullest(buckets: impl Iterator<Item = usize>) -> usize {
    let mut counts = vec![0; 4441];
    buckets.for_each(|bucket| counts[bucket] += 1);
    counts.into_iter().max().unwrap_or(0)
}
