//! The profile of a node: the name and texts that it wants to be shown with.
//!
//! A profile has no effect on identity, verification or consensus.

use crate::{
    Kind, NodeId, Object, Reject,
    json::{Map, Value},
    signed::FieldReader,
};

/// The version that this program publishes.
pub const PROFILE_VERSION: u64 = 1;

/// The signed content of a profile. The newest profile of a node by (timestamp, id) replaces the others.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeProfile {
    pub node_id: NodeId,
    pub display_name: String,
    pub bio: String,
    pub website: String,
    pub avatar_url: String,
    pub donation_address: String,
    /// When the profile was made, in Unix seconds, as the node says.
    pub timestamp: u64,
    pub schema_version: u64,
}

impl Object for NodeProfile {
    const KIND: Kind = Kind::Profile;
    const ID_FIELD: &'static str = "id";
    const SIGNER_FIELD: &'static str = "node_id";

    fn read(f: &mut FieldReader) -> Result<Self, Reject> {
        Ok(Self {
            node_id: f.id("node_id")?,
            display_name: f.text("display_name")?,
            bio: f.text("bio")?,
            website: f.text("website")?,
            avatar_url: f.text("avatar_url")?,
            donation_address: f.text("donation_address")?,
            timestamp: f.unsigned("timestamp")?,
            schema_version: f.unsigned("schema_version")?,
        })
    }

    fn signed_fields(&self) -> Map {
        let text = |text: &String| Value::String(text.clone());
        Map::from([
            ("node_id".into(), Value::String(self.node_id.to_string())),
            ("display_name".into(), text(&self.display_name)),
            ("bio".into(), text(&self.bio)),
            ("website".into(), text(&self.website)),
            ("avatar_url".into(), text(&self.avatar_url)),
            ("donation_address".into(), text(&self.donation_address)),
            ("timestamp".into(), self.timestamp.into()),
            ("schema_version".into(), self.schema_version.into()),
        ])
    }

    fn signer(&self) -> NodeId {
        self.node_id
    }

    fn timestamp(&self) -> u64 {
        self.timestamp
    }
}
