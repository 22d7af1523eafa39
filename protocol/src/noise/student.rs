//! Student's t distribution with a whole number of degrees of freedom.
//!
//! By the finite series of Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4, which are exact.

use std::f64::consts::FRAC_2_PI;

/// More degrees of freedom than these count as so many: the quantiles differ by less than one in a hundred.
pub const FREEDOM_MOST: u32 = 200;
/// Halvings of the interval in which a quantile lies: past 64 a float has no finer value.
const HALVINGS: u32 = 80;
/// A quantile that is larger counts as this one: with one degree of freedom and p = 0.000001 it is 636,620.
const QUANTILE_MOST: f64 = 1e6;

/// The probability that chance alone moves t at least this far from 0, in either direction. 1 without a degree of freedom
/// or for a t that is no number.
pub fn p(t: f64, freedom: u32) -> f64 {
    if freedom == 0 || t.is_nan() {
        return 1.0;
    }
    let freedom = freedom.min(FREEDOM_MOST);
    let angle = (t.abs() / f64::from(freedom).sqrt()).atan();
    (1.0 - inside(angle, freedom)).clamp(0.0, 1.0)
}

/// The t that chance alone exceeds in either direction with probability `p`, 0 < p < 1.
pub fn quantile(two_sided: f64, freedom: u32) -> f64 {
    let (mut low, mut high) = (0.0, QUANTILE_MOST);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if p(middle, freedom) > two_sided {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// The probability between -t and t. `angle` is the arc tangent of t over the root of `freedom`.
fn inside(angle: f64, freedom: u32) -> f64 {
    let (sine, cosine) = angle.sin_cos();
    let square = cosine * cosine;
    // Each term is the one before times the next even number over the next odd one, or the other way round.
    let odd = freedom % 2 == 1;
    let (mut term, mut sum) = if odd { (cosine, 0.0) } else { (1.0, 0.0) };
    for index in 0..freedom / 2 {
        sum += term;
        let step = f64::from(2 * index);
        let (above, below) = if odd { (step + 2.0, step + 3.0) } else { (step + 1.0, step + 2.0) };
        term *= square * above / below;
    }
    if odd { FRAC_2_PI * (angle + sine * sum) } else { sine * sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        // Two-sided, p = 0.01 and p = 0.05.
        let table = [
            (1, 63.657, 12.706),
            (2, 9.925, 4.303),
            (3, 5.841, 3.182),
            (4, 4.604, 2.776),
            (7, 3.499, 2.365),
            (10, 3.169, 2.228),
            (30, 2.750, 2.042),
            (120, 2.617, 1.980),
        ];
        for (freedom, hundredth, twentieth) in table {
            assert!((quantile(0.01, freedom) - hundredth).abs() < 6e-4, "{freedom}: {}", quantile(0.01, freedom));
            assert!((quantile(0.05, freedom) - twentieth).abs() < 6e-4, "{freedom}: {}", quantile(0.05, freedom));
        }
    }

    #[test]
    fn p_is_one_at_zero_and_falls_with_t_and_with_freedom() {
        for freedom in [1, 2, 3, 8, 31, 1000] {
            assert!((p(0.0, freedom) - 1.0).abs() < 1e-12);
            let falling: Vec<f64> = (0..40).map(|t| p(f64::from(t) / 4.0, freedom)).collect();
            assert!(falling.windows(2).all(|pair| pair[0] >= pair[1] - 1e-12), "{freedom}");
            assert_eq!(p(-2.0, freedom).to_bits(), p(2.0, freedom).to_bits());
        }
        assert!(p(3.0, 2) > p(3.0, 3) && p(3.0, 3) > p(3.0, 50));
        assert_eq!((p(3.0, 0), p(f64::NAN, 5), p(f64::INFINITY, 5)), (1.0, 1.0, 0.0));
    }
}
