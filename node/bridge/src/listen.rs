//! The sockets on which legacy peers connect.

use std::{
    future::{pending, poll_fn},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    task::Poll,
};

use tokio::net::{TcpListener, TcpStream};

/// The node could not listen for legacy peers.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for legacy peers on {address}: {reason}")]
pub struct ListenError {
    pub address: SocketAddr,
    reason: String,
    /// Another program uses the port.
    pub in_use: bool,
}

/// Bound sockets: one, one for each address family, or none.
#[derive(Debug, Default)]
pub struct Listeners(Vec<TcpListener>);

impl Listeners {
    /// Listens on an address; on none for None. The unspecified address of either family means every address of this
    /// machine, in both families. Port 0 takes any free port.
    ///
    /// # Errors
    /// When the port is in use, or when the address is not one of this machine.
    pub async fn bind(address: Option<SocketAddr>) -> Result<Self, ListenError> {
        let Some(address) = address else { return Ok(Self::default()) };
        let failed_on = |address: SocketAddr, e: &io::Error| {
            let in_use = e.kind() == io::ErrorKind::AddrInUse;
            let reason = if in_use { "another program has that port".to_owned() } else { e.to_string() };
            ListenError { address, reason, in_use }
        };
        let failed = |e: &io::Error| failed_on(address, e);
        if !address.ip().is_unspecified() {
            return Ok(Self(vec![TcpListener::bind(address).await.map_err(|e| failed(&e))?]));
        }
        // On most systems this socket accepts IPv4 connections, too.
        let six = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, address.port())).await {
            // The socket would be of both families. The error names the one whose port is busy.
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                let four = TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await;
                let busy: IpAddr =
                    if four.is_err() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
                return Err(failed_on(SocketAddr::new(busy, address.port()), &e));
            }
            other => other.ok(),
        };
        let port = six.as_ref().and_then(|six| six.local_addr().ok()).map_or(address.port(), |six| six.port());
        match (six, TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await) {
            (None, Ok(four)) => Ok(Self(vec![four])),
            (None, Err(e)) => Err(failed(&e)),
            (Some(six), Ok(four)) => Ok(Self(vec![six, four])),
            (Some(six), Err(_)) => Ok(Self(vec![six])),
        }
    }

    /// The addresses that the sockets listen on. A port that is open in both families is one address, written as
    /// people write it: `0.0.0.0`.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let bound: Vec<_> = self.0.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        match bound.first() {
            Some(first) if first.ip().is_unspecified() => {
                vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), first.port())]
            }
            _ => bound,
        }
    }

    /// The next connection. Waits for ever when there is no socket. The future may be dropped at any time.
    ///
    /// # Errors
    /// An error of the operating system. A later call may succeed.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        if self.0.is_empty() {
            return pending().await;
        }
        poll_fn(|context| {
            let ready = self.0.iter().find_map(|listener| match listener.poll_accept(context) {
                Poll::Ready(accepted) => Some(accepted),
                Poll::Pending => None,
            });
            ready.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn reaches(listeners: &Listeners, to: SocketAddr) -> bool {
        let (accepted, dialled) = tokio::join!(listeners.accept(), TcpStream::connect(to));
        accepted.unwrap().1.port() == dialled.unwrap().local_addr().unwrap().port()
    }

    #[tokio::test]
    async fn unspecified_address_listens_in_both_families() {
        let listeners = Listeners::bind("0.0.0.0:0".parse().ok()).await.unwrap();
        let addresses = listeners.addresses();
        let [address] = addresses.as_slice() else { panic!("{addresses:?}") };
        assert!(reaches(&listeners, ([127, 0, 0, 1], address.port()).into()).await);
        if std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            assert!(reaches(&listeners, (Ipv6Addr::LOCALHOST, address.port()).into()).await);
        }
    }

    #[tokio::test]
    async fn busy_port_is_reported() {
        for holder in ["127.0.0.1:0", "0.0.0.0:0"] {
            let holder = std::net::TcpListener::bind(holder).unwrap();
            let address = SocketAddr::from(([0, 0, 0, 0], holder.local_addr().unwrap().port()));
            let error = Listeners::bind(Some(address)).await.unwrap_err();
            assert!(error.in_use && error.to_string().contains(&address.to_string()), "{error}");
        }
    }

    #[tokio::test]
    async fn error_names_the_family_whose_port_is_busy() {
        let Ok(holder) = std::net::TcpListener::bind("[::1]:0") else { return };
        let port = holder.local_addr().unwrap().port();
        let error = Listeners::bind(Some(SocketAddr::from(([0, 0, 0, 0], port)))).await.unwrap_err();
        assert!(error.to_string().contains(&format!("[::]:{port}")), "{error}");
    }

    #[tokio::test]
    async fn single_address_is_the_only_one_listened_on() {
        let listeners = Listeners::bind("127.0.0.1:0".parse().ok()).await.unwrap();
        let address = listeners.addresses()[0];
        assert_eq!(address.ip(), IpAddr::from([127, 0, 0, 1]));
        assert!(reaches(&listeners, address).await);
        let elsewhere = SocketAddr::from(([127, 0, 0, 2], address.port()));
        assert!(TcpStream::connect(elsewhere).await.is_err());
    }
}
