//! `spore init`: makes the identity, the configuration and the store.

use std::io::Write;

use clap::Args as ClapArgs;
use spore_base::peer_id::peer_id;
use spore_storage::Store;

use super::{CliError, Context, source, warn};
use crate::{config, genesis, identity_file};

/// Make the node's identity, its configuration and its store
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    context.data.create()?;
    let found = identity_file::load_or_create(&context.data.identity())?;
    if found.was_loose {
        warn(
            "other users could read the node's private key; its mode is 0600 now. Make a new identity if they may have",
        );
    }
    let new_config = config::create(&context.data.config())?;
    // A node that runs here has the store open, and all that it needs in it.
    if source::Client::find(&context.data).await?.is_none() {
        let store = Store::open(context.data.root()).map_err(|e| source::locked_without_api(e, &context.data))?;
        let door = source::Door::open(&store);
        genesis::install(&door.ingest, &store).await.map_err(|e| CliError::failed(e.to_string()))?;
    }
    let node_id = found.identity.node_id();
    if args.json {
        return context.json(&serde_json::json!({
            "node_id": node_id.to_string(), "peer_id": peer_id(&node_id).map(|peer| peer.to_string()), "data_dir": context.data.root(),
            "new_identity": found.created, "new_config": new_config,
        }));
    }
    let word = if found.created { "initialized" } else { "was initialized already" };
    writeln!(context.out, "Node {word}. ID: {node_id}")?;
    writeln!(context.out, "  data directory  {}", context.data.root().display())?;
    writeln!(context.out, "  configuration   {}", context.data.config().display())?;
    writeln!(
        context.out,
        "Next: `spore run` starts it; `spore set PROVIDER KEY` lets a language model propose experiments."
    )?;
    Ok(())
}
