//! Messages that the servers compress (`kombu_compression` in their configuration).

use std::{borrow::Cow, io::Read as _};

use flate2::read::ZlibDecoder;
use lapin::types::{AMQPValue, FieldTable};

/// Where kombu says how a message is compressed.
const HEADER: &str = "compression";
/// kombu's name for zlib's format (`kombu/compression.py`).
const ZLIB: &str = "application/x-gzip";
/// Larger messages are refused: the largest answers are a few megabytes.
const UNPACKED_MAX: u64 = 64 << 20;

/// The body of a message as it was before it was compressed.
pub(super) fn unpack<'a>(body: &'a [u8], headers: &Option<FieldTable>) -> Result<Cow<'a, [u8]>, String> {
    unpack_within(body, headers, UNPACKED_MAX)
}

fn unpack_within<'a>(body: &'a [u8], headers: &Option<FieldTable>, limit: u64) -> Result<Cow<'a, [u8]>, String> {
    let header = headers.as_ref().and_then(|headers| headers.inner().get(HEADER));
    let name = match header {
        None | Some(AMQPValue::Void) => return Ok(body.into()),
        Some(AMQPValue::LongString(name)) => name.to_string(),
        Some(_) => return Err("its compression has no name".to_owned()),
    };
    if name != ZLIB {
        return Err(format!(
            "it is compressed as {name}: of kombu_compression, which the servers set, gzip is understood"
        ));
    }
    let mut unpacked = Vec::new();
    let mut decoder = ZlibDecoder::new(body).take(limit);
    match decoder.read_to_end(&mut unpacked) {
        Ok(_) if decoder.limit() > 0 => Ok(unpacked.into()),
        Ok(_) => Err(format!("it is larger than {limit} bytes")),
        Err(error) => Err(format!("it cannot be decompressed: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &str) -> Option<FieldTable> {
        let mut headers = FieldTable::default();
        headers.insert(HEADER.into(), AMQPValue::LongString(name.into()));
        Some(headers)
    }

    #[test]
    fn what_is_not_compressed_stays_and_what_cannot_be_decompressed_is_refused() {
        for plain in [None, Some(FieldTable::default())] {
            assert_eq!(unpack(b"{}", &plain).as_deref(), Ok(b"{}".as_slice()));
        }
        assert!(unpack(b"{}", &headers("application/x-bz2")).is_err_and(|error| error.contains("application/x-bz2")));
        assert!(unpack(b"{}", &headers(ZLIB)).is_err_and(|error| error.contains("cannot be decompressed")));
    }

    #[test]
    fn a_message_that_would_fill_the_memory_is_refused() {
        let mut packed = Vec::new();
        let zeroes = std::io::repeat(0).take(1000);
        flate2::read::ZlibEncoder::new(zeroes, flate2::Compression::best())
            .read_to_end(&mut packed)
            .expect("in memory");
        assert_eq!(unpack_within(&packed, &headers(ZLIB), 1001).expect("small enough"), [0; 1000].as_slice());
        assert!(
            unpack_within(&packed, &headers(ZLIB), 999).is_err_and(|error| error.contains("larger than 999 bytes"))
        );
    }
}
