//! The published bytes, and how hard the language is for counting models.

use super::*;
use rand_chacha::rand_core::SeedableRng as _;

#[test]
fn builtin_corpus_has_the_published_cid() {
    let text = builtin();
    assert_eq!(text.len(), BUILTIN_BYTES);
    assert!(text.is_ascii());
    assert_eq!(Cid::of(&text), BUILTIN_CID);
    assert_eq!(BUILTIN_CID.to_string(), "c98314d7a4e7ca21af75877f04902cfdcb488eb9626605a22b1ce80da997aae8");
}

#[test]
fn a_shorter_corpus_is_a_prefix_and_another_seed_is_another_text() {
    let long = generate(7, 40_000);
    assert_eq!(generate(7, 10_000), long[..10_000]);
    assert_ne!(generate(8, 10_000), long[..10_000]);
}

#[test]
fn fresh_text_is_new_and_of_the_same_language() {
    let rng = |seed| ChaCha8Rng::seed_from_u64(seed);
    let (old, new) = (builtin(), fresh(rng(1), 1 << 20));
    assert_eq!(new, fresh(rng(1), 1 << 20));
    assert_ne!(new, fresh(rng(2), 1 << 20));
    // Trained on 90 % of what stands in front, a counting model does equally well on both.
    let front = 1 << 20;
    let join = |end: &[u8]| [&old[..front], &end[..front / 9]].concat();
    let known = counted_bits_per_byte(&join(&old[7 << 20..]), 4);
    let fresh = counted_bits_per_byte(&join(&new), 4);
    println!("old text {known:.4}, fresh text {fresh:.4}");
    // Another language would cost several bits. The rest is luck of 116 KiB.
    assert!((known - fresh).abs() < 0.06, "{known} {fresh}");
    // Keys and choices differ, so no long run of the fresh text stands in the old one.
    let windows: std::collections::HashSet<&[u8]> = old[..front].windows(64).collect();
    let seen = new.chunks_exact(64).filter(|chunk| windows.contains(chunk)).count();
    assert!(seen * 100 < new.len() / 64, "{seen} of {} runs of 64 bytes are old", new.len() / 64);
}

/// Bits per byte of an order-`n` model counted on the first 90 %, interpolated with lower
/// orders (Witten-Bell), measured on the last 10 %.
fn counted_bits_per_byte(text: &[u8], order: usize) -> f64 {
    use std::collections::HashMap;
    let split = text.len() / 10 * 9;
    let mut counts: Vec<HashMap<&[u8], HashMap<u8, u32>>> = vec![HashMap::new(); order + 1];
    for (n, table) in counts.iter_mut().enumerate() {
        for i in n..split {
            *table.entry(&text[i - n..i]).or_default().entry(text[i]).or_default() += 1;
        }
    }
    let totals: Vec<HashMap<&[u8], f64>> = counts
        .iter()
        .map(|table| table.iter().map(|(k, v)| (*k, v.values().map(|c| f64::from(*c)).sum())).collect())
        .collect();
    let mut bits = 0.0;
    for i in split..text.len() {
        let mut p = 1.0 / 256.0;
        for n in 0..=order {
            let key = &text[i - n..i];
            let Some(next) = counts[n].get(key) else { break };
            let (total, kinds) = (totals[n][key], next.len() as f64);
            let count = f64::from(next.get(&text[i]).copied().unwrap_or(0));
            p = (count + kinds * p) / (total + kinds);
        }
        bits -= p.log2();
    }
    bits / (text.len() - split) as f64
}

#[test]
fn more_context_predicts_better() {
    let text = generate(BUILTIN_SEED, 1 << 20);
    let bits: Vec<f64> = (0..=4).map(|order| counted_bits_per_byte(&text, order)).collect();
    println!("bits per byte by order of context: {bits:.3?}");
    for pair in bits.windows(2) {
        assert!(pair[1] < pair[0] - 0.1, "{bits:?}");
    }
}
