//! An input, read from its beginning. Whatever the bytes are, they can be read as something, so that
//! no mutation is wasted.

/// What is left of an input.
#[derive(Debug)]
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// Two bytes, big-endian.
    pub(crate) fn number(&mut self) -> Option<usize> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(usize::from(u16::from_be_bytes(*first)))
    }

    /// As many bytes as two bytes say, or what there is.
    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?.min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(bytes)
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Changes bytes as one step of the input says; false if it says no more.
    pub(crate) fn edit(&mut self, bytes: &mut Vec<u8>) -> bool {
        let Some((kind, at)) = self.byte().zip(self.number()) else { return false };
        let at = at % (bytes.len() + 1);
        let end = (at + 1).min(bytes.len());
        match kind % 6 {
            0 => drop(bytes.splice(at..end, self.byte())),
            1 => drop(bytes.splice(at..at, self.byte())),
            2 => drop(bytes.drain(at..end)),
            3 => bytes.truncate(at),
            4 => drop(bytes.splice(at..at, self.bytes().unwrap_or_default().iter().copied())),
            _ => {
                let with = self.bytes().unwrap_or_default();
                let end = (at + with.len()).min(bytes.len());
                drop(bytes.splice(at..end, with.iter().copied()));
            }
        }
        true
    }
}

/// Writes what [`Input`] reads.
#[derive(Debug, Default)]
pub(crate) struct Seed(pub(crate) Vec<u8>);

impl Seed {
    pub(crate) fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    pub(crate) fn number(mut self, number: usize) -> Self {
        let number = u16::try_from(number).expect("seeds are small");
        self.0.extend(number.to_be_bytes());
        self
    }

    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        let mut seed = self.number(bytes.len());
        seed.0.extend(bytes);
        seed
    }
}
