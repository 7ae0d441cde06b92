//! Durations as people write them: Gateway API's (GEP-2257) and Go's.

use std::time::Duration;

/// `1h30m`, `500ms`, `0s`: one to four numbers of up to five digits, each with its unit.
pub fn gateway(text: &str) -> Result<Duration, String> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    let mut parts = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 || digits > 5 || parts == 4 {
            return Err(bad(text));
        }
        let number: u64 = rest[..digits].parse().map_err(|_| bad(text))?;
        rest = &rest[digits..];
        let (unit, length) = match rest.as_bytes() {
            [b'm', b's', ..] => (1, 2),
            [b's', ..] => (1_000, 1),
            [b'm', ..] => (60_000, 1),
            [b'h', ..] => (3_600_000, 1),
            _ => return Err(bad(text)),
        };
        total += Duration::from_millis(number * unit);
        rest = &rest[length..];
        parts += 1;
    }
    if parts == 0 { Err(bad(text)) } else { Ok(total) }
}

/// A limit: `0s` means none.
pub fn limit(text: &str) -> Result<Option<Duration>, String> {
    gateway(text).map(|limit| (!limit.is_zero()).then_some(limit))
}

/// In words, for people: `500 ms`, `2 s`.
pub fn words(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms.is_multiple_of(1_000) { format!("{} s", ms / 1_000) } else { format!("{ms} ms") }
}

fn bad(text: &str) -> String {
    format!("{text:?} is no duration (want such as 500ms, 10s, 1m30s)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gep_2257() {
        for (text, ms) in
            [("0s", 0), ("500ms", 500), ("1m30s", 90_000), ("1h", 3_600_000), ("99999h", 359_996_400_000)]
        {
            assert_eq!(gateway(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "1", "s", "-1s", "1.5s", "100000s", "1d", "1s1s1s1s1s", "1 s"] {
            assert!(gateway(text).is_err(), "{text}");
        }
    }
}
