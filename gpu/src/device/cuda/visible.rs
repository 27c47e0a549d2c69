//! `CUDA_VISIBLE_DEVICES`. The driver itself obeys it; this tells the operator why it left no card.

use std::fmt;

/// What the variable lets a process see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visible {
    /// It is not set: every card.
    All,
    /// Only these, in this order, as far as they exist.
    Only {
        /// Up to the first entry that ends the list.
        cards: Vec<Entry>,
        /// The entry that ended it: one that names no card, as -1 does, or one that was there before.
        ended_by: Option<String>,
    },
}

/// An entry that can name a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Its number in the driver's order, which is not that of PCI addresses.
    Index(u32),
    /// `GPU-…` or `MIG-…`, possibly cut short.
    Uuid(String),
}

impl Visible {
    /// Of the variable's value; none: it is not set.
    pub fn parse(value: Option<&str>) -> Self {
        let Some(value) = value else {
            return Self::All;
        };
        let mut cards = Vec::new();
        for text in value.split(',').map(str::trim) {
            match Entry::parse(text) {
                Some(entry) if !cards.contains(&entry) => cards.push(entry),
                _ => return Self::Only { cards, ended_by: Some(text.to_owned()) },
            }
        }
        Self::Only { cards, ended_by: None }
    }

    /// Why no card is left, if it is the variable that hides them all.
    pub fn hides_all(&self) -> Option<String> {
        match self {
            Self::All => None,
            Self::Only { cards, ended_by: Some(entry) } if cards.is_empty() && entry.is_empty() => {
                Some("it is empty".to_owned())
            }
            Self::Only { cards, ended_by: Some(entry) } if cards.is_empty() => {
                Some(format!("{entry:?} names no GPU, and what follows it does not count"))
            }
            Self::Only { ended_by: Some(entry), .. } => {
                Some(format!("none of the GPUs before {entry:?} is here, and what follows does not count"))
            }
            Self::Only { cards, .. } => {
                let names: Vec<_> = cards.iter().map(ToString::to_string).collect();
                Some(format!("this machine has no GPU {}", names.join(" or ")))
            }
        }
    }
}

impl Entry {
    fn parse(text: &str) -> Option<Self> {
        if text.starts_with("GPU-") || text.starts_with("MIG-") {
            return Some(Self::Uuid(text.to_owned()));
        }
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| digits).map(Self::Index)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "{index}"),
            Self::Uuid(uuid) => f.write_str(uuid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> (Vec<String>, Option<String>) {
        match Visible::parse(Some(value)) {
            Visible::All => panic!("{value:?} is set"),
            Visible::Only { cards, ended_by } => (cards.iter().map(ToString::to_string).collect(), ended_by),
        }
    }

    #[test]
    fn entries_up_to_the_first_that_names_no_card_count() {
        let cases: [(&str, &[&str], Option<&str>); 10] = [
            ("0", &["0"], None),
            ("2,0, 1 ", &["2", "0", "1"], None),
            ("GPU-8932f937-d72c,1", &["GPU-8932f937-d72c", "1"], None),
            ("MIG-6a1f", &["MIG-6a1f"], None),
            ("", &[], Some("")),
            ("-1", &[], Some("-1")),
            ("0,-1,1", &["0"], Some("-1")),
            ("0,NoDevFiles", &["0"], Some("NoDevFiles")),
            ("1,+2", &["1"], Some("+2")),
            ("0,1,0", &["0", "1"], Some("0")),
        ];
        for (value, cards, ended_by) in cases {
            let expected: Vec<_> = cards.iter().map(|card| (*card).to_owned()).collect();
            assert_eq!(parse(value), (expected, ended_by.map(str::to_owned)), "{value:?}");
        }
        assert_eq!(Visible::parse(None), Visible::All);
    }

    #[test]
    fn what_hides_every_card_is_told() {
        let why = |value| Visible::parse(value).hides_all();
        assert_eq!(why(None), None);
        assert_eq!(why(Some("")).unwrap(), "it is empty");
        for (value, word) in
            [("-1", "\"-1\""), ("7", "GPU 7"), ("5,x", "before \"x\""), ("GPU-1,2", "GPU-1 or 2")]
        {
            let text = why(Some(value)).unwrap();
            assert!(text.contains(word), "{value}: {text}");
        }
    }
}
