//! Which offence a refused frame or object is.
//!
//! The reference checks the fields, the id and the signature of an object before it passes the object on unchanged. A
//! peer that sends an object which is wrong in one of these made it so. The reference checks nothing else: honest
//! nodes relay what only our stricter reading refuses, and anybody can make a whole network of them relay it.
//!
//! When the reference is asked for its history, it answers from its database and checks nothing at all. A column of
//! type INTEGER or TEXT may have changed the spelling of a value there (`300.0` to `300`, `5` to `"5"`), in a way that
//! the row does not show. The id of such a record no longer matches, and its sender is honest.

use spore_base::standing::Offence;
use spore_protocol::{Kind, Reject};

/// The offence of a frame with this body. `carried`: the kind of object that the frame should carry, if any.
pub(super) fn of_frame(reject: &Reject, carried: Option<Kind>, body: &[u8]) -> Offence {
    match reject {
        Reject::TooLarge { .. } if carried.is_none() => Offence::Oversize,
        // Python's `json` writes these numbers and reads them.
        Reject::NotJson { at, .. } if is_not_a_number(body, *at) => Offence::Refused,
        // Python's `json` reads all of these, and a later reference may know more fields than we do.
        Reject::TooDeep { .. }
        | Reject::TooManyValues { .. }
        | Reject::DuplicateKey(_)
        | Reject::LoneSurrogate { .. }
        | Reject::NumberOutOfRange { .. }
        | Reject::UnknownField(_) => Offence::Refused,
        _ if carried.is_none() => Offence::Malformed,
        Reject::NotAnObject => Offence::Malformed,
        // The reference fails at a record or a manifest that lacks a field. It fills in a missing field of a profile
        // before it checks the signature, and passes the profile on. It does not look at the payload of an event.
        Reject::MissingField(_) if matches!(carried, Some(Kind::Experiment | Kind::Task)) => Offence::Malformed,
        reject => of_object(reject),
    }
}

/// Whether the database of a reference may have changed a valid record into this one. In an answer to a request for
/// the history, such a record is no offence.
pub(super) fn may_be_misspelt(reject: &Reject, carried: Option<Kind>) -> bool {
    carried == Some(Kind::Experiment) && matches!(reject, Reject::IdMismatch { .. })
}

/// The offence of an object.
pub(super) fn of_object(reject: &Reject) -> Offence {
    match reject {
        Reject::IdMismatch { .. } | Reject::BadSignature | Reject::ActorMismatch { .. } | Reject::Malformed(_) => {
            Offence::Forged
        }
        _ => Offence::Refused,
    }
}

/// Whether the text at `at` is a number that Python's `json` knows and JSON does not.
fn is_not_a_number(body: &[u8], at: usize) -> bool {
    let rest = body.get(at..).unwrap_or_default();
    rest.starts_with(b"NaN") || rest.starts_with(b"Infinity")
}

#[cfg(test)]
mod tests {
    use spore_protocol::{frame::Frame, legacy::LegacyMessage};

    use super::*;

    fn offence(body: &str) -> Offence {
        let carried =
            Frame::decode(body.as_bytes()).ok().and_then(|frame| spore_protocol::legacy::carried(&frame.kind));
        let reject = Frame::decode(body.as_bytes()).and_then(LegacyMessage::decode).unwrap_err();
        of_frame(&reject, carried, body.as_bytes())
    }

    #[test]
    fn frame_that_an_honest_reference_may_relay_is_a_light_offence() {
        for body in [
            r#"{"type":"experiment","payload":{"val_bpb":NaN}}"#,
            r#"{"type":"experiment","payload":{"val_bpb":-Infinity}}"#,
            r#"{"type":"experiment","payload":{"val_bpb":1e999}}"#,
            r#"{"type":"verification","payload":{"description":"\ud800"}}"#,
            r#"{"type":"ping","payload":{},"hops":1}"#,
            r#"{"type":"profile","payload":{"node_id":"ab"}}"#,
        ] {
            assert_eq!(offence(body), Offence::Refused, "{body}");
        }
    }

    #[test]
    fn frame_that_no_honest_node_sends_is_a_heavy_offence() {
        for body in ["", "{", "[]", r#"{"payload":{}}"#, r#"{"type":"ping","payload":3}"#, r#"{"type":5,"payload":{}}"#]
        {
            assert_eq!(offence(body), Offence::Malformed, "{body}");
        }
        assert_eq!(offence(r#"{"type":"experiment","payload":[]}"#), Offence::Malformed);
        assert_eq!(offence(r#"{"type":"experiment","payload":{}}"#), Offence::Malformed);
        assert_eq!(offence(r#"{"type":"task","payload":{}}"#), Offence::Malformed);
        for reject in [Reject::BadSignature, Reject::IdMismatch { actual: String::new() }] {
            assert_eq!(of_object(&reject), Offence::Forged);
        }
        assert_eq!(of_object(&Reject::FromTheFuture { ahead: 9 }), Offence::Refused);
    }
}
