//! Whether a difference between results is more than the noise of their runs.
//!
//! Runs of one script with other seeds differ. Their mean and deviation say what the next run may bring, and so which
//! difference from another single run is believable. Pure: numbers in, numbers out.

/// Two-sided quantiles of Student's t at p = 0.01 for 1 to 10 degrees of freedom.
const T: [f64; 10] = [63.657, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.250, 3.169];
/// The same for more degrees of freedom, rounded up: those of 11.
const T_MORE: f64 = 3.106;
/// Fewest runs whose deviation is used: of two runs it says next to nothing.
pub const LEAST_RUNS: usize = 3;

/// Several results of one script, which differ in the seed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Runs {
    pub count: usize,
    pub mean: f64,
    /// The deviation of a single run, estimated with `count - 1` degrees of freedom.
    pub deviation: f64,
}

impl Runs {
    /// None for fewer than [`LEAST_RUNS`] results, or for one that is not finite.
    pub fn of(results: &[f64]) -> Option<Self> {
        if results.len() < LEAST_RUNS || results.iter().any(|result| !result.is_finite()) {
            return None;
        }
        let count = results.len() as f64;
        let mean = results.iter().sum::<f64>() / count;
        let squares: f64 = results.iter().map(|result| (result - mean).powi(2)).sum();
        Some(Self { count: results.len(), mean, deviation: (squares / (count - 1.0)).sqrt() })
    }

    /// Smallest difference between [`Runs::mean`] and the result of one other run that chance brings in fewer than one
    /// case in a hundred, if both scripts are equally good and equally noisy.
    pub fn believable(&self) -> f64 {
        let quantile = T.get(self.count.saturating_sub(2)).copied().unwrap_or(T_MORE);
        quantile * self.deviation * (1.0 + 1.0 / self.count as f64).sqrt()
    }

    /// The interval in which the difference to one other run lies with a probability of 99 %.
    pub fn difference(&self, other: f64) -> (f64, f64) {
        let (middle, half) = (self.mean - other, self.believable());
        (middle - half, middle + half)
    }

    /// Whether the difference to one other run is more than noise.
    pub fn differs(&self, other: f64) -> bool {
        (self.mean - other).abs() > self.believable()
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt as _;
    use spore_base::random::seeded;

    use super::*;

    #[test]
    fn runs_are_too_few_below_three_and_worthless_when_one_diverged() {
        assert_eq!(Runs::of(&[1.0, 2.0]), None);
        assert_eq!(Runs::of(&[1.0, 2.0, f64::NAN]), None);
        let runs = Runs::of(&[1.0, 2.0, 3.0]).unwrap();
        assert_eq!((runs.count, runs.mean, runs.deviation), (3, 2.0, 1.0));
        assert!((runs.believable() - 9.925 * (4.0_f64 / 3.0).sqrt()).abs() < 1e-9);
    }

    #[test]
    fn large_difference_is_believed_and_a_small_one_is_not() {
        let runs = Runs::of(&[2.50, 2.51, 2.49, 2.50, 2.50]).unwrap();
        assert!(runs.differs(2.6) && !runs.differs(2.51));
        let (low, high) = runs.difference(2.6);
        assert!(low < high && high < 0.0);
    }

    #[test]
    fn noise_alone_is_believed_in_about_one_case_in_a_hundred() {
        let mut rng = seeded(7);
        // A sum of twelve uniform numbers is near enough to a normal one.
        let mut normal = || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
        let cases = 4000;
        for runs in [3, 5, 8] {
            let believed = (0..cases).filter(|_| {
                let results: Vec<f64> = (0..runs).map(|_| normal()).collect();
                Runs::of(&results).unwrap().differs(normal())
            });
            let share = believed.count() as f64 / f64::from(cases);
            assert!((0.004..0.018).contains(&share), "{runs} runs: {share}");
        }
    }
}
