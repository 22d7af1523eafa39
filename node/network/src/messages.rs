//! Requests and answers of our own three protocols, and their form on the wire: one CBOR value in each direction of a
//! stream, with a size limit that holds before anything is decoded.

use std::{io, marker::PhantomData};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{Multiaddr, PeerId, StreamProtocol, request_response::Codec};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use spore_protocol::{
    Kind, ObjectId, TaskId,
    cbor::{self, ByteBuf},
};
use spore_storage::{SyncScope, TASK_DIGEST_BYTES, TaskDigest};

use super::limits;

pub const SYNC_PROTOCOL: StreamProtocol = StreamProtocol::new("/spore/1/sync");
pub const OBJECTS_PROTOCOL: StreamProtocol = StreamProtocol::new("/spore/1/objects");
pub const ARTIFACT_PROTOCOL: StreamProtocol = StreamProtocol::new("/spore/1/artifact");
pub const KAD_PROTOCOL: StreamProtocol = StreamProtocol::new("/spore/1/kad");
/// The name of our family of protocols in identify.
pub const IDENTIFY_PROTOCOL: &str = "/spore/1";

/// A set of objects that is reconciled as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ReconcileScope {
    Tasks,
    Profiles,
    Records(TaskId),
    Controls(TaskId),
}

impl ReconcileScope {
    /// The kind of every object in the set.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Tasks => Kind::Task,
            Self::Profiles => Kind::Profile,
            Self::Records(_) => Kind::Experiment,
            Self::Controls(_) => Kind::Control,
        }
    }

    /// The store's name for the set.
    pub const fn stored(self) -> SyncScope {
        match self {
            Self::Tasks => SyncScope::Tasks,
            Self::Profiles => SyncScope::Profiles,
            Self::Records(task) => SyncScope::Records(task),
            Self::Controls(task) => SyncScope::Controls(task),
        }
    }
}

/// A request of the catch-up protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SyncRequest {
    /// Asks for the most active tasks of the peer.
    Tasks,
    /// Asks for the digests of the peer's shards of tasks.
    Shards,
    /// Asks for the digests of the tasks of one shard, in the order of their ids, from the first one after this id.
    TasksOf { shard: u8, after: Option<TaskId> },
    /// A message of a reconciliation, about one scope.
    Reconcile { scope: ReconcileScope, message: ByteBuf },
    /// The sender has objects that gossip may not have brought to the peer: the peer should catch up.
    News,
    /// Asks for the time of the peer's clock.
    Time,
    /// Asks for other peers.
    Peers,
}

/// The answer to a [`SyncRequest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SyncAnswer {
    /// The answer to [`SyncRequest::Tasks`]: at most [`limits::ACTIVE_TASKS`], the most active first.
    Tasks(Vec<TaskId>),
    /// The answer to [`SyncRequest::Shards`]: for each shard that is not empty, in order, its number (1 byte) and its
    /// digest ([`TASK_DIGEST_BYTES`]).
    Shards(ByteBuf),
    /// The answer to [`SyncRequest::TasksOf`]: at most [`limits::MAX_TASKS`] times a task's id (32 bytes) and its
    /// digest ([`TASK_DIGEST_BYTES`]). None when no task is left.
    TasksOf(ByteBuf),
    /// The answer to [`SyncRequest::Reconcile`].
    Reconcile(ByteBuf),
    /// The answer to [`SyncRequest::News`].
    Heard,
    /// The answer to [`SyncRequest::Time`], in Unix seconds.
    Time(u64),
    /// The answer to [`SyncRequest::Peers`]: at most [`limits::PEERS_NAMED`].
    Peers(Vec<NamedPeer>),
}

/// A peer that another peer names: its id and at most [`limits::PEER_ADDRESSES`] addresses, all in libp2p's bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamedPeer {
    pub peer: ByteBuf,
    pub addresses: Vec<ByteBuf>,
}

impl NamedPeer {
    pub fn new(peer: PeerId, addresses: &[Multiaddr]) -> Self {
        let addresses = addresses.iter().map(|address| ByteBuf::from(address.to_vec()));
        Self { peer: ByteBuf::from(peer.to_bytes()), addresses: addresses.collect() }
    }

    /// The peer and its addresses, without those that are none. None for a peer id that is none.
    pub fn read(&self) -> Option<(PeerId, Vec<Multiaddr>)> {
        let addresses = self.addresses.iter().take(limits::PEER_ADDRESSES);
        let addresses = addresses.filter_map(|bytes| Multiaddr::try_from(bytes.to_vec()).ok());
        Some((PeerId::from_bytes(&self.peer).ok()?, addresses.collect()))
    }
}

/// The digests of shards as [`SyncAnswer::Shards`] holds them.
pub fn encode_shards(shards: &[Option<TaskDigest>]) -> ByteBuf {
    let known = (0..=u8::MAX).zip(shards).filter_map(|(shard, digest)| digest.map(|digest| (shard, digest)));
    ByteBuf::from(known.flat_map(|(shard, digest)| std::iter::once(shard).chain(digest)).collect::<Vec<_>>())
}

/// Reads what [`encode_shards`] wrote. None for bytes that are not shards in order.
pub fn decode_shards(bytes: &[u8]) -> Option<Vec<(u8, TaskDigest)>> {
    let mut shards = Vec::new();
    for entry in bytes.chunks(1 + TASK_DIGEST_BYTES) {
        let (shard, digest) = entry.split_first()?;
        shards.push((*shard, digest.try_into().ok()?));
    }
    shards.is_sorted_by(|(a, _), (b, _)| a < b).then_some(shards)
}

/// The digests of tasks as [`SyncAnswer::TasksOf`] holds them.
pub fn encode_tasks(tasks: &[(TaskId, TaskDigest)]) -> ByteBuf {
    ByteBuf::from(tasks.iter().flat_map(|(task, digest)| task.0.into_iter().chain(*digest)).collect::<Vec<_>>())
}

/// Reads what [`encode_tasks`] wrote. None for bytes that are not tasks of the shard in the order of their ids, from
/// the first one after `after` on, or for too many.
pub fn decode_tasks(bytes: &[u8], shard: u8, after: Option<TaskId>) -> Option<Vec<(TaskId, TaskDigest)>> {
    let mut tasks = Vec::new();
    for entry in bytes.chunks(32 + TASK_DIGEST_BYTES) {
        let (task, digest) = entry.split_first_chunk::<32>()?;
        tasks.push((TaskId(*task), digest.try_into().ok()?));
    }
    let later = |task: &TaskId| after.is_none_or(|after| *task > after) && task.0.first() == Some(&shard);
    let fit = tasks.iter().all(|(task, _)| later(task)) && tasks.len() <= limits::MAX_TASKS;
    (fit && tasks.is_sorted_by(|(a, _), (b, _)| a < b)).then_some(tasks)
}

/// Asks for objects by id, at most [`limits::OBJECTS_PER_REQUEST`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObjectsRequest {
    /// [`Kind::code`].
    pub kind: u8,
    pub ids: Vec<ObjectId>,
}

/// Objects of a request. An id in neither list did not fit, and can be asked for again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ObjectsAnswer {
    /// Each as [`spore_protocol::wire::encode_object`] writes it, parents before children.
    pub objects: Vec<ByteBuf>,
    /// Ids of objects that the answering node does not have.
    pub absent: Vec<ObjectId>,
}

/// Asks for one chunk of an artifact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArtifactRequest {
    pub cid: spore_protocol::Cid,
    /// First byte of the chunk.
    pub offset: u64,
}

/// The answer to an [`ArtifactRequest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ArtifactAnswer {
    /// The answering node does not have the artifact, or not so many bytes of it.
    Absent,
    /// The bytes from the offset on, at most [`limits::CHUNK_BYTES`], and the artifact's size in bytes.
    Chunk { total: u64, bytes: ByteBuf },
}

/// The bytes of a request are no message. libp2p reports a request that cannot be read to nobody, so the codec reads this
/// instead, which can be held against the sender.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

/// Reads and writes one CBOR value in each direction of a stream.
pub struct Cbor<Request, Answer> {
    request_limit: usize,
    answer_limit: usize,
    types: PhantomData<fn() -> (Request, Answer)>,
}

pub type SyncCodec = Cbor<SyncRequest, SyncAnswer>;
pub type ObjectsCodec = Cbor<ObjectsRequest, ObjectsAnswer>;
pub type ArtifactCodec = Cbor<ArtifactRequest, ArtifactAnswer>;

impl SyncCodec {
    pub const SYNC: Self =
        Self { request_limit: limits::SYNC_BYTES, answer_limit: limits::SYNC_BYTES, types: PhantomData };
}

impl ObjectsCodec {
    pub const OBJECTS: Self = Self {
        request_limit: limits::OBJECTS_REQUEST_BYTES,
        answer_limit: limits::OBJECTS_ANSWER_BYTES,
        types: PhantomData,
    };
}

impl ArtifactCodec {
    pub const ARTIFACT: Self = Self { request_limit: 256, answer_limit: limits::CHUNK_BYTES + 256, types: PhantomData };
}

impl<Request, Answer> Clone for Cbor<Request, Answer> {
    fn clone(&self) -> Self {
        Self { request_limit: self.request_limit, answer_limit: self.answer_limit, types: PhantomData }
    }
}

impl<Request, Answer> Codec for Cbor<Request, Answer>
where
    Request: Serialize + DeserializeOwned + Send + Sync,
    Answer: Serialize + DeserializeOwned + Send + Sync,
{
    type Protocol = StreamProtocol;
    type Request = Result<Request, Malformed>;
    type Response = Answer;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Self::Request>
    where
        T: AsyncRead + Unpin + Send,
    {
        match read(io, self.request_limit).await {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Err(Malformed(error.to_string()))),
            read => read.map(Ok),
        }
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Answer>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, self.answer_limit).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: Self::Request) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        match request {
            Ok(request) => write(io, &request).await,
            Err(malformed) => Err(io::Error::new(io::ErrorKind::InvalidInput, malformed)),
        }
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, answer: Answer) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &answer).await
    }
}

async fn read<V: DeserializeOwned>(io: &mut (impl AsyncRead + Unpin + Send), limit: usize) -> io::Result<V> {
    let mut bytes = Vec::new();
    // One byte more than allowed, so that a message of the limit differs from a longer one.
    io.take(limit as u64 + 1).read_to_end(&mut bytes).await?;
    if bytes.is_empty() {
        // A peer that is too busy to answer ends the stream. That is no fault.
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    cbor::decode(&bytes, limit).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

async fn write<V: Serialize>(io: &mut (impl AsyncWrite + Unpin + Send), value: &V) -> io::Result<()> {
    let bytes = cbor::encode(value).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
    io.write_all(&bytes).await
}

#[cfg(test)]
mod tests {
    use futures::{executor::block_on, io::Cursor};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            block_on(async {
                let _ = read::<SyncRequest>(&mut Cursor::new(&bytes), 256).await;
                let _ = read::<SyncAnswer>(&mut Cursor::new(&bytes), 256).await;
                let _ = read::<ObjectsRequest>(&mut Cursor::new(&bytes), 256).await;
                let _ = read::<ObjectsAnswer>(&mut Cursor::new(&bytes), 256).await;
                let _ = read::<ArtifactRequest>(&mut Cursor::new(&bytes), 256).await;
                let _ = read::<ArtifactAnswer>(&mut Cursor::new(&bytes), 256).await;
            });
        }
    }

    #[test]
    fn named_peer_round_trips_and_bytes_that_are_no_address_are_left_out() {
        let (peer, address): (_, Multiaddr) = (PeerId::random(), "/ip4/1.1.1.1/tcp/1".parse().unwrap());
        let mut named = NamedPeer::new(peer, std::slice::from_ref(&address));
        named.addresses.push(ByteBuf::from(vec![255; 9]));
        assert_eq!(named.read(), Some((peer, vec![address])));
        named.peer = ByteBuf::from(vec![1, 2, 3]);
        assert_eq!(named.read(), None);
    }

    #[test]
    fn messages_round_trip_and_oversize_is_refused() {
        let request = SyncRequest::Reconcile {
            scope: ReconcileScope::Records(TaskId([3; 32])),
            message: ByteBuf::from(vec![7; 40]),
        };
        block_on(async {
            let mut wire = Cursor::new(Vec::new());
            write(&mut wire, &request).await.unwrap();
            let bytes = wire.into_inner();
            assert_eq!(read::<SyncRequest>(&mut Cursor::new(&bytes), bytes.len()).await.unwrap(), request);
            let error = read::<SyncRequest>(&mut Cursor::new(&bytes), bytes.len() - 1).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        });
    }

    #[test]
    fn digests_of_tasks_round_trip_and_other_orders_or_shards_are_refused() {
        let digest = |n| [n; TASK_DIGEST_BYTES];
        let mut shards = vec![None; 256];
        shards[3] = Some(digest(1));
        shards[255] = Some(digest(2));
        let bytes = encode_shards(&shards).into_vec();
        assert_eq!(decode_shards(&bytes), Some(vec![(3, digest(1)), (255, digest(2))]));
        assert_eq!(decode_shards(&bytes[1..]), None, "cut short");
        assert_eq!(decode_shards(&bytes.repeat(2)), None, "twice");
        let (one, two) = (TaskId([7; 32]), TaskId([[7; 16], [8; 16]].concat().try_into().unwrap()));
        let bytes = encode_tasks(&[(one, digest(1)), (two, digest(2))]).into_vec();
        assert_eq!(decode_tasks(&bytes, 7, None), Some(vec![(one, digest(1)), (two, digest(2))]));
        assert_eq!(decode_tasks(&bytes, 7, Some(one)), None, "the first one was known");
        assert_eq!(decode_tasks(&bytes, 8, None), None, "another shard");
        assert_eq!(decode_tasks(&bytes[1..], 7, None), None, "cut short");
        assert_eq!(decode_tasks(&encode_tasks(&[(two, digest(2)), (one, digest(1))]), 7, None), None, "not in order");
    }

    #[test]
    fn largest_honest_messages_fit_their_limits() {
        let digests = vec![(TaskId([255; 32]), [255; TASK_DIGEST_BYTES]); limits::MAX_TASKS];
        let shards = vec![Some([255; TASK_DIGEST_BYTES]); 256];
        let tasks = SyncAnswer::Tasks(vec![TaskId([255; 32]); limits::ACTIVE_TASKS]);
        let long: Multiaddr =
            format!("/ip6/2001:db8::1/udp/65535/quic-v1/p2p/{0}/p2p-circuit/p2p/{0}", PeerId::random())
                .parse()
                .unwrap();
        let peer = NamedPeer::new(PeerId::random(), &vec![long; limits::PEER_ADDRESSES]);
        let peers = SyncAnswer::Peers(vec![peer; limits::PEERS_NAMED]);
        let tasks_of = SyncAnswer::TasksOf(encode_tasks(&digests));
        for answer in [tasks, SyncAnswer::Shards(encode_shards(&shards)), tasks_of, peers] {
            assert!(cbor::encode(&answer).unwrap().len() <= limits::SYNC_BYTES);
        }
        let ids = vec![ObjectId([255; 32]); limits::OBJECTS_PER_REQUEST];
        assert!(cbor::encode(&ObjectsRequest { kind: 1, ids }).unwrap().len() <= limits::OBJECTS_REQUEST_BYTES);
        let artifact = ArtifactRequest { cid: spore_protocol::Cid([255; 32]), offset: u64::MAX };
        assert!(cbor::encode(&artifact).unwrap().len() <= 256);
        let chunk = ArtifactAnswer::Chunk { total: u64::MAX, bytes: ByteBuf::from(vec![0; limits::CHUNK_BYTES]) };
        assert!(cbor::encode(&chunk).unwrap().len() <= limits::CHUNK_BYTES + 256);
    }
}
