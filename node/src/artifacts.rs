//! Fetches missing artifacts: from libp2p peers first, then from legacy peers.
//!
//! Every service that needs a script, an evaluator or a dataset asks here, and then reads the artifact from the store.

use futures::future::{BoxFuture, FutureExt as _};
use spore_base::fetch::ArtifactSource;
use spore_base::fetch::FetchError;
use spore_bridge::BridgeHandle;
use spore_network::NetworkHandle;
use spore_protocol::{Cid, NodeId};
use spore_storage::Store;

/// Handles to the networks that artifacts come from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ArtifactSources {
    store: Store,
    network: NetworkHandle,
    /// None in a node without legacy peers.
    bridge: Option<BridgeHandle>,
}

impl ArtifactSources {
    pub fn new(store: Store, network: NetworkHandle, bridge: Option<BridgeHandle>) -> Self {
        Self { store, network, bridge }
    }

    async fn or_from_bridge(&self, cid: Cid, limit: u64, found: Result<(), FetchError>) -> Result<(), FetchError> {
        // The other errors would be the same there: the artifact is too large, or the store refuses it.
        let (error, bridge) = match (found, &self.bridge) {
            (Err(error @ (FetchError::NotFound(_) | FetchError::Busy(_))), Some(bridge)) => (error, bridge),
            (found, _) => return found,
        };
        let Some(bytes) = bridge.fetch_artifact(cid, limit).await else { return Err(error) };
        tracing::info!(%cid, bytes = bytes.len(), "artifact fetched from a legacy peer");
        let store = self.store.clone();
        let stored = tokio::task::spawn_blocking(move || store.put_artifact(&bytes)).await;
        let failed = |reason: String| FetchError::Store { cid, reason: reason.into() };
        match stored {
            Ok(Ok(kept)) if kept == cid => Ok(()),
            Ok(Ok(other)) => Err(failed(format!("the bytes have the hash {other}"))),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed("the node is shutting down".into())),
        }
    }
}

impl ArtifactSource for ArtifactSources {
    fn fetch_within(&self, cid: Cid, hint: Option<NodeId>, limit: u64) -> BoxFuture<'_, Result<(), FetchError>> {
        async move {
            let found = self.network.fetch_artifact_within(cid, hint, limit).await;
            self.or_from_bridge(cid, limit, found).await
        }
        .boxed()
    }

    fn peers(&self) -> BoxFuture<'_, usize> {
        async move { self.network.snapshot().await.map_or(0, |network| network.peers.len()) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::watch;

    use spore_base::fetch::ARTIFACT_LIMIT;

    use super::*;
    use spore_base::peer_address::PeerAddress;
    use spore_bridge::{BridgeConfig, Listeners};
    use spore_ingest::Ingest;
    use spore_network::NetworkCommand;

    /// A store and the bridge of its node, with the directory that they live in.
    async fn node(stop: &watch::Receiver<bool>) -> (tempfile::TempDir, Store, BridgeHandle) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (ingest, events, _wants, _ingest) = Ingest::spawn(store.clone(), Arc::new(|| 1_700_000_000), stop.clone());
        let listen = Some(([127, 0, 0, 1], 0).into());
        let listeners = Listeners::bind(listen).await.unwrap();
        let config = BridgeConfig { listen, ..BridgeConfig::default() };
        let (bridge, _task) = spore_bridge::start(
            config,
            listeners,
            store.clone(),
            ingest,
            events,
            Arc::new(|| 1_700_000_000),
            stop.clone(),
        );
        (folder, store, bridge)
    }

    /// A libp2p network whose peers have no artifacts.
    fn empty_network() -> NetworkHandle {
        let (network, mut commands) = NetworkHandle::channel();
        tokio::spawn(async move {
            while let Some(command) = commands.recv().await {
                if let NetworkCommand::FetchArtifact { cid, reply, .. } = command {
                    let _ = reply.send(Err(FetchError::NotFound(cid)));
                }
            }
        });
        network
    }

    #[tokio::test]
    async fn artifact_missing_in_libp2p_comes_from_a_legacy_peer() {
        let (_stop, stopped) = watch::channel(false);
        let (_theirs, has, there) = node(&stopped).await;
        let (_ours, lacks, here) = node(&stopped).await;
        let cid = has.put_artifact(b"a script").unwrap();
        let too_large = has.put_artifact(&[7; 5000]).unwrap();
        let address = PeerAddress::from(there.listening()[0]);
        here.connect(address).await.unwrap();

        let sources = ArtifactSources::new(lacks.clone(), empty_network(), Some(here));
        sources.fetch_within(cid, None, ARTIFACT_LIMIT).await.unwrap();
        assert_eq!(lacks.artifact(&cid).unwrap().as_deref(), Some(b"a script".as_slice()));
        let refused = sources.fetch_within(too_large, None, 4999).await;
        assert!(matches!(refused, Err(FetchError::NotFound(_))), "{refused:?}");
        let nowhere = sources.fetch_within(Cid::of(b"nobody has this"), None, ARTIFACT_LIMIT).await;
        assert!(matches!(nowhere, Err(FetchError::NotFound(_))), "{nowhere:?}");

        let alone = ArtifactSources::new(has, empty_network(), None);
        assert!(matches!(alone.fetch_within(Cid::of(b"x"), None, ARTIFACT_LIMIT).await, Err(FetchError::NotFound(_))));
    }
}
