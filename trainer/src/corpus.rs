//! The built-in corpus: text made by a seeded generator, the same bytes on every machine.
//!
//! A node without any data of its own still needs something to learn from, and every node needs
//! the same. The generator writes a small artificial language whose structure lives at several
//! ranges, so that a model with more reach or capacity really scores better: spelling (syllables),
//! a Zipf-distributed vocabulary for each topic, agreement in number across clauses, quotes and
//! nested brackets that must close, people with pronouns, keys and possessions that recur within a
//! paragraph, sums, and lists repeated backwards. `docs/corpus.md` describes it with measurements.
//!
//! Integer arithmetic only, no table from elsewhere, no clock: changing one byte changes
//! [`BUILTIN_CID`] and with it every task that uses the corpus, so this file is frozen once
//! released; a better generator is a new corpus beside this one.

use std::fmt::Write as _;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng as _;
use spore_protocol::Cid;

/// Size of the built-in corpus in bytes: more than a 5-minute run on a CPU reads once (about
/// 2 000 steps of 2 Ki bytes), yet made in a fraction of a second.
pub const BUILTIN_BYTES: usize = 8 << 20;

/// Seed of the built-in corpus; part of its definition.
const BUILTIN_SEED: u64 = 0x5370_6f72_6531;

/// Id of [`builtin`]'s bytes, `c98314d7..97aae8`.
pub const BUILTIN_CID: Cid = Cid([
    0xc9, 0x83, 0x14, 0xd7, 0xa4, 0xe7, 0xca, 0x21, 0xaf, 0x75, 0x87, 0x7f, 0x04, 0x90, 0x2c, 0xfd, //
    0xcb, 0x48, 0x8e, 0xb9, 0x62, 0x66, 0x05, 0xa2, 0x2b, 0x1c, 0xe8, 0x0d, 0xa9, 0x97, 0xaa, 0xe8,
]);

/// The built-in corpus, [`BUILTIN_BYTES`] of ASCII text.
pub fn builtin() -> Vec<u8> {
    generate(BUILTIN_SEED, BUILTIN_BYTES)
}

/// `bytes` bytes of text for `seed`. A shorter corpus of one seed is a prefix of a longer one.
pub fn generate(seed: u64, bytes: usize) -> Vec<u8> {
    write(CorpusWriter::new(seed), bytes)
}

/// `bytes` bytes of new documents in the language of [`builtin`]: its vocabulary, names, places and
/// grammar, in documents that `rng` decides. Evaluation draws its text here, so the text of one
/// evaluation is no part of the built-in corpus and cannot be known before `rng` is.
pub fn fresh(rng: ChaCha8Rng, bytes: usize) -> Vec<u8> {
    let mut writer = CorpusWriter::new(BUILTIN_SEED);
    writer.rng = Rng::ChaCha(Box::new(rng));
    write(writer, bytes)
}

fn write(mut writer: CorpusWriter, bytes: usize) -> Vec<u8> {
    // A document is at most a few kibibytes; the reserve spares one reallocation of everything.
    writer.text.reserve(bytes + (64 << 10));
    while writer.text.len() < bytes {
        writer.document();
    }
    let mut text = writer.text.into_bytes();
    text.truncate(bytes);
    text
}

const TOPICS: usize = 12;
const NOUNS: usize = 60;
const VERBS: usize = 40;
const ADJECTIVES: usize = 30;
const NAMES: usize = 300;
const PLACES: usize = 40;
/// Words that every topic shares, a third of all picks.
const SHARED_PICK: u64 = 3;
const COLOURS: [&str; 8] = ["red", "blue", "green", "white", "black", "golden", "silver", "grey"];
const THINGS: [&str; 8] = ["box", "lamp", "coat", "boat", "drum", "knife", "horse", "ring"];
const NUMBERS: [&str; 21] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
];

enum Rng {
    /// SplitMix64 (Steele, Lea & Flood 2014): one multiplication chain for each number, any seed
    /// good. Makes the built-in corpus.
    SplitMix(u64),
    /// Makes fresh text. Unlike the above, what comes next cannot be computed from what was seen.
    ChaCha(Box<ChaCha8Rng>),
}

impl Rng {
    fn next(&mut self) -> u64 {
        let state = match self {
            Self::SplitMix(state) => state,
            Self::ChaCha(rng) => return rng.next_u64(),
        };
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..n`, `n` at least 1 and below 2^32.
    fn below(&mut self, n: u64) -> u64 {
        ((self.next() >> 32) * n) >> 32
    }

    /// True once in `n` times.
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Any of `items`, all as likely.
    fn pick<T: Clone + Default>(&mut self, items: &[T]) -> T {
        let index = self.below(items.len() as u64) as usize;
        items.get(index).cloned().unwrap_or_default()
    }

    /// An index below `n` by Zipf's law: `k` has weight `1/(k+2)`.
    fn zipf(&mut self, n: usize) -> usize {
        let weight = |k: usize| 1_000_000 / (k as u64 + 2);
        let mut left = self.below((0..n).map(weight).sum());
        for k in 0..n {
            if left < weight(k) {
                return k;
            }
            left -= weight(k);
        }
        0
    }
}

struct Vocabulary {
    nouns: Vec<String>,
    verbs: Vec<String>,
    adjectives: Vec<String>,
}

impl Vocabulary {
    fn new(rng: &mut Rng) -> Self {
        let words = |rng: &mut Rng, count: usize, ending: &[&str]| -> Vec<String> {
            (0..count).map(|_| format!("{}{}", word(rng), rng.pick::<&str>(ending))).collect()
        };
        Self {
            nouns: words(rng, NOUNS, &["n", "t", "r", "l", "d"]),
            verbs: words(rng, VERBS, &["k", "m", "p", "ll"]),
            adjectives: words(rng, ADJECTIVES, &["y", "ish", "al"]),
        }
    }
}

/// One to three open syllables.
fn word(rng: &mut Rng) -> String {
    const ONSETS: [&str; 20] =
        ["b", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "br", "st", "tr", "sh", "pl"];
    const VOWELS: [&str; 7] = ["a", "e", "i", "o", "u", "ea", "ou"];
    let syllables = 1 + rng.below(2) + u64::from(rng.one_in(4));
    let mut word = String::new();
    for _ in 0..syllables {
        word.push_str(rng.pick::<&str>(&ONSETS));
        word.push_str(rng.pick::<&str>(&VOWELS));
    }
    word
}

fn capitalised(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + chars.as_str())
}

/// Someone in a paragraph, with facts that later sentences repeat.
struct Person {
    name: String,
    pronoun: &'static str,
    key: String,
    colour: &'static str,
    thing: &'static str,
}

struct CorpusWriter {
    rng: Rng,
    text: String,
    shared: Vocabulary,
    topics: Vec<Vocabulary>,
    names: Vec<String>,
    places: Vec<String>,
    topic: usize,
    cast: Vec<Person>,
    /// Index into `cast` of whoever a pronoun means now.
    subject: usize,
}

impl CorpusWriter {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::SplitMix(seed);
        let shared = Vocabulary::new(&mut rng);
        let topics = (0..TOPICS).map(|_| Vocabulary::new(&mut rng)).collect();
        let names =
            (0..NAMES).map(|k| capitalised(&word(&mut rng)) + if k.is_multiple_of(2) { "na" } else { "ro" }).collect();
        let places = (0..PLACES).map(|_| capitalised(&word(&mut rng)) + "burg").collect();
        Self { rng, text: String::new(), shared, topics, names, places, topic: 0, cast: Vec::new(), subject: 0 }
    }

    /// A title and three to eight paragraphs on one topic.
    fn document(&mut self) {
        self.topic = self.rng.below(TOPICS as u64) as usize;
        let (noun, place) = (self.noun(), self.rng.pick(&self.places));
        self.put(format_args!("= The {noun} of {place} =\n\n"));
        for _ in 0..3 + self.rng.below(6) {
            self.paragraph();
        }
    }

    /// Four to eleven sentences about two or three people.
    fn paragraph(&mut self) {
        self.cast.clear();
        for _ in 0..2 + self.rng.below(2) {
            let index = self.rng.below(self.names.len() as u64) as usize;
            let name = self.names.get(index).cloned().unwrap_or_default();
            let pronoun = if index.is_multiple_of(2) { "she" } else { "he" };
            let key = self.key();
            let (colour, thing) = (self.rng.pick::<&str>(&COLOURS), self.rng.pick::<&str>(&THINGS));
            self.cast.push(Person { name, pronoun, key, colour, thing });
        }
        for index in 0..self.cast.len() {
            self.introduce(index);
        }
        for _ in 0..4 + self.rng.below(8) {
            self.sentence();
            self.text.push(' ');
        }
        self.text.pop();
        self.text.push_str("\n\n");
    }

    fn introduce(&mut self, index: usize) {
        self.subject = index;
        let place = self.rng.pick(&self.places);
        let Some(person) = self.cast.get(index) else { return };
        let (name, key, colour, thing) = (&person.name, &person.key, person.colour, person.thing);
        let line = match self.rng.below(3) {
            0 => format!("{name} of {place} has a {colour} {thing} and the key {key}. "),
            1 => format!("With the key {key} and a {colour} {thing}, {name} came from {place}. "),
            _ => format!("The key {key} and the {colour} {thing} belong to {name}. "),
        };
        self.text.push_str(&line);
    }

    fn sentence(&mut self) {
        match self.rng.below(16) {
            0..=3 => {
                let clause = self.clause();
                self.put(format_args!("{}.", capitalised(&clause)));
            }
            4 | 5 => self.relative(),
            6 | 7 => self.about_subject(),
            8 | 9 => self.speech(),
            10 | 11 => self.recall(),
            12 => self.sum(),
            13 => self.reversal(),
            14 => self.brackets(),
            _ => self.crowd(),
        }
    }

    /// Subject, verb and object, the verb agreeing with the subject in number.
    fn clause(&mut self) -> String {
        let (subject, plural) = self.noun_phrase();
        let (verb, (object, _)) = (self.verb(plural), self.noun_phrase());
        if self.rng.one_in(3) {
            let place = self.rng.pick(&self.places);
            return format!("{subject} {verb} {object} in {place}");
        }
        format!("{subject} {verb} {object}")
    }

    /// The main verb agrees with a subject that another clause has parted it from.
    fn relative(&mut self) {
        let (subject, plural) = self.noun_phrase();
        let (inner, inner_plural) = self.noun_phrase();
        let (inner_verb, verb) = (self.verb(inner_plural), self.verb(plural));
        let adjective = self.adjective();
        let be = if plural { "are" } else { "is" };
        let subject = capitalised(&subject);
        match self.rng.below(2) {
            0 => self.put(format_args!("{subject} that {inner} {inner_verb} {be} {adjective}.")),
            _ => self.put(format_args!("{subject} that {inner} {inner_verb} {verb} no more.")),
        }
    }

    /// A pronoun that only makes sense with the last person named.
    fn about_subject(&mut self) {
        let (verb, (object, _)) = (self.verb(false), self.noun_phrase());
        let Some(person) = self.cast.get(self.subject) else { return };
        let pronoun = person.pronoun;
        let possessive = if pronoun == "she" { "her" } else { "his" };
        let thing = person.thing;
        let start = capitalised(pronoun);
        match self.rng.below(2) {
            0 => self.put(format_args!("{start} {verb} {object} with {possessive} {thing}.")),
            _ => self.put(format_args!("{start} {verb} {object}, and {pronoun} knows it.")),
        }
    }

    fn speech(&mut self) {
        let clause = self.clause();
        self.subject = self.rng.below(self.cast.len() as u64) as usize;
        let said = self.rng.pick(&["said", "whispered", "asked", "answered"]);
        let Some(person) = self.cast.get(self.subject) else { return };
        let (name, open) = (person.name.clone(), capitalised(&clause));
        match self.rng.below(2) {
            0 => self.put(format_args!("\"{open},\" {said} {name}.")),
            _ => self.put(format_args!("{name} {said}: \"{open}.\"")),
        }
    }

    /// A fact from the paragraph's beginning, to be copied exactly.
    fn recall(&mut self) {
        self.subject = self.rng.below(self.cast.len() as u64) as usize;
        let noun = self.noun();
        let Some(person) = self.cast.get(self.subject) else { return };
        let (name, key, colour, thing) = (&person.name, &person.key, person.colour, person.thing);
        let line = match self.rng.below(3) {
            0 => format!("{name} opened the {noun} with the key {key}."),
            1 => format!("The {thing} of {name} is {colour}."),
            _ => format!("Only {name} knows that {key} opens the {noun}."),
        };
        self.text.push_str(&line);
    }

    fn sum(&mut self) {
        if self.rng.one_in(2) {
            let (a, b) = (self.rng.below(11) as usize, self.rng.below(10) as usize);
            let word = |n: usize| NUMBERS.get(n).copied().unwrap_or_default();
            let (a, b, sum) = (word(a), word(b), word(a + b));
            self.put(format_args!("{} and {b} make {sum}.", capitalised(a)));
        } else {
            let (a, b) = (self.rng.below(90), self.rng.below(90));
            self.put(format_args!("They counted {a} + {b} = {}.", a + b));
        }
    }

    /// Three or four words, and the same backwards.
    fn reversal(&mut self) {
        let words: Vec<String> = (0..3 + self.rng.below(2)).map(|_| self.noun()).collect();
        let forwards = words.join(", ");
        let backwards = words.iter().rev().map(String::as_str).collect::<Vec<_>>().join(", ");
        self.put(format_args!("Forwards: {forwards}; backwards: {backwards}."));
    }

    fn brackets(&mut self) {
        const PAIRS: [(char, char); 3] = [('(', ')'), ('[', ']'), ('{', '}')];
        let (subject, plural) = self.noun_phrase();
        let mut line = capitalised(&subject);
        let depth = 1 + self.rng.below(3);
        let mut closing = String::new();
        for _ in 0..depth {
            let (open, close) = self.rng.pick(&PAIRS);
            let (noun, adjective) = (self.noun(), self.adjective());
            let _ = write!(line, " {open}the {adjective} {noun}");
            closing.insert(0, close);
        }
        let verb = self.verb(plural);
        self.put(format_args!("{line}{closing} {verb} again."));
    }

    fn crowd(&mut self) {
        let adjective = self.adjective();
        let names: Vec<&str> = self.cast.iter().map(|person| person.name.as_str()).collect();
        let line = match names.split_last() {
            Some((last, rest)) => format!("{} and {last} are {adjective} friends.", rest.join(", ")),
            None => return,
        };
        self.text.push_str(&line);
    }

    /// An article, perhaps an adjective, and a noun; true for plural.
    fn noun_phrase(&mut self) -> (String, bool) {
        let plural = self.rng.one_in(3);
        let noun = self.noun();
        let noun = if plural { noun + "s" } else { noun };
        let article = match (plural, self.rng.below(3)) {
            (true, 0) => "many",
            (true, 1) => "these",
            (false, 0) => "a",
            (false, 1) => "this",
            _ => "the",
        };
        if self.rng.one_in(3) {
            return (format!("{article} {} {noun}", self.adjective()), plural);
        }
        (format!("{article} {noun}"), plural)
    }

    fn noun(&mut self) -> String {
        let (shared, rank) = (self.rng.one_in(SHARED_PICK), self.rng.zipf(NOUNS));
        self.vocabulary(shared).and_then(|words| words.nouns.get(rank)).cloned().unwrap_or_default()
    }

    fn adjective(&mut self) -> String {
        let (shared, rank) = (self.rng.one_in(SHARED_PICK), self.rng.zipf(ADJECTIVES));
        self.vocabulary(shared).and_then(|words| words.adjectives.get(rank)).cloned().unwrap_or_default()
    }

    fn verb(&mut self, plural: bool) -> String {
        let (shared, rank) = (self.rng.one_in(SHARED_PICK), self.rng.zipf(VERBS));
        let verb = self.vocabulary(shared).and_then(|words| words.verbs.get(rank)).cloned().unwrap_or_default();
        if plural { verb } else { verb + "s" }
    }

    fn vocabulary(&self, shared: bool) -> Option<&Vocabulary> {
        if shared { Some(&self.shared) } else { self.topics.get(self.topic) }
    }

    /// Four characters without pattern: they cannot be guessed, only remembered.
    fn key(&mut self) -> String {
        const SYMBOLS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
        (0..4).map(|_| char::from(self.rng.pick(SYMBOLS))).collect()
    }

    fn put(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.text.write_fmt(line);
    }
}

#[cfg(test)]
mod tests;
