//! Bodies of answers on their way to their readers: shared with who else holds them, and bounded by their bytes.
//!
//! A reader that takes its answer slowly keeps the answer in memory. So the bytes of all large answers on their way are
//! bounded, and those of one client too.

use std::sync::Arc;

use warp::hyper::body::Bytes;

use super::{
    problem::ApiError,
    shares::{Bounds, Client, Share, Shares},
};

/// Bytes of the largest answer that is sent uncounted: the kernel's buffers of a connection take about as much.
const SMALL: usize = 64 << 10;
/// Bytes of all counted answers. An artifact has up to 16 MiB and a graph in JSON 6 MB.
const BOUNDS: Bounds = Bounds { all: 64 << 20, others: 48 << 20, subnet: 24 << 20, host: 16 << 20 };

/// The bytes on their way. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BodyBudget(Shares);

impl Default for BodyBudget {
    fn default() -> Self {
        Self(Shares::new(BOUNDS))
    }
}

impl BodyBudget {
    /// The body of an answer to a client. Its bytes are counted until the last of them was given to the connection.
    ///
    /// # Errors
    /// 503 when too many bytes are on their way: to the client, or to all.
    pub fn send(&self, client: Client, body: Arc<Vec<u8>>) -> Result<Bytes, ApiError> {
        let share = match body.len() {
            ..=SMALL => None,
            bytes => Some(self.0.take(client, bytes).ok_or_else(too_much)?),
        };
        Ok(Bytes::from_owner(SentBody { body, _share: share }))
    }
}

fn too_much() -> ApiError {
    ApiError::unavailable("too many bytes of other answers are on their way").hint("try again in a few seconds")
}

/// A body with its share of the bytes.
struct SentBody {
    body: Arc<Vec<u8>>,
    _share: Option<Share>,
}

impl AsRef<[u8]> for SentBody {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn client(last: [u8; 2]) -> Client {
        let [subnet, host] = last;
        Client::at(IpAddr::from([192, 0, subnet, host]))
    }

    #[test]
    fn bytes_on_their_way_are_bounded_and_free_again_when_the_body_is_dropped() {
        let budget = BodyBudget::default();
        let (large, small) = (Arc::new(vec![7; 8 << 20]), Arc::new(vec![7; SMALL]));
        let mut sent: Vec<Bytes> = (0..9).filter_map(|_| budget.send(client([2, 1]), large.clone()).ok()).collect();
        assert_eq!(sent.len(), 2, "of one host");
        sent.extend((2..9).filter_map(|host| budget.send(client([2, host]), large.clone()).ok()));
        assert_eq!(sent.len(), 3, "of one subnet");
        sent.extend((3..99).filter_map(|subnet| budget.send(client([subnet, 1]), large.clone()).ok()));
        assert_eq!(sent.len(), 6, "of all but this machine");
        let here = Client::at(IpAddr::from([127, 0, 0, 1]));
        sent.push(budget.send(here, large.clone()).unwrap());
        assert_eq!(budget.send(client([2, 1]), large.clone()).unwrap_err().status(), 503);
        assert!(budget.send(client([2, 1]), small).is_ok(), "small answers are always sent");
        assert_eq!(Arc::strong_count(&large), 1 + sent.len(), "no copy was made");
        sent.clear();
        assert!(budget.send(client([2, 1]), large).is_ok());
    }
}
