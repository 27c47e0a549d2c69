//! The GPUs of this process: found, chosen, and opened with the kernels on them.
//!
//! Owns: which cards are used, and the words about those that are not. Never: what is done with them, or whether the CPU may do it instead.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use engine::threads::CoreSet;
use gpu::device::cuda::{self, Card, CudaDevice, NoPciId, PciId, cards, ptx};
use gpu::device::{Device, DeviceError};

/// A card with the kernels on it.
#[derive(Clone)]
pub struct OpenCard {
    /// What runs kernels.
    pub device: Arc<dyn Device>,
    /// Where it is, as `0000:83:00.0`; none for kernels that the CPU runs.
    pub pci_bus_id: Option<String>,
    /// Where the thread runs that feeds it; none: where the system puts it.
    pub feeder: Option<CoreSet>,
}

impl fmt::Debug for OpenCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.device.name())
    }
}

/// Where the cards are; those that the CPU runs are nowhere.
pub fn bus_ids(cards: &[OpenCard]) -> Vec<String> {
    cards.iter().filter_map(|card| card.pci_bus_id.clone()).collect()
}

/// Says where each card's feeder runs, in the order of [`bus_ids`].
pub fn set_feeders(cards: &mut [OpenCard], feeders: Vec<Option<CoreSet>>) {
    let cards = cards.iter_mut().filter(|card| card.pci_bus_id.is_some());
    cards.zip(feeders).for_each(|(card, feeder)| card.feeder = feeder);
}

/// How an operator names a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardName {
    /// Its PCI bus id, the same whatever else there is.
    Pci(PciId),
    /// Its number in the driver's order, among those that `CUDA_VISIBLE_DEVICES` shows.
    Ordinal(i32),
}

impl CardName {
    fn names(self, card: &Card) -> bool {
        match self {
            Self::Pci(pci) => card.pci == pci,
            Self::Ordinal(ordinal) => card.ordinal == ordinal,
        }
    }
}

impl FromStr for CardName {
    type Err = NoPciId;

    /// Digits alone are a number, everything else is an address.
    fn from_str(text: &str) -> Result<Self, NoPciId> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(ordinal) if digits => Ok(Self::Ordinal(ordinal)),
            _ => text.parse().map(Self::Pci),
        }
    }
}

impl fmt::Display for CardName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pci(pci) => pci.fmt(f),
            Self::Ordinal(ordinal) => ordinal.fmt(f),
        }
    }
}

/// Why there is no card to use; the text is one line that tells what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCards {
    /// The driver shows none, or there is no driver.
    #[error(transparent)]
    Driver(#[from] cuda::NoCards),
    /// None of those that were asked for.
    #[error("no GPU: none is called {named}; there are {shown} (`autonomys-farmer util gpus`)")]
    NotThere {
        /// What was asked for.
        named: String,
        /// What there is.
        shown: String,
    },
    /// There are some, and each was left out.
    #[error("no GPU: none of them can be used; the first: {first}")]
    Unusable {
        /// What is wrong with the first one.
        first: String,
    },
}

/// Opens the cards that the driver shows to this process (`CUDA_VISIBLE_DEVICES`), or of these only those `named`. One line of log a card; one that
/// cannot be used is left out. The driver compiles the kernels, which takes seconds the first time.
///
/// # Errors
/// [`NoCards`] if none is left.
pub fn open_cards(named: &[CardName]) -> Result<Vec<OpenCard>, NoCards> {
    let cards = chosen(cards()?, named)?;
    let mut first = None;
    let opened = cards.iter().filter_map(|card| match open(card) {
        Ok(opened) => Some(opened),
        Err(reason) => {
            tracing::warn!("{card} is left out: {reason}");
            first.get_or_insert(reason);
            None
        }
    });
    let opened: Vec<_> = opened.collect();
    match first {
        Some(first) if opened.is_empty() => Err(NoCards::Unusable { first }),
        _ => Ok(opened),
    }
}

/// The cards that are named, all if none is. Names without a card are logged.
fn chosen(cards: Vec<Card>, named: &[CardName]) -> Result<Vec<Card>, NoCards> {
    if named.is_empty() {
        return Ok(cards);
    }
    let is_absent = |name: &CardName| !cards.iter().any(|card| name.names(card));
    let absent: Vec<_> = named.iter().filter(|name| is_absent(name)).map(CardName::to_string).collect();
    if absent.len() == named.len() {
        let shown: Vec<_> = cards.iter().map(|card| format!("{} ({})", card.ordinal, card.pci)).collect();
        return Err(NoCards::NotThere { named: absent.join(" or "), shown: shown.join(", ") });
    }
    for name in absent {
        tracing::warn!("there is no GPU {name} (`autonomys-farmer util gpus`): it is left out");
    }
    Ok(cards.into_iter().filter(|card| named.iter().any(|name| name.names(card))).collect())
}

fn open(card: &Card) -> Result<OpenCard, String> {
    card.check().map_err(|reason| reason.to_string())?;
    let kernels = ptx::for_compute_capability(card.capability).ok_or("there are no kernels for it")?;
    let device = CudaDevice::open(card, kernels).map_err(|error: DeviceError| error.to_string())?;
    let (memory_mib, driver) = (card.memory_bytes >> 20, card.driver_version.as_deref().unwrap_or("unknown"));
    tracing::info!(pci = %card.pci, memory_mib, driver, "GPU {}: {}", card.ordinal, card.name);
    Ok(OpenCard { device: Arc::new(device), pci_bus_id: Some(card.pci.to_string()), feeder: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(ordinal: i32, pci: &str) -> Card {
        Card {
            pci: pci.parse().unwrap(),
            ordinal,
            uuid: "GPU-1".to_owned(),
            name: "NVIDIA H200".to_owned(),
            capability: (6, 1),
            multiprocessors: 132,
            clock_mhz: 1980,
            memory_bytes: 150_000_000_000,
            cuda_version: (12, 4),
            driver_version: None,
        }
    }

    fn names(texts: &[&str]) -> Vec<CardName> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn cards_are_chosen_by_number_or_address() {
        let cards = vec![card(1, "3b:00.0"), card(0, "83:00.0")];
        let ordinals = |texts: &[&str]| -> Result<Vec<i32>, NoCards> {
            let chosen = chosen(cards.clone(), &names(texts))?;
            Ok(chosen.iter().map(|card| card.ordinal).collect())
        };
        assert_eq!(ordinals(&[]), Ok(vec![1, 0]));
        assert_eq!(ordinals(&["0"]), Ok(vec![0]));
        assert_eq!(ordinals(&["0000:3b:00.0", "1"]), Ok(vec![1]));
        assert_eq!(ordinals(&["83:00.0", "1", "7"]), Ok(vec![1, 0]));
        let text = ordinals(&["7", "84:00.0"]).unwrap_err().to_string();
        assert!(text.contains("7 or 0000:84:00.0") && text.contains("1 (0000:3b:00.0), 0 ("), "{text}");
        for text in ["", "-1", "GPU-1", "999999999999"] {
            assert!(text.parse::<CardName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_card_that_is_too_old_is_not_opened() {
        let reason = open(&card(0, "3b:00.0")).unwrap_err();
        assert!(reason.contains("compute capability 6.1"), "{reason}");
    }
}
