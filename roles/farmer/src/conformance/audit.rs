//! audit_prove.json: audits slot by slot, solutions, and what verification says to changed ones.

use super::archiving::history;
use super::context::Context;
use super::json::{
    Check, array, equal, hex_of, labelled_array, list, member, number, number_of, optional, size, small, text,
};
use super::report::Report;
use super::sector::{Plotted, protocol_info};
use consensus::audit::{audit, distances};
use consensus::challenge::{SectorSlotChallenge, global_challenge, global_randomness};
use consensus::constants::SEGMENT_PIECES;
use consensus::sector::RecordDecoder;
use consensus::solution::Solution;
use consensus::verify::{PieceCheck, VerifyParameters, piece_index_of, verify_solution};
use node::SolutionJson;
use serde_json::Value;

pub(super) fn run(vectors: &Value, context: &Context, report: &mut Report) {
    let Ok(sectors) = list(vectors, "sectors") else {
        return report.case("audit sectors", || Err("the vector has no list 'sectors'".into()));
    };
    for case in sectors {
        let name = text(case, "sector").unwrap_or("without name").to_owned();
        let mut farm = None;
        report.case(format_args!("audit {name} inputs"), || {
            farm = Some(Farm::new(case, context)?);
            Ok(())
        });
        let Some(farm) = farm else { continue };
        report.case(format_args!("audit {name} slots"), || check_slots(case, &farm));
        report.case(format_args!("audit {name} plot results"), || check_plot_results(case, &farm));
        let mut decoder = RecordDecoder::new(context.level);
        for (i, solution) in list(case, "solutions").unwrap_or_default().iter().enumerate() {
            report.case(format_args!("audit {name} solution {i}"), || {
                check_solution(solution, &farm, &mut decoder)
            });
            for mutation in list(solution, "mutations").unwrap_or_default() {
                let label = text(mutation, "mutation").unwrap_or("without name");
                report.case(format_args!("audit {name} solution {i}: {label}"), || {
                    check_mutation(mutation, solution, &farm)
                });
            }
        }
    }
}

/// One plotted sector and the slots that it meets.
struct Farm<'a> {
    context: &'a Context,
    plotted: Plotted,
    reward_address: [u8; 32],
    randomness: [u8; 32],
    solution_range: u64,
    verify: &'a Value,
}

impl<'a> Farm<'a> {
    fn new(case: &'a Value, context: &'a Context) -> Check<Self> {
        let pot_output = array(case, "pot_output")?;
        equal("proof of time", pot_output, labelled_array(text(case, "pot_output_label")?))?;
        let randomness = global_randomness(&pot_output);
        equal("global randomness", randomness, array(case, "global_randomness")?)?;
        let reward_address = array(case, "reward_address")?;
        equal("reward address", reward_address, labelled_array(text(case, "reward_address_label")?))?;
        let solution_range = number(case, "solution_range")?;
        equal("half", solution_range / 2, number(case, "half_solution_range")?)?;
        let plotted = Plotted::by_name(text(case, "sector")?, context)?;
        Ok(Self {
            context,
            plotted,
            reward_address,
            randomness,
            solution_range,
            verify: member(case, "verify_params")?,
        })
    }

    fn challenges(&self, slot: u64) -> ([u8; 32], SectorSlotChallenge) {
        let global = global_challenge(&self.randomness, slot);
        (global, SectorSlotChallenge::new(&self.plotted.id, &global))
    }

    /// Candidates of a slot as (place, distance).
    fn candidates(&self, slot: u64) -> Vec<(u64, u64)> {
        let (global, challenge) = self.challenges(slot);
        let chunks = self.plotted.s_bucket(challenge.s_bucket());
        let candidates = audit(self.context.level, &global, &challenge, self.solution_range, chunks);
        candidates.iter().map(|candidate| (candidate.chunk_offset as u64, candidate.distance)).collect()
    }

    /// What verification is told unless a mutation says otherwise.
    fn parameters(&self, solution: &Solution, slot: u64) -> Check<VerifyParameters> {
        let info = protocol_info(self.verify, number(self.verify, "current_history_size")?)?;
        let segment = piece_index_of(solution, &self.plotted.info) / SEGMENT_PIECES as u64;
        let check = PieceCheck {
            info,
            segment_commitment: self.commitment(segment)?,
            expiration_check_commitment: None,
        };
        let (global_challenge, _) = self.challenges(slot);
        Ok(VerifyParameters {
            global_challenge,
            solution_range: self.solution_range,
            piece_check: Some(check),
        })
    }

    fn commitment(&self, segment: u64) -> Check<[u8; 48]> {
        let history = history(self.context)?;
        let segment = history.get(segment as usize).ok_or("segment is not in the history")?;
        Ok(segment.header.segment_commitment)
    }

    fn verdict(&self, solution: &Solution, parameters: &VerifyParameters) -> Check<Result<u64, String>> {
        let verdict = verify_solution(solution, parameters, self.context.kzg()?.verifier());
        Ok(verdict.map_err(|error| error.to_string()))
    }
}

fn check_slots(case: &Value, farm: &Farm<'_>) -> Check {
    for slot in list(case, "slots")? {
        check_slot(slot, farm).map_err(|error| format!("slot {}: {error}", slot["slot"]))?;
    }
    Ok(())
}

fn numbers(case: &Value) -> Check<Vec<u64>> {
    case.as_array().into_iter().flatten().map(number_of).collect()
}

fn check_slot(case: &Value, farm: &Farm<'_>) -> Check {
    let slot = number(case, "slot")?;
    let (global, challenge) = farm.challenges(slot);
    equal("global challenge", global, array(case, "global_challenge")?)?;
    equal("sector slot challenge", challenge.0, array(case, "sector_slot_challenge")?)?;
    equal("s-bucket", challenge.s_bucket(), small(case, "s_bucket_audit_index")?)?;
    let chunks = farm.plotted.s_bucket(challenge.s_bucket());
    equal("s-bucket size", chunks.len(), size(case, "s_bucket_size")?)?;
    if let Some(expected) = optional(case, "all_distances") {
        equal("distances", distances(farm.context.level, &global, &challenge, chunks), numbers(expected)?)?;
    }
    let mut expected = Vec::new();
    for candidate in list(case, "candidates[chunk_offset,distance]")? {
        match numbers(candidate)?[..] {
            [place, distance] => expected.push((place, distance)),
            _ => return Err("a candidate is not a pair".into()),
        }
    }
    equal("candidates", farm.candidates(slot), expected)
}

/// How many candidates the whole plot (of one sector) has, for the first slots.
fn check_plot_results(case: &Value, farm: &Farm<'_>) -> Check {
    let Some(slots) = optional(case, "audit_plot_results_slots_0_31[sector_index,candidates]") else {
        return Ok(());
    };
    for (slot, expected) in (0..).zip(slots.as_array().into_iter().flatten()) {
        let count = farm.candidates(slot).len() as u64;
        let sector_index = u64::from(farm.plotted.metadata.sector_index);
        let found = if count == 0 { Vec::new() } else { vec![vec![sector_index, count]] };
        let expected = expected.as_array().into_iter().flatten().map(numbers).collect::<Check<Vec<_>>>()?;
        equal(&format!("slot {slot}"), found, expected)?;
    }
    Ok(())
}

/// Makes the solution of a case from the sector.
fn check_solution(case: &Value, farm: &Farm<'_>, decoder: &mut RecordDecoder) -> Check {
    let (slot, rank) = (number(case, "slot")?, size(case, "candidate_rank")?);
    let candidates = farm.candidates(slot);
    let best = candidates.first().ok_or("the slot has no candidate")?;
    equal("best distance", best.1, number(case, "best_solution_distance")?)?;
    let plotted = &farm.plotted;
    let s_bucket = farm.challenges(slot).1.s_bucket();
    // Only encoded chunks may win.
    let mut winners = candidates.iter().filter_map(|(place, _)| {
        plotted.map.record_at(s_bucket, *place as usize).filter(|(_, encoded)| *encoded)
    });
    let (offset, _) = winners.nth(rank).ok_or("no candidate of this rank")?;
    equal("piece offset", offset, small(case, "piece_offset")?)?;
    let stored = plotted.stored_record(&plotted.sector, offset)?;
    let (seed, bitfield) = (plotted.id.evaluation_seed(offset), &plotted.map.records()[usize::from(offset)]);
    let proved =
        decoder.prove(&seed, &stored, bitfield, s_bucket, farm.context.kzg()?).map_err(|e| e.to_string())?;
    let record = plotted.record_metadata(offset)?;
    let solution = Solution {
        public_key: plotted.public_key,
        reward_address: farm.reward_address,
        sector_index: plotted.metadata.sector_index,
        history_size: plotted.metadata.history_size,
        piece_offset: offset,
        record_commitment: record.commitment,
        record_witness: record.witness,
        chunk: proved.chunk,
        chunk_witness: proved.chunk_witness,
        proof_of_space: proved.proof_of_space,
    };
    let scale = solution.to_bytes();
    equal("SCALE length", scale.len(), size(case, "solution_scale_len")?)?;
    equal("SCALE", &scale[..], &hex_of(member(case, "solution_scale")?)?)?;
    equal("decoded", Solution::from_bytes(&scale), Ok(solution.clone()))?;
    let json = SolutionJson::try_from(solution.clone()).map_err(|error| error.to_string())?;
    let json = serde_json::to_value(json).map_err(|error| error.to_string())?;
    equal("JSON", &json, member(case, "solution_json")?)?;
    let index = piece_index_of(&solution, &plotted.info);
    equal("piece index", index, number(case, "piece_index")?)?;
    equal("segment index", index / SEGMENT_PIECES as u64, number(case, "segment_index")?)?;
    let verdict = farm.verdict(&solution, &farm.parameters(&solution, slot)?)?;
    equal("verdict", verdict, Ok(number(member(case, "verify")?, "ok")?))
}

fn check_mutation(case: &Value, solution_case: &Value, farm: &Farm<'_>) -> Check {
    let bytes = hex_of(member(solution_case, "solution_scale")?)?;
    let mut solution = Solution::from_bytes(&bytes).map_err(|error| error.to_string())?;
    let slot = number(solution_case, "slot")?;
    let mut parameters = farm.parameters(&solution, slot)?;
    let distance = number(solution_case, "best_solution_distance")?;
    let label = text(case, "mutation")?;
    for part in split_mutation(label) {
        mutate(&part, farm, slot, distance, &mut solution, &mut parameters)?;
    }
    let result = member(case, "result")?;
    let expected = match optional(result, "error") {
        Some(_) => Err(text(result, "error")?.to_owned()),
        None => Ok(number(result, "ok")?),
    };
    equal(label, farm.verdict(&solution, &parameters)?, expected)
}

/// The parts of a label, without its remarks: " (…)".
fn split_mutation(label: &str) -> Vec<String> {
    // Not a remark.
    let mut label = label.replace("segment (index+1)%3", "the next segment");
    while let Some(start) = label.find(" (") {
        let end = label[start..].find(')').map_or(label.len(), |length| start + length + 1);
        label.replace_range(start..end, "");
    }
    label.split(", ").filter(|part| *part != "none").map(str::to_owned).collect()
}

/// Changes solution or parameters as one part of a label says.
fn mutate(
    part: &str,
    farm: &Farm<'_>,
    slot: u64,
    distance: u64,
    solution: &mut Solution,
    parameters: &mut VerifyParameters,
) -> Check {
    let segment = piece_index_of(solution, &farm.plotted.info) / SEGMENT_PIECES as u64;
    let (chunk_witness, record_witness) = (solution.chunk_witness, solution.record_witness);
    let check = parameters.piece_check.as_mut();
    match part {
        "piece_check_params = None" => parameters.piece_check = None,
        "reward_address zeroed" => solution.reward_address = [0; 32],
        "slot + 1" => parameters.global_challenge = farm.challenges(slot + 1).0,
        "sector_index ^1" => solution.sector_index ^= 1,
        "piece_offset ^1" => solution.piece_offset ^= 1,
        "chunk all 0xff" => solution.chunk = [0xff; 32],
        "chunk_witness all zero" => solution.chunk_witness = [0; 48],
        "chunk_witness replaced by record_witness" => solution.chunk_witness = record_witness,
        "record_witness replaced by chunk_witness" => solution.record_witness = chunk_witness,
        "solution_range MAX" => parameters.solution_range = u64::MAX,
        "solution_range = 2 * distance" => parameters.solution_range = 2 * distance,
        "solution_range = 2 * distance - 1" => parameters.solution_range = 2 * distance - 1,
        "max_pieces_in_sector = piece_offset" => {
            check.ok_or("no piece check")?.info.max_pieces_in_sector = solution.piece_offset;
        }
        "segment_commitment of the next segment" => {
            check.ok_or("no piece check")?.segment_commitment = farm.commitment((segment + 1) % 3)?;
        }
        "expiration check commitment = segment 0 commitment" => {
            check.ok_or("no piece check")?.expiration_check_commitment = Some(farm.commitment(0)?);
        }
        "min_sector_lifetime u64::MAX with expiration commitment" => {
            let check = check.ok_or("no piece check")?;
            check.info.min_sector_lifetime = u64::MAX;
            check.expiration_check_commitment = Some(farm.commitment(0)?);
        }
        _ => return mutate_by_number(part, solution, parameters),
    }
    Ok(())
}

/// Parts with a number in them: `history_size N`, `current_history_size N`, `FIELD byte N ^M`.
fn mutate_by_number(part: &str, solution: &mut Solution, parameters: &mut VerifyParameters) -> Check {
    let unknown = || format!("unknown mutation '{part}'");
    let parse = |text: &str| match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).map_err(|_| unknown()),
        None => text.parse().map_err(|_| unknown()),
    };
    match part.split(' ').collect::<Vec<_>>()[..] {
        ["history_size", size] => solution.history_size = parse(size)?,
        ["current_history_size", size] => {
            parameters.piece_check.as_mut().ok_or("no piece check")?.info.history_size = parse(size)?;
        }
        [field, "byte", place, mask] => {
            let bytes: &mut [u8] = match field {
                "public_key" => &mut solution.public_key,
                "proof_of_space" => &mut solution.proof_of_space,
                "chunk" => &mut solution.chunk,
                "chunk_witness" => &mut solution.chunk_witness,
                "record_commitment" => &mut solution.record_commitment,
                "record_witness" => &mut solution.record_witness,
                _ => return Err(unknown()),
            };
            let mask = parse(mask.strip_prefix('^').ok_or_else(unknown)?)? as u8;
            *bytes.get_mut(parse(place)? as usize).ok_or_else(unknown)? ^= mask;
        }
        _ => return Err(unknown()),
    }
    Ok(())
}
