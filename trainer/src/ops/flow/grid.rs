//! Numbers in a shape, on the host.

/// Numbers in row-major order.
#[derive(Debug)]
pub(super) struct NumberGrid {
    pub shape: Vec<usize>,
    pub numbers: Vec<f64>,
}

impl NumberGrid {
    /// The distance of neighbours along each axis.
    pub fn strides(&self) -> Vec<usize> {
        let after = |axis: usize| self.shape.iter().skip(axis + 1).product();
        (0..self.shape.len()).map(after).collect()
    }

    /// The strides with which these numbers fill a shape into which they broadcast.
    pub fn strides_for(&self, shape: &[usize]) -> Vec<usize> {
        let missing = shape.len().saturating_sub(self.shape.len());
        let own =
            self.strides().into_iter().zip(&self.shape).map(|(stride, extent)| if *extent == 1 { 0 } else { stride });
        std::iter::repeat_n(0, missing).chain(own).collect()
    }

    /// The numbers at `first` plus the sum of index times stride, for each index of a shape.
    pub fn picked(&self, shape: &[usize], strides: &[usize], first: usize) -> Self {
        let mut places = vec![first];
        for (extent, stride) in shape.iter().zip(strides) {
            places = places.into_iter().flat_map(|at| (0..*extent).map(move |i| at + i * stride)).collect();
        }
        let numbers = places.into_iter().map(|at| self.numbers.get(at).copied().unwrap_or(f64::NAN)).collect();
        Self { shape: shape.to_vec(), numbers }
    }
}
