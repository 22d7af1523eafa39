//! Hardware classes. Results are comparable only between devices of one class: the time budget is
//! fixed, and a faster device trains on more data.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A class of devices, such as `RTX_4090`, `H100`, `APPLE_MPS` or `CPU`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HardwareClass(String);

impl HardwareClass {
    /// The class of a device, derived from the name that its driver gives it as the reference does.
    pub fn of(device: &str) -> Self {
        let mut name = String::new();
        for c in device.trim().to_uppercase().chars() {
            let c = if c == '-' || c.is_whitespace() { '_' } else { c };
            if c != '_' || !name.ends_with('_') {
                name.push(c);
            }
        }
        if name.is_empty() {
            return Self("UNKNOWN".into());
        }
        if name.contains("MPS") || name.contains("APPLE") {
            return Self("APPLE_MPS".into());
        }
        for family in ["H100", "A100"] {
            if name.starts_with(family) {
                return Self(family.into());
            }
        }
        Self(geforce(&name).unwrap_or(name))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Largest difference of the metric between two honest runs of one script in this class.
    pub fn tolerance(&self) -> f64 {
        match self.0.as_str() {
            "H100" | "A100" => 0.0015,
            "RTX_3090" | "RTX_3060" => 0.003,
            _ => 0.002,
        }
    }
}

/// The class of a name that contains `RTX` or `GTX`, an optional `_`, and at least three digits, of which
/// the first four count.
fn geforce(name: &str) -> Option<String> {
    for family in ["RTX", "GTX"] {
        for (at, _) in name.match_indices(family) {
            let rest = name.get(at + family.len()..)?;
            let rest = rest.strip_prefix('_').unwrap_or(rest);
            let digits: String = rest.chars().take_while(char::is_ascii_digit).take(4).collect();
            if digits.len() >= 3 {
                return Some(format!("{family}_{digits}"));
            }
        }
    }
    None
}

impl fmt::Display for HardwareClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_fall_into_classes() {
        for (device, class) in [
            ("NVIDIA GeForce RTX 4090", "RTX_4090"),
            ("RTX_3060-class", "RTX_3060"),
            ("GeForce GTX 980 Ti", "GTX_980"),
            ("RTX5090", "RTX_5090"),
            ("H100-SXM5-80GB", "H100"),
            ("A100", "A100"),
            ("Apple M4", "APPLE_MPS"),
            ("mps", "APPLE_MPS"),
            ("cpu", "CPU"),
            ("unknown", "UNKNOWN"),
            ("  ", "UNKNOWN"),
            ("AMD  Radeon--Pro W7900", "AMD_RADEON_PRO_W7900"),
            ("NVIDIA RTX A6000", "NVIDIA_RTX_A6000"),
        ] {
            assert_eq!(HardwareClass::of(device).as_str(), class, "{device}");
        }
        assert!((HardwareClass::of("RTX 3090").tolerance() - 0.003).abs() < 1e-12);
    }
}
