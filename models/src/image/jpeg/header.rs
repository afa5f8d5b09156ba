//! The headers of plain JPEG files (ITU-T T.81, annex B).

use super::entropy::Huffman;

/// Position in a block, row by row, of each coefficient in the order of the file.
pub(super) const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7,
    14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39,
    46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// All that comes before the compressed data.
pub(super) struct Header<'a> {
    pub(super) width: usize,
    pub(super) height: usize,
    /// One for grey, three for Y, Cb and Cr.
    pub(super) components: Vec<Component>,
    /// MCUs between restart markers; 0 where there are none.
    pub(super) restart_interval: usize,
    /// Compressed data and what follows it.
    pub(super) data: &'a [u8],
}

/// Luma or one of the chroma planes.
pub(super) struct Component {
    id: u8,
    /// Blocks of a MCU, horizontally and vertically.
    pub(super) blocks: (usize, usize),
    quantisation_number: u8,
    /// In the order of the file.
    pub(super) quantisation: [u16; 64],
    pub(super) dc: Huffman,
    pub(super) ac: Huffman,
}

/// Tables as they are defined, by number, until a frame or a scan uses them.
#[derive(Default)]
struct Tables {
    quantisation: [Option<[u16; 64]>; 4],
    dc: [Option<Huffman>; 4],
    ac: [Option<Huffman>; 4],
}

/// Reads the headers of a baseline or extended sequential file with 8-bit samples, Huffman coding, and one scan of grey or
/// of YCbCr whose chroma is whole or halved; `None` for all others and whatever is wrong.
pub(super) fn read(bytes: &[u8]) -> Option<Header<'_>> {
    let mut rest = bytes.strip_prefix(b"\xff\xd8")?;
    let mut tables = Tables::default();
    let mut frame = None;
    let mut restart_interval = 0;
    loop {
        let marker;
        (marker, rest) = next_marker(rest)?;
        let length = usize::from(u16::from_be_bytes(*rest.first_chunk()?));
        let segment = rest.get(2..length)?;
        rest = &rest[length..];
        match marker {
            0xc0 | 0xc1 if frame.is_none() => frame = Some(read_frame(segment)?),
            0xc4 => read_huffman(segment, &mut tables)?,
            0xda => {
                let (width, height, mut components) = frame?;
                read_scan(segment, &mut components, &tables)?;
                return Some(Header { width, height, components, restart_interval, data: rest });
            }
            0xdb => read_quantisation(segment, &mut tables)?,
            0xdd => restart_interval = usize::from(u16::from_be_bytes(segment.try_into().ok()?)),
            // Adobe's: 1 stands for YCbCr.
            0xee if segment.starts_with(b"Adobe") && segment.get(11) != Some(&1) => return None,
            0xe0..=0xef | 0xfe => {}
            _ => return None,
        }
    }
}

fn next_marker(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let rest = bytes.strip_prefix(b"\xff")?;
    let fill = rest.iter().take_while(|&&byte| byte == 0xff).count();
    let (&marker, rest) = rest[fill..].split_first()?;
    Some((marker, rest))
}

fn read_frame(segment: &[u8]) -> Option<(usize, usize, Vec<Component>)> {
    let (&[8, height_high, height_low, width_high, width_low, count], rest) = segment.split_first_chunk()?
    else {
        return None;
    };
    let (specifications, []) = rest.as_chunks::<3>() else { return None };
    if specifications.len() != usize::from(count) {
        return None;
    }
    let components = specifications.iter().map(|&[id, sampling, quantisation_number]| Component {
        id,
        blocks: (usize::from(sampling >> 4), usize::from(sampling & 15)),
        quantisation_number,
        quantisation: [0; 64],
        dc: Huffman::default(),
        ac: Huffman::default(),
    });
    let mut components: Vec<Component> = components.collect();
    match &mut components[..] {
        // Alone in its scan, a component has one block a MCU whatever it announces.
        [grey] => grey.blocks = (1, 1),
        [luma, chroma @ ..] if chroma.len() == 2 => {
            let is_plain =
                matches!(luma.blocks, (1 | 2, 1 | 2)) && chroma.iter().all(|one| one.blocks == (1, 1));
            let is_rgb = luma.id == b'R' && chroma[0].id == b'G' && chroma[1].id == b'B';
            if !is_plain || is_rgb {
                return None;
            }
        }
        _ => return None,
    }
    let side = |high, low| usize::from(u16::from_be_bytes([high, low]));
    let (width, height) = (side(width_high, width_low), side(height_high, height_low));
    (width > 0 && height > 0).then_some((width, height, components))
}

fn read_quantisation(mut segment: &[u8], tables: &mut Tables) -> Option<()> {
    while let Some((&head, rest)) = segment.split_first() {
        let table = tables.quantisation.get_mut(usize::from(head & 15))?.insert([0; 64]);
        match head >> 4 {
            0 => {
                let (values, rest) = rest.split_first_chunk::<64>()?;
                *table = values.map(u16::from);
                segment = rest;
            }
            1 => {
                let (values, rest) = rest.split_first_chunk::<128>()?;
                for (entry, &pair) in table.iter_mut().zip(values.as_chunks::<2>().0) {
                    *entry = u16::from_be_bytes(pair);
                }
                segment = rest;
            }
            _ => return None,
        }
    }
    Some(())
}

fn read_huffman(mut segment: &[u8], tables: &mut Tables) -> Option<()> {
    while let Some((&head, rest)) = segment.split_first() {
        let (counts, rest) = rest.split_first_chunk::<16>()?;
        let total = counts.iter().map(|&count| usize::from(count)).sum();
        let (symbols, rest) = rest.split_at_checked(total)?;
        let number = usize::from(head & 15);
        match head >> 4 {
            0 => *tables.dc.get_mut(number)? = Some(Huffman::for_dc(counts, symbols)?),
            1 => *tables.ac.get_mut(number)? = Some(Huffman::for_ac(counts, symbols)?),
            _ => return None,
        }
        segment = rest;
    }
    Some(())
}

/// Gives the components their tables, if the scan has all of them, in their order, with all their coefficients.
fn read_scan(segment: &[u8], components: &mut [Component], tables: &Tables) -> Option<()> {
    let (&count, rest) = segment.split_first()?;
    let (selections, [0, 63, 0]) = rest.split_at_checked(2 * components.len())? else { return None };
    if usize::from(count) != components.len() {
        return None;
    }
    for (component, &[id, numbers]) in components.iter_mut().zip(selections.as_chunks::<2>().0) {
        if component.id != id {
            return None;
        }
        component.quantisation = (*tables.quantisation.get(usize::from(component.quantisation_number))?)?;
        component.dc = tables.dc.get(usize::from(numbers >> 4))?.clone()?;
        component.ac = tables.ac.get(usize::from(numbers & 15))?.clone()?;
    }
    Some(())
}
