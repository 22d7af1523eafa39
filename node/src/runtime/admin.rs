//! The operator's endpoints of a running node.

use std::net::SocketAddr;

use spore_api::{admin::Admin, live::LiveNode, view::StoreView};
use spore_base::shutdown::Shutdown;
use tokio::net::TcpListener;

use super::{error::WebError, services::Services};

/// Listens at the address, if there is one.
///
/// # Errors
/// When another program uses the port, or the address is not this machine's.
pub async fn bind(address: Option<SocketAddr>) -> Result<Option<TcpListener>, WebError> {
    let Some(address) = address else { return Ok(None) };
    TcpListener::bind(address).await.map(Some).map_err(|e| WebError::of_admin(address, &e))
}

/// Serves the endpoints, if there is a listener.
pub fn serve(
    listener: Option<TcpListener>,
    live: &LiveNode,
    view: &StoreView,
    shutdown: &Shutdown,
    services: &mut Services,
) {
    let Some(listener) = listener else { return };
    let admin = Admin::new(live.clone(), view.clone(), shutdown.clone());
    services.watch("admin listener", tokio::spawn(spore_api::admin::serve(admin, listener)));
}
