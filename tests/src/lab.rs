//! A small internet of network namespaces: a public relay, and nodes with public addresses, behind routers that translate
//! addresses, and with IPv6 alone. Only for Linux, as root, with `ip` and `nft`.
//!
//! Linux's address translation lets in only what the inside asked for, by address and port. A `Cone` router keeps the port
//! of its node for all peers; a `Symmetric` one takes another for each.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    net::TcpStream,
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::{
    process::{Pid, Signal, kill_process_group},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use serde_json::Value;

use crate::{command, command::wait_within, wait_for};

/// Port of libp2p, TCP and QUIC, of every node.
const P2P_PORT: u16 = 7471;
/// Port of the API of every node. Each has a loopback interface of its own.
const WEB_PORT: u16 = 8470;
/// The IPv4 addresses of the laboratory's internet begin alike. They look like any others of the internet.
const INTERNET: &str = "1.2";
/// The same for IPv6.
const INTERNET_V6: &str = "2600:1";
/// Time in which a node starts or ends on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// How a node is connected to the internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// A public IPv4 address.
    Public,
    /// Behind a router that keeps the port.
    Cone,
    /// Behind a router that takes another port for each peer.
    Symmetric,
    /// A public IPv6 address and no IPv4 address.
    V6,
    /// Public IPv4 and IPv6 addresses.
    Both,
}

impl Site {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Cone => "cone",
            Self::Symmetric => "symmetric",
            Self::V6 => "ipv6",
            Self::Both => "public, both",
        }
    }

    /// Whether nodes at two sites can have a direct connection at all.
    pub fn can_be_direct(self, other: Self) -> bool {
        let v4 = |site| site != Self::V6;
        let v6 = |site| matches!(site, Self::V6 | Self::Both);
        let public = |site| matches!(site, Self::Public | Self::Both);
        if v6(self) && v6(other) {
            return true;
        }
        v4(self) && v4(other) && (public(self) || public(other) || (self == Self::Cone && other == Self::Cone))
    }
}

/// The namespaces, which are removed at the end.
pub struct Lab {
    prefix: String,
    dir: tempfile::TempDir,
    names: Vec<String>,
    nodes: Vec<LabNode>,
}

impl Lab {
    /// A laboratory with an internet and nobody in it. None where there can be none, with the reason.
    ///
    /// # Errors
    /// Why this machine cannot have a laboratory.
    pub fn new() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("network namespaces need root".into());
        }
        for tool in ["ip", "nft"] {
            if Command::new(tool).arg("-V").output().is_err() {
                return Err(format!("{tool} is not installed"));
            }
        }
        let prefix = format!("sp{}", std::process::id());
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut lab = Self { prefix, dir, names: Vec::new(), nodes: Vec::new() };
        lab.add("wan").map_err(|error| format!("no network namespaces here: {error}"))?;
        lab.ip("wan", "link add br0 type bridge")?;
        lab.ip("wan", "link set br0 up")?;
        Ok(lab)
    }

    fn namespace(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn add(&mut self, name: &str) -> Result<(), String> {
        run("ip", &["netns", "add", &self.namespace(name)])?;
        self.names.push(name.to_owned());
        self.ip(name, "link set lo up")
    }

    /// `ip` in a namespace.
    fn ip(&self, name: &str, command: &str) -> Result<(), String> {
        let namespace = self.namespace(name);
        let words: Vec<&str> = ["-n", &namespace].into_iter().chain(command.split_whitespace()).collect();
        run("ip", &words)
    }

    /// Connects a namespace with the internet by its interface `out`.
    fn join_internet(&mut self, name: &str) -> Result<(), String> {
        let (number, wan) = (self.names.len(), self.namespace("wan"));
        self.ip(name, &format!("link add out type veth peer name w{number} netns {wan}"))?;
        self.ip(name, "link set out up")?;
        self.ip("wan", &format!("link set w{number} master br0 up"))
    }

    fn give_v4(&self, name: &str, number: usize) -> Result<(), String> {
        self.ip(name, &format!("addr add {INTERNET}.{number}.10/16 dev out"))?;
        self.ip(name, &format!("route add default via {INTERNET}.0.1 onlink dev out"))
    }

    fn give_v6(&self, name: &str, number: usize) -> Result<(), String> {
        self.ip(name, &format!("addr add {INTERNET_V6}:{number}::10/32 dev out nodad"))
    }

    /// Wires a namespace for a node and its router, if it has one. Returns the IP addresses to listen on.
    fn wire(&mut self, name: &str, site: Site) -> Result<Vec<String>, String> {
        let number = self.nodes.len() + 1;
        let (v4, v6) = (format!("/ip4/{INTERNET}.{number}.10"), format!("/ip6/{INTERNET_V6}:{number}::10"));
        self.add(name)?;
        match site {
            Site::Public | Site::V6 | Site::Both => {
                self.join_internet(name)?;
                if site != Site::V6 {
                    self.give_v4(name, number)?;
                }
                if site != Site::Public {
                    self.give_v6(name, number)?;
                }
                Ok(match site {
                    Site::Public => vec![v4],
                    Site::V6 => vec![v6],
                    _ => vec![v4, v6],
                })
            }
            Site::Cone | Site::Symmetric => {
                let router = format!("{name}r");
                self.add(&router)?;
                self.join_internet(&router)?;
                self.give_v4(&router, number)?;
                // All homes use one private network, as most homes do.
                let inside = self.namespace(&router);
                self.ip(name, &format!("link add out type veth peer name lan netns {inside}"))?;
                self.ip(name, "link set out up")?;
                self.ip(name, "addr add 192.168.1.2/24 dev out")?;
                self.ip(name, "route add default via 192.168.1.1")?;
                self.ip(&router, "link set lan up")?;
                self.ip(&router, "addr add 192.168.1.1/24 dev lan")?;
                self.translate(&router, site)?;
                Ok(vec!["/ip4/192.168.1.2".into()])
            }
        }
    }

    /// Makes a router of a namespace: it translates what goes out, and drops what nobody inside asked for.
    fn translate(&self, router: &str, site: Site) -> Result<(), String> {
        let random = if site == Site::Symmetric { " random,fully-random" } else { "" };
        // nft ends a statement at the end of a line.
        let rules = format!(
            "table ip nat {{
               chain post {{
                 type nat hook postrouting priority srcnat
                 oifname out masquerade{random}
               }}
             }}
             table ip filter {{
               chain input {{
                 type filter hook input priority 0; policy drop
                 ct state established,related accept
               }}
               chain forward {{
                 type filter hook forward priority 0; policy drop
                 ct state established,related accept
                 iifname lan accept
               }}
             }}"
        );
        let namespace = self.namespace(router);
        run("ip", &["netns", "exec", &namespace, "sysctl", "-qw", "net.ipv4.ip_forward=1"])?;
        let mut nft = Command::new("ip")
            .args(["netns", "exec", &namespace, "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        if let Some(mut input) = nft.stdin.take() {
            input.write_all(rules.as_bytes()).map_err(|error| error.to_string())?;
        }
        let status = nft.wait().map_err(|error| error.to_string())?;
        if status.success() { Ok(()) } else { Err(format!("nft: {status}")) }
    }

    /// Adds a node at a site. It does not run yet. Returns its number.
    ///
    /// # Errors
    /// When the wires cannot be made.
    pub fn node(&mut self, name: &str, site: Site, flags: &[&str]) -> Result<usize, String> {
        let addresses = self.wire(name, site)?;
        let dir = self.dir.path().join(name);
        std::fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
        self.nodes.push(LabNode {
            name: name.to_owned(),
            site,
            namespace: self.namespace(name),
            addresses,
            log: self.dir.path().join(format!("{name}.log")),
            dir,
            flags: flags.iter().map(ToString::to_string).collect(),
            child: None,
        });
        Ok(self.nodes.len() - 1)
    }

    pub fn get(&self, number: usize) -> &LabNode {
        &self.nodes[number]
    }

    pub fn get_mut(&mut self, number: usize) -> &mut LabNode {
        &mut self.nodes[number]
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.nodes.clear();
        for name in &self.names {
            let _ = run("ip", &["netns", "del", &self.namespace(name)]);
        }
    }
}

fn run(program: &str, words: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(words).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program} {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

/// A node in a namespace.
pub struct LabNode {
    name: String,
    pub site: Site,
    namespace: String,
    /// The IP addresses on which it listens, as the beginnings of multiaddrs.
    addresses: Vec<String>,
    dir: PathBuf,
    log: PathBuf,
    flags: Vec<String>,
    child: Option<Child>,
}

impl LabNode {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The addresses at which others reach the node, over TCP, if no router is in between.
    pub fn tcp(&self) -> impl Iterator<Item = String> {
        self.addresses.iter().map(|address| format!("{address}/tcp/{P2P_PORT}"))
    }

    /// What the node said since its first start.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Starts the node and waits for its API.
    pub async fn start(&mut self) {
        self.spawn();
        self.started().await;
    }

    /// Starts the node, without waiting.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let web = WEB_PORT.to_string();
        let mut args = vec!["run", "--no-bootstrap", "--no-mdns", "--no-bridge", "--no-train", "--llm", "off", "-v"];
        args.extend(["--web-port", &web]);
        let tcp = self.tcp();
        let quic = self.addresses.iter().map(|address| format!("{address}/udp/{P2P_PORT}/quic-v1"));
        let listen: Vec<String> = tcp.chain(quic).flat_map(|address| ["--listen".to_owned(), address]).collect();
        args.extend(listen.iter().chain(&self.flags).map(String::as_str));
        let node = command::command(&self.dir, &args);
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &self.namespace]).arg(node.get_program()).args(node.get_args());
        inside.env("HOME", &self.dir).env("SPORE_HOME", &self.dir).env("NO_COLOR", "1").stdin(Stdio::null());
        let log = || -> File { OpenOptions::new().create(true).append(true).open(&self.log).expect("a log file") };
        inside.process_group(0).stdout(log()).stderr(log());
        self.child = Some(inside.spawn().expect("spore starts"));
    }

    /// Waits until the API answers.
    pub async fn started(&mut self) {
        wait_for(&format!("the API of {}", self.name), START_LIMIT, async || {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                panic!("{} ended with {status}:\n{}", self.name, self.log());
            }
            self.api("/status")
        })
        .await;
    }

    /// Ends the node with a signal.
    pub fn end(&mut self, signal: Signal) {
        let Some(mut child) = self.child.take() else { return };
        if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
            let _ = kill_process_group(group, signal);
            if wait_within(&mut child, STOP_LIMIT).is_none() {
                let _ = kill_process_group(group, Signal::KILL);
                let _ = child.wait();
            }
        }
    }

    /// `GET /api/v1PATH`.
    ///
    /// # Errors
    /// Any answer but 200 with JSON.
    pub fn api(&self, path: &str) -> Result<Value, String> {
        let (code, body) = self.http("GET", path, &[])?;
        if code != 200 {
            return Err(format!("{}: {path}: {code}: {body}", self.name));
        }
        serde_json::from_str(&body).map_err(|error| format!("{}: {path}: {error}: {body}", self.name))
    }

    /// Whether the node has an artifact.
    pub fn has_artifact(&self, cid: &str) -> bool {
        self.http("GET", &format!("/artifacts/{cid}"), &[]).is_ok_and(|(code, _)| code == 200)
    }

    /// `POST /api/v1PATH` with the node's token. Returns the body.
    ///
    /// # Errors
    /// Any answer but 200.
    pub fn post(&self, path: &str, body: &[u8]) -> Result<String, String> {
        match self.http("POST", path, body)? {
            (200, body) => Ok(body),
            (code, body) => Err(format!("{}: {path}: {code}: {body}", self.name)),
        }
    }

    /// One request, made in the node's namespace.
    fn http(&self, method: &str, path: &str, body: &[u8]) -> Result<(u16, String), String> {
        let token = std::fs::read_to_string(self.dir.join("api_token")).unwrap_or_default();
        let mut request = format!(
            "{method} /api/v1{path} HTTP/1.0\r\nHost: 127.0.0.1:{WEB_PORT}\r\nAuthorization: Bearer {}\r\n\
             Content-Length: {}\r\n\r\n",
            token.trim(),
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        let namespace = File::open(format!("/run/netns/{}", self.namespace)).map_err(|error| error.to_string())?;
        // A namespace is a thread's own.
        let asked = thread::spawn(move || -> std::io::Result<Vec<u8>> {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            let mut stream = TcpStream::connect(("127.0.0.1", WEB_PORT))?;
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            stream.write_all(&request)?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(answer)
        });
        let answer = asked.join().map_err(|_| "the request panicked".to_owned())?.map_err(|error| error.to_string())?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        let code = head.split_whitespace().nth(1).and_then(|code| code.parse().ok()).ok_or("no status line")?;
        Ok((code, body.to_owned()))
    }

    /// The libp2p id of the node, from what it says of itself.
    ///
    /// # Errors
    /// As [`LabNode::api`].
    pub fn peer_id(&self) -> Result<String, String> {
        let status = self.api("/status")?;
        Ok(status["peer_id"].as_str().unwrap_or_default().to_owned())
    }

    /// The address at which the node is connected with a peer. None while it is not.
    ///
    /// # Errors
    /// As [`LabNode::api`].
    pub fn address_of(&self, peer: &str) -> Result<Option<String>, String> {
        let peers = self.api("/peers")?;
        let found = peers.as_array().into_iter().flatten().find(|one| one["peer_id"] == peer);
        Ok(found.and_then(|one| one["address"].as_str().map(str::to_owned)))
    }
}

impl Drop for LabNode {
    fn drop(&mut self) {
        self.end(Signal::KILL);
    }
}
