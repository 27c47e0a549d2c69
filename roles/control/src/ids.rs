//! Names of processes and farms: 16 bytes, written as a ULID (26 characters, one subject token).

use parity_scale_codec::{Decode, DecodeWithMemTracking, Encode};
use std::fmt;
use std::str::FromStr;
use ulid::{ULID_LEN, Ulid};

/// A text that is not a ULID.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an id: 26 characters of Crockford base 32 are expected")]
pub struct BadId(String);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode, DecodeWithMemTracking)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            /// As wide as is asked for: ids stand in tables.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(Ulid::from_bytes(self.0).array_to_str(&mut [0; ULID_LEN]))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                let bad = |_| BadId(text.chars().take(40).collect());
                Ulid::from_string(text).map(|id| Self(id.to_bytes())).map_err(bad)
            }
        }
    };
}

id! {
    /// One member of the cluster: a running role.
    InstanceId
}
id! {
    /// One farm: a directory with a plot (PROTOCOL 7).
    FarmId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_text_and_are_tokens() {
        let id = FarmId([0x5a; 16]);
        assert_eq!(id.to_string().parse::<FarmId>().unwrap(), id);
        assert!(crate::names::valid_token(&id.to_string()));
        assert_eq!(format!("{id:<28}|"), format!("{id}  |"));
        for text in
            ["", "01ARZ3NDEKTSV4RRFFQ69G5FA", "01ARZ3NDEKTSV4RRFFQ69G5FAVX", "Ü1ARZ3NDEKTSV4RRFFQ69G5FA"]
        {
            assert!(text.parse::<InstanceId>().is_err(), "{text}");
        }
    }
}
