//! `spore explorer`: the web page of the running node, or of the store without a node.

use std::{io::Write, net::SocketAddr};

use clap::Args as ClapArgs;
use spore_api::Api;
use tokio::{net::TcpListener, sync::watch};

use super::{CliError, Context, access::NodeAccess};
use crate::runtime;

/// Show the address of the explorer, or serve the explorer while no node is running
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Port of the explorer, while no node is running [default: 8470]
    #[arg(long, value_name = "PORT")]
    web_port: Option<u16>,
    /// Address of the explorer, while no node is running [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    web_host: Option<std::net::IpAddr>,
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let config = context.config()?;
    let offline = match NodeAccess::open(context).await? {
        NodeAccess::Node(client) => {
            let node = &client.node;
            if !node.explorer {
                return Err(CliError::failed("the running node does not serve the explorer")
                    .hint("start the node without `--no-web`"));
            }
            writeln!(context.out, "http://{}", node.address)?;
            return Ok(());
        }
        NodeAccess::Store(offline) => offline,
    };
    let address = SocketAddr::new(args.web_host.unwrap_or(config.web_host), args.web_port.unwrap_or(config.web_port));
    let listener = TcpListener::bind(address).await.map_err(|e| runtime::WebError::new(address, &e))?;
    let shown = listener.local_addr().unwrap_or(address);
    writeln!(context.out, "http://{shown} shows what this node knew when it last ran. Press Ctrl-C to stop.")?;
    context.out.flush()?;
    let (stop, shutdown) = watch::channel(false);
    let api =
        Api { view: offline.view().clone(), node: None, pinned: offline.pinned(), token: None, page: true, shutdown };
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
