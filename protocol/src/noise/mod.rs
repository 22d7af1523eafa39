//! Whether a difference between results is more than the noise of their runs.
//!
//! Runs of one script with other seeds differ. Their deviation says which difference between two scripts chance may have
//! made. Two comparisons are here: [`Gain::single`] of one run each, with a deviation that is known from other runs, and
//! [`Gain::paired`] of several runs each with the same seeds, which needs no such deviation. Pure: numbers in, numbers out.

pub mod student;

use crate::Goal;

/// A difference is believable when chance alone brings one as large, in either direction, with a smaller probability.
pub const BELIEVABLE_P: f64 = 0.01;
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
        let count = whole(results.len());
        let mean = results.iter().sum::<f64>() / count;
        let squares: f64 = results.iter().map(|result| (result - mean).powi(2)).sum();
        Some(Self { count: results.len(), mean, deviation: (squares / (count - 1.0)).sqrt() })
    }

    /// Degrees of freedom of the deviation.
    pub fn freedom(&self) -> u32 {
        u32::try_from(self.count.saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// Smallest difference between [`Runs::mean`] and the result of one other run that chance brings in fewer than one
    /// case in a hundred, if both scripts are equally good and equally noisy.
    pub fn believable(&self) -> f64 {
        self.noise().believable(self.count, 1)
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

    /// The noise that these runs alone show.
    pub fn noise(&self) -> Noise {
        Noise { deviation: self.deviation, freedom: self.freedom() }
    }
}

/// How much the results of one script differ by the seed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noise {
    /// The deviation of a single run.
    pub deviation: f64,
    /// Degrees of freedom with which the deviation was estimated, at least 1.
    pub freedom: u32,
}

impl Noise {
    /// The noise of several scripts, or of one script on several machines, pooled: each counts by its degrees of freedom.
    /// None without runs.
    pub fn pooled(samples: &[Runs]) -> Option<Self> {
        let freedom: u32 = samples.iter().map(Runs::freedom).fold(0, u32::saturating_add);
        let squares: f64 = samples.iter().map(|runs| runs.deviation.powi(2) * f64::from(runs.freedom())).sum();
        (freedom > 0).then(|| Self { deviation: (squares / f64::from(freedom)).sqrt(), freedom })
    }

    /// Smallest difference between the means of `a` and `b` runs that chance brings in fewer than one case in a hundred.
    pub fn believable(&self, a: usize, b: usize) -> f64 {
        student::quantile(BELIEVABLE_P, self.freedom) * self.error(a, b)
    }

    /// The standard error of the difference between the means of `a` and `b` runs.
    fn error(&self, a: usize, b: usize) -> f64 {
        self.deviation * (1.0 / whole(a.max(1)) + 1.0 / whole(b.max(1))).sqrt()
    }
}

/// What one script is better than another by, positive when it is better, and how sure that is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gain {
    /// The estimate.
    pub gain: f64,
    /// The ends of the interval in which the gain lies with a probability of 99 %.
    pub low: f64,
    pub high: f64,
    /// The probability that chance alone brings a difference as large, in either direction.
    pub p: f64,
    /// Runs of each script that were compared.
    pub runs: usize,
}

impl Gain {
    /// Of one run each, where the noise is known.
    pub fn single(goal: Goal, result: f64, other: f64, noise: &Noise) -> Self {
        Self::of(improvement(goal, result, other), noise.error(1, 1), noise.freedom, 1)
    }

    /// Of runs with the same seeds: pairs of the result and the other's. The seeds' own luck is in both results of a pair,
    /// so a small change shows with few runs (the paired t test). None for fewer than [`LEAST_RUNS`] pairs, or for a
    /// result that is not finite.
    pub fn paired(goal: Goal, pairs: &[(f64, f64)]) -> Option<Self> {
        let gains: Vec<f64> = pairs.iter().map(|(result, other)| improvement(goal, *result, *other)).collect();
        let runs = Runs::of(&gains)?;
        Some(Self::of(runs.mean, runs.deviation / whole(runs.count).sqrt(), runs.freedom(), runs.count))
    }

    fn of(gain: f64, error: f64, freedom: u32, runs: usize) -> Self {
        let half = student::quantile(BELIEVABLE_P, freedom) * error;
        // Without any deviation a difference is certain, and no difference is none.
        let p = if error > 0.0 { student::p(gain / error, freedom) } else { f64::from(u8::from(gain == 0.0)) };
        Self { gain, low: gain - half, high: gain + half, p, runs }
    }

    /// Whether the script is better, and chance alone brings so much with a probability of less than `p`.
    pub fn is_believable(&self, p: f64) -> bool {
        self.gain > 0.0 && self.p < p
    }

    /// The difference in words.
    pub fn words(&self) -> &'static str {
        match (self.p < BELIEVABLE_P, self.gain > 0.0) {
            (true, true) => "better by more than noise",
            (true, false) => "worse by more than noise",
            (false, _) => "within noise",
        }
    }
}

/// By how much `result` is better than `other`: negative when it is worse.
pub fn improvement(goal: Goal, result: f64, other: f64) -> f64 {
    match goal {
        Goal::Minimize => other - result,
        Goal::Maximize => result - other,
    }
}

#[allow(clippy::cast_precision_loss, reason = "numbers of runs are small")]
fn whole(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that are near enough to normal ones: sums of twelve uniform ones, by a fixed generator.
    struct Normal(u64);

    impl Normal {
        fn next(&mut self) -> f64 {
            let mut uniform = || {
                self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (self.0 >> 11) as f64 / (1_u64 << 53) as f64
            };
            (0..12).map(|_| uniform()).sum::<f64>() - 6.0
        }
    }

    #[test]
    fn runs_are_too_few_below_three_and_worthless_when_one_diverged() {
        assert_eq!(Runs::of(&[1.0, 2.0]), None);
        assert_eq!(Runs::of(&[1.0, 2.0, f64::NAN]), None);
        let runs = Runs::of(&[1.0, 2.0, 3.0]).unwrap();
        assert_eq!((runs.count, runs.mean, runs.deviation), (3, 2.0, 1.0));
        assert!((runs.believable() - 9.925 * (4.0_f64 / 3.0).sqrt()).abs() < 1e-3);
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
        let (mut normal, cases) = (Normal(7), 4000);
        for runs in [3, 5, 8] {
            let believed = (0..cases).filter(|_| {
                let results: Vec<f64> = (0..runs).map(|_| normal.next()).collect();
                Runs::of(&results).unwrap().differs(normal.next())
            });
            let share = believed.count() as f64 / f64::from(cases);
            assert!((0.004..0.018).contains(&share), "{runs} runs: {share}");
        }
    }

    #[test]
    fn paired_runs_of_equal_scripts_are_believed_in_one_case_in_a_hundred() {
        let (mut normal, cases) = (Normal(3), 4000);
        let believed = (0..cases).filter(|_| {
            let pairs: Vec<(f64, f64)> = (0..6).map(|_| (normal.next(), normal.next())).collect();
            Gain::paired(Goal::Minimize, &pairs).unwrap().p < BELIEVABLE_P
        });
        let share = believed.count() as f64 / f64::from(cases);
        assert!((0.004..0.018).contains(&share), "{share}");
    }

    #[test]
    fn pairs_show_a_small_gain_that_single_runs_hide() {
        // Seeds differ by 0.04, the change gains 0.02 with each.
        let seeds = [1.50, 1.54, 1.46, 1.52, 1.58];
        let pairs: Vec<(f64, f64)> =
            seeds.iter().enumerate().map(|(i, other)| (other - 0.02 + 0.001 * (i as f64 - 2.0), *other)).collect();
        let gain = Gain::paired(Goal::Minimize, &pairs).unwrap();
        assert!((gain.gain - 0.02).abs() < 1e-9 && gain.low > 0.0 && gain.is_believable(BELIEVABLE_P), "{gain:?}");
        assert_eq!(gain.words(), "better by more than noise");
        let noise = Runs::of(&seeds).unwrap().noise();
        let single = Gain::single(Goal::Minimize, 1.48, 1.50, &noise);
        assert!(!single.is_believable(BELIEVABLE_P) && single.low < 0.0 && single.words() == "within noise");
        let worse = Gain::single(Goal::Maximize, 1.0, 1.5, &noise);
        assert!(worse.p < BELIEVABLE_P && !worse.is_believable(BELIEVABLE_P), "a loss is no gain");
        assert_eq!(worse.words(), "worse by more than noise");
    }

    #[test]
    fn interval_holds_zero_just_when_the_difference_is_within_noise() {
        let noise = Noise { deviation: 0.037, freedom: 7 };
        let most = noise.believable(1, 1);
        assert!((most - 3.499 * 0.037 * 2.0_f64.sqrt()).abs() < 1e-4, "{most}");
        for (gain, believed) in [(most * 1.01, true), (most * 0.99, false)] {
            let gain = Gain::single(Goal::Minimize, 1.5 - gain, 1.5, &noise);
            assert_eq!((gain.is_believable(BELIEVABLE_P), gain.low > 0.0), (believed, believed));
        }
    }

    #[test]
    fn pooled_noise_counts_scripts_by_their_degrees_of_freedom() {
        let (few, many) = (Runs::of(&[1.0, 2.0, 3.0]).unwrap(), Runs::of(&[5.0; 9]).unwrap());
        let pooled = Noise::pooled(&[few, many]).unwrap();
        assert_eq!(pooled.freedom, 10);
        assert!((pooled.deviation - (2.0_f64 / 10.0).sqrt()).abs() < 1e-12);
        assert_eq!(Noise::pooled(&[]), None);
    }

    #[test]
    fn runs_without_any_deviation_make_a_difference_certain() {
        let gain = |results: [f64; 3]| Gain::paired(Goal::Maximize, &results.map(|result| (result, 2.0))).unwrap();
        assert_eq!((gain([3.0; 3]).p, gain([2.0; 3]).p), (0.0, 1.0));
    }
}
