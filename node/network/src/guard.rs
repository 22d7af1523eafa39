//! The last check of every dial: a transport that refuses addresses which this node does not dial.
//!
//! Kademlia, hole punching, reachability tests and requests all dial addresses that other peers chose. All of them go
//! through the transport, so the policy is enforced here, once.

use std::{
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, Transport,
    core::transport::{DialOpts, ListenerId, TransportError, TransportEvent},
};

use crate::addresses::AddressPolicy;

/// The policy that holds now. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct AddressGuard(Arc<RwLock<AddressPolicy>>);

impl AddressGuard {
    pub fn new(policy: AddressPolicy) -> Self {
        Self(Arc::new(RwLock::new(policy)))
    }

    pub fn set(&self, policy: AddressPolicy) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = policy;
    }

    pub fn may_dial(&self, address: &Multiaddr) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).may_dial(address)
    }

    pub fn is_public(&self, address: &Multiaddr) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_public(address)
    }
}

/// A transport that dials only what the policy allows.
#[derive(Debug)]
pub struct Guarded<T> {
    inner: T,
    guard: AddressGuard,
}

impl<T> Guarded<T> {
    pub const fn new(inner: T, guard: AddressGuard) -> Self {
        Self { inner, guard }
    }
}

impl<T: Transport + Unpin> Transport for Guarded<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<Self::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Self::Dial, TransportError<Self::Error>> {
        if !self.guard.may_dial(&address) {
            tracing::debug!(%address, "not dialling an address of a network that is not ours");
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        self.inner.dial(address, options)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.inner).poll(context)
    }
}

#[cfg(test)]
mod tests {
    use libp2p::core::{
        connection::Endpoint,
        transport::{PortUse, dummy::DummyTransport},
    };

    use super::*;

    #[test]
    fn refused_address_never_reaches_the_transport() {
        let mut transport = Guarded::new(DummyTransport::<()>::new(), AddressGuard::default());
        let mut refused = |text: &str| {
            let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::Reuse };
            let address: Multiaddr = text.parse().unwrap();
            matches!(transport.dial(address.clone(), options), Err(TransportError::MultiaddrNotSupported(of)) if of == address)
        };
        assert!(refused("/ip4/192.168.0.1/tcp/80"));
        let guard = AddressGuard::default();
        guard.set(AddressPolicy::new(&["/ip4/192.168.0.1/tcp/80".parse().unwrap()]));
        assert!(guard.may_dial(&"/ip4/192.168.0.1/tcp/80".parse().unwrap()));
    }
}
