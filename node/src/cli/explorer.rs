//! `spore explorer`: the web page of the running node, or of the store without a node.

use std::{io::Write, net::SocketAddr};

use clap::Args as ClapArgs;
use spore_api::Api;
use tokio::{net::TcpListener, sync::watch};

use super::{
    CliError, Context,
    access::{NodeAccess, OfflineStore},
};
use crate::{config::WebConfig, runtime};

/// Show the address of the explorer, or serve the explorer while no node is running
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Port of the explorer, while no node is running [default: 8470]
    #[arg(long, short, value_name = "PORT")]
    web_port: Option<u16>,
    /// Address of the explorer, while no node is running [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS", value_parser = crate::config::ip_address)]
    web_host: Option<std::net::IpAddr>,
    /// The task to begin with: its id, a unique prefix of the id, or its name [default: the task that the node works on]
    #[arg(long, value_name = "ID")]
    task: Option<String>,
    /// The explorer joins no network: `spore run --no-train` does
    #[arg(long, short, hide = true, value_name = "PORT")]
    port: Option<u16>,
    /// The explorer dials no peer: `spore run --no-train` does
    #[arg(long, short = 'c', hide = true, value_name = "ADDRESS")]
    peer: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    if args.port.is_some() || !args.peer.is_empty() {
        return Err(CliError::usage("the explorer joins no network: it shows what the node of this directory knows")
            .hint("`spore run --no-train` with `--port` and `--peer` runs a node that trains nothing and serves the explorer"));
    }
    let config = context.config()?;
    let source = NodeAccess::open(context).await?;
    // The page names a task by its whole id.
    let begin = match &args.task {
        Some(task) => format!("/t/{}", source.task(Some(task)).await?.task_id),
        None => String::new(),
    };
    let offline = match source {
        NodeAccess::Node(client) => {
            let node = &client.node;
            if !node.explorer {
                return Err(CliError::failed("the running node does not serve the explorer")
                    .hint("start the node without `--no-web`"));
            }
            let address = format!("http://{}{begin}", node.address);
            if args.json {
                return context.json(&serde_json::json!({ "address": address, "node_running": true }));
            }
            return Ok(writeln!(context.out, "{address}")?);
        }
        NodeAccess::Store(offline) => offline,
    };
    let address = SocketAddr::new(args.web_host.unwrap_or(config.web_host), args.web_port.unwrap_or(config.web_port));
    let listener = TcpListener::bind(address).await.map_err(|e| runtime::WebError::new(address, &e))?;
    let shown = listener.local_addr().unwrap_or(address);
    if args.json {
        context.json(&serde_json::json!({ "address": format!("http://{shown}{begin}"), "node_running": false }))?;
    } else {
        writeln!(
            context.out,
            "http://{shown}{begin} shows what this node knew when it last ran. Press Ctrl-C to stop."
        )?;
    }
    context.out.flush()?;
    serve(&offline, config.web, listener).await
}

/// Serves what the store holds until the user asks to stop.
async fn serve(offline: &OfflineStore, web: WebConfig, listener: TcpListener) -> Result<(), CliError> {
    let (stop, shutdown) = watch::channel(false);
    let api = Api {
        view: offline.view().clone(),
        node: None,
        pinned: offline.pinned(),
        token: None,
        page: true,
        names: web.names,
        proxies: web.proxies,
        connections: spore_api::MAX_CONNECTIONS,
        shutdown,
    };
    let server = spore_api::serve(api, listener);
    let stopping = async {
        runtime::asked_to_stop().await;
        let _ = stop.send(true);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        served = server => served.map_err(|e| CliError::io("the explorer", &e)),
        () = stopping => Ok(()),
    }
}
