//! Huffman-coded coefficients (ITU-T T.81, annex F.2).
//!
//! Most of the time of decoding at a reduced scale goes here, so: stuffed bytes are taken out beforehand, bits are taken
//! from a register of 64, and one look-up gives a whole coefficient where code and value fit into it together.

#![expect(
    clippy::inline_always,
    reason = "a tenth faster: left to itself, the compiler keeps the register in memory"
)]

/// Bits of the look-up: enough for nearly all codes and most values, and small enough for the first-level cache.
const LOOK_UP: u32 = 10;
/// Bits of the look-up that passes over several coefficients at once.
const SKIP_LOOK_UP: u32 = 11;
/// A step past every coefficient: the end of the block.
const END_OF_BLOCK: u32 = 64;
/// The step of what is no code.
const NO_CODE: u32 = 127;

/// Compressed data without stuffed bytes and markers.
pub(super) struct Entropy {
    bytes: Vec<u8>,
    /// Where each restart interval ends.
    ends: Vec<usize>,
}

impl Entropy {
    /// Reads up to the end-of-image marker; `None` at any marker other than restart markers in their order.
    pub(super) fn read(mut data: &[u8]) -> Option<Self> {
        let mut bytes = Vec::with_capacity(data.len());
        let mut ends = Vec::new();
        loop {
            let position = memchr::memchr(0xff, data)?;
            bytes.extend_from_slice(&data[..position]);
            let fill = data[position + 1..].iter().take_while(|&&byte| byte == 0xff).count();
            let marker = *data.get(position + 1 + fill)?;
            data = &data[position + 2 + fill..];
            match marker {
                0 => bytes.push(0xff),
                0xd0..=0xd7 if usize::from(marker & 7) == ends.len() % 8 => ends.push(bytes.len()),
                0xd9 => break,
                _ => return None,
            }
        }
        ends.push(bytes.len());
        Some(Self { bytes, ends })
    }

    /// The bits of a restart interval.
    pub(super) fn interval(&self, number: usize) -> Option<Bits<'_>> {
        let end = *self.ends.get(number)?;
        let start = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(Bits { bytes: &self.bytes[..end], position: start, register: 0, count: 0 })
    }

    /// How many intervals there are.
    pub(super) fn intervals(&self) -> usize {
        self.ends.len()
    }
}

/// Bits, the most significant of each byte first. Past the end come zeros.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// Of the next byte that is not wholly in the register.
    position: usize,
    /// The next bits from the top; those below `count` may be there already.
    register: u64,
    count: u32,
}

impl Bits<'_> {
    /// Whether more was taken than there is.
    pub(super) fn is_exhausted(&self) -> bool {
        8 * self.position > 8 * self.bytes.len() + self.count as usize
    }

    /// Fills the register up to 56 bits or more; a coefficient takes 31 at most. Not only where it is needed: which that is
    /// cannot be predicted, and a wrong prediction costs more than this.
    #[inline(always)]
    fn fill(&mut self) {
        let next = self.bytes.get(self.position..).and_then(<[u8]>::first_chunk);
        let next = next.copied().unwrap_or_else(|| last_bytes(self.bytes, self.position));
        self.register |= u64::from_be_bytes(next) >> self.count;
        self.position += (63 - self.count as usize) / 8;
        self.count |= 0x38;
    }

    #[inline(always)]
    fn skip(&mut self, count: u32) {
        self.register <<= count;
        self.count -= count;
    }
}

#[cold]
#[inline(never)]
fn last_bytes(bytes: &[u8], position: usize) -> [u8; 8] {
    let mut next = [0; 8];
    let left = bytes.get(position..).unwrap_or_default();
    next[..left.len()].copy_from_slice(left);
    next
}

/// A code, and the value behind it where that is in the look-up too.
#[derive(Clone, Copy, Default)]
struct Entry(u32);

impl Entry {
    /// `size` is that of a value still to be read.
    fn new(length: u32, size: u32, step: u32, value: i32) -> Self {
        Self(length | size << 5 | step << 9 | (value as u32) << 16)
    }

    /// Bits of code and value together; 0 for codes longer than the look-up.
    #[inline(always)]
    fn length(self) -> u32 {
        self.0 & 31
    }

    #[inline(always)]
    fn size(self) -> u32 {
        self.0 >> 5 & 15
    }

    /// How far the coefficient is from the one before.
    #[inline(always)]
    fn step(self) -> u32 {
        self.0 >> 9 & 127
    }

    #[inline(always)]
    fn value(self) -> i32 {
        self.0 as i32 >> 16
    }
}

/// As many whole coefficients as the look-up's bits hold, the last of which may end the block.
#[derive(Clone, Copy, Default)]
struct Skip(u16);

impl Skip {
    fn new(length: u32, steps: u32, ends_block: bool) -> Self {
        Self((length | steps << 5) as u16 | u16::from(ends_block) << 11)
    }

    /// Bits in all; 0 where not even one fits.
    #[inline(always)]
    fn length(self) -> u32 {
        u32::from(self.0 & 31)
    }

    /// How far they go, the end of the block not counted.
    #[inline(always)]
    fn steps(self) -> usize {
        usize::from(self.0 >> 5 & 63)
    }

    #[inline(always)]
    fn ends_block(self) -> bool {
        self.0 >> 11 != 0
    }
}

/// A Huffman table.
#[derive(Clone)]
pub(super) struct Huffman {
    look_up: Box<[Entry; 1 << LOOK_UP]>,
    skips: Box<[Skip; 1 << SKIP_LOOK_UP]>,
    /// By length, the first 16-bit word that is beyond its codes.
    beyond: [u32; 17],
    /// By length, the position among the symbols of code 0 of that length, had it one.
    offset: [i32; 17],
    symbols: Vec<u8>,
    step_and_size: fn(u8) -> (u32, u32),
}

impl Default for Huffman {
    fn default() -> Self {
        Self {
            look_up: Box::new([Entry::default(); 1 << LOOK_UP]),
            skips: Box::new([Skip::default(); 1 << SKIP_LOOK_UP]),
            beyond: [0; 17],
            offset: [0; 17],
            symbols: Vec::new(),
            step_and_size: dc_symbol,
        }
    }
}

fn dc_symbol(symbol: u8) -> (u32, u32) {
    if symbol <= 11 { (1, u32::from(symbol)) } else { (NO_CODE, 0) }
}

fn ac_symbol(symbol: u8) -> (u32, u32) {
    match (u32::from(symbol >> 4), u32::from(symbol & 15)) {
        (0, 0) => (END_OF_BLOCK, 0),
        (15, 0) => (16, 0),
        (_, 0) => (NO_CODE, 0),
        (run, size) => (run + 1, size),
    }
}

impl Huffman {
    /// For differences of mean values, from the number of codes of each length and their symbols.
    pub(super) fn for_dc(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        Self::new(counts, symbols, dc_symbol)
    }

    /// For all other coefficients.
    pub(super) fn for_ac(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut table = Self::new(counts, symbols, ac_symbol)?;
        for bits in 0..1 << SKIP_LOOK_UP {
            table.skips[bits as usize] = table.skip_of(bits);
        }
        Some(table)
    }

    fn skip_of(&self, bits: u32) -> Skip {
        let (mut length, mut steps) = (0, 0);
        while length < SKIP_LOOK_UP {
            let rest = (bits << length) & ((1 << SKIP_LOOK_UP) - 1);
            let entry = self.look_up[(rest >> (SKIP_LOOK_UP - LOOK_UP)) as usize];
            let fits = entry.length() > 0 && length + entry.length() <= SKIP_LOOK_UP;
            if fits && entry.step() == END_OF_BLOCK {
                return Skip::new(length + entry.length(), steps, true);
            }
            if !fits || steps + entry.step() > 63 {
                break;
            }
            length += entry.length();
            steps += entry.step();
        }
        Skip::new(length, steps, false)
    }

    fn new(counts: &[u8; 16], symbols: &[u8], step_and_size: fn(u8) -> (u32, u32)) -> Option<Self> {
        let mut table = Self { symbols: symbols.to_vec(), step_and_size, ..Self::default() };
        let (mut code, mut position) = (0_u32, 0_usize);
        for (length, &count) in (1_u32..).zip(counts) {
            code <<= 1;
            table.offset[length as usize] = position as i32 - code as i32;
            for _ in 0..count {
                if length <= LOOK_UP && code < 1 << length {
                    let symbol = *symbols.get(position)?;
                    let free = LOOK_UP - length;
                    let first = (code << free) as usize;
                    for (rest, entry) in table.look_up[first..first + (1 << free)].iter_mut().enumerate() {
                        *entry = entry_of(step_and_size(symbol), length, rest as u32, free);
                    }
                }
                code += 1;
                position += 1;
            }
            table.beyond[length as usize] = code << (16 - length);
            if code > 1 << length {
                return None;
            }
        }
        Some(table)
    }

    #[inline(always)]
    fn entry(&self, bits: &mut Bits<'_>) -> Entry {
        bits.fill();
        let entry = self.look_up[(bits.register >> (64 - LOOK_UP)) as usize];
        if entry.length() == 0 { self.long_entry((bits.register >> 48) as u32) } else { entry }
    }

    /// Of the code that 16 bits begin with.
    #[cold]
    #[inline(never)]
    fn long_entry(&self, word: u32) -> Entry {
        let length = (LOOK_UP + 1..=16).find(|&length| word < self.beyond[length as usize]);
        let symbol = length.and_then(|length| {
            let position = (word >> (16 - length)) as i32 + self.offset[length as usize];
            Some((length, *self.symbols.get(position as usize)?))
        });
        let Some((length, symbol)) = symbol else { return Entry::new(1, 0, NO_CODE, 0) };
        let (step, size) = (self.step_and_size)(symbol);
        Entry::new(length + size, size, step, 0)
    }
}

/// The entry of a code of `length` bits with `free` bits after it, which are `rest`.
fn entry_of((step, size): (u32, u32), length: u32, rest: u32, free: u32) -> Entry {
    if size <= free && size > 0 {
        Entry::new(length + size, 0, step, extended(rest >> (free - size), size))
    } else {
        Entry::new(length + size, size, step, 0)
    }
}

/// `size` bits as a signed number: those beginning with 0 are negative.
#[inline(always)]
fn extended(bits: u32, size: u32) -> i32 {
    let is_negative = bits >> (size - 1) == 0;
    bits as i32 - if is_negative { (1 << size) - 1 } else { 0 }
}

/// A coefficient's value; its bits are taken.
#[inline(always)]
fn take(entry: Entry, bits: &mut Bits<'_>) -> i32 {
    let (length, size) = (entry.length(), entry.size());
    let value = if size == 0 {
        entry.value()
    } else {
        extended((bits.register << (length - size) >> (64 - size)) as u32, size)
    };
    bits.skip(length);
    value
}

/// Reads a block's difference of mean values.
#[inline(always)]
pub(super) fn read_difference(bits: &mut Bits<'_>, table: &Huffman) -> Option<i32> {
    let entry = table.entry(bits);
    (entry.step() != NO_CODE).then(|| take(entry, bits))
}

/// Reads a block's other coefficients up to a position in the order of the file, and passes over the rest.
#[inline(always)]
pub(super) fn read_block(
    bits: &mut Bits<'_>,
    table: &Huffman,
    last: usize,
    mut with: impl FnMut(usize, i32),
) -> Option<()> {
    let mut position = 0;
    while position < last {
        let entry = table.entry(bits);
        let value = take(entry, bits);
        position += entry.step() as usize;
        if position > 63 {
            return (entry.step() == END_OF_BLOCK).then_some(());
        }
        with(position, value);
    }
    while position < 63 {
        bits.fill();
        let skip = table.skips[(bits.register >> (64 - SKIP_LOOK_UP)) as usize];
        // After the last coefficient comes another block, of which this table knows nothing.
        if skip.length() > 0 && position + skip.steps() < 63 {
            bits.skip(skip.length());
            position += skip.steps();
            if skip.ends_block() {
                return Some(());
            }
            continue;
        }
        let entry = table.entry(bits);
        bits.skip(entry.length());
        position += entry.step() as usize;
        if position > 63 {
            return (entry.step() == END_OF_BLOCK).then_some(());
        }
    }
    Some(())
}
