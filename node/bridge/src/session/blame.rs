//! What a refusal says of the peer that sent the object.
//!
//! The reference checks an object's fields, id and signature before it passes it on as it comes, so
//! whoever sends one that is wrong in these made it so. It checks nothing else: what only our stricter
//! reading refuses, honest nodes relay, and anybody can make a whole network of them relay it.
//!
//! Asked for its history, it answers out of its database and checks nothing at all. A column of type
//! INTEGER or TEXT there may have changed how a value was spelled (`300.0` to `300`, `5` to `"5"`),
//! beyond what can be told from the row; such a record's id no longer fits, and its sender is honest.

use spore_protocol::{Kind, Reject};

use crate::bans::Offence;

/// The offence in a frame with this body. `carried`: the kind of object in it, if one was.
pub(super) fn of_frame(reject: &Reject, carried: Option<Kind>, body: &[u8]) -> Offence {
    match reject {
        Reject::TooLarge { .. } if carried.is_none() => Offence::Oversize,
        // Python writes these numbers, and reads them.
        Reject::NotJson { at, .. } if is_not_a_number(body, *at) => Offence::Refused,
        // Python's `json` reads what these name, and a later reference may know more fields than we do.
        Reject::TooDeep { .. }
        | Reject::TooManyValues { .. }
        | Reject::DuplicateKey(_)
        | Reject::LoneSurrogate { .. }
        | Reject::NumberOutOfRange { .. }
        | Reject::UnknownField(_) => Offence::Refused,
        _ if carried.is_none() => Offence::BadFrame,
        Reject::NotAnObject => Offence::BadFrame,
        // The reference fails where a record or a manifest lacks a field. A profile's it fills in before
        // it looks at the signature, and passes the profile on; an event's payload it does not look at.
        Reject::MissingField(_) if matches!(carried, Some(Kind::Experiment | Kind::Task)) => Offence::BadFrame,
        reject => of_object(reject),
    }
}

/// Whether a reference's database may have made this of a record that was sound: no offence in answer to
/// a request for its history.
pub(super) fn may_be_misspelt(reject: &Reject, carried: Option<Kind>) -> bool {
    carried == Some(Kind::Experiment) && matches!(reject, Reject::IdMismatch { .. })
}

/// The offence in an object.
pub(super) fn of_object(reject: &Reject) -> Offence {
    match reject {
        Reject::IdMismatch { .. } | Reject::BadSignature | Reject::ActorMismatch { .. } | Reject::Malformed(_) => {
            Offence::Forged
        }
        _ => Offence::Refused,
    }
}

/// Whether the text at `at` is a number that JSON has not but Python's `json` has.
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
    fn what_an_honest_reference_may_relay_is_a_light_offence() {
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
    fn what_no_honest_node_sends_is_a_heavy_one() {
        for body in ["", "{", "[]", r#"{"payload":{}}"#, r#"{"type":"ping","payload":3}"#, r#"{"type":5,"payload":{}}"#]
        {
            assert_eq!(offence(body), Offence::BadFrame, "{body}");
        }
        assert_eq!(offence(r#"{"type":"experiment","payload":[]}"#), Offence::BadFrame);
        assert_eq!(offence(r#"{"type":"experiment","payload":{}}"#), Offence::BadFrame);
        assert_eq!(offence(r#"{"type":"task","payload":{}}"#), Offence::BadFrame);
        for reject in [Reject::BadSignature, Reject::IdMismatch { actual: String::new() }] {
            assert_eq!(of_object(&reject), Offence::Forged);
        }
        assert_eq!(of_object(&Reject::FromTheFuture { ahead: 9 }), Offence::Refused);
    }
}
