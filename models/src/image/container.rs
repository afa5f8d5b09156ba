//! What the decoder crates leave unchecked in the containers around the pixels.
//!
//! The JPEG decoder paints the missing part of a truncated file grey and reports success, as browsers do. The WebP
//! decoder runs off the end of a truncated bitstream likewise, and allocates for the size in a frame's own header
//! before comparing it with the canvas announced up front.

use super::{ImageError, Limits};

const TRUNCATED: &str = "the file is truncated";

/// An error about a container, before it is known as an [`ImageError::Undecodable`].
#[derive(Debug, PartialEq)]
pub(super) enum ContainerError {
    /// Broken contents.
    Broken(&'static str),
    /// Over a limit.
    Limit(ImageError),
}

/// Checks that a JPEG file reaches its end-of-image marker (ITU-T T.81, annex B).
pub(super) fn check_jpeg(bytes: &[u8]) -> Result<(), ContainerError> {
    const TEMPORARY: u8 = 0x01;
    const RESTART_0: u8 = 0xd0;
    const START_OF_IMAGE: u8 = 0xd8;
    const END_OF_IMAGE: u8 = 0xd9;

    let mut rest = bytes;
    // Entropy-coded data stuffs a zero after each 0xff, so this search is exact there; between segments it also skips
    // padding, which some cameras write.
    while let Some(position) = memchr::memchr(0xff, rest) {
        rest = &rest[position + 1..];
        let Some((&marker, after)) = rest.split_first() else { break };
        if matches!(marker, 0 | 0xff) {
            continue;
        }
        rest = after;
        match marker {
            END_OF_IMAGE => return Ok(()),
            TEMPORARY | RESTART_0..=START_OF_IMAGE => {}
            _ => {
                let length = rest.first_chunk().map_or(0, |&bytes| u16::from_be_bytes(bytes));
                rest = rest.get(usize::from(length)..).unwrap_or_default();
            }
        }
    }
    Err(ContainerError::Broken(TRUNCATED))
}

/// Checks that a WebP file is as long as its RIFF header says, and that its first frame is within the limits.
pub(super) fn check_webp(bytes: &[u8], limits: &Limits) -> Result<(), ContainerError> {
    let (_, announced, body) = riff_chunk(bytes).ok_or(ContainerError::Broken(TRUNCATED))?;
    if body.len() < announced {
        return Err(ContainerError::Broken(TRUNCATED));
    }
    // Past the form type, "WEBP".
    let mut chunks = body.get(4..).unwrap_or_default();
    while let Some((name, length, body)) = riff_chunk(chunks) {
        if body.len() < length {
            return Err(ContainerError::Broken(TRUNCATED));
        }
        let size = match &name {
            b"VP8 " => lossy_size(body),
            b"VP8L" => lossless_size(body),
            // An animation frame: 16 bytes of placement, then the chunks of a still image.
            b"ANMF" if length >= 16 => {
                chunks = &body[16..];
                continue;
            }
            _ => None,
        };
        if let Some((width, height)) = size {
            return limits.check_size(width, height).map_err(ContainerError::Limit);
        }
        // Chunks start at even offsets.
        chunks = body.get(length + length % 2..).unwrap_or_default();
    }
    Err(ContainerError::Broken("it holds no picture"))
}

/// Splits name and announced length off a RIFF chunk; the body goes on to the end of the input.
fn riff_chunk(bytes: &[u8]) -> Option<([u8; 4], usize, &[u8])> {
    let (name, rest) = bytes.split_first_chunk::<4>()?;
    let (length, body) = rest.split_first_chunk::<4>()?;
    Some((*name, u32::from_le_bytes(*length) as usize, body))
}

/// Width and height of a VP8 key frame (RFC 6386, section 9.1).
fn lossy_size(body: &[u8]) -> Option<(u32, u32)> {
    let side = |at: usize| {
        let bytes = body.get(at..at + 2)?.first_chunk::<2>()?;
        Some(u32::from(u16::from_le_bytes(*bytes) & 0x3fff))
    };
    Some((side(6)?, side(8)?))
}

/// Width and height of a VP8L bitstream (RFC 9649, section 3.4).
fn lossless_size(body: &[u8]) -> Option<(u32, u32)> {
    let header = u32::from_le_bytes(*body.get(1..5)?.first_chunk::<4>()?);
    Some(((header & 0x3fff) + 1, ((header >> 14) & 0x3fff) + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thumbnail_does_not_end_the_jpeg() {
        // APP1 of 8 bytes holding an end-of-image marker of its own.
        let start = b"\xff\xd8\xff\xe1\x00\x08\xff\xd8\xff\xd9\x00\x00";
        assert_eq!(check_jpeg(start), Err(ContainerError::Broken(TRUNCATED)));
        assert_eq!(check_jpeg(&[start, b"\xff\xd9".as_slice()].concat()), Ok(()));
    }

    #[test]
    fn stuffed_and_restart_bytes_are_entropy_coded_data() {
        assert_eq!(check_jpeg(b"\xff\xd8\xff\xda\x00\x02\xff\x00\xd9\xff\xd0\x12\xff\xff\xd9"), Ok(()));
        assert!(check_jpeg(b"\xff\xd8\xff\xda\x00\x02\xff\x00\xd9\xff\xd0\x12\xff").is_err());
    }

    #[test]
    fn a_frame_bigger_than_its_canvas_is_caught() {
        let frame = b"VP8 \x0a\0\0\0\0\0\0\x9d\x01\x2a\xff\x3f\xff\x3f";
        let canvas = b"VP8X\x0a\0\0\0\0\0\0\0\x09\0\0\x09\0\0";
        let length = (4 + canvas.len() + frame.len()) as u32;
        let file = [b"RIFF".as_slice(), &length.to_le_bytes(), b"WEBP", canvas.as_slice(), frame.as_slice()]
            .concat();
        assert!(matches!(
            check_webp(&file, &Limits::default()),
            Err(ContainerError::Limit(ImageError::TooManyPixels { width: 16_383, height: 16_383, .. }))
        ));
        assert_eq!(
            check_webp(&file[..file.len() - 1], &Limits::default()),
            Err(ContainerError::Broken(TRUNCATED))
        );
    }
}
