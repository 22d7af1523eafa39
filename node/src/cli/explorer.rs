//! `spore explorer`: the page, of the running node or of the store alone.

use std::{io::Write, net::SocketAddr};

use clap::Args as ClapArgs;
use spore_api::Api;
use tokio::{net::TcpListener, sync::watch};

use super::{CliError, Context, source::Source};
use crate::runtime;

/// Show the explorer's address, or serve it without a node
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Port of the explorer, when no node runs [default: 8470]
    #[arg(long, value_name = "PORT")]
    web_port: Option<u16>,
    /// Address to serve it on, when no node runs [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    web_host: Option<std::net::IpAddr>,
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let config = context.config()?;
    let offline = match Source::open(context).await? {
        Source::Node(client) => {
            let node = &client.node;
            if !node.explorer {
                return Err(CliError::failed("the running node serves no explorer").hint("start it without --no-web"));
            }
            writeln!(context.out, "http://{}", node.address)?;
            return Ok(());
        }
        Source::Store(offline) => offline,
    };
    let address = SocketAddr::new(args.web_host.unwrap_or(config.web_host), args.web_port.unwrap_or(config.web_port));
    let listener = TcpListener::bind(address).await.map_err(|e| runtime::WebError::new(address, &e))?;
    let shown = listener.local_addr().unwrap_or(address);
    writeln!(context.out, "http://{shown} shows what this node knew when it last ran. Ctrl-C ends it.")?;
    context.out.flush()?;
    let (stop, shutdown) = watch::channel(false);
    let api =
        Api { view: offline.view().clone(), node: None, pinned: offline.pinned(), token: None, page: true, shutdown };
    let server = spore_api::serve(api, listener);
    let ending = async {
        runtime::asked_to_end().await;
        let _ = stop.send(true);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        served = server => served.map_err(|e| CliError::io("the explorer", &e)),
        () = ending => Ok(()),
    }
}
