//! What connections run over: TCP and QUIC with DNS, circuits through relays, and the guard in front of all.

use libp2p::{
    PeerId, Transport as _,
    core::{muxing::StreamMuxerBox, transport::Boxed, upgrade::Version},
    dns::{self, ResolverConfig, ResolverOpts},
    identity::Keypair,
    noise, quic, relay, tcp, yamux,
};
use spore_base::warnings::{WarningTopic, Warnings};

use crate::{
    config::NetworkError,
    guard::{AddressGuard, Guarded},
};

/// Connections with peers whose keys are known.
pub type Connections = Boxed<(PeerId, StreamMuxerBox)>;

/// What connections run over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP (noise, yamux) and QUIC, with DNS.
    Sockets,
    /// Channels between the swarms of one process (noise, yamux). Addresses look like `/memory/1234`.
    #[cfg(test)]
    Memory,
}

/// Builds the transport, and the behaviour that makes its circuits. Must be called within a tokio runtime.
///
/// # Errors
/// When the key cannot be used. Without a usable DNS configuration no names are looked up, with a warning; peers with IP
/// addresses work.
pub fn transport(
    kind: Transport,
    key: &Keypair,
    guard: AddressGuard,
    warnings: &Warnings,
) -> Result<(Connections, relay::client::Behaviour), NetworkError> {
    let setup = |error: noise::Error| NetworkError::Setup(error.to_string());
    let noise = noise::Config::new(key).map_err(setup)?;
    let direct = match kind {
        Transport::Sockets => sockets(key, &noise, warnings),
        #[cfg(test)]
        Transport::Memory => {
            let plain = libp2p::core::transport::MemoryTransport::default().upgrade(Version::V1);
            plain.authenticate(noise.clone()).multiplex(yamux::Config::default()).boxed()
        }
    };
    let (circuits, behaviour) = relay::client::new(key.public().to_peer_id());
    let circuits = circuits
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let both = circuits.or_transport(direct).map(|either, _| either.into_inner()).boxed();
    Ok((Guarded::new(both, guard).boxed(), behaviour))
}

fn sockets(key: &Keypair, noise: &noise::Config, warnings: &Warnings) -> Connections {
    let direct = || {
        let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
            .upgrade(Version::V1Lazy)
            .authenticate(noise.clone())
            .multiplex(yamux::Config::default())
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
        let quic = quic::tokio::Transport::new(quic::Config::new(key))
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
        quic.or_transport(tcp).map(|either, _| either.into_inner())
    };
    match dns::tokio::Transport::system(direct()) {
        Ok(named) => named.boxed(),
        Err(error) => {
            let text = format!(
                "the system's DNS configuration cannot be used ({error}): peers with host names cannot be reached, \
                 peers with IP addresses can"
            );
            warnings.set(WarningTopic::Dns, text);
            // Without a name server. The hosts file is still read.
            let nowhere = ResolverConfig::from_parts(None, vec![], vec![]);
            dns::tokio::Transport::custom(direct(), nowhere, ResolverOpts::default()).boxed()
        }
    }
}
