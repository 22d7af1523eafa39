//! `spore set trust`: the nodes whose measurements decide what holds here.

use std::io::Write;

use clap::Args as ClapArgs;
use spore_api::{dto::NodeSummary, route::Route};
use spore_protocol::NodeId;
use spore_storage::Store;
use toml::Value;

use super::{
    CliError, Context,
    access::{ApiClient, NodeAccess, locked_without_api, note_running},
    text,
};
use crate::{config, identity_file};

/// Show or change the nodes whose measurements decide what holds here
///
/// A result holds here, and is on the frontier, when nodes with weight measured it again. This node's own key has
/// weight, and so have the nodes that you name; other nodes earn weight with work that these confirm. Name nodes whose
/// measurements you would believe without a look. Without a node: show the list.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The nodes to add: their ids, or unique prefixes of ids that are known here
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
    /// Remove the nodes instead
    #[arg(long, requires = "nodes")]
    remove: bool,
    /// Print the list as JSON
    #[arg(long, conflicts_with = "nodes")]
    json: bool,
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let trusted = context.config()?.trust;
    let own = identity_file::load(&context.data.identity())?.map(|identity| identity.node_id());
    if args.nodes.is_empty() {
        if args.json {
            let texts: Vec<_> = trusted.iter().map(ToString::to_string).collect();
            return context.json(&serde_json::json!({ "own": own.map(|node| node.to_string()), "trust": texts }));
        }
        return show(&trusted, own, context).await;
    }
    let mut changed = trusted.clone();
    for given in &args.nodes {
        let node = if args.remove { listed(given, &trusted)? } else { known(given, context).await? };
        if args.remove {
            changed.retain(|other| *other != node);
        } else if Some(node) != own && !changed.contains(&node) {
            changed.push(node);
        }
    }
    if changed == trusted {
        writeln!(context.out, "Nothing changes: these nodes are trusted already.")?;
        return show(&trusted, own, context).await;
    }
    save(&changed, context)?;
    show(&changed, own, context).await?;
    if ApiClient::find(&context.data).await?.is_none() && Store::exists(context.data.root()) {
        // Opening the store with other keys computes its verdicts and frontiers anew.
        let opened = Store::open_with_trust(context.data.root(), context.seeds()?);
        opened.map_err(|e| locked_without_api(e, &context.data))?;
        writeln!(context.out, "The frontiers and verdicts here follow them now.")?;
    }
    note_running(context).await
}

fn save(nodes: &[NodeId], context: &Context) -> Result<(), CliError> {
    context.data.create()?;
    let texts = nodes.iter().map(|node| Value::String(node.to_string())).collect();
    let value = if nodes.is_empty() { None } else { Some(Value::Array(texts)) };
    Ok(config::set(&context.data.config(), "", &[("trust", value)])?)
}

/// The node of an id, or of a prefix that is unique among the nodes known here.
async fn known(given: &str, context: &Context) -> Result<NodeId, CliError> {
    if let Some(node) = config::node_id(given) {
        return Ok(node);
    }
    let no_node = || {
        CliError::usage(format!("{given:.80?} is not the id of a node, a public key of 64 hex digits"))
            .hint("`spore info` on that node prints its id")
    };
    let Ok(source) = NodeAccess::open(context).await else { return Err(no_node()) };
    let found: NodeSummary = source.get(&Route::Node(given.to_owned())).await?;
    config::node_id(&found.node_id).ok_or_else(no_node)
}

/// The node on the list that an id or a unique prefix names.
fn listed(given: &str, trusted: &[NodeId]) -> Result<NodeId, CliError> {
    let prefix = given.to_ascii_lowercase();
    let found: Vec<_> = trusted.iter().filter(|node| node.to_string().starts_with(&prefix)).collect();
    match found.as_slice() {
        [node] => Ok(**node),
        [] => Err(CliError::not_found(format!("{given:.80} is not on the list of trusted nodes"))
            .hint("`spore set trust` shows the list")),
        _ => Err(CliError::usage(format!("more than one trusted node begins with {given:.80}"))
            .hint("give more digits of the id")),
    }
}

async fn show(trusted: &[NodeId], own: Option<NodeId>, context: &mut Context) -> Result<(), CliError> {
    let source = NodeAccess::open(context).await.ok();
    let mut lines = vec![(own.map(|node| node.to_string()).unwrap_or_default(), "this node".to_owned())];
    lines.retain(|(id, _)| !id.is_empty());
    for node in trusted {
        let mut name = String::new();
        if let Some(source) = &source
            && let Ok(found) = source.get::<NodeSummary>(&Route::Node(node.to_string())).await
        {
            name = found.display_name.map(|name| text::line(&name)).unwrap_or_default();
        }
        lines.push((node.to_string(), name));
    }
    if lines.is_empty() {
        writeln!(context.out, "No key is trusted here yet. `spore init` makes this node's own.")?;
        return Ok(());
    }
    writeln!(context.out, "Measurements by these nodes decide what holds here:")?;
    for (id, name) in lines {
        writeln!(context.out, "  {}", format!("{id}  {name}").trim_end())?;
    }
    if trusted.is_empty() {
        writeln!(context.out, "`spore set trust NODE` adds a node.")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_node_is_found_by_a_unique_prefix() {
        let nodes = [NodeId([0xaa; 32]), NodeId([0xab; 32])];
        assert_eq!(listed("AAA", &nodes).unwrap(), nodes[0]);
        assert_eq!(listed(&nodes[1].to_string(), &nodes).unwrap(), nodes[1]);
        for wrong in ["a", "b", "zz"] {
            assert!(listed(wrong, &nodes).is_err(), "{wrong}");
        }
    }
}
