//! Prints floats as Python does: the same digits in the same notation.

use std::fmt::Write as _;

/// Appends the shortest digits that read back as `x`, in the notation of Python's `repr`: fixed for decimal
/// exponents -4..=15, else scientific with a sign and at least two exponent digits. `x` is finite.
pub(super) fn write(x: f64, out: &mut String) {
    let (digits, exponent) = shortest_digits(x.abs());
    out.push_str(if x.is_sign_negative() { "-" } else { "" });
    if !(-4..16).contains(&exponent) {
        let (first, rest) = digits.split_at_checked(1).unwrap_or((&digits, ""));
        let point = if rest.is_empty() { "" } else { "." };
        let sign = if exponent < 0 { '-' } else { '+' };
        let _ = write!(out, "{first}{point}{rest}e{sign}{:02}", exponent.abs());
        return;
    }
    if exponent < 0 {
        out.push_str("0.");
        (1..-exponent).for_each(|_| out.push('0'));
        out.push_str(&digits);
        return;
    }
    let whole = usize::try_from(exponent).unwrap_or(0).saturating_add(1);
    let mut rest = digits.chars();
    (0..whole).for_each(|_| out.push(rest.next().unwrap_or('0')));
    out.push('.');
    let rest = rest.as_str();
    out.push_str(if rest.is_empty() { "0" } else { rest });
}

/// The shortest significant digits that read back as `x`, and the decimal exponent of the first digit. Of
/// several shortest ones, the nearest to `x`. If two are equally near, Rust takes the greater one and
/// Python the even one; this function takes Python's.
fn shortest_digits(x: f64) -> (String, i32) {
    let split = |scientific: String| {
        let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
        (digits, exponent.parse::<i32>().unwrap_or(0))
    };
    let (digits, exponent) = split(format!("{x:e}"));
    let odd = digits.bytes().last().is_some_and(|digit| digit % 2 == 1);
    let length = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    // With d digits after the point, x lies half-way between two multiples of 10^-d if and only if
    // 2x * 10^d is odd, that is, if the last bit of x is worth 2^-(d + 1).
    if !odd || last_bit(x) != Some(exponent - length) {
        return (digits, exponent);
    }
    // Then x has exactly one digit more, a 5. Dropping the 5 gives the lower of the two neighbours.
    let (mut lower, exponent_of_lower) = split(format!("{x:.*e}", digits.len()));
    lower.pop();
    // Just below a power of two floats are closer together, and the even digits may be another float.
    let reads_back = format!("0.{lower}e{}", exponent + 1).parse() == Ok(x);
    if reads_back && exponent_of_lower == exponent { (lower, exponent) } else { (digits, exponent) }
}

/// Exponent of the power of two that the lowest set bit of a positive finite number stands for. None for 0.
fn last_bit(x: f64) -> Option<i32> {
    const MANTISSA: u32 = f64::MANTISSA_DIGITS - 1;
    let (bits, least) = (x.to_bits(), f64::MIN_EXP - f64::MANTISSA_DIGITS.cast_signed());
    let (mantissa, exponent) = (bits & ((1 << MANTISSA) - 1), i32::try_from(bits >> MANTISSA).unwrap_or(0));
    let zeros = mantissa.trailing_zeros().min(MANTISSA).cast_signed();
    match (exponent, mantissa) {
        (0, 0) => None,
        (0, _) => Some(least + zeros),
        _ => Some(least + exponent - 1 + zeros),
    }
}
