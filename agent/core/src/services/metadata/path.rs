//! The path of a request: segments, decoded. There are no files behind it, so there is nowhere to climb to.

/// Longer ones lead nowhere.
const SEGMENTS_MAX: usize = 16;

/// Splits the path of a request target in origin form (RFC 9112 §3.2.1) into segments; the query is dropped, and so are empty
/// segments: `/latest//` is `/latest`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn segments(target: &str) -> Result<Vec<String>, &'static str> {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    if !path.starts_with('/') {
        return Err("The path must begin with a slash.");
    }
    let segments = path.split('/').filter(|segment| !segment.is_empty()).map(decode);
    let segments = segments.take(SEGMENTS_MAX + 1).collect::<Result<Vec<_>, _>>()?;
    if segments.len() > SEGMENTS_MAX { Err("The path is too deep.") } else { Ok(segments) }
}

/// Undoes percent-encoding (RFC 3986 §2.1).
fn decode(segment: &str) -> Result<String, &'static str> {
    const BROKEN: &str = "A percent sign must be followed by two hexadecimal digits.";
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let [high, low, after @ ..] = rest else { return Err(BROKEN) };
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (high, low) = (digit(*high).ok_or(BROKEN)?, digit(*low).ok_or(BROKEN)?);
        bytes.push(high << 4 | low);
        rest = after;
    }
    let text = String::from_utf8(bytes).map_err(|_| "The path is not UTF-8.")?;
    if text.contains(char::is_control) { Err("The path contains control characters.") } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_is_split_at_slashes_and_decoded_after_that() {
        let expected = ["latest", "a b", "c/d", ".."].map(str::to_owned).to_vec();
        assert_eq!(segments("//latest/a%20b/c%2fd/../?query=/x"), Ok(expected));
        assert_eq!(segments("/"), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for target in ["", "*", "latest", "http://other/latest", "/%", "/%4", "/%zz", "/%ff", "/%00", "/a%0d%0ab"] {
            assert!(segments(target).is_err(), "{target:?}");
        }
        assert!(segments(&"/a".repeat(SEGMENTS_MAX + 1)).is_err());
    }

    proptest! {
        #[test]
        fn no_path_makes_it_panic(target in "[/%0-9a-g.\u{e9}?]{0,40}") {
            let _ = segments(&target);
        }
    }
}
