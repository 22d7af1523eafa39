//! Dialling a legacy peer: the lookup of its name, and a connection to one of its IP addresses.

use std::{io, net::SocketAddr};

use spore_base::peer_address::{PeerAddress, is_local, is_unicast};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::{
    book::PeerSource,
    hub::{HubHandle, Refusal},
    limits::{DIAL_TIMEOUT, LOOKUP_TIMEOUT, TRIED_ADDRESSES},
};

/// Why a dial failed.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("the name was not found: {0}")]
    Lookup(io::Error),
    #[error("the name has no address that may be dialled")]
    NoAddress,
    #[error("no answer")]
    Timeout,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Connects to a peer, at the first of its IP addresses that answers.
///
/// # Errors
/// The error of the last address that was tried.
pub async fn dial(hub: &HubHandle, address: &PeerAddress, source: Option<PeerSource>) -> Result<TcpStream, DialError> {
    let mut last = DialError::NoAddress;
    for ip in lookup(address).await?.into_iter().take(TRIED_ADDRESSES) {
        // A name that an untrusted peer sent must not lead into the operator's own network.
        let untrusted = matches!(source, Some(PeerSource::Heard(_)));
        let leads_inside = untrusted && !address.is_local() && is_local(ip.ip());
        if leads_inside || !is_unicast(ip.ip()) {
            continue;
        }
        if let Err(refusal) = hub.check(address, ip.ip()) {
            last = refusal.into();
            continue;
        }
        last = match timeout(DIAL_TIMEOUT, TcpStream::connect(ip)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error.into(),
            Err(_) => DialError::Timeout,
        };
    }
    Err(last)
}

async fn lookup(address: &PeerAddress) -> Result<Vec<SocketAddr>, DialError> {
    if let Some(ip) = address.ip() {
        return Ok(vec![SocketAddr::new(ip, address.port())]);
    }
    let found = timeout(LOOKUP_TIMEOUT, lookup_host((address.host(), address.port()))).await;
    let found = found.map_err(|_| DialError::Lookup(io::ErrorKind::TimedOut.into()))?;
    Ok(found.map_err(DialError::Lookup)?.collect())
}
