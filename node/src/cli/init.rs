//! `spore init`: creates the identity, the configuration and the store.

use std::io::Write;

use clap::Args as ClapArgs;
use spore_base::peer_id::peer_id;
use spore_storage::Store;

use super::{CliError, Context, access, reference, warn};
use crate::{config, genesis, identity_file};

/// Create the identity, the configuration and the store of a node
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    updates: reference::Updates,
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    if let Some(note) = args.updates.note() {
        warn(note);
    }
    context.data.create()?;
    let found = identity_file::load_or_create(&context.data.identity())?;
    if found.was_loose {
        warn(
            "other users of this machine could read the node's private key until now. Its mode is 0600 now; create a new \
             identity if somebody may have read the key",
        );
    }
    let new_config = config::create(&context.data.config())?;
    // A running node has made its store already, and holds it open.
    if access::ApiClient::find(&context.data).await?.is_none() {
        let store = Store::open_with_trust(context.data.root(), context.seeds()?)
            .map_err(|e| access::locked_without_api(e, &context.data))?;
        let ingest = access::LocalIngest::start(&store);
        genesis::install(&ingest.handle, &store).await?;
    }
    let node_id = found.identity.node_id();
    if args.json {
        return context.json(&serde_json::json!({
            "node_id": node_id.to_string(), "peer_id": peer_id(&node_id).map(|peer| peer.to_string()), "data_dir": context.data.root(),
            "new_identity": found.created, "new_config": new_config,
        }));
    }
    let done = if found.created { "Created node" } else { "There is a node already:" };
    writeln!(context.out, "{done} {node_id}")?;
    writeln!(context.out, "  data directory  {}", context.data.root().display())?;
    writeln!(context.out, "  configuration   {}", context.data.config().display())?;
    writeln!(
        context.out,
        "Next: `spore run` starts the node. `spore set PROVIDER KEY` lets a language model propose experiments."
    )?;
    Ok(())
}
