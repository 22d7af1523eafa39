//! What an object of each kind needs at most when an honest node makes it. Larger ones are taken too, since records of
//! the existing network may descend from them, but out of a small quota of their own.

use spore_protocol::{Record, SignedObject};

/// Bytes of a record's texts without its diff. The reference cuts descriptions and hypotheses to some hundred
/// characters, device and library names are shorter, and the numbers, ids and field names of a record take about 900
/// bytes. Together less than 4 KiB.
const RECORD_TEXTS: usize = 3 * 1024;
/// Bytes of a record's diff. A diff holds at most two scripts of 64 KiB, and one byte for each of their lines.
const DIFF: usize = 160 * 1024;
/// Bytes of a whole record in canonical form, in which each line break and quotation mark of the diff takes two bytes.
const RECORD: usize = 4 * 1024 + 2 * DIFF;
/// Bytes of a control event: three ids, a device, a number and a short reason.
const CONTROL: usize = 4 * 1024;
/// Bytes of a manifest: a name, a description of some paragraphs, and a dozen short fields.
const MANIFEST: usize = 16 * 1024;
/// Bytes of a profile: a name, a few sentences, two addresses.
const PROFILE: usize = 8 * 1024;

/// What an object costs beyond its bytes: the rows of the indexes that name it.
const ROWS: usize = 512;

/// Whether an object is larger than its kind needs.
pub fn is_large(object: &SignedObject) -> bool {
    let bytes = object.canonical().len();
    match object {
        SignedObject::Experiment(record) => bytes > RECORD || record.diff.len() > DIFF || texts(record) > RECORD_TEXTS,
        SignedObject::Control(_) => bytes > CONTROL,
        SignedObject::Task(_) => bytes > MANIFEST,
        SignedObject::Profile(_) => bytes > PROFILE,
    }
}

fn texts(record: &Record) -> usize {
    let Record { dataset_cid, prepare_cid, description, hypothesis, agent_model, .. } = record;
    let Record { gpu_model, cuda_version, torch_version, .. } = record;
    let of_script = [dataset_cid, prepare_cid, description, hypothesis, agent_model];
    of_script.into_iter().chain([gpu_model, cuda_version, torch_version]).map(String::len).sum()
}

/// What an object counts for against a quota, in bytes.
pub fn cost(object: &SignedObject) -> u32 {
    u32::try_from(object.canonical().len() + ROWS).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use spore_protocol::fixtures::{identity, manifest, record, sign};

    use super::*;

    fn with(change: impl FnOnce(&mut Record)) -> SignedObject {
        let mut record = record(&identity(1), None, None);
        change(&mut record);
        SignedObject::Experiment(sign(&identity(1), &record).into_signed())
    }

    #[test]
    fn record_without_its_diff_is_under_four_kibibytes() {
        let longest = with(|record| {
            record.diff.clear();
            record.description = "d".repeat(RECORD_TEXTS / 2);
        });
        assert!(!is_large(&longest) && longest.canonical().len() < 4 * 1024);
        assert!(is_large(&with(|record| record.description = "d".repeat(RECORD_TEXTS + 1))));
    }

    #[test]
    fn diff_of_two_whole_scripts_is_not_large() {
        let line = "-a line of a script of 32 bytes\n";
        assert!(!is_large(&with(|record| record.diff = line.repeat(2 * 64 * 1024 / (line.len() - 1)))));
        assert!(is_large(&with(|record| record.diff = "+".repeat(DIFF + 1))));
    }

    #[test]
    fn manifest_of_the_fixtures_is_not_large() {
        let manifest = sign(&identity(1), &manifest(&identity(1))).into_signed();
        assert!(!is_large(&SignedObject::Task(manifest)));
    }
}
