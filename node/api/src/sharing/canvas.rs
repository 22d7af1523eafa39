//! A small picture of pixels, and its PNG: discs, rings, lines and rectangles with smooth edges, no text.
//!
//! Services that preview links show no SVG.

use std::io::{self, Write as _};

use flate2::{Compression, Crc, write::ZlibEncoder};

/// Red, green and blue.
pub type Colour = [u8; 3];

const SIGNATURE: [u8; 8] = [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n'];

/// Pixels in rows from the top.
pub struct Canvas {
    width: u16,
    height: u16,
    pixels: Vec<Colour>,
}

impl Canvas {
    pub fn new(width: u16, height: u16, ground: Colour) -> Self {
        Self { width, height, pixels: vec![ground; usize::from(width) * usize::from(height)] }
    }

    /// Lays a colour over each pixel of a box, as much as `cover` says of the pixel's middle, from 0 to 1.
    fn paint(
        &mut self,
        (left, top): (f64, f64),
        (right, bottom): (f64, f64),
        colour: Colour,
        cover: impl Fn(f64, f64) -> f64,
    ) {
        // Casts saturate, so that no coordinate leads out of the picture.
        let (x0, x1) = (left.floor().max(0.0) as u16, (right.ceil().max(0.0) as u16).min(self.width));
        let (y0, y1) = (top.floor().max(0.0) as u16, (bottom.ceil().max(0.0) as u16).min(self.height));
        for y in y0..y1 {
            let row = usize::from(y) * usize::from(self.width);
            for x in x0..x1 {
                let share = cover(f64::from(x) + 0.5, f64::from(y) + 0.5).clamp(0.0, 1.0);
                if let Some(pixel) = self.pixels.get_mut(row + usize::from(x)) {
                    for (old, new) in pixel.iter_mut().zip(colour) {
                        *old = (f64::from(*old) * (1.0 - share) + f64::from(new) * share).round() as u8;
                    }
                }
            }
        }
    }

    /// A disc, or a ring of a width.
    pub fn disc(&mut self, (x, y): (f64, f64), radius: f64, ring: Option<f64>, colour: Colour, opacity: f64) {
        let reach = radius + 1.0;
        self.paint((x - reach, y - reach), (x + reach, y + reach), colour, |px, py| {
            let distance = (px - x).hypot(py - y);
            let inside = radius + 0.5 - distance;
            let outside = ring.map_or(1.0, |width| distance - (radius - width) + 0.5);
            inside.clamp(0.0, 1.0) * outside.clamp(0.0, 1.0) * opacity
        });
    }

    /// A straight line.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), width: f64, colour: Colour) {
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length = (dx * dx + dy * dy).max(f64::MIN_POSITIVE);
        let reach = width / 2.0 + 1.0;
        let (low, high) = (
            (from.0.min(to.0) - reach, from.1.min(to.1) - reach),
            (from.0.max(to.0) + reach, from.1.max(to.1) + reach),
        );
        self.paint(low, high, colour, |px, py| {
            let along = (((px - from.0) * dx + (py - from.1) * dy) / length).clamp(0.0, 1.0);
            let distance = (px - from.0 - along * dx).hypot(py - from.1 - along * dy);
            width / 2.0 + 0.5 - distance
        });
    }

    /// The picture as a PNG.
    ///
    /// # Errors
    /// None in practice: the picture is written to memory.
    pub fn png(&self) -> io::Result<Vec<u8>> {
        let mut rows = ZlibEncoder::new(Vec::new(), Compression::default());
        for row in self.pixels.chunks(usize::from(self.width).max(1)) {
            // Each row begins with its filter: none.
            rows.write_all(&[0])?;
            rows.write_all(row.as_flattened())?;
        }
        let mut out = SIGNATURE.to_vec();
        let [w, h] = [self.width, self.height].map(|side| u32::from(side).to_be_bytes());
        // Eight bits a channel, red, green and blue, no interlacing.
        chunk(&mut out, b"IHDR", &[w.as_slice(), &h, &[8, 2, 0, 0, 0]].concat());
        chunk(&mut out, b"IDAT", &rows.finish()?);
        chunk(&mut out, b"IEND", &[]);
        Ok(out)
    }
}

/// Appends a chunk: the length of its content, its name, the content, and a checksum of both.
fn chunk(out: &mut Vec<u8>, name: &[u8; 4], content: &[u8]) {
    let mut crc = Crc::new();
    crc.update(name);
    crc.update(content);
    out.extend(u32::try_from(content.len()).unwrap_or_default().to_be_bytes());
    out.extend(name);
    out.extend(content);
    out.extend(crc.sum().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn picture_is_a_png_with_the_pixels_that_were_painted() {
        let mut canvas = Canvas::new(9, 5, [255, 255, 255]);
        canvas.disc((4.5, 2.5), 1.5, None, [0, 0, 0], 1.0);
        canvas.line((0.0, 0.5), (9.0, 0.5), 1.0, [255, 0, 0]);
        let png = canvas.png().unwrap();
        assert_eq!(png[..8], SIGNATURE);
        assert_eq!((&png[12..16], &png[16..24]), (b"IHDR".as_slice(), [0, 0, 0, 9, 0, 0, 0, 5].as_slice()));
        let length = u32::from_be_bytes(png[33..37].try_into().unwrap()) as usize;
        let mut rows = Vec::new();
        flate2::read::ZlibDecoder::new(&png[41..41 + length]).read_to_end(&mut rows).unwrap();
        assert_eq!(rows.len(), 5 * (1 + 27));
        assert_eq!(rows[2 * 28 + 1 + 12..][..3], [0, 0, 0], "the middle of the disc");
        assert_eq!(rows[1..4], [255, 0, 0], "the line");
        assert_eq!(rows[4 * 28 + 1..][..3], [255, 255, 255]);
    }

    #[test]
    fn shapes_outside_the_picture_and_without_numbers_are_not_painted() {
        let mut canvas = Canvas::new(4, 4, [9, 9, 9]);
        for at in [(f64::NAN, 1.0), (-1e300, 1e300), (f64::INFINITY, 0.0), (900.0, 900.0)] {
            canvas.disc(at, 3.0, None, [0, 0, 0], 1.0);
        }
        assert!(canvas.pixels.iter().all(|pixel| *pixel == [9, 9, 9]));
    }
}
