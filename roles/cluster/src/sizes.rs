//! Sizes as operators write and read them, `7900GB` or `7.2TiB`.

/// Bytes of a size: a number with a unit of thousands (`GB`, `G`) or of 1024s (`GiB`, `Gi`), upper or lower case, or without a
/// unit. Whole bytes count, however long the fraction. None for anything else, for nothing, and for more than a `u64` holds.
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (base, exponent) = parse_unit(unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole: u64 = whole.parse().ok()?;
    let bytes = whole.checked_mul(u64::from(base).pow(exponent))?;
    let bytes = bytes.checked_add(fraction_bytes(fraction, base, exponent)?)?;
    (bytes > 0).then_some(bytes)
}

/// A size for people, in units of thousands as disks are sold: `7.93 TB`, three digits.
pub fn human_size(bytes: u64) -> String {
    let (mut size, mut unit) = (bytes as f64, "bytes");
    for next in ["kB", "MB", "GB", "TB", "PB", "EB"] {
        // What would be shown as 1000 is one of the next.
        if size < 999.5 {
            break;
        }
        (size, unit) = (size / 1000.0, next);
    }
    let digits = match size {
        _ if unit == "bytes" => 0,
        size if size < 9.995 => 2,
        size if size < 99.95 => 1,
        _ => 0,
    };
    format!("{size:.digits$} {unit}")
}

/// Base and exponent of a unit.
fn parse_unit(unit: &str) -> Option<(u32, u32)> {
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let (prefix, base) = unit.strip_suffix('i').map_or((unit, 1000), |prefix| (prefix, 1024));
    let exponent = match prefix {
        "" if base == 1000 => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    Some((base, exponent))
}

/// Whole bytes in the digits behind the point. Digit by digit: no number of them overflows or is rounded.
fn fraction_bytes(fraction: &str, base: u32, exponent: u32) -> Option<u64> {
    let mut digits = fraction.chars().map(|c| c.to_digit(10)).collect::<Option<Vec<_>>>()?;
    let mut bytes = 0;
    for _ in 0..exponent {
        // What goes over the point are whole units of the next smaller kind.
        let mut carry = 0;
        for digit in digits.iter_mut().rev() {
            let product = *digit * base + carry;
            (*digit, carry) = (product % 10, product / 10);
        }
        bytes = bytes * u64::from(base) + u64::from(carry);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_with_units() {
        for (text, bytes) in [
            ("8TB", 8_000_000_000_000),
            ("7.25TiB", 7 * (1 << 40) + (1 << 38)),
            ("100G", 100_000_000_000),
            ("100gib", 100 << 30),
            ("100 GB", 100_000_000_000),
            ("4096", 4096),
            ("1.5k", 1500),
            ("1.99999999999T", 1_999_999_999_990),
            ("0.0009765625Ki", 1),
            ("1.9", 1),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn sizes_for_people_have_three_digits() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (1000, "1.00 kB"),
            (999_499, "999 kB"),
            (999_600, "1.00 MB"),
            (9_994_999, "9.99 MB"),
            (9_996_000, "10.0 MB"),
            (99_960_000_000, "100 GB"),
            (7_930_000_000_000, "7.93 TB"),
        ] {
            assert_eq!(human_size(bytes), text);
            assert!(parse_size(text).is_some() || bytes < 1000, "{text}");
        }
        assert_eq!(human_size(u64::MAX), "18.4 EB");
    }

    #[test]
    fn nonsense_is_no_size() {
        let bad = [
            "",
            "0",
            ".",
            ".5G",
            "GB",
            "TB",
            "1XB",
            "1ib",
            "1.2.3TB",
            "-1G",
            "+1G",
            "inf",
            "nan",
            "1e3",
            "1 G B",
            "0.0001",
            "0.0009765624Ki",
            "99999999PB",
            "18446744073709551616",
            "16384PiB",
            "1\u{664}GB",
        ];
        for text in bad {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn long_fractions_are_cut_and_not_rounded(
            whole in 0u64..20_000, fraction in "[0-9]{0,400}", unit in "[kmgtp]i?b?"
        ) {
            let (base, exponent) = parse_unit(&unit).unwrap();
            let unit_bytes = u128::from(base).pow(exponent);
            // The first twelve digits bound the answer.
            let first: String = fraction.chars().chain("0".repeat(12).chars()).take(12).collect();
            let least = u128::from(whole) * unit_bytes + first.parse::<u128>().unwrap() * unit_bytes / 10u128.pow(12);
            let most = least + unit_bytes / 10u128.pow(12) + 1;
            match parse_size(&format!("{whole}.{fraction}{unit}")) {
                Some(bytes) => prop_assert!((least..=most).contains(&u128::from(bytes))),
                None => prop_assert!(least == 0 || most > u128::from(u64::MAX)),
            }
        }

        /// A byte is so many 1024ths of 1024ths, which is a decimal number that ends.
        #[test]
        fn every_number_of_bytes_can_be_written_in_gib(bytes in 1u64..1 << 50) {
            let (whole, mut rest) = (bytes >> 30, bytes & ((1 << 30) - 1));
            let digits: String = (0..30).map(|_| {
                rest *= 10;
                let digit = rest >> 30;
                rest &= (1 << 30) - 1;
                char::from_digit(digit as u32, 10).unwrap()
            }).collect();
            prop_assert_eq!(rest, 0);
            prop_assert_eq!(parse_size(&format!("{whole}.{digits}GiB")), Some(bytes));
        }

        #[test]
        fn no_text_panics(text in "[0-9.]{0,60}[a-zA-Z ]{0,4}", any in "\\PC{0,20}") {
            let _ = (parse_size(&text), parse_size(&any));
        }
    }
}
