//! Inserts profiles. Only the newest profile of each node is kept.

use spore_protocol::{Kind, NodeProfile, ObjectId, Signed, SignedObject};

use super::InsertBatch;
use crate::{
    columns::Column,
    db::KeyReader,
    error::{Damage, Result},
    keys::{self, Moment, TimeList},
    lookup,
    types::InsertOutcome,
};

impl InsertBatch<'_> {
    pub(super) fn insert_profile(&mut self, profile: &Signed<NodeProfile>) -> Result<InsertOutcome> {
        let key = profile.node_id.0.to_vec();
        if let Some(held) = self.view.get(Column::Profiles, &key)? {
            let (timestamp, id) = (keys::number_at(&held, 0)?, ObjectId(keys::last_id(&held)?));
            if (timestamp, id) > (profile.timestamp, profile.id()) {
                return Ok(InsertOutcome::Known);
            }
            let number = lookup::number_of(&self.view, Kind::Profile, &id)?;
            let number = number.ok_or(Damage::NoObject { kind: Kind::Profile, id })?;
            self.view.delete(Column::Ids, keys::id(Kind::Profile, &id));
            self.view.delete(Column::Objects, keys::number(number));
            self.remove_from_list(TimeList::Profiles, &Moment { timestamp, id, number })?;
        } else {
            self.tally.profiles += 1;
        }
        self.view.put(Column::Profiles, key, [profile.timestamp.to_be_bytes().as_slice(), &profile.id().0].concat());
        let number = self.store_object(&SignedObject::Profile(profile.clone()), None)?;
        self.add_to_list(
            TimeList::Profiles,
            &Moment { timestamp: profile.timestamp, id: profile.id(), number },
            Vec::new(),
        )?;
        Ok(InsertOutcome::New)
    }
}
