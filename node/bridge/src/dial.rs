//! Opening a connection to a legacy peer: looking its name up and trying what it stands for.

use std::{io, net::SocketAddr};

use spore_base::peer_address::{PeerAddress, is_local, is_unicast};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::{
    book::Source,
    hub::{HubHandle, Refusal},
    limits::{DIAL_TIMEOUT, LOOKUP_TIMEOUT, TRIED_ADDRESSES},
};

/// Why a dial led nowhere.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("the name is not found: {0}")]
    Lookup(io::Error),
    #[error("the name stands for no address that may be dialled")]
    NoAddress,
    #[error("no answer")]
    Timeout,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Connects to the peer, at the first of its IP addresses that answers.
///
/// # Errors
/// What was wrong with the last one tried.
pub async fn dial(hub: &HubHandle, address: &PeerAddress, source: Option<Source>) -> Result<TcpStream, DialError> {
    let mut last = DialError::NoAddress;
    for ip in lookup(address).await?.into_iter().take(TRIED_ADDRESSES) {
        // A name that a stranger gave us must not lead into the operator's own network.
        let strange = matches!(source, Some(Source::Heard(_))) && !address.is_local() && is_local(ip.ip());
        if strange || !is_unicast(ip.ip()) {
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
