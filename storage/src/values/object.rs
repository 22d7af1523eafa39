//! Objects as they are stored.
//!
//! Most of a record's canonical text is field names, and ids in hex. A record is therefore stored as its fields, if
//! the canonical text made from them is byte for byte what was signed. Every other object is stored as its canonical
//! text, also a record whose numbers are spelled in another way. The fields that no listing shows come last, so that
//! a listing does not decode them.

use spore_protocol::{Cid, Kind, NodeId, Object, Record, RecordId, Signed, SignedObject, Status, TaskId};

use super::bytes::{ValueReader, ValueWriter};
use crate::error::{Damage, Result};

/// Set in the first byte of an object that is stored as its fields.
const FIELDS: u8 = 0x80;

/// An object as its signature and its canonical bytes.
pub fn encode_object(object: &SignedObject) -> Vec<u8> {
    [object.signature().as_slice(), object.canonical()].concat()
}

pub fn decode_object(kind: Kind, bytes: &[u8]) -> Result<SignedObject> {
    let (signature, canonical) = bytes.split_first_chunk::<64>().ok_or(CUT_SHORT)?;
    Ok(SignedObject::from_canonical(kind, canonical, *signature)?)
}

/// An object as it is stored under its number: kind code, then as [`encode_object`] makes it. Or, for a record stored
/// as its fields: kind code and [`FIELDS`], the fields, the signature, the diff.
pub fn encode_stored(object: &SignedObject) -> Vec<u8> {
    match object {
        SignedObject::Experiment(record) => encode_record(record),
        _ => as_it_is(object.kind(), object.signature(), object.canonical()),
    }
}

/// As [`encode_stored`].
pub fn encode_record(record: &Signed<Record>) -> Vec<u8> {
    if record.object().canonical().as_bytes() != &**record.canonical() {
        return as_it_is(Kind::Experiment, record.signature(), record.canonical());
    }
    let mut w = ValueWriter(Vec::with_capacity(record.canonical().len()));
    w.byte(Kind::Experiment.code() | FIELDS);
    write_fields(&mut w, record);
    w.fixed(record.signature());
    w.fixed(record.diff.as_bytes());
    w.0
}

fn as_it_is(kind: Kind, signature: &[u8; 64], canonical: &[u8]) -> Vec<u8> {
    [&[kind.code()], signature.as_slice(), canonical].concat()
}

pub fn decode_stored(bytes: &[u8]) -> Result<SignedObject> {
    match split(bytes)? {
        (kind, false, rest) => decode_object(kind, rest),
        (kind, true, rest) => {
            let (record, signature) = read_record(rest)?;
            Ok(SignedObject::from_canonical(kind, record.canonical().as_bytes(), signature)?)
        }
    }
}

/// The canonical bytes and the signature of a stored object, without parsing it.
pub fn stored_text(bytes: &[u8]) -> Result<(Vec<u8>, [u8; 64])> {
    match split(bytes)? {
        (_, true, rest) => read_record(rest).map(|(record, signature)| (record.canonical().into_bytes(), signature)),
        (_, false, rest) => {
            let (signature, canonical) = rest.split_first_chunk::<64>().ok_or(CUT_SHORT)?;
            Ok((canonical.to_vec(), *signature))
        }
    }
}

/// The kind of a stored object.
pub fn stored_kind(bytes: &[u8]) -> Result<Kind> {
    split(bytes).map(|(kind, ..)| kind)
}

/// A stored record for a listing. The diff and the addresses of dataset and evaluator may be empty.
pub fn stored_record(bytes: &[u8]) -> Result<Record> {
    match split(bytes)? {
        (Kind::Experiment, true, rest) => read_fields(&mut ValueReader(rest), false),
        (kind, false, rest) => match decode_object(kind, rest)? {
            SignedObject::Experiment(record) => Ok(record.object().clone()),
            _ => Err(NO_RECORD.into()),
        },
        _ => Err(NO_RECORD.into()),
    }
}

const NO_RECORD: Damage = Damage::Value("an object is no record");
const CUT_SHORT: Damage = Damage::Value("an object is cut short");

fn split(bytes: &[u8]) -> Result<(Kind, bool, &[u8])> {
    let (code, rest) = bytes.split_first().ok_or(CUT_SHORT)?;
    let kind = Kind::from_code(code & !FIELDS).ok_or(Damage::Value("an object is of no known kind"))?;
    Ok((kind, code & FIELDS != 0, rest))
}

fn read_record(bytes: &[u8]) -> Result<(Record, [u8; 64])> {
    let mut r = ValueReader(bytes);
    let mut record = read_fields(&mut r, true)?;
    let signature = r.fixed()?;
    record.diff = String::from_utf8(r.0.to_vec()).map_err(|_| Damage::Value("a diff is not UTF-8"))?;
    Ok((record, signature))
}

const STATUSES: [Status; 3] = Status::ALL;

fn write_fields(w: &mut ValueWriter, record: &Record) {
    w.byte(STATUSES.iter().zip(0..).find(|(status, _)| **status == record.status).map_or(0, |(_, code)| code));
    w.fixed(&record.node_id.0);
    w.optional(record.task_id.map(|id| id.0));
    w.optional(record.parent.map(|id| id.0));
    w.optional(record.code_cid.map(|cid| cid.0));
    write_name(w, &record.dataset_cid);
    write_name(w, &record.prepare_cid);
    w.float(record.val_bpb);
    w.float(record.peak_vram_mb);
    for number in [record.depth, record.timestamp, record.num_steps, record.num_params, record.time_budget] {
        w.number(number);
    }
    w.number(record.version);
    for text in [&record.gpu_model, &record.cuda_version, &record.torch_version, &record.agent_model] {
        w.text(text);
    }
    w.text(&record.description);
    w.text(&record.hypothesis);
}

/// All fields but the diff. `named` decides whether the names of dataset and evaluator are made, which takes as much
/// time as everything else.
fn read_fields(r: &mut ValueReader<'_>, named: bool) -> Result<Record> {
    let status = STATUSES.get(usize::from(r.byte()?)).copied();
    let status = status.ok_or(Damage::Value("a status is unknown"))?;
    let node_id = NodeId(r.fixed()?);
    let task_id = r.optional()?.map(TaskId);
    let (parent, code_cid) = (r.optional()?.map(RecordId), r.optional()?.map(Cid));
    let (dataset_cid, prepare_cid) = (read_name(r, named)?, read_name(r, named)?);
    let (val_bpb, peak_vram_mb) = (r.float()?, r.float()?);
    let (depth, timestamp, num_steps, num_params) = (r.number()?, r.number()?, r.number()?, r.number()?);
    let (time_budget, version) = (r.number()?, r.number()?);
    let (gpu_model, cuda_version, torch_version, agent_model) = (r.text()?, r.text()?, r.text()?, r.text()?);
    let (description, hypothesis) = (r.text()?, r.text()?);
    Ok(Record {
        parent,
        depth,
        code_cid,
        diff: String::new(),
        dataset_cid,
        prepare_cid,
        time_budget,
        val_bpb,
        peak_vram_mb,
        num_steps,
        num_params,
        status,
        description,
        hypothesis,
        agent_model,
        gpu_model,
        cuda_version,
        torch_version,
        node_id,
        task_id,
        timestamp,
        version,
    })
}

/// A text that is mostly an address in hex, and then stored as the address's bytes.
fn write_name(w: &mut ValueWriter, name: &str) {
    // Upper-case digits would be read back in lower case.
    let cid = name.parse::<Cid>().ok().filter(|_| !name.bytes().any(|byte| byte.is_ascii_uppercase()));
    w.optional(cid.map(|cid| cid.0));
    if cid.is_none() {
        w.text(name);
    }
}

fn read_name(r: &mut ValueReader<'_>, named: bool) -> Result<String> {
    match r.optional()? {
        Some(cid) if named => Ok(Cid(cid).to_string()),
        Some(_) => Ok(String::new()),
        None => r.text(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use spore_protocol::{VerifiedObject, fixtures};

    use super::*;

    /// A record with these numbers and texts. The other fields have usual values.
    fn signed(numbers: (u64, f64, f64), texts: (String, String, String), version: u64) -> SignedObject {
        let identity = fixtures::identity(3);
        let record = Record {
            parent: (numbers.0 % 2 == 1).then_some(RecordId([7; 32])),
            depth: numbers.0,
            code_cid: numbers.0.is_multiple_of(3).then_some(Cid([9; 32])),
            diff: texts.0,
            dataset_cid: Cid([5; 32]).to_string(),
            prepare_cid: texts.1.clone(),
            val_bpb: numbers.1,
            peak_vram_mb: numbers.2,
            num_steps: numbers.0,
            description: texts.1,
            hypothesis: texts.2,
            torch_version: "2.9".into(),
            version,
            ..fixtures::record(&identity, (version > 1).then_some(TaskId([1; 32])), None)
        };
        VerifiedObject::from(fixtures::sign(&identity, &record)).into_signed()
    }

    proptest! {
        #[test]
        fn record_is_read_back_as_it_was_signed(
            numbers in (any::<u32>().prop_map(u64::from), -1e9..1e9f64, 0.0..1e6f64),
            texts in (".{0,60}", ".{0,20}", ".{0,20}"),
            version in 1..4u64,
        ) {
            let object = signed(numbers, texts, version);
            let stored = encode_stored(&object);
            prop_assert_eq!(stored[0], Kind::Experiment.code() | FIELDS);
            let back = decode_stored(&stored).unwrap();
            prop_assert_eq!(back.canonical(), object.canonical());
            prop_assert_eq!(&back, &object);
            let text = (object.canonical().to_vec(), *object.signature());
            prop_assert_eq!(stored_text(&stored).unwrap(), text);
            let SignedObject::Experiment(record) = object else { unreachable!() };
            let listed = stored_record(&stored).unwrap();
            let whole = Record {
                diff: record.diff.clone(),
                dataset_cid: record.dataset_cid.clone(),
                prepare_cid: record.prepare_cid.clone(),
                ..listed
            };
            prop_assert_eq!(whole, record.object().clone());
        }
    }

    /// The reference writes `0` where this program writes `0.0`: another text, and so another id.
    #[test]
    fn record_with_another_spelling_of_numbers_is_stored_as_text() {
        let SignedObject::Experiment(record) = signed((1, 2.5, 0.0), Default::default(), 2) else { unreachable!() };
        let text = String::from_utf8(record.canonical().to_vec()).unwrap();
        let other = text.replace("\"peak_vram_mb\":0.0", "\"peak_vram_mb\":0");
        assert_ne!(text, other);
        let object = SignedObject::from_canonical(Kind::Experiment, other.as_bytes(), *record.signature()).unwrap();
        let stored = encode_stored(&object);
        assert_eq!(stored[0], Kind::Experiment.code());
        assert_eq!(decode_stored(&stored).unwrap().canonical(), object.canonical());
        assert_eq!(stored_record(&stored).unwrap(), *record.object());
    }
}
