//! Writing and reading compact values: fixed fields one after another, mostly small numbers as LEB128, texts and
//! lists after their length.

use crate::error::{Damage, Result};

/// Bytes being written.
#[derive(Default)]
pub struct ValueWriter(pub Vec<u8>);

impl ValueWriter {
    pub fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub fn fixed(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub fn number(&mut self, mut number: u64) {
        while number > 0x7f {
            self.0.push(0x80 | number.to_le_bytes()[0]);
            number >>= 7;
        }
        self.0.push(number.to_le_bytes()[0]);
    }

    pub fn float(&mut self, float: f64) {
        self.fixed(&float.to_bits().to_be_bytes());
    }

    pub fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.fixed(text.as_bytes());
    }

    /// 32 bytes, or none.
    pub fn optional(&mut self, id: Option<[u8; 32]>) {
        self.byte(u8::from(id.is_some()));
        self.fixed(id.as_ref().map_or(&[], |id| id.as_slice()));
    }
}

/// Bytes being read.
pub struct ValueReader<'a>(pub &'a [u8]);

const CUT_SHORT: Damage = Damage::Value("a value is cut short");

impl ValueReader<'_> {
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk::<N>().ok_or(CUT_SHORT)?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub fn byte(&mut self) -> Result<u8> {
        self.fixed::<1>().map(|[byte]| byte)
    }

    pub fn number(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Damage::Value("a number is too long").into())
    }

    /// Eight bytes, big-endian.
    pub fn whole(&mut self) -> Result<u64> {
        self.fixed().map(u64::from_be_bytes)
    }

    pub fn float(&mut self) -> Result<f64> {
        self.whole().map(f64::from_bits)
    }

    pub fn text(&mut self) -> Result<String> {
        let length = usize::try_from(self.number()?).map_err(|_| CUT_SHORT)?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(CUT_SHORT)?;
        self.0 = rest;
        Ok(String::from_utf8(bytes.to_vec()).map_err(|_| Damage::Value("a text is not UTF-8"))?)
    }

    pub fn optional(&mut self) -> Result<Option<[u8; 32]>> {
        Ok(if self.byte()? == 0 { None } else { Some(self.fixed()?) })
    }
}
