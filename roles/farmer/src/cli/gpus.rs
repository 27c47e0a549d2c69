//! `autonomys-farmer util gpus`: the cards that this machine's driver shows, and why those that cannot be used cannot.

use clap::Args;
use gpu::device::cuda::{Card, NoCards, cards};
use serde_json::{Value, json};

use super::CommandResult;

#[derive(Debug, Args)]
pub struct GpuArgs {
    /// As JSON: {"gpus": [...], "reason": why there is none to use, or null}
    #[arg(long)]
    json: bool,
}

impl GpuArgs {
    /// Lists the cards; it is an error if none can be used.
    pub fn run(&self) -> CommandResult {
        let found = cards();
        let reason = reason(&found);
        let cards = found.unwrap_or_default();
        if self.json {
            let gpus: Vec<_> = cards.iter().map(card_json).collect();
            let reason = reason.as_ref().map(ToString::to_string);
            println!("{}", json!({ "gpus": gpus, "reason": reason }));
        } else {
            cards.iter().for_each(|card| println!("{}", card_line(card)));
        }
        reason.map_or(Ok(()), |reason| Err(reason.into()))
    }
}

/// Why no card can be used, if none can.
fn reason(found: &Result<Vec<Card>, NoCards>) -> Option<NoCards> {
    let cards = match found {
        Ok(cards) => cards,
        Err(reason) => return Some(reason.clone()),
    };
    let checks: Result<Vec<()>, NoCards> = cards.iter().map(Card::check).collect();
    checks.err().filter(|_| cards.iter().all(|card| card.check().is_err()))
}

/// `0000:3b:00.0  NVIDIA H200, 139.7 GiB, 132 multiprocessors at 1980 MHz, compute capability 9.0, driver 550.54 (CUDA 12.4)`.
fn card_line(card: &Card) -> String {
    let gib = card.memory_bytes as f64 / (1_u64 << 30) as f64;
    let (major, minor) = card.capability;
    let driver = card.driver_version.as_deref().unwrap_or("of unknown version");
    let (cuda_major, cuda_minor) = card.cuda_version;
    let unusable = if card.check().is_err() { ": too old to use" } else { "" };
    format!(
        "{}  {}, {gib:.1} GiB, {} multiprocessors at {} MHz, compute capability {major}.{minor}, \
         driver {driver} (CUDA {cuda_major}.{cuda_minor}){unusable}",
        card.pci, card.name, card.multiprocessors, card.clock_mhz
    )
}

fn card_json(card: &Card) -> Value {
    json!({
        "pci": card.pci.to_string(),
        "uuid": card.uuid,
        "name": card.name,
        "compute_capability": format!("{}.{}", card.capability.0, card.capability.1),
        "multiprocessors": card.multiprocessors,
        "clock_mhz": card.clock_mhz,
        "memory_bytes": card.memory_bytes,
        "driver": card.driver_version,
        "cuda": format!("{}.{}", card.cuda_version.0, card.cuda_version.1),
        "unusable": card.check().err().map(|reason| reason.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(capability: (u32, u32)) -> Card {
        Card {
            pci: "3b:00.0".parse().unwrap(),
            ordinal: 0,
            uuid: "GPU-1".to_owned(),
            name: "NVIDIA H200".to_owned(),
            capability,
            multiprocessors: 132,
            clock_mhz: 1980,
            memory_bytes: 150_000_000_000,
            cuda_version: (12, 4),
            driver_version: None,
        }
    }

    #[test]
    fn one_card_that_can_be_used_is_enough() {
        assert_eq!(reason(&Ok(vec![card((6, 1)), card((9, 0))])), None);
        assert!(matches!(reason(&Ok(vec![card((6, 1))])), Some(NoCards::OldCard { .. })));
        assert_eq!(reason(&Err(NoCards::NoDriver)), Some(NoCards::NoDriver));
    }

    #[test]
    fn cards_are_shown() {
        let line = card_line(&card((9, 0)));
        assert!(line.starts_with("0000:3b:00.0  NVIDIA H200, 139.7 GiB, 132 multiprocessors"), "{line}");
        assert!(card_line(&card((6, 1))).ends_with("too old to use"));
        let json = card_json(&card((6, 1)));
        assert_eq!((&json["pci"], &json["cuda"]), (&json!("0000:3b:00.0"), &json!("12.4")));
        assert!(json["unusable"].as_str().unwrap().contains("6.1"));
        assert_eq!(card_json(&card((9, 0)))["unusable"], Value::Null);
    }
}
