//! From a device's name to its class: what drivers, APIs and operating systems add is taken off, and
//! the words that make another device of a card's number (Ti, SUPER, Laptop) are kept.
//!
//! The reference's own rule comes first: upper case, `_` for spaces and hyphens, everything of Apple
//! as one, `RTX`/`GTX` by number, `H100` and `A100` by prefix. Its nodes publish names that went
//! through that rule already, and these stay as they are here. The names that drivers give are only
//! ever published by this program, so their classes may be finer.

use super::ProcessorSteps;

/// Characters of a name that are read. Drivers' names have up to about 120.
const MAX_NAME: usize = 256;
/// Characters of a class. The longest real one has 55.
const MAX_CLASS: usize = 64;
/// Digits of a processor's step. 2^20 units are beyond any machine.
const MAX_STEP_DIGITS: usize = 7;

/// Trade marks inside names.
const MARKS: [&str; 5] = ["(R)", "(TM)", "(C)", "®", "™"];
/// Programs that run one graphics API on another. They give the real device's name in parentheses.
const WRAPPERS: [&str; 4] = ["ZINK_VULKAN", "MICROSOFT_DIRECT3D12_", "D3D12_", "ANGLE_"];
/// The words after a GeForce or RTX number that make it another device, in the order of the class.
const VARIANTS: [&str; 7] = ["TI", "SUPER", "D", "SFF", "ADA", "MAX_Q", "LAPTOP"];

/// The class of a device's name. The rule is applied until it changes nothing more, so that every class
/// is its own class: wrappers may stand inside wrappers.
pub(super) fn class(device: &str) -> String {
    let written: String = device.trim().chars().take(MAX_NAME).collect();
    let mut class = once(&written);
    // Each further round makes it shorter.
    for _ in 0..MAX_CLASS {
        let again = once(&class);
        if again == class {
            break;
        }
        class = again;
    }
    class
}

fn once(written: &str) -> String {
    let name = upper(written);
    if name.is_empty() {
        return "UNKNOWN".into();
    }
    let class = match processor_steps(&name) {
        Some(steps) if name.starts_with("CPU_") => format!("CPU_{}X{}", steps.single, steps.multi),
        _ => graphics(&name, written.chars().any(char::is_lowercase)),
    };
    class.chars().take(MAX_CLASS).collect()
}

/// The steps of a class that ends with `CPU_<single>X<multi>`, or of a name with more words behind it.
pub(super) fn processor_steps(class: &str) -> Option<ProcessorSteps> {
    let (before, steps) = class.split_once("CPU_")?;
    if !(before.is_empty() || before.ends_with('_')) {
        return None;
    }
    let steps = steps.split('_').next()?;
    let (single, multi) = steps.split_once('X')?;
    let number = |digits: &str| {
        let plain = (1..=MAX_STEP_DIGITS).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        if plain { digits.parse().ok() } else { None }
    };
    Some(ProcessorSteps { single: number(single)?, multi: number(multi)? })
}

/// Upper case, one `_` for any run of spaces, hyphens and characters that show nothing.
fn upper(written: &str) -> String {
    let mut name = String::with_capacity(written.len());
    for c in written.chars().flat_map(char::to_uppercase) {
        let shown = c.is_ascii_graphic() || c.is_alphanumeric() || matches!(c, '®' | '™' | '…');
        let c = if c == '-' || !shown { '_' } else { c };
        if c != '_' || !name.ends_with('_') {
            name.push(c);
        }
    }
    name
}

/// The class of anything but a processor. `by_driver`: the name is written as drivers do, with small
/// letters, so the reference did not publish it.
fn graphics(name: &str, by_driver: bool) -> String {
    let bare = bare(name);
    if bare.contains("MPS") || bare.contains("APPLE") {
        return apple(&bare);
    }
    for family in ["H100", "A100"] {
        if bare.starts_with(family) {
            return family.into();
        }
    }
    if let Some(class) = geforce(&bare) {
        return class;
    }
    // Mesa before 20 gave the chip's name alone, such as `AMD RADV NAVI21`.
    let bare = bare.replacen("AMD_RADV_", "AMD_", 1);
    match bare.strip_prefix("RADEON") {
        // AMD's older drivers for Windows leave the vendor out.
        Some(_) if by_driver => format!("AMD_{bare}"),
        _ => bare,
    }
}

/// The device's own name: without trade marks, wrappers, the names of drivers and compilers in
/// parentheses, and the API's additions. A name that is nothing else stays as it is.
fn bare(name: &str) -> String {
    let mut bare = name.to_owned();
    for mark in MARKS {
        bare = bare.replace(mark, "");
    }
    if let Some(inner) = wrapped(&bare) {
        bare = inner.to_owned();
    }
    bare = without_parentheses(&bare);
    // OpenGL of NVIDIA: `NVIDIA GeForce RTX 4090/PCIe/SSE2`.
    for addition in ["/PCIE", "/SSE2"] {
        bare.truncate(bare.find(addition).unwrap_or(bare.len()));
    }
    for vendor in ["MESA_DRI_", "MESA_"] {
        bare = bare.strip_prefix(vendor).map(str::to_owned).unwrap_or(bare);
    }
    if bare == name {
        return bare;
    }
    let bare = single_spaced(&bare);
    if !bare.is_empty() {
        return bare;
    }
    let inside = single_spaced(&name.replace(['(', ')'], "_"));
    if inside.is_empty() { "UNKNOWN".into() } else { inside }
}

/// The name of the real device inside a wrapper's name.
fn wrapped(name: &str) -> Option<&str> {
    WRAPPERS.iter().find(|wrapper| name.starts_with(*wrapper))?;
    let (wrapper, inner) = name.split_once('(')?;
    if !wrapper.starts_with("ANGLE") {
        return Some(inner.strip_suffix(')').unwrap_or(inner));
    }
    // `ANGLE (vendor, device Direct3D11 vs_5_0 ps_5_0, driver)`
    let device = inner.split(",_").nth(1)?;
    Some(device.split("_DIRECT3D").next().unwrap_or(device))
}

/// Drops everything between parentheses, which may be nested or not closed.
fn without_parentheses(name: &str) -> String {
    let mut depth = 0_usize;
    let mut kept = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '(' => depth += 1,
            // What follows is another word.
            ')' => {
                depth = depth.saturating_sub(1);
                kept.push('_');
            }
            c if depth == 0 => kept.push(c),
            _ => {}
        }
    }
    kept
}

fn single_spaced(name: &str) -> String {
    name.split('_').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("_")
}

/// `APPLE_M4_MAX` and so on for a chip that is named, else the reference's class for all of them.
fn apple(name: &str) -> String {
    let mut words = name.split('_').skip_while(|word| !word.ends_with("APPLE")).skip(1);
    let chip = words.next().filter(|word| {
        let number = word.strip_prefix(['M', 'A']);
        number.is_some_and(|n| (1..=3).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit()))
    });
    match (chip, words.next()) {
        (Some(chip), Some(size @ ("PRO" | "MAX" | "ULTRA"))) => format!("APPLE_{chip}_{size}"),
        (Some(chip), _) => format!("APPLE_{chip}"),
        (None, _) => "APPLE_MPS".into(),
    }
}

/// The class of a name that contains `RTX` or `GTX`, an optional `_`, and at least three digits, of
/// which the first four count. The [`VARIANTS`] behind the number follow it.
fn geforce(name: &str) -> Option<String> {
    for family in ["RTX", "GTX"] {
        for (at, _) in name.match_indices(family) {
            let rest = name.get(at + family.len()..)?;
            let rest = rest.strip_prefix('_').unwrap_or(rest);
            let digits: String = rest.chars().take_while(char::is_ascii_digit).take(4).collect();
            if digits.len() >= 3 {
                let variants = variants(&digits, rest.get(digits.len()..).unwrap_or_default());
                return Some(format!("{family}_{digits}{variants}"));
            }
        }
    }
    None
}

/// The variants in the text behind a card's number, each with a `_` before it.
fn variants(number: &str, rest: &str) -> String {
    let mut found = [false; VARIANTS.len()];
    let mut mark = |variant: &str| {
        for (known, found) in VARIANTS.iter().zip(&mut found) {
            *found |= *known == variant;
        }
    };
    let rest = rest.replace("MAX_Q", "MAXQ");
    let mut small = false;
    for (place, word) in rest.split('_').enumerate() {
        match word {
            // Written without a space, as in `RTX 3060Ti` and `GTX 980M`.
            "M" if place == 0 => mark("LAPTOP"),
            "TISUPER" => {
                mark("TI");
                mark("SUPER");
            }
            "MOBILE" => mark("LAPTOP"),
            "MAXQ" => mark("MAX_Q"),
            // Two cards with different chips have this number, and only the memory tells them apart.
            "3GB" if number == "1060" => small = true,
            word => mark(word),
        }
    }
    let mut text = String::new();
    for (variant, _) in VARIANTS.iter().zip(found).filter(|(_, found)| *found) {
        text.push('_');
        text.push_str(variant);
    }
    if small { text + "_3GB" } else { text }
}
