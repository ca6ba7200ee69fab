//! The deadline that a call brings along.

use http::HeaderMap;
use std::time::Duration;

/// What the header `grpc-timeout` says; none if it is missing or malformed.
pub fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    // gRPC allows at most 8 digits, and no sign.
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn every_unit_is_known_and_anything_else_is_no_timeout() {
        let check = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", HeaderValue::from_str(text).unwrap());
            timeout(&headers)
        };
        assert_eq!(check("2H"), Some(Duration::from_secs(7200)));
        assert_eq!(check("3M"), Some(Duration::from_secs(180)));
        assert_eq!(check("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(check("0m"), Some(Duration::ZERO));
        assert_eq!(check("5u"), Some(Duration::from_micros(5)));
        assert_eq!(check("5n"), Some(Duration::from_nanos(5)));
        for bad in ["", "S", "5", "-1S", "+1S", "1.5S", "123456789S", "5s", "5 S"] {
            assert_eq!(check(bad), None, "{bad}");
        }
        assert_eq!(timeout(&HeaderMap::new()), None);
    }
}
