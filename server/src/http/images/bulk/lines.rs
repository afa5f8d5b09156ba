//! NDJSON: one image a line, as an element of `images` has it.

use super::{Bounds, Item, Sink, disk};
use crate::http::payload::parse_line;
use crate::http::problem::{Code, Problem};
use std::io::{self, BufRead, Read};

/// What a line has beyond the base64 of its image.
const AROUND: usize = 1024;

/// Counts the lines.
pub(super) fn check(mut reader: impl BufRead, bounds: &Bounds) -> Result<(), Problem> {
    let mut images = 0;
    let mut line = Vec::new();
    while let Some(length) = next_line(&mut reader, &mut line, AROUND).map_err(disk)? {
        images += usize::from(length > 0);
    }
    bounds.check_images(images)
}

/// Reads the lines. One that is too long or no image fails for itself; empty ones do not count.
pub(super) fn read(mut reader: impl BufRead, bounds: &Bounds, sink: Sink<'_>) -> Result<(), Problem> {
    let longest = bounds.image.div_ceil(3) * 4 + AROUND;
    let mut index = 0;
    let mut line = Vec::new();
    while let Some(length) = next_line(&mut reader, &mut line, longest).map_err(disk)? {
        if length == 0 {
            continue;
        }
        let input = if length > longest as u64 {
            let detail =
                format!("the line has {length} bytes and {longest} are allowed: scale the image down");
            Err(Problem::new(Code::ImageTooLarge, format!("Image {index}: {detail}."))
                .at_image(index, detail)
                .with_limit(longest as u64, length))
        } else {
            parse_line(&line, index)
        };
        if sink(Item { index, name: None, input }).is_break() {
            return Ok(());
        }
        index += 1;
    }
    Ok(())
}

/// The next line's length without white space around it, and as much of it as is to be kept; none at the end.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>, keep: usize) -> io::Result<Option<u64>> {
    line.clear();
    if reader.fill_buf()?.is_empty() {
        return Ok(None);
    }
    reader.by_ref().take(keep as u64 + 1).read_until(b'\n', line)?;
    let mut length = line.len() as u64;
    if line.last() != Some(&b'\n') {
        length += skip_line(reader)?;
    }
    if length == line.len() as u64 {
        length = line.trim_ascii().len() as u64;
    }
    Ok(Some(length))
}

/// Skips to the line's end; how many bytes that was.
fn skip_line(reader: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(skipped);
        }
        let (used, ended) = match buffer.iter().position(|&byte| byte == b'\n') {
            Some(end) => (end + 1, true),
            None => (buffer.len(), false),
        };
        skipped += used as u64;
        reader.consume(used);
        if ended {
            return Ok(skipped);
        }
    }
}
